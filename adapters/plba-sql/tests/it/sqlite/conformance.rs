//! The suites of the ports.

use std::sync::Arc;
use std::time::Duration;

use plba_sql::sqlite::{SqliteLedger, SqliteSettings};
use plba_tasks::ledger::SourceLedger;
use plba_testkit::conformance::ledger::LedgerUnderTest;
use plba_testkit::conformance::queue::{Advance, QueueUnderTest};
use plba_testkit::conformance::{Time, ledger, queue};

use super::ground::Ground;

const CAPACITY: u64 = 50;

fn settings(ground: &Ground) -> SqliteSettings {
    SqliteSettings {
        capacity: CAPACITY,
        ..ground.settings()
    }
}

/// A queue whose time is moved by hand.
async fn moved() -> QueueUnderTest {
    let ground = Ground::new();
    let tasks = ground.open_with(settings(&ground)).await;
    let (clock, woken) = (Arc::clone(&ground.clock), tasks.clone());
    let advance: Advance = Arc::new(move |by: Duration| {
        clock.advance(by);
        woken.look_again();
        Box::pin(async {})
    });
    QueueUnderTest {
        queue: Arc::new(tasks),
        capacity: Some(CAPACITY as usize),
        maximum_crashes: 5,
        advance: Some(advance),
        keep: Box::new(ground),
    }
}

/// A queue in real time, with short leases.
async fn real() -> QueueUnderTest {
    let ground = Ground::new();
    let settings = SqliteSettings {
        lease: Duration::from_millis(600),
        ..settings(&ground)
    };
    QueueUnderTest {
        queue: Arc::new(ground.open_with(settings).await),
        capacity: Some(CAPACITY as usize),
        maximum_crashes: 5,
        advance: None,
        keep: Box::new(ground),
    }
}

#[test]
fn the_queue_keeps_the_promises_of_queues() {
    queue::queue(Time::Real, moved);
}

#[test]
fn the_queue_keeps_a_tenth_of_them_in_real_time() {
    queue::queue_part(Time::Real, 3, 10, real);
}

#[test]
fn the_queue_with_a_ledger_in_its_file_keeps_them_too() {
    queue::queue(Time::Real, || async {
        let ground = Ground::new();
        let tasks = ground.open_with(settings(&ground)).await;
        let ledger = tasks.ledger().await.unwrap();
        let (clock, woken) = (Arc::clone(&ground.clock), tasks.clone());
        let advance: Advance = Arc::new(move |by: Duration| {
            clock.advance(by);
            woken.look_again();
            Box::pin(async {})
        });
        QueueUnderTest {
            queue: Arc::new(tasks),
            capacity: Some(CAPACITY as usize),
            maximum_crashes: 5,
            advance: Some(advance),
            keep: Box::new((ground, ledger)),
        }
    });
}

#[test]
fn the_ledger_keeps_the_promises_of_ledgers() {
    ledger::ledger(Time::Real, || async {
        let ground = Ground::new();
        let (settings, clock) = (ground.settings(), Arc::clone(&ground.clock));
        LedgerUnderTest {
            open: Box::new(move || {
                let (settings, clock) = (settings.clone(), Arc::clone(&clock));
                Box::pin(async move {
                    let tasks = plba_sql::sqlite::SqliteTaskQueue::open(settings, clock as _)
                        .await
                        .unwrap();
                    let ledger: SqliteLedger = tasks.ledger().await.unwrap();
                    Arc::new(ledger) as Arc<dyn SourceLedger>
                })
            }),
            keep: Box::new(ground),
        }
    });
}
