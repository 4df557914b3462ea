//! What follows when an attempt ends by itself.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_worker_that_keeps_failing_is_given_up_and_the_others_go_on() {
    for (does, reason) in [
        (Does::Panics, "panicked: no such shelf"),
        (
            Does::PanicsWithANumber,
            "panicked: a panic with a payload that is no text",
        ),
        (Does::Fails, "failed: disk full"),
    ] {
        let (supervisor, log) = (supervisor(), Log::default());
        let definitions = vec![acts("bad", does, &log), acts("good", Does::Waits, &log)];
        supervisor.start(definitions, services()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        let bad = view(&supervisor, "bad");
        assert_eq!((bad.state, bad.health.word()), (SlotState::BackingOff, "degraded"));
        tokio::time::sleep(secs(60)).await;
        let bad = view(&supervisor, "bad");
        assert_eq!(
            (bad.state, bad.restarts, bad.status.succeeded),
            (SlotState::GivenUp, 5, 6)
        );
        let why = bad.health.reason().unwrap();
        assert!(
            why.starts_with("given up since 2026-01-10T12:00:") && why.contains(reason),
            "{why}"
        );
        assert_eq!(view(&supervisor, "good").health, Health::Ok);
        tokio::time::sleep(secs(600)).await;
        assert_eq!(view(&supervisor, "bad").state, SlotState::GivenUp);
        supervisor.stop(secs(5), never_forced()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn policies_decide_what_follows_an_end() {
    let (supervisor, log) = (supervisor(), Log::default());
    let definitions = vec![
        acts("never", Does::Fails, &log).restart(RestartPolicy::Never),
        acts("transient", Does::Fails, &log).restart(Restart {
            intensity: 1,
            ..RestartPolicy::Transient.into()
        }),
    ];
    supervisor.start(definitions, services()).await.unwrap();
    tokio::time::sleep(secs(10)).await;
    assert_eq!(
        (view(&supervisor, "never").state, view(&supervisor, "never").restarts),
        (SlotState::GivenUp, 0)
    );
    assert_eq!(view(&supervisor, "transient").restarts, 1);
    let history = supervisor.events().history();
    let ends = history
        .iter()
        .filter(|recorded| matches!(recorded.event, SupervisorEvent::Ended { .. }))
        .count();
    assert_eq!(ends, 3);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_given_up_may_ask_for_the_end_of_the_process() {
    let (supervisor, log) = (supervisor(), Log::default());
    let never = RestartPolicy::Never;
    let definitions = vec![
        acts("good", Does::Waits, &log),
        acts("vital", Does::Fails, &log).restart(never).exit_when_given_up(78),
    ];
    supervisor.start(definitions, services()).await.unwrap();
    let fatal = supervisor.fatal().await;
    assert_eq!((fatal.worker.as_str(), fatal.slot, fatal.exit_code), ("vital", 0, 78));
    assert_eq!(fatal.cause, "was given up: attempt 1 failed: disk full");
    assert_eq!(view(&supervisor, "good").state, SlotState::Running);
    assert_eq!(supervisor.fatal().await, fatal);
}
