//! A round through plba: one producer, the queue in memory, task workers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use plba_benches::load::{CAPACITY, Count, QUEUE, payload};
use plba_benches::team::Team;
use plba_contracts::clock::Clock;
use plba_runtime::clock::SystemClock;
use plba_tasks::handler::TaskHandler;
use plba_tasks::memory::{InMemoryTaskQueue, MemorySettings};
use plba_tasks::queue::TaskQueue;
use plba_tasks::task::{NewTask, QueueName};
use plba_tasks::worker::TaskWorkerSettings;

/// How many tasks a producer publishes at once, as sources do.
pub(crate) const BATCH: usize = 64;

/// From the first task published to the last one handled.
pub(crate) async fn run(workers: u32, tasks: usize, batch: usize) -> Duration {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let queue = InMemoryTaskQueue::new(settings(), Arc::clone(&clock)).expect("the settings are sound");
    let queue: Arc<dyn TaskQueue> = Arc::new(queue);
    let count = Count::down_from(tasks);
    let handler = Arc::clone(&count) as Arc<dyn TaskHandler>;
    let team = Team::start(workers, &queue, &clock, handler, &TaskWorkerSettings::default()).await;
    let began = Instant::now();
    let producer = tokio::spawn(produce(queue, tasks, batch));
    count.finished().await;
    let took = began.elapsed();
    producer.await.expect("publishing does not panic");
    team.stop().await;
    took
}

pub(crate) fn settings() -> MemorySettings {
    MemorySettings {
        capacity: CAPACITY,
        ..MemorySettings::default()
    }
}

async fn produce(queue: Arc<dyn TaskQueue>, tasks: usize, batch: usize) {
    let payload = payload();
    let name = QueueName::from(QUEUE);
    let mut left = tasks;
    while left > 0 {
        let count = left.min(batch);
        left -= count;
        let make = |_| NewTask::new(&name, "bench", payload.clone());
        queue
            .publish((0..count).map(make).collect())
            .await
            .expect("the tasks are sound");
    }
}
