//! The batch worker: gathers tasks until there are enough of them or the first has waited long enough, keeps their leases,
//! and gives them to the hand that carries them out.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use plba_contracts::BoxError;
use plba_contracts::health::Health;
use plba_contracts::services::Services;
use plba_contracts::stop::{StopHandle, StopSignal};
use plba_contracts::trace::TraceFactory;
use plba_contracts::worker::{Exit, Running, StartError, Worker, WorkerContext, WorkerDefinition, WorkerStatus};
use tokio::time::Instant;

use super::hand::Hand;
use super::{BatchHandler, BatchSettings};
use crate::queue::{ConsumerId, Delivery, EndError, QueueError, TaskQueue};
use crate::retry::BackOff;
use crate::task::QueueName;
use crate::worker::common::{Common, Parts, definition, hindered, identity};
use crate::worker::vitals::Vitals;

/// A worker that carries out the tasks of the queue `queue` in batches, with the handler that `handler` builds, one for
/// each instance. `concurrency(n)` on the definition gives *n* instances side by side, each with a batch of its own.
///
/// A graceful stop finishes the batch that is being handled and releases what was gathered besides; a forced one releases
/// everything; neither costs an attempt.
pub fn batch_worker<F, Fut>(
    name: impl Into<String>,
    queue: impl Into<QueueName>,
    settings: BatchSettings,
    handler: F,
) -> WorkerDefinition
where
    F: Fn(Services) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<Arc<dyn BatchHandler>, BoxError>> + Send + 'static,
{
    let queue_name = queue.into();
    let common = Common {
        settings: format!("{queue_name} {settings:?}"),
        queue_name,
        queue_service: settings.queue_service.clone(),
        timeout: settings.timeout,
        valid: settings.validate(),
    };
    let make = move |parts: Parts<dyn BatchHandler>| {
        let Parts {
            queue,
            queue_name,
            handler,
            traces,
        } = parts;
        Arc::new(BatchWorker::new(queue, queue_name, handler, traces, settings.clone())) as Arc<dyn Worker>
    };
    definition(name.into(), common, handler, make)
}

/// One instance of a batch worker. [`batch_worker`] makes them; tests may do so by hand.
pub struct BatchWorker {
    pub(super) queue: Arc<dyn TaskQueue>,
    pub(super) queue_name: QueueName,
    pub(super) handler: Arc<dyn BatchHandler>,
    pub(super) traces: Option<Arc<dyn TraceFactory>>,
    pub(super) settings: BatchSettings,
    pub(super) stop: StopHandle,
    pub(super) vitals: Vitals,
}

impl BatchWorker {
    /// An instance that takes tasks of `queue_name` from `queue`.
    pub fn new(
        queue: Arc<dyn TaskQueue>,
        queue_name: QueueName,
        handler: Arc<dyn BatchHandler>,
        traces: Option<Arc<dyn TraceFactory>>,
        settings: BatchSettings,
    ) -> Self {
        Self {
            queue,
            queue_name,
            handler,
            traces,
            stop: StopHandle::new(),
            vitals: Vitals::new(settings.unhealthy_after),
            settings,
        }
    }

    async fn run(&self, context: WorkerContext) -> Exit {
        let (random, consumer) = identity(self.settings.seed, &context);
        let stop = self.stop.signal();
        let mut back_off = BackOff::new(Duration::from_millis(100), Duration::from_secs(5));
        let mut hand = Hand::new(self, &context, random, consumer.producer());
        let mut gathered = Gathered::default();
        while !stop.is_requested() {
            match gathered.next(self, &consumer, &stop).await {
                Ok(batch) => {
                    back_off.reset();
                    self.vitals.unhindered();
                    if !batch.is_empty() {
                        hand.carry_out(batch, &mut gathered).await;
                    }
                }
                Err(error) => {
                    let pause = back_off.next(hand.random());
                    hindered(&error, &self.queue_name, &self.vitals, &context, &stop, pause).await;
                }
            }
        }
        hand.release(gathered.into_rest()).await;
        Exit::Stopped
    }
}

#[async_trait]
impl Worker for BatchWorker {
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

/// What was taken and has not been handled.
#[derive(Default)]
pub(super) struct Gathered {
    /// Tasks that have never failed: they go together.
    fresh: Vec<Delivery>,
    /// When the first of them has waited long enough.
    due: Option<Instant>,
    /// Tasks that have failed before: each goes alone.
    alone: VecDeque<Delivery>,
    /// When the leases were granted or last renewed.
    renewed: Option<Instant>,
}

impl Gathered {
    /// Everything that is held.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Delivery> {
        self.fresh.iter().chain(&self.alone)
    }

    /// The leases with these fences are lost.
    pub(super) fn drop_lost(&mut self, lost: &[u64]) {
        let held = |delivery: &Delivery| !lost.contains(&delivery.token.fence);
        self.fresh.retain(held);
        self.alone.retain(held);
    }

    /// All leases have just been renewed.
    pub(super) fn renewed(&mut self) {
        self.renewed = Some(Instant::now());
    }

    fn into_rest(self) -> Vec<Delivery> {
        self.fresh.into_iter().chain(self.alone).collect()
    }

    fn take_in(&mut self, deliveries: Vec<Delivery>, wait: Duration) {
        let now = Instant::now();
        self.renewed.get_or_insert(now);
        for delivery in deliveries {
            if delivery.task.history.is_empty() {
                self.fresh.push(delivery);
            } else {
                self.alone.push_back(delivery);
            }
        }
        if !self.fresh.is_empty() {
            self.due.get_or_insert(now + wait);
        }
    }

    fn batch(&mut self) -> Vec<Delivery> {
        self.due = None;
        std::mem::take(&mut self.fresh)
    }

    /// Waits for the next batch. An empty one means that there is to be looked at the stop signal.
    async fn next(
        &mut self,
        worker: &BatchWorker,
        consumer: &ConsumerId,
        stop: &StopSignal,
    ) -> Result<Vec<Delivery>, QueueError> {
        let settings = &worker.settings;
        let renew_after = worker.queue.lease() / 3;
        loop {
            if self.fresh.len() >= settings.size || self.due.is_some_and(|due| due <= Instant::now()) {
                return Ok(self.batch());
            }
            if let Some(delivery) = self.alone.pop_front() {
                return Ok(vec![delivery]);
            }
            if self.fresh.is_empty() {
                self.renewed = None;
            }
            let (due, renew) = (self.due, self.renewed.map(|renewed| renewed + renew_after));
            let room = settings.size - self.fresh.len();
            tokio::select! {
                biased;
                () = stop.requested() => return Ok(Vec::new()),
                () = until(due) => return Ok(self.batch()),
                () = until(renew) => self.renew(worker).await,
                taken = worker.queue.consume(&worker.queue_name, consumer, room) => self.take_in(taken?, settings.wait),
            }
        }
    }

    /// Keeps what waits for others: with long waits leases would run out.
    async fn renew(&mut self, worker: &BatchWorker) {
        let tokens: Vec<_> = self.iter().map(|delivery| delivery.token.clone()).collect();
        match worker.queue.extend(&tokens).await {
            Ok(results) => {
                let lost = |result: &Result<(), EndError>| matches!(result, Err(EndError::LeaseLost));
                let fences = tokens.iter().zip(&results).filter(|(_, result)| lost(result));
                let fences: Vec<u64> = fences.map(|(token, _)| token.fence).collect();
                self.drop_lost(&fences);
            }
            Err(error) => tracing::warn!(%error, "leases could not be renewed"),
        }
        self.renewed();
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
