//! Batches to a handler: several tasks at once, by number or by time, for what is cheaper together, such as one statement
//! for many rows. The port is here; the worker that gathers, hands out and ends is in `worker` and `hand`.
//!
//! **Poison.** A batch that fails as a whole (an error, a panic, a time-out) is a failed attempt of each of its tasks, and
//! says nothing of which one it was. So a task that has failed before is handed out *alone* from then on: a poison task
//! takes its neighbours down once, and never for good, since the failure of a whole batch makes no dead letters, not even on
//! what would be a task's last attempt.
//!
//! **Rules of the queue.** Tasks that are being gathered are in hand: a queue whose `concurrency` is 10 never fills a batch
//! of 100. Limit the number of instances instead, or the rate.

mod hand;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use plba_contracts::clock::Clock;
use plba_contracts::stop::StopSignal;

pub use worker::{BatchWorker, batch_worker};

use crate::handler::{HandlerError, Outcome};
use crate::retry::RetryPolicy;
use crate::task::Task;

/// Carries tasks out, several at once.
///
/// A batch worker calls [`handle`](Self::handle) for one batch at a time, from as many instances at once as the worker has,
/// on the workers' executor. What holds for a [`TaskHandler`](crate::handler::TaskHandler) holds here for each task: it may
/// come more than once.
///
/// - **`Ok`**: the [`BatchOutcome`] names what happens next with each task.
/// - **`Err`**, **panic** and **time-out**: a failed attempt of all of them; each is tried again alone.
///
/// # Cancel safety
/// `handle` is dropped at its time-out, when the lease of its first task is lost, and on a forced stop.
///
/// ```
/// use plba_tasks::batch::{BatchContext, BatchHandler, BatchOutcome, BatchTask};
/// use plba_tasks::handler::{HandlerError, Outcome};
///
/// struct Rows;
///
/// #[async_trait::async_trait]
/// impl BatchHandler for Rows {
///     async fn handle(&self, batch: &[BatchTask], _: &BatchContext) -> Result<BatchOutcome, HandlerError> {
///         // One bad row does not keep the others out.
///         let each = batch.iter().map(|item| match std::str::from_utf8(&item.task.payload) {
///             Ok(_row) => Ok(Outcome::done()),
///             Err(error) => Err(HandlerError::reject(error)),
///         });
///         Ok(BatchOutcome::Each(each.collect()))
///     }
/// }
/// ```
#[async_trait]
pub trait BatchHandler: Send + Sync + 'static {
    /// Carries out one batch: at least one task, at most as many as the worker's settings say, in the order in which they
    /// were handed out.
    async fn handle(&self, batch: &[BatchTask], context: &BatchContext) -> Result<BatchOutcome, HandlerError>;
}

/// A task of a batch.
#[derive(Clone, Debug)]
pub struct BatchTask {
    /// The task.
    pub task: Arc<Task>,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// How often the task has been handed out, this time included.
    pub deliveries: u32,
    /// How long the task had been ready before it was handed out.
    pub waited: Duration,
}

/// What a batch handler is told besides the tasks.
#[derive(Clone)]
pub struct BatchContext {
    /// The worker that runs the handler.
    pub worker: Arc<str>,
    /// Whether the worker is asked to stop: finish what is in hand.
    pub stop: StopSignal,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// What happens after a handler has looked at a batch.
#[derive(Debug)]
pub enum BatchOutcome {
    /// All of the work is done.
    Done,
    /// For each task, in the order of the batch, what a handler of single tasks would have answered. Another number of
    /// answers than of tasks counts as the failure of the whole batch.
    Each(Vec<Result<Outcome, HandlerError>>),
}

/// How a batch worker works.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchSettings {
    /// How many tasks a batch has at most, 1 to 1,000. Default: 100.
    pub size: usize,
    /// For how long the first task of a batch waits for others. Default: 100 ms.
    pub wait: Duration,
    /// How long a handler may take for a batch before it is dropped and the attempt has failed. Default: 5 min.
    pub timeout: Duration,
    /// How failed attempts are followed by new ones.
    pub retry: RetryPolicy,
    /// After how many failed batches in a row an instance calls itself unhealthy. Default: 5.
    pub unhealthy_after: u32,
    /// The name under which the queue is registered as a service; `None` for the only one.
    pub queue_service: Option<String>,
    /// Seed of jitter and of the consumer's identity; `None` takes one from the system.
    pub seed: Option<u64>,
}

impl Default for BatchSettings {
    fn default() -> Self {
        Self {
            size: 100,
            wait: Duration::from_millis(100),
            timeout: Duration::from_secs(300),
            retry: RetryPolicy::default(),
            unhealthy_after: 5,
            queue_service: None,
            seed: None,
        }
    }
}

impl BatchSettings {
    /// Checks ranges.
    ///
    /// # Errors
    /// Every fault, each naming its setting.
    pub fn validate(&self) -> Result<(), String> {
        let mut faults: Vec<String> = self.retry.validate().err().into_iter().collect();
        if !(1..=1_000).contains(&self.size) {
            faults.push("size lies between 1 and 1,000".into());
        }
        if self.wait > Duration::from_secs(3600) {
            faults.push("wait is an hour at most".into());
        }
        if self.timeout.is_zero() {
            faults.push("timeout is longer than 0".into());
        }
        if faults.is_empty() {
            Ok(())
        } else {
            Err(faults.join("; "))
        }
    }
}
