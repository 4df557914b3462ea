//! A round through plba with a ledger on a file: taken in by a source, counted at delivery, recorded as done, reported to
//! the source, settled. Each of these is on the disk before the next.

use std::sync::Arc;
use std::time::{Duration, Instant};

use plba_benches::load::{Count, QUEUE, payload};
use plba_benches::team::Team;
use plba_contracts::clock::Clock;
use plba_runtime::clock::SystemClock;
use plba_tasks::file_ledger::{FileLedger, FileLedgerSettings};
use plba_tasks::handler::TaskHandler;
use plba_tasks::intake::{Arrival, Intake};
use plba_tasks::ledger::SourceLedger;
use plba_tasks::memory::InMemoryTaskQueue;
use plba_tasks::queue::{ConsumerId, Incarnation, TaskQueue};
use plba_tasks::task::NewTask;
use plba_tasks::worker::TaskWorkerSettings;

use crate::plain::{BATCH, settings};

/// How many completions a source takes at once.
const COMPLETIONS: usize = 1_000;

/// From the first task taken in to the last one settled.
pub(crate) async fn run(workers: u32, tasks: usize) -> Duration {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the target directory can be written");
    let opening = FileLedger::open(directory.path().join("ledger"), FileLedgerSettings::default());
    let ledger: Arc<dyn SourceLedger> = Arc::new(opening.await.expect("a ledger can be made"));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let queue = InMemoryTaskQueue::with_ledger(settings(), Arc::clone(&clock), Arc::clone(&ledger));
    let queue: Arc<dyn TaskQueue> = Arc::new(queue.expect("the settings are sound"));
    let count = Count::down_from(tasks);
    let handler = count as Arc<dyn TaskHandler>;
    let team = Team::start(workers, &queue, &clock, handler, &TaskWorkerSettings::default()).await;
    let consumer = ConsumerId::new(Incarnation::of_this_process(1), "bench");
    let intake = Intake::new("bench", queue, ledger, consumer);
    let began = Instant::now();
    let settling = tokio::spawn(settle(intake.clone(), tasks));
    take_in(intake, tasks).await;
    settling.await.expect("settling does not panic");
    let took = began.elapsed();
    team.stop().await;
    took
}

async fn take_in(intake: Intake, tasks: usize) {
    let payload = payload();
    let mut number = 0;
    while number < tasks {
        let next = tasks.min(number + BATCH);
        let arrival = |number: usize| Arrival {
            key: number.to_string().into(),
            task: NewTask::new(QUEUE, "bench", payload.clone()),
        };
        let arrivals = (number..next).map(arrival).collect();
        intake.publish(arrivals).await.expect("the arrivals are sound");
        number = next;
    }
}

async fn settle(intake: Intake, tasks: usize) {
    let mut left = tasks;
    while left > 0 {
        let keys = intake.completions(COMPLETIONS).await.expect("the queue works");
        intake.settle(&keys).await.expect("the ledger works");
        left -= keys.len();
    }
}
