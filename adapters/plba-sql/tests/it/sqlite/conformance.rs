//! The suites of the ports.

use std::sync::Arc;
use std::time::Duration;

use plba_sql::sqlite::{SqliteLedger, SqliteSettings, SqliteTaskQueue};
use plba_tasks::ledger::SourceLedger;
use plba_tasks::queue::TaskQueue;
use plba_testkit::clock::ManualClock;
use plba_testkit::conformance::ledger::LedgerUnderTest;
use plba_testkit::conformance::queue::{Advance, QueueUnderTest};
use plba_testkit::conformance::{Time, ledger, model, queue};

use super::ground::Ground;

const CAPACITY: u64 = 50;

fn settings(ground: &Ground) -> SqliteSettings {
    SqliteSettings {
        capacity: CAPACITY,
        // One case has an effect that takes longer than a lease, in real time.
        lease: Duration::from_secs(3),
        completion: Duration::from_secs(10),
        ..ground.settings()
    }
}

/// Moves the clock, and lets the consumers that this wakes have a look.
fn advance(ground: &Ground, tasks: &SqliteTaskQueue) -> Advance {
    let (clock, woken) = (Arc::clone(&ground.clock), tasks.clone());
    Arc::new(move |by: Duration| {
        clock.advance(by);
        woken.look_again();
        Box::pin(tokio::time::sleep(Duration::from_millis(10)))
    })
}

/// A queue whose time is moved by hand.
async fn moved() -> QueueUnderTest {
    let ground = Ground::new();
    let tasks = ground.open_with(settings(&ground)).await;
    let advance = advance(&ground, &tasks);
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

// Halves of the suites run side by side: they wait more than they work.

#[test]
fn the_queue_keeps_one_half_of_the_promises_of_queues() {
    queue::queue_part(Time::Real, 0, 2, moved);
}

#[test]
fn the_queue_keeps_the_other_half_of_the_promises_of_queues() {
    queue::queue_part(Time::Real, 1, 2, moved);
}

#[test]
fn the_queue_keeps_a_tenth_of_them_in_real_time() {
    queue::queue_part(Time::Real, 5, 10, real);
}

/// A queue that shares its file with the ledger of sources.
async fn with_ledger() -> QueueUnderTest {
    let ground = Ground::new();
    let tasks = ground.open_with(settings(&ground)).await;
    let ledger = tasks.ledger().await.unwrap();
    let advance = advance(&ground, &tasks);
    QueueUnderTest {
        queue: Arc::new(tasks),
        capacity: Some(CAPACITY as usize),
        maximum_crashes: 5,
        advance: Some(advance),
        keep: Box::new((ground, ledger)),
    }
}

#[test]
fn the_queue_with_a_ledger_in_its_file_keeps_one_half_of_them_too() {
    queue::queue_part(Time::Real, 0, 2, with_ledger);
}

#[test]
fn the_queue_with_a_ledger_in_its_file_keeps_the_other_half_of_them_too() {
    queue::queue_part(Time::Real, 1, 2, with_ledger);
}

#[test]
fn two_handles_on_one_file_keep_the_promises_together() {
    queue::two_handles(Time::Real, || async {
        let ground = Ground::new();
        let first = ground.open_with(settings(&ground)).await;
        let second = ground.open_with(settings(&ground)).await;
        let (moved_first, moved_second) = (advance(&ground, &first), second.clone());
        let advance: Advance = Arc::new(move |by| {
            let moving = moved_first(by);
            moved_second.look_again();
            moving
        });
        let under_test = QueueUnderTest {
            queue: Arc::new(first),
            capacity: Some(CAPACITY as usize),
            maximum_crashes: 5,
            advance: Some(advance),
            keep: Box::new(ground),
        };
        (under_test, Arc::new(second) as Arc<dyn TaskQueue>)
    });
}

/// A queue whose time stands still until it is moved.
async fn still() -> QueueUnderTest {
    let (ground, clock) = (Ground::new(), Arc::new(ManualClock::new()));
    let settings = SqliteSettings {
        lease: Duration::from_secs(30),
        ..settings(&ground)
    };
    let tasks = SqliteTaskQueue::open(settings, Arc::clone(&clock) as _).await.unwrap();
    let woken = tasks.clone();
    QueueUnderTest {
        queue: Arc::new(tasks),
        capacity: Some(CAPACITY as usize),
        maximum_crashes: 5,
        advance: Some(Arc::new(move |by| {
            clock.advance(by);
            woken.look_again();
            Box::pin(tokio::time::sleep(Duration::from_millis(2)))
        })),
        keep: Box::new(ground),
    }
}

#[test]
fn the_queue_does_what_the_model_does() {
    let seed = std::env::var("PLBA_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(1);
    model::queue(Time::Real, seed, 12, 60, still);
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
                    let tasks = SqliteTaskQueue::open(settings, clock as _).await.unwrap();
                    let ledger: SqliteLedger = tasks.ledger().await.unwrap();
                    Arc::new(ledger) as Arc<dyn SourceLedger>
                })
            }),
            keep: Box::new(ground),
        }
    });
}
