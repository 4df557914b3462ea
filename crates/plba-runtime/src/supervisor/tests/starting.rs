//! Starting: the order, and what happens when one does not start.

use super::*;

#[tokio::test(start_paused = true)]
async fn workers_start_in_dependency_order_and_stop_in_reverse() {
    let (supervisor, log) = (supervisor(), Log::default());
    let definitions = vec![
        acts("source", Does::Waits, &log).after("consumer"),
        acts("consumer", Does::Waits, &log).after("outbox"),
        acts("outbox", Does::Waits, &log),
    ];
    supervisor.start(definitions, services()).await.unwrap();
    assert!(
        supervisor
            .snapshot()
            .iter()
            .all(|view| view.state == SlotState::Running && view.health == Health::Ok)
    );
    let report = supervisor.stop(secs(25), never_forced()).await;
    let order = ["+outbox", "+consumer", "+source", "-source", "-consumer", "-outbox"];
    assert_eq!(*log.lock().unwrap(), order);
    assert_eq!(report.len(), 3);
    assert!(report.iter().all(|stop| stop.how == StopOutcome::Drained));
    assert_eq!(supervisor.restart("outbox").await, Err(SupervisionError::Stopped));
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_does_not_start_ends_the_start_up_with_its_cause() {
    for (does, cause) in [
        (
            Does::CantStart,
            "could not start: port 8080 is in use; stop what uses it",
        ),
        (Does::NeverStarts, "took longer than 30s to start"),
    ] {
        let (supervisor, log) = (supervisor(), Log::default());
        let definitions = vec![acts("a", does, &log), acts("b", Does::Waits, &log).after("a")];
        let error = supervisor.start(definitions, services()).await.unwrap_err();
        let expected = SupervisionError::NotStarted {
            worker: "a".into(),
            cause: cause.into(),
            more: 0,
        };
        assert_eq!(error, expected);
        let told = format!("worker \"a\" did not start: it {cause}; mend that and start again");
        assert_eq!(error.to_string(), told);
        supervisor.stop(secs(5), never_forced()).await;
        assert!(log.lock().unwrap().is_empty(), "b starts after a only");
    }
}

#[tokio::test(start_paused = true)]
async fn a_factory_that_fails_or_panics_fails_the_start() {
    let failing = WorkerDefinition::new("a", |_| async {
        Err::<Arc<dyn Worker>, BoxError>("no database".into())
    });
    let error = supervisor().start(vec![failing], services()).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("worker \"a\" did not start: it could not be built: no database"),
        "{error}"
    );
    let panicking = WorkerDefinition::new("a", |_| async { panic!("boom") });
    let error = supervisor().start(vec![panicking], services()).await.unwrap_err();
    assert!(error.to_string().contains("it panicked: boom"), "{error}");
}
