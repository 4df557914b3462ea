//! The reference implementations keep the promises of their ports: the queue and the leases in memory, the ledger on a file.

use std::sync::Arc;
use std::time::Duration;

use plba_contracts::lease::Lease;
use plba_runtime::lease::InProcessLease;
use plba_tasks::file_ledger::{FileLedger, FileLedgerSettings};
use plba_tasks::ledger::SourceLedger;
use plba_tasks::memory::{InMemoryTaskQueue, MemorySettings};
use plba_tasks::queue::TaskQueue;
use plba_testkit::clock::{ManualClock, TokioClock};
use plba_testkit::conformance::lease::{LeaseUnderTest, Opening};
use plba_testkit::conformance::ledger::LedgerUnderTest;
use plba_testkit::conformance::queue::QueueUnderTest;
use plba_testkit::conformance::{Time, lease, ledger, model, queue};
use plba_testkit::directory::Directory;

fn settings() -> MemorySettings {
    MemorySettings {
        capacity: 64,
        lease: Duration::from_secs(30),
        maximum_crashes: 5,
        seed: Some(1),
        ..MemorySettings::default()
    }
}

fn under_test(memory: InMemoryTaskQueue) -> QueueUnderTest {
    QueueUnderTest {
        queue: Arc::new(memory),
        capacity: Some(64),
        maximum_crashes: 5,
        advance: None,
        keep: Box::new(()),
    }
}

async fn plain() -> QueueUnderTest {
    under_test(InMemoryTaskQueue::new(settings(), Arc::new(TokioClock::new())).unwrap())
}

async fn with_ledger() -> (QueueUnderTest, Arc<dyn SourceLedger>) {
    let ledger: Arc<dyn SourceLedger> = Arc::new(FileLedger::in_memory(&FileLedgerSettings::default()));
    let clock = Arc::new(TokioClock::new());
    let memory = InMemoryTaskQueue::with_ledger(settings(), clock, Arc::clone(&ledger)).unwrap();
    (under_test(memory), ledger)
}

#[test]
fn the_queue_in_memory_keeps_the_promises_of_queues() {
    queue::queue(Time::Paused, plain);
}

#[test]
fn the_suite_for_queues_has_so_many_cases() {
    let count = queue::count();
    println!("the suite for queues has {count} cases");
    assert!(count >= 150, "{count}");
}

#[test]
fn two_handles_on_the_queue_in_memory_keep_the_promises_to_each_other() {
    queue::two_handles(Time::Paused, || async {
        let memory = InMemoryTaskQueue::new(settings(), Arc::new(TokioClock::new())).unwrap();
        (under_test(memory.clone()), Arc::new(memory) as Arc<dyn TaskQueue>)
    });
}

#[test]
fn the_queue_in_memory_with_a_ledger_keeps_the_promises_of_queues() {
    queue::queue(Time::Paused, || async { with_ledger().await.0 });
}

#[test]
fn the_queue_in_memory_keeps_its_ledger_in_step() {
    queue::queue_with_ledger(Time::Paused, with_ledger);
}

#[test]
fn the_queue_in_memory_does_what_a_small_model_does() {
    let seed = std::env::var("PLBA_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(1);
    model::queue(Time::Paused, seed, 300, 200, plain);
}

fn on_file(settings: FileLedgerSettings) -> LedgerUnderTest {
    let directory = Directory::new();
    let path = directory.path().join("ledger.journal");
    let open = move || {
        let (path, settings) = (path.clone(), settings.clone());
        let opening = async move { Arc::new(FileLedger::open(path, settings).await.unwrap()) as Arc<dyn SourceLedger> };
        Box::pin(opening) as std::pin::Pin<Box<dyn Future<Output = _>>>
    };
    LedgerUnderTest {
        open: Box::new(open),
        keep: Box::new(directory),
    }
}

#[test]
fn the_ledger_on_a_file_keeps_the_promises_of_ledgers() {
    ledger::ledger(Time::Real, || async { on_file(FileLedgerSettings::default()) });
}

#[test]
fn the_ledger_on_a_file_keeps_them_while_it_compacts_all_the_time() {
    let settings = || FileLedgerSettings {
        compact_above: 1,
        ..FileLedgerSettings::default()
    };
    ledger::ledger(Time::Real, || async { on_file(settings()) });
}

#[test]
fn the_leases_in_memory_keep_the_promises_of_leases() {
    lease::lease(Time::Paused, || async {
        let clock = Arc::new(ManualClock::new());
        let store = InProcessLease::new(Arc::clone(&clock) as _);
        let opening = move || {
            let store: Arc<dyn Lease> = Arc::new(store.clone());
            Box::pin(async { store }) as Opening
        };
        LeaseUnderTest {
            clock,
            open: Box::new(opening),
            keep: Box::new(()),
        }
    });
}
