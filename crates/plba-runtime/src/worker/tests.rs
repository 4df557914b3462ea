//! Routines under a real supervisor, on paused time.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use plba_contracts::health::Health;
use plba_contracts::stop::{StopHandle, StopPhase};
use tokio::time::{Instant, sleep};

use super::*;
use crate::supervisor::tests::{services, supervisor};
use crate::supervisor::{SlotState, StopOutcome, WorkerStop, WorkerSupervisor, WorkerView};

async fn running(routine: Routine) -> WorkerSupervisor {
    let supervisor = supervisor();
    supervisor.start(vec![routine.into()], services()).await.unwrap();
    supervisor
}

fn only(supervisor: &WorkerSupervisor) -> WorkerView {
    supervisor.snapshot().remove(0)
}

async fn stopped(supervisor: &WorkerSupervisor) -> WorkerStop {
    supervisor.stop(secs(10), StopHandle::new().signal()).await.remove(0)
}

async fn sleeps(seconds: u64) -> Result<(), RoutineError> {
    sleep(secs(seconds)).await;
    Ok(())
}

/// A counter, and the seconds since its making at which it was raised.
#[derive(Clone)]
struct Beats(Instant, Arc<Mutex<Vec<u64>>>);

impl Beats {
    fn new() -> Self {
        Self(Instant::now(), Arc::default())
    }

    fn beat(&self) -> usize {
        let mut beats = self.1.lock().unwrap();
        beats.push(self.0.elapsed().as_secs());
        beats.len()
    }

    fn seen(&self) -> Vec<u64> {
        self.1.lock().unwrap().clone()
    }
}

#[tokio::test(start_paused = true)]
async fn another_interval_counts_for_the_run_that_is_waited_for() {
    let beats = Beats::new();
    let counted = beats.clone();
    let definition: WorkerDefinition = every("beat", secs(3600), move || {
        counted.beat();
        async { Ok(()) }
    })
    .into();
    let (pace, supervisor) = (definition.pace.clone().unwrap(), supervisor());
    supervisor.start(vec![definition], services()).await.unwrap();
    sleep(secs(100)).await;
    pace.set(Some(secs(150)));
    sleep(secs(100)).await;
    pace.set(Some(secs(5)));
    sleep(secs(12)).await;
    pace.set(None);
    sleep(secs(3600)).await;
    assert_eq!(beats.seen(), [0, 150, 200, 205, 210, 3810]);
    assert_eq!(stopped(&supervisor).await.how, StopOutcome::Drained);
}

#[test]
fn what_a_builder_was_given_besides_counts_and_the_interval_does_not() {
    let made_from = |change: fn(Routine) -> Routine, interval| {
        let routine = change(every("beat", secs(interval), || async { Ok(()) }));
        WorkerDefinition::from(routine.made_from("the same")).made_from
    };
    let plain = made_from(|routine| routine, 5);
    assert!(plain.is_same(&made_from(|routine| routine, 60)));
    let others: [fn(Routine) -> Routine; 4] = [
        |routine| routine.timeout(secs(1)),
        |routine| routine.unhealthy_after(9),
        |routine| routine.back_off(secs(1), secs(2)),
        |routine| routine.idle_limit(secs(1)),
    ];
    for change in others {
        assert!(!plain.is_same(&made_from(change, 5)));
        assert!(made_from(change, 5).is_same(&made_from(change, 5)));
    }
    let unsaid: WorkerDefinition = every("beat", secs(5), || async { Ok(()) }).into();
    assert!(!unsaid.made_from.is_same(&unsaid.made_from));
}

#[tokio::test(start_paused = true)]
async fn a_routine_runs_at_its_interval_from_start_to_start() {
    let beats = Beats::new();
    let counted = beats.clone();
    let supervisor = running(every("beat", secs(10), move || {
        let counted = counted.clone();
        async move {
            counted.beat();
            sleep(secs(4)).await;
            Ok(())
        }
    }))
    .await;
    sleep(secs(35)).await;
    assert_eq!(beats.seen(), [0, 10, 20, 30]);
    let view = only(&supervisor);
    assert_eq!((view.status.succeeded, view.health), (4, Health::Ok));
}

#[tokio::test(start_paused = true)]
async fn an_idle_routine_is_asked_less_often_until_there_is_work() {
    let beats = Beats::new();
    let counted = beats.clone();
    let routine = every("poll", secs(1), move || {
        let outcome = if counted.beat() == 5 {
            Outcome::Worked
        } else {
            Outcome::Idle
        };
        async move { Ok(outcome) }
    });
    let _supervisor = running(routine.idle_limit(secs(4))).await;
    sleep(secs(20)).await;
    assert_eq!(beats.seen(), [0, 2, 6, 10, 14, 15, 17]);
}

#[tokio::test(start_paused = true)]
async fn errors_are_tried_again_and_become_health() {
    let runs = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&runs);
    let routine = once("import", move || {
        let run = counted.fetch_add(1, Ordering::Relaxed);
        async move {
            if run < 6 {
                Err(std::io::Error::other("no route"))?;
            }
            Ok(())
        }
    });
    let supervisor = running(routine).await;
    sleep(millis(100)).await;
    assert_eq!(
        only(&supervisor).health,
        Health::degraded("the latest run failed: no route")
    );
    sleep(secs(10)).await;
    assert_eq!(
        only(&supervisor).health,
        Health::unhealthy("failed 5 times in a row: no route")
    );
    sleep(secs(60)).await;
    let view = only(&supervisor);
    assert_eq!(
        (view.state, view.health, view.restarts),
        (SlotState::Finished, Health::Ok, 0)
    );
    assert_eq!((view.status.succeeded, view.status.failed), (1, 6));
}

#[tokio::test(start_paused = true)]
async fn fatal_errors_end_the_attempt() {
    let classified = every("a", secs(1), || async {
        Err::<(), _>(RoutineError::new("bad password"))
    })
    .classify(|error| {
        if error.to_string().contains("password") {
            Severity::Fatal
        } else {
            Severity::Transient
        }
    })
    .restart(RestartPolicy::Never);
    let view = only(&running(classified).await);
    sleep(millis(1)).await;
    assert_eq!(view.name, "a");
    let explicit = every("a", secs(1), || async {
        Err::<(), _>(RoutineError::new("bad key").fatal())
    });
    let supervisor = running(explicit.restart(RestartPolicy::Never)).await;
    sleep(millis(1)).await;
    let view = only(&supervisor);
    assert_eq!(view.state, SlotState::GivenUp);
    assert!(
        view.health.reason().unwrap().contains("failed: bad key"),
        "{:?}",
        view.health
    );
}

#[tokio::test(start_paused = true)]
async fn a_run_that_takes_too_long_is_dropped_and_tried_again() {
    let supervisor = running(every("slow", secs(1), || sleeps(3600)).timeout(secs(5))).await;
    sleep(secs(6)).await;
    assert_eq!(
        only(&supervisor).health,
        Health::degraded("the latest run failed: took longer than 5s")
    );
    assert_eq!(only(&supervisor).state, SlotState::Running);
}

#[tokio::test(start_paused = true)]
async fn a_graceful_stop_lets_the_run_finish_and_a_forced_one_drops_it() {
    let supervisor = running(every("work", secs(1), || sleeps(4))).await;
    sleep(secs(1)).await;
    let stop = stopped(&supervisor).await;
    assert_eq!((stop.how, stop.took.as_secs()), (StopOutcome::Drained, 3));
    assert_eq!(only(&supervisor).status.succeeded, 1);

    let supervisor = running(every("work", secs(1), || sleeps(4000))).await;
    let stop = stopped(&supervisor).await;
    assert_eq!(
        (stop.how, stop.took.as_secs(), stop.held.as_deref()),
        (StopOutcome::Forced, 8, Some("work"))
    );
}

#[tokio::test(start_paused = true)]
async fn a_service_runs_until_it_is_told_to_stop() {
    let supervisor = running(service("listen", |stop| stop.requested().map(Ok))).await;
    sleep(secs(3600)).await;
    assert_eq!(
        (only(&supervisor).state, only(&supervisor).health),
        (SlotState::Running, Health::Ok)
    );
    assert_eq!(stopped(&supervisor).await.how, StopOutcome::Drained);

    let leaves = running(service("leaves", |_| async { Ok(()) })).await;
    sleep(secs(120)).await;
    assert_eq!(only(&leaves).state, SlotState::GivenUp);
}

#[tokio::test(start_paused = true)]
async fn a_cron_routine_runs_at_its_moments() {
    // The test's clock starts at 12:00:00 UTC.
    let beats = Beats::new();
    let counted = beats.clone();
    let routine = cron("nightly", "*/20 * * * *", move || {
        counted.beat();
        async { Ok(()) }
    });
    let supervisor = running(routine.time_zone("UTC")).await;
    sleep(secs(60)).await;
    assert_eq!(
        only(&supervisor).status.note.as_deref(),
        Some("next run at 2026-01-10T12:20:00Z")
    );
    sleep(secs(3600)).await;
    assert_eq!(beats.seen(), [1200, 2400, 3600]);
}

#[tokio::test(start_paused = true)]
async fn a_cron_expression_that_can_not_be_read_fails_the_start() {
    let routine = cron("nightly", "at night", || async { Ok(()) });
    let error = supervisor().start(vec![routine.into()], services()).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("the cron expression \"at night\" can't be read"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn services_reach_the_routine() {
    let supervisor = running(every_with("asks", secs(1), |services| async move {
        services.get::<String>().await?;
        Ok(())
    }))
    .await;
    sleep(millis(10)).await;
    let reason = only(&supervisor).status.last_error.unwrap();
    assert!(reason.contains("no service String is registered"), "{reason}");
}

#[tokio::test]
async fn a_blocking_routine_has_a_thread_of_its_own_and_its_panic_is_caught() {
    let supervisor = running(blocking("reads", |stop| {
        while !stop.is_requested() {
            std::thread::yield_now();
        }
        Ok(())
    }))
    .await;
    let slot = only(&supervisor).slots.remove(0);
    assert!(
        slot.busy.is_none(),
        "what runs until it is told to stop can't be hung: {:?}",
        slot.busy
    );
    assert_eq!(stopped(&supervisor).await.how, StopOutcome::Drained);

    let panics = blocking("panics", |stop| {
        if stop.phase() == StopPhase::Running {
            panic!("no such file");
        }
        Ok(())
    });
    let supervisor = running(panics.restart(RestartPolicy::Never)).await;
    let deadline = Instant::now() + secs(20);
    while only(&supervisor).state != SlotState::GivenUp {
        assert!(Instant::now() < deadline, "the panic is not seen");
        sleep(millis(1)).await;
    }
    assert!(
        only(&supervisor)
            .health
            .reason()
            .unwrap()
            .contains("panicked: no such file")
    );
}

#[tokio::test(start_paused = true)]
async fn a_thread_that_ignores_its_signal_is_left_behind_and_named() {
    let (sender, receiver) = std::sync::mpsc::channel::<()>();
    let receiver = Mutex::new(receiver);
    let supervisor = running(blocking("deaf", move |_| {
        let _ = receiver.lock().unwrap().recv();
        Ok(())
    }))
    .await;
    let report = supervisor.stop(secs(25), StopHandle::new().signal()).await;
    assert_eq!(report[0].how, StopOutcome::Abandoned);
    assert_eq!(report[0].held.as_deref(), Some("thread \"deaf[0]\""));
    drop(sender);
}
