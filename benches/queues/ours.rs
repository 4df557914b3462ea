//! plba's part: tasks published to any of its queues, and carried out by task workers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use plba_benches::load::{Count, QUEUE, payload};
use plba_benches::team::Team;
use plba_contracts::clock::Clock;
use plba_runtime::clock::SystemClock;
use plba_tasks::handler::{HandlerError, Outcome, TaskContext, TaskHandler};
use plba_tasks::queue::TaskQueue;
use plba_tasks::task::{NewTask, QueueName, TRACEPARENT, Task};
use plba_tasks::worker::TaskWorkerSettings;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::Result;
use crate::seen::{Seen, per_second};

/// How many tasks are taken at once, as the controls take them.
pub(crate) const TAKE: usize = 128;
/// How many pick-ups one session measures.
pub(crate) const PICKUPS: usize = 200;
/// How long a consumer is left alone before the next task.
pub(crate) const REST: Duration = Duration::from_millis(4);

/// The system's clock.
pub(crate) fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::new())
}

fn settings() -> TaskWorkerSettings {
    TaskWorkerSettings {
        batch: TAKE,
        ..TaskWorkerSettings::default()
    }
}

/// What a trace's header looks like; each task its own.
pub(crate) fn traceparent(number: usize) -> String {
    format!("00-4bf92f3577b34da6a3ce929d{number:08x}-00f067aa0ba902b7-01")
}

/// Publishes tasks from `first` on, so many at once, and gives how many in a second.
pub(crate) async fn publish(queue: &Arc<dyn TaskQueue>, first: usize, tasks: usize, batch: usize) -> Result<f64> {
    let (name, payload) = (QueueName::from(QUEUE), payload());
    let began = Instant::now();
    for start in (first..first + tasks).step_by(batch) {
        let make = |number: usize| {
            NewTask::new(&name, "bench", payload.clone())
                .with_id(format!("source/1/{number}"))
                .with_header(TRACEPARENT, traceparent(number))
        };
        let end = (start + batch).min(first + tasks);
        queue.publish((start..end).map(make).collect()).await?;
    }
    Ok(per_second(tasks, began))
}

/// Has workers carry out what is there, and gives how many in a second, until all of it is ended in the queue.
pub(crate) async fn process(queue: &Arc<dyn TaskQueue>, tasks: usize, workers: u32) -> Result<f64> {
    let count = Count::down_from(tasks);
    let began = Instant::now();
    let team = Team::start(
        workers,
        queue,
        &clock(),
        Arc::clone(&count) as Arc<dyn TaskHandler>,
        &settings(),
    )
    .await;
    count.finished().await;
    team.stop().await;
    let pace = per_second(tasks, began);
    let stats = queue.stats().await?;
    let left: u64 = stats.iter().map(|queue| queue.ready + queue.leased + queue.dead).sum();
    if left == 0 {
        Ok(pace)
    } else {
        Err(format!("{left} of {tasks} tasks are left in the queue").into())
    }
}

/// Publishes, then carries out.
pub(crate) async fn pace(queue: &Arc<dyn TaskQueue>, tasks: usize, batch: usize, workers: u32) -> Result<Seen> {
    let enqueue = publish(queue, 0, tasks, batch).await?;
    Ok(Seen::pace(enqueue, process(queue, tasks, workers).await?))
}

/// How long one task after the other takes from before its publication to its handler.
pub(crate) async fn pickups(queue: &Arc<dyn TaskQueue>) -> Result<Seen> {
    let (sender, mut starts) = unbounded_channel();
    let team = Team::start(1, queue, &clock(), Arc::new(Starts(sender)), &settings()).await;
    let mut pickups = Vec::with_capacity(PICKUPS);
    for number in 0..PICKUPS + 5 {
        tokio::time::sleep(REST).await;
        let task = NewTask::new(QUEUE, "bench", payload())
            .with_id(format!("source/2/{number}"))
            .with_header(TRACEPARENT, traceparent(number));
        let began = Instant::now();
        queue.publish(vec![task]).await?;
        let start = starts.recv().await.ok_or("no worker is left")?;
        if number >= 5 {
            pickups.push(start.saturating_duration_since(began));
        }
    }
    team.stop().await;
    Ok(Seen::pickups(pickups))
}

/// Tells when it was called.
struct Starts(UnboundedSender<Instant>);

#[async_trait]
impl TaskHandler for Starts {
    async fn handle(&self, _task: &Task, _context: &TaskContext) -> std::result::Result<Outcome, HandlerError> {
        self.0.send(Instant::now())?;
        Ok(Outcome::done())
    }
}
