//! The suites of the ports: queue, ledger, leases. The time is the tests' own.

use std::sync::Arc;
use std::time::Duration;

use plba_contracts::lease::Lease;
use plba_redis::{RedisLease, RedisLedger, RedisSettings, RedisTaskQueue};
use plba_tasks::ledger::SourceLedger;
use plba_tasks::queue::TaskQueue;
use plba_testkit::clock::ManualClock;
use plba_testkit::conformance::lease::LeaseUnderTest;
use plba_testkit::conformance::ledger::LedgerUnderTest;
use plba_testkit::conformance::queue::{Advance, QueueUnderTest};
use plba_testkit::conformance::{Time, lease, ledger, model, queue};
use plba_testkit::runtime;

use crate::place::fresh;

const CAPACITY: u64 = 20;

/// Whether there is a server to test on.
fn can_run() -> bool {
    runtime::real(async { fresh().await.is_some() })
}

async fn settings() -> RedisSettings {
    let mut settings = fresh().await.unwrap();
    settings.capacity = CAPACITY;
    settings.maximum_crashes = 5;
    settings
}

async fn open(settings: &RedisSettings, clock: &Arc<ManualClock>) -> Arc<dyn TaskQueue> {
    Arc::new(
        RedisTaskQueue::open_with_clock(settings.clone(), Arc::clone(clock) as _)
            .await
            .unwrap(),
    )
}

fn under_test(queue: Arc<dyn TaskQueue>, clock: Arc<ManualClock>) -> QueueUnderTest {
    let advance: Advance = Arc::new(move |by: Duration| {
        clock.advance(by);
        // Consumers that wait look for it every few milliseconds.
        Box::pin(tokio::time::sleep(Duration::from_millis(20)))
    });
    QueueUnderTest {
        queue,
        capacity: Some(CAPACITY as usize),
        maximum_crashes: 5,
        advance: Some(advance),
        keep: Box::new(()),
    }
}

async fn fresh_queue() -> QueueUnderTest {
    let clock = Arc::new(ManualClock::new());
    let queue = open(&settings().await, &clock).await;
    under_test(queue, clock)
}

async fn two_handles() -> (QueueUnderTest, Arc<dyn TaskQueue>) {
    let clock = Arc::new(ManualClock::new());
    let settings = settings().await;
    let (first, second) = (open(&settings, &clock).await, open(&settings, &clock).await);
    (under_test(first, clock), second)
}

#[test]
fn the_queue_on_redis_keeps_the_promises_of_queues_first_half() {
    if can_run() {
        queue::queue_part(Time::Real, 0, 2, fresh_queue);
    }
}

#[test]
fn the_queue_on_redis_keeps_the_promises_of_queues_second_half() {
    if can_run() {
        queue::queue_part(Time::Real, 1, 2, fresh_queue);
    }
}

#[test]
fn two_processes_share_a_queue_on_redis() {
    if can_run() {
        queue::two_handles(Time::Real, two_handles);
    }
}

#[test]
fn the_queue_on_redis_does_what_the_model_does() {
    if can_run() {
        model::queue(Time::Real, 1, 40, 60, fresh_queue);
    }
}

#[test]
fn the_ledger_on_redis_keeps_the_promises_of_ledgers() {
    if !can_run() {
        return;
    }
    ledger::ledger(Time::Real, || async {
        let settings = settings().await;
        let opening = move || {
            let settings = settings.clone();
            Box::pin(async move { Arc::new(RedisLedger::open(settings).await.unwrap()) as Arc<dyn SourceLedger> }) as _
        };
        LedgerUnderTest {
            open: Box::new(opening),
            keep: Box::new(()),
        }
    });
}

#[test]
fn leases_on_redis_keep_the_promises_of_leases() {
    if !can_run() {
        return;
    }
    lease::lease(Time::Real, || async {
        let (settings, clock) = (settings().await, Arc::new(ManualClock::new()));
        let at = Arc::clone(&clock);
        let opening = move || {
            let (settings, clock) = (settings.clone(), Arc::clone(&at));
            Box::pin(async move {
                Arc::new(RedisLease::open_with_clock(settings, clock as _).await.unwrap()) as Arc<dyn Lease>
            }) as _
        };
        LeaseUnderTest {
            clock,
            open: Box::new(opening),
            keep: Box::new(()),
        }
    });
}
