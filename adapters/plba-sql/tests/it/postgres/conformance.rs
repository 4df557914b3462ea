//! The suites of the ports.

use std::sync::Arc;
use std::time::Duration;

use plba_contracts::lease::Lease;
use plba_sql::postgres::{PostgresLease, PostgresLedger};
use plba_tasks::ledger::SourceLedger;
use plba_tasks::queue::TaskQueue;
use plba_testkit::conformance::lease::{LeaseUnderTest, Opening};
use plba_testkit::conformance::ledger::LedgerUnderTest;
use plba_testkit::conformance::queue::QueueUnderTest;
use plba_testkit::conformance::{Time, lease, ledger, queue};

use super::ground::{CAPACITY, Ground, is_there};

/// One case has an effect that takes longer than a lease, in real time.
const LEASE: Duration = Duration::from_secs(3);

/// A quarter of the suite: the quarters run side by side.
fn quarter(part: usize) {
    if is_there() {
        queue::queue_part(Time::Real, part, 4, || async {
            Ground::new().await.under_test(LEASE).await
        });
    }
}

#[test]
fn the_queue_keeps_the_first_quarter_of_the_promises() {
    quarter(0);
}

#[test]
fn the_queue_keeps_the_second_quarter_of_the_promises() {
    quarter(1);
}

#[test]
fn the_queue_keeps_the_third_quarter_of_the_promises() {
    quarter(2);
}

#[test]
fn the_queue_keeps_the_fourth_quarter_of_the_promises() {
    quarter(3);
}

#[test]
fn in_the_servers_own_time_the_queue_keeps_a_tenth_of_them() {
    if !is_there() {
        return;
    }
    queue::queue_part(Time::Real, 3, 10, || async {
        let ground = Ground::new().await;
        let settings = plba_sql::postgres::PostgresSettings {
            lease: Duration::from_secs(1),
            ..ground.settings()
        };
        QueueUnderTest {
            queue: Arc::new(plba_sql::postgres::PostgresTaskQueue::open(settings).await.unwrap()),
            capacity: Some(CAPACITY),
            maximum_crashes: 5,
            advance: None,
            keep: Box::new(ground),
        }
    });
}

#[test]
fn two_processes_share_the_queue() {
    if !is_there() {
        return;
    }
    queue::two_handles(Time::Real, || async {
        let ground = Ground::new().await;
        let (one, other) = (ground.open_moved(LEASE).await, ground.open_moved(LEASE).await);
        let subject = QueueUnderTest {
            advance: Some(ground.advance(vec![one.clone(), other.clone()])),
            queue: Arc::new(one),
            capacity: Some(CAPACITY),
            maximum_crashes: 5,
            keep: Box::new(ground),
        };
        (subject, Arc::new(other) as Arc<dyn TaskQueue>)
    });
}

#[test]
fn the_ledger_keeps_the_promises_of_ledgers() {
    if !is_there() {
        return;
    }
    ledger::ledger(Time::Real, || async {
        let ground = Ground::new().await;
        let settings = ground.settings();
        LedgerUnderTest {
            open: Box::new(move || {
                let settings = settings.clone();
                Box::pin(
                    async move { Arc::new(PostgresLedger::open(settings).await.unwrap()) as Arc<dyn SourceLedger> },
                )
            }),
            keep: Box::new(ground),
        }
    });
}

#[test]
fn the_leases_keep_the_promises_of_leases() {
    if !is_there() {
        return;
    }
    lease::lease(Time::Real, || async {
        let ground = Ground::new().await;
        let (settings, clock) = (ground.settings(), Arc::clone(&ground.clock));
        LeaseUnderTest {
            clock: Arc::clone(&clock),
            open: Box::new(move || {
                let (settings, clock) = (settings.clone(), Arc::clone(&clock));
                Box::pin(async move {
                    let store = PostgresLease::open_with_clock(settings, clock as _).await.unwrap();
                    Arc::new(store) as Arc<dyn Lease>
                }) as Opening
            }),
            keep: Box::new(ground),
        }
    });
}
