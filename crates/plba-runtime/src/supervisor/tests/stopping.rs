//! Stopping: the stages, a force, a stop during a start, and who is named.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_stop_forces_what_does_not_finish_and_names_what_it_held() {
    let (supervisor, log) = (supervisor(), Log::default());
    let definitions = vec![
        acts("good", Does::Waits, &log),
        acts("slow", Does::IgnoresGraceful, &log),
        acts("deaf", Does::IgnoresAll, &log),
    ];
    supervisor.start(definitions, services()).await.unwrap();
    let began = Instant::now();
    let mut report = supervisor.stop(secs(10), never_forced()).await;
    report.sort_by(|one, other| one.worker.cmp(&other.worker));
    let expected = [
        ("deaf", StopOutcome::Forced, None),
        ("good", StopOutcome::Drained, None),
        ("slow", StopOutcome::Forced, Some("order 17")),
    ];
    assert_eq!(outcomes(&report), expected);
    assert_eq!((report[0].took.as_secs(), report[2].took.as_secs()), (9, 8));
    assert!(began.elapsed() <= secs(10));
    let json = serde_json::to_value(&report[2]).unwrap();
    assert_eq!(json["how"], "forced");
}

#[tokio::test(start_paused = true)]
async fn a_raised_force_cuts_the_stop_short() {
    let (supervisor, log) = (supervisor(), Log::default());
    let definitions = vec![
        acts("slow", Does::IgnoresGraceful, &log).after("under"),
        acts("under", Does::Waits, &log),
    ];
    supervisor.start(definitions, services()).await.unwrap();
    let force = StopHandle::new();
    let began = Instant::now();
    let (report, ()) = tokio::join!(supervisor.stop(secs(25), force.signal()), async {
        tokio::time::sleep(secs(1)).await;
        force.stop(true);
    });
    assert_eq!(began.elapsed().as_secs(), 1);
    assert_eq!(outcomes(&report)[0], ("slow", StopOutcome::Forced, Some("order 17")));
}

#[tokio::test(start_paused = true)]
async fn a_stop_during_start_ends_both() {
    let (supervisor, log) = (supervisor(), Log::default());
    let definitions = vec![acts("a", Does::NeverStarts, &log), acts("b", Does::Waits, &log)];
    let (started, report) = tokio::join!(supervisor.start(definitions, services()), async {
        tokio::time::sleep(secs(1)).await;
        supervisor.stop(secs(10), never_forced()).await
    });
    assert_eq!(started, Err(SupervisionError::Stopped));
    assert_eq!(report.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_stop_names_those_that_are_not_at_rest_every_few_seconds() {
    let (supervisor, log) = (supervisor(), Log::default());
    let definitions = vec![
        acts("good", Does::Waits, &log),
        acts("slow", Does::IgnoresGraceful, &log),
    ];
    supervisor.start(definitions, services()).await.unwrap();
    supervisor.stop(secs(15), never_forced()).await;
    let history = supervisor.events().history();
    let told = history.iter().filter_map(|recorded| match &recorded.event {
        SupervisorEvent::Stragglers {
            count,
            first,
            stopping_for,
        } => Some((*count, first.join(" "), stopping_for.as_secs())),
        _ => None,
    });
    // After 80 % of the budget it lets go.
    let slow = || "slow[0] (order 17)".to_owned();
    assert_eq!(told.collect::<Vec<_>>(), [(1, slow(), 5), (1, slow(), 10)]);
}
