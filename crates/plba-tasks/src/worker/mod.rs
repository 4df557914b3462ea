//! The task worker: an ordinary worker of the platform that takes tasks from one queue and has a handler carry them out,
//! under leases, time-outs and a retry policy.

pub(crate) mod attempt;
pub(crate) mod common;
pub(crate) mod ending;
mod hand;
mod sent;
mod turn;
pub(crate) mod vitals;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use plba_contracts::BoxError;
use plba_contracts::health::Health;
use plba_contracts::services::Services;
use plba_contracts::stop::StopHandle;
use plba_contracts::trace::TraceFactory;
use plba_contracts::worker::{Exit, Running, StartError, Worker, WorkerContext, WorkerDefinition, WorkerStatus};

use self::common::{Common, Parts, definition, hindered, identity};
use self::hand::Hand;
use self::turn::Turn;
use self::vitals::Vitals;
use crate::handler::TaskHandler;
use crate::queue::TaskQueue;
use crate::retry::{BackOff, RetryPolicy};
use crate::task::QueueName;

/// How a task worker works.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskWorkerSettings {
    /// How long a handler may take before it is dropped and the attempt has failed. Default: 5 min.
    pub timeout: Duration,
    /// How failed attempts are followed by new ones.
    pub retry: RetryPolicy,
    /// How many tasks an instance takes at once, at most. It starts with one, and takes more only while handlers finish
    /// within a few milliseconds. Default: 64.
    pub batch: usize,
    /// After how many failed attempts in a row an instance calls itself unhealthy. Default: 5.
    pub unhealthy_after: u32,
    /// The name under which the queue is registered as a service; `None` for the only one.
    pub queue_service: Option<String>,
    /// Seed of jitter and of the consumer's identity; `None` takes one from the system.
    pub seed: Option<u64>,
}

impl Default for TaskWorkerSettings {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(300),
            retry: RetryPolicy::default(),
            batch: 64,
            unhealthy_after: 5,
            queue_service: None,
            seed: None,
        }
    }
}

impl TaskWorkerSettings {
    /// Checks ranges.
    ///
    /// # Errors
    /// Every fault, each naming its setting.
    pub fn validate(&self) -> Result<(), String> {
        let mut faults: Vec<String> = self.retry.validate().err().into_iter().collect();
        if self.timeout.is_zero() {
            faults.push("timeout is longer than 0".into());
        }
        if !(1..=1_000).contains(&self.batch) {
            faults.push("batch lies between 1 and 1,000".into());
        }
        if faults.is_empty() {
            Ok(())
        } else {
            Err(faults.join("; "))
        }
    }
}

/// A worker that carries out the tasks of the queue `queue` with the handler that `handler` builds, one for each instance.
///
/// The queue is asked for as the service `dyn TaskQueue`. `concurrency(n)` on the definition gives *n* instances side by
/// side, each with one task in hand at a time. A graceful stop finishes that one task and releases what was taken besides;
/// a forced one releases it as well; neither costs an attempt. An instance that is busy with one task for longer than the
/// time-out and some counts as hung.
///
/// ```
/// use std::sync::Arc;
/// use plba_tasks::handler::TaskHandler;
/// use plba_tasks::worker::{TaskWorkerSettings, task_worker};
///
/// let definition = task_worker("orders", "orders", TaskWorkerSettings::default(), |services| async move {
///     Ok(services.get::<dyn TaskHandler>().await?)
/// });
/// assert_eq!(definition.concurrency(8).concurrency, 8);
/// ```
pub fn task_worker<F, Fut>(
    name: impl Into<String>,
    queue: impl Into<QueueName>,
    settings: TaskWorkerSettings,
    handler: F,
) -> WorkerDefinition
where
    F: Fn(Services) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<Arc<dyn TaskHandler>, BoxError>> + Send + 'static,
{
    let queue_name = queue.into();
    let common = Common {
        settings: format!("{queue_name} {settings:?}"),
        queue_name,
        queue_service: settings.queue_service.clone(),
        timeout: settings.timeout,
        valid: settings.validate(),
    };
    let make = move |parts: Parts<dyn TaskHandler>| {
        let Parts {
            queue,
            queue_name,
            handler,
            traces,
        } = parts;
        Arc::new(TaskWorker::new(queue, queue_name, handler, traces, settings.clone())) as Arc<dyn Worker>
    };
    definition(name.into(), common, handler, make)
}

/// One instance of a task worker. [`task_worker`] makes them; tests and benches may do so by hand.
pub struct TaskWorker {
    queue: Arc<dyn TaskQueue>,
    queue_name: QueueName,
    handler: Arc<dyn TaskHandler>,
    traces: Option<Arc<dyn TraceFactory>>,
    settings: TaskWorkerSettings,
    stop: StopHandle,
    vitals: Arc<Vitals>,
}

impl TaskWorker {
    /// An instance that takes tasks of `queue_name` from `queue`.
    pub fn new(
        queue: Arc<dyn TaskQueue>,
        queue_name: QueueName,
        handler: Arc<dyn TaskHandler>,
        traces: Option<Arc<dyn TraceFactory>>,
        settings: TaskWorkerSettings,
    ) -> Self {
        Self {
            queue,
            queue_name,
            handler,
            traces,
            stop: StopHandle::new(),
            vitals: Arc::new(Vitals::new(settings.unhealthy_after)),
            settings,
        }
    }
}

#[async_trait]
impl Worker for TaskWorker {
    async fn start(self: Arc<Self>, context: WorkerContext) -> Result<Running, StartError> {
        Ok(Running::new(async move { self.run(context).await }))
    }

    fn stop(&self, force: bool) {
        self.stop.stop(force);
    }

    fn health(&self) -> Health {
        self.vitals.health()
    }

    fn status(&self) -> WorkerStatus {
        self.vitals.status()
    }
}

impl TaskWorker {
    async fn run(&self, context: WorkerContext) -> Exit {
        let (random, consumer) = identity(self.settings.seed, &context);
        let stop = self.stop.signal();
        let mut back_off = BackOff::new(Duration::from_millis(100), Duration::from_secs(5));
        let mut hand = Hand::new(self, &context, random, consumer.producer());
        let mut turn = Turn::new();
        while !stop.is_requested() {
            let taken = tokio::select! {
                biased;
                () = stop.requested() => break,
                taken = self.queue.consume(&self.queue_name, &consumer, hand.size()) => taken,
            };
            match taken {
                Ok(mut deliveries) => {
                    back_off.reset();
                    self.vitals.unhindered();
                    // With a backlog, each batch is ended and the next one taken in one go.
                    while !deliveries.is_empty() {
                        let finished = hand.work(deliveries).await;
                        deliveries = hand.exchange(finished, &self.queue_name, &consumer).await;
                        turn.batch_done().await;
                    }
                }
                Err(error) => {
                    let pause = back_off.next(hand.random());
                    hindered(&error, &self.queue_name, &self.vitals, &context, &stop, pause).await;
                }
            }
        }
        Exit::Stopped
    }
}
