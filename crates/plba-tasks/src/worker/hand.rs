//! What an instance has in hand: a batch of deliveries, of which it carries out one after the other and ends them together.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use plba_contracts::stop::StopPhase;
use plba_contracts::worker::{BusyGuard, Fate, WorkerContext};
use tokio::time::Instant;

use super::TaskWorker;
use super::attempt::{Attempt, Bounds, Ended, within};
use super::ending::{Meaning, complete, copy, judge};
use super::sent::{Finished, Sent};
use crate::handler::TaskContext;
use crate::queue::{ConsumerId, Delivery, DeliveryToken, Durability, EndError, Ending, How, QueueError};
use crate::retry::BackOff;
use crate::task::{QueueName, TRACEPARENT};

/// A batch that took less than this may be followed by a larger one.
const QUICK: Duration = Duration::from_millis(5);
/// A batch that took more is followed by a smaller one: what is taken early, nobody else can have.
const SLOW: Duration = Duration::from_millis(20);

/// The batch in hand, and what is kept from one batch to the next.
pub(super) struct Hand<'a> {
    worker: &'a TaskWorker,
    context: &'a WorkerContext,
    for_handlers: TaskContext,
    random: fastrand::Rng,
    /// Who publishes follow-ups.
    producer: String,
    size: usize,
    /// Whether ending a delivery may fail and has to be tried again.
    fallible: bool,
}

impl<'a> Hand<'a> {
    pub(super) fn new(
        worker: &'a TaskWorker,
        context: &'a WorkerContext,
        random: fastrand::Rng,
        producer: String,
    ) -> Self {
        let for_handlers = TaskContext {
            attempt: 1,
            deliveries: 1,
            waited: Duration::ZERO,
            worker: Arc::clone(&context.name),
            stop: worker.stop.signal(),
            clock: Arc::clone(&context.clock),
        };
        Self {
            worker,
            context,
            for_handlers,
            random,
            producer,
            size: 1,
            fallible: worker.queue.durability() > Durability::Volatile,
        }
    }

    /// How many tasks to take next.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    pub(super) fn random(&mut self) -> &mut fastrand::Rng {
        &mut self.random
    }

    /// Carries out the batch, or releases it when told to stop. Gives what has yet to be ended.
    pub(super) async fn work(&mut self, deliveries: Vec<Delivery>) -> Vec<Finished> {
        let (count, began) = (deliveries.len(), Instant::now());
        let context = self.context;
        let mut renewed = context.clock.monotonic();
        let mut busy: Option<BusyGuard<'_>> = None;
        let renew_after = self.worker.queue.lease() / 3;
        let mut waiting = VecDeque::from(deliveries);
        let mut endings = Vec::with_capacity(count);
        while !self.for_handlers.stop.is_requested()
            && let Some(delivery) = waiting.pop_front()
        {
            // Handlers that never wait leave no time for renewing in between.
            let now = context.clock.monotonic();
            if now.saturating_sub(renewed) > renew_after {
                renewed = now;
                if !self.renew(&delivery, &mut waiting).await {
                    continue;
                }
            }
            match &busy {
                Some(busy) => busy.turn_to(delivery.task.id.shared(), now),
                None => busy = Some(context.activity.begin(delivery.task.id.shared())),
            }
            let (how, meaning) = self.carry_out(&delivery, &mut waiting, &mut endings).await;
            self.note(&meaning);
            if let Some(how) = how {
                endings.push(Finished::new(delivery, how));
            }
        }
        let release = |delivery| Finished::new(delivery, How::Release { delay: Duration::ZERO });
        // From the back, so that those taken first are released last and stand first again.
        endings.extend(waiting.drain(..).rev().map(release));
        self.adapt(count, began.elapsed());
        endings
    }

    /// Ends what is finished, and takes what is ready; nothing when told to stop, or when that fails: then consuming finds
    /// out why.
    pub(super) async fn exchange(
        &mut self,
        finished: Vec<Finished>,
        queue: &QueueName,
        consumer: &ConsumerId,
    ) -> Vec<Delivery> {
        if self.for_handlers.stop.is_requested() {
            self.end(finished).await;
            return Vec::new();
        }
        let (sent, endings) = self.send(finished);
        let exchange = self.worker.queue.exchange(endings, queue, consumer, self.size).await;
        let (left_over, failed) = self.left_over(sent, exchange.ended);
        let taken = exchange.taken.unwrap_or_default();
        if left_over.is_empty() {
            return taken;
        }
        let Some(reason) = failed else {
            self.end(left_over).await;
            return taken;
        };
        // What was taken can't be worked on before this is over, which may take long.
        let release = |delivery| Finished::new(delivery, How::Release { delay: Duration::ZERO });
        let again = left_over
            .into_iter()
            .chain(taken.into_iter().rev().map(release))
            .collect();
        self.end_later(again, reason).await;
        Vec::new()
    }

    async fn carry_out(
        &mut self,
        delivery: &Delivery,
        waiting: &mut VecDeque<Delivery>,
        endings: &mut Vec<Finished>,
    ) -> (Option<How>, Meaning) {
        let task = &delivery.task;
        self.fallible |= task.origin.is_some();
        let span = tracing::info_span!(
            "task.attempt",
            traceparent = task.headers.get(TRACEPARENT).map(String::as_str),
            task = task.id.as_str(),
            kind = &*task.kind,
            queue = task.queue.as_str(),
            attempt = delivery.attempt,
            waited_ms = delivery.waited.as_millis() as u64,
            error = tracing::field::Empty,
        );
        self.for_handlers.attempt = delivery.attempt;
        self.for_handlers.deliveries = delivery.deliveries;
        self.for_handlers.waited = delivery.waited;
        let mut attempt = Attempt::new(self.worker.handler.handle(task, &self.for_handlers), span.clone());
        let ended = match attempt.first().await {
            Some(ended) => ended,
            None => {
                let finished = std::mem::take(endings);
                let in_hand = std::iter::once(delivery).chain(&*waiting);
                let tokens = in_hand.map(|delivery| delivery.token.clone()).collect();
                let (ended, lost) = self.wait_for(&mut attempt, tokens, finished).await;
                waiting.retain(|delivery| !lost.contains(&delivery.token.fence));
                ended
            }
        };
        drop(attempt);
        let settings = &self.worker.settings;
        let (mut how, meaning) = judge(delivery, ended, &settings.retry, settings.timeout, &mut self.random);
        if let Meaning::Failure(reason) | Meaning::Refusal(reason) = &meaning {
            span.record("error", reason.as_str());
            let _entered = span.enter();
            tracing::warn!(task = %task.id, attempt = delivery.attempt, reason, "a task was not carried out");
        }
        if let Some(how) = &mut how {
            let _entered = span.enter();
            complete(delivery, how, self.worker.traces.as_deref(), &self.producer);
        }
        (how, meaning)
    }

    /// Waits for a handler that does not finish at once; meanwhile what is finished must not wait for it.
    async fn wait_for(
        &self,
        attempt: &mut Attempt<'_>,
        tokens: Vec<DeliveryToken>,
        finished: Vec<Finished>,
    ) -> (Ended, Vec<u64>) {
        let bounds = Bounds {
            timeout: self.worker.settings.timeout,
            stop: &self.for_handlers.stop,
            queue: self.worker.queue.as_ref(),
            tokens,
        };
        if finished.is_empty() {
            return within(attempt, bounds).await;
        }
        tokio::join!(within(attempt, bounds), self.end(finished)).0
    }

    /// Renews what is in hand between two handlers; says whether the next task is still this worker's.
    async fn renew(&self, next: &Delivery, waiting: &mut VecDeque<Delivery>) -> bool {
        let tokens: Vec<DeliveryToken> = std::iter::once(next)
            .chain(&*waiting)
            .map(|delivery| delivery.token.clone())
            .collect();
        match self.worker.queue.extend(&tokens).await {
            Ok(results) => {
                let lost = |result: &Result<(), EndError>| matches!(result, Err(EndError::LeaseLost));
                let mut results = results.into_iter();
                let held = !results.next().is_some_and(|result| lost(&result));
                waiting.retain(|_| !results.next().is_some_and(|result| lost(&result)));
                held
            }
            Err(error) => {
                tracing::warn!(%error, "leases could not be renewed");
                true
            }
        }
    }

    /// Ends deliveries; what can't be recorded is tried again for as long as the leases hold.
    async fn end(&self, mut finished: Vec<Finished>) {
        while !finished.is_empty() {
            let (sent, endings) = self.send(finished);
            let results = self.worker.queue.end(endings).await;
            let (left_over, failed) = self.left_over(sent, results);
            if let Some(reason) = failed {
                return self.end_later(left_over, reason).await;
            }
            finished = left_over;
        }
        self.tell_fate();
    }

    /// What was in hand has been ended or given back: a stop report that names it can say so.
    fn tell_fate(&self) {
        if self.for_handlers.stop.phase() == StopPhase::Force {
            self.context.activity.became(Fate::Released);
        }
    }

    /// Ends deliveries that could not be ended at once, for as long as the leases hold.
    async fn end_later(&self, mut finished: Vec<Finished>, mut reason: String) {
        let mut back_off = BackOff::new(Duration::from_millis(100), Duration::from_secs(5));
        let mut random = self.random.clone();
        while !finished.is_empty() {
            tracing::warn!(
                error = reason,
                count = finished.len(),
                "finished tasks can't be recorded, trying again"
            );
            self.worker.vitals.hindered(self.context.clock.now(), reason.clone());
            if self.for_handlers.stop.phase() == StopPhase::Force {
                self.context.activity.became(Fate::AfterLease);
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(back_off.next(&mut random)) => {}
                () = self.for_handlers.stop.forced() => {}
            }
            let tokens: Vec<_> = finished.iter().map(|finished| finished.ending.token.clone()).collect();
            // Those that are lost by now will say so when they are ended.
            drop(self.worker.queue.extend(&tokens).await);
            let (sent, endings) = self.send(finished);
            let results = self.worker.queue.end(endings).await;
            let (left_over, failed) = self.left_over(sent, results);
            finished = left_over;
            reason = failed.unwrap_or(reason);
        }
        self.tell_fate();
    }

    /// Parts what is finished into what goes to the queue and what is remembered of it until that has answered.
    fn send(&self, finished: Vec<Finished>) -> (Vec<Sent>, Vec<Ending>) {
        let part = |Finished { ending, task, attempt }| {
            let sent = Sent {
                task,
                fence: ending.token.fence,
                place: ending.token.place.clone(),
                attempt,
                ack: matches!(ending.how, How::Ack { .. }),
                // Without a ledger and outside durable backends ending can't fail, and needs no copy.
                copy: self.fallible.then(|| Box::new(copy(&ending))),
            };
            (sent, ending)
        };
        finished.into_iter().map(part).unzip()
    }

    /// What has to be ended once more, and why the queue could not be reached, if it could not.
    fn left_over(
        &self,
        sent: Vec<Sent>,
        results: Result<Vec<Result<(), EndError>>, QueueError>,
    ) -> (Vec<Finished>, Option<String>) {
        let results = match results {
            Ok(results) => results,
            Err(error) => {
                let reason = plba_contracts::describe(&error);
                return (sent.into_iter().filter_map(Sent::again).collect(), Some(reason));
            }
        };
        let (mut acked, mut left_over, mut failed) = (0, Vec::new(), None);
        for (sent, result) in sent.into_iter().zip(results) {
            match result {
                Ok(()) => acked += u64::from(sent.ack),
                Err(EndError::LeaseLost) => {
                    tracing::warn!(task = %sent.task.id, "the lease was lost before the end: the task comes once more");
                }
                Err(EndError::Effect(error)) => {
                    let reason = format!("the completion failed: {}", plba_contracts::describe(error.as_ref()));
                    self.worker.vitals.failed(self.context.clock.now(), &reason);
                    left_over.push(sent.fail(&self.worker.settings.retry, reason, &mut self.random.clone()));
                }
                Err(EndError::Refused(reason)) => {
                    self.worker.vitals.refused(&reason);
                    let how = How::Bury { reason };
                    left_over.push(sent.instead(how));
                }
                Err(EndError::Queue(error)) => {
                    failed = Some(plba_contracts::describe(&error));
                    left_over.extend(sent.again());
                }
            }
        }
        self.worker.vitals.succeeded(acked, self.context.clock.now());
        (left_over, failed)
    }

    fn note(&self, meaning: &Meaning) {
        match meaning {
            Meaning::Failure(reason) => self.worker.vitals.failed(self.context.clock.now(), reason),
            Meaning::Refusal(reason) => self.worker.vitals.refused(reason),
            Meaning::Success | Meaning::Nothing => {}
        }
    }

    /// Larger batches for quick handlers, smaller ones for slow ones.
    fn adapt(&mut self, count: usize, took: Duration) {
        if took > SLOW {
            self.size = (self.size / 2).max(1);
        } else if took < QUICK && count >= self.size {
            self.size = (self.size * 2).min(self.worker.settings.batch);
        }
    }
}
