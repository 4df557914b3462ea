//! Carrying out one batch: the handler under its time-out, the leases and the stop signal, and what becomes of each task.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use plba_contracts::stop::StopPhase;
use plba_contracts::worker::WorkerContext;
use tracing::Span;

use super::worker::{BatchWorker, Gathered};
use super::{BatchContext, BatchOutcome, BatchTask};
use crate::handler::{HandlerError, Outcome, Verdict};
use crate::queue::{Delivery, EndError, Ending, How};
use crate::retry::BackOff;
use crate::task::TRACEPARENT;
use crate::worker::attempt::{Attempt, Bounds, Ended, within};
use crate::worker::ending::{Meaning, complete, copy, fail, judge};

/// What carries batches out, and is kept from one to the next.
pub(super) struct Hand<'a> {
    worker: &'a BatchWorker,
    context: &'a WorkerContext,
    for_handlers: BatchContext,
    random: fastrand::Rng,
    producer: String,
}

/// An ending and the number of its attempt.
type Finished = (Ending, u32);

impl<'a> Hand<'a> {
    pub(super) fn new(
        worker: &'a BatchWorker,
        context: &'a WorkerContext,
        random: fastrand::Rng,
        producer: String,
    ) -> Self {
        let for_handlers = BatchContext {
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
        }
    }

    pub(super) fn random(&mut self) -> &mut fastrand::Rng {
        &mut self.random
    }

    /// Carries out a batch; meanwhile the leases of what is `gathered` besides are kept as well.
    pub(super) async fn carry_out(&mut self, batch: Vec<Delivery>, gathered: &mut Gathered) {
        let spans: Vec<Span> = batch.iter().map(|delivery| span(delivery, batch.len())).collect();
        let what: Arc<str> = match batch.as_slice() {
            [only] => only.task.id.shared(),
            [first, ..] => format!("{} and {} more", first.task.id, batch.len() - 1).into(),
            [] => return,
        };
        let _busy = self.context.activity.begin(what);
        let (ended, lost) = self.handle(&batch, gathered).await;
        gathered.drop_lost(&lost);
        gathered.renewed();
        let hows = self.judge(&batch, ended, &lost);
        let mut finished = Vec::with_capacity(batch.len());
        for ((delivery, how), span) in batch.iter().zip(hows).zip(&spans) {
            let Some(mut how) = how else { continue };
            if let How::Nack { reason, .. } | How::Bury { reason } = &how {
                span.record("error", reason.as_str());
            }
            span.in_scope(|| complete(delivery, &mut how, self.worker.traces.as_deref(), &self.producer));
            let token = delivery.token.clone();
            finished.push((Ending { token, how }, delivery.attempt));
        }
        self.end(finished).await;
    }

    /// Gives deliveries back that nobody has begun with; from the back, so that the oldest stands first again.
    pub(super) async fn release(&mut self, deliveries: Vec<Delivery>) {
        let release = |delivery: Delivery| {
            let how = How::Release { delay: Duration::ZERO };
            (
                Ending {
                    token: delivery.token,
                    how,
                },
                delivery.attempt,
            )
        };
        let finished: Vec<Finished> = deliveries.into_iter().rev().map(release).collect();
        if !finished.is_empty() {
            self.end(finished).await;
        }
    }

    async fn handle(&self, batch: &[Delivery], gathered: &Gathered) -> (BatchEnd, Vec<u64>) {
        let tasks: Vec<BatchTask> = batch.iter().map(BatchTask::of).collect();
        let answer = Mutex::new(None);
        let handling = async {
            let outcome = self.worker.handler.handle(&tasks, &self.for_handlers).await?;
            *answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
            Ok(Outcome::done())
        };
        let span = tracing::info_span!("task.batch", queue = %self.worker.queue_name, tasks = batch.len());
        let mut attempt = Attempt::new(Box::pin(handling), span);
        let held = batch.iter().chain(gathered.iter());
        let bounds = Bounds {
            timeout: self.worker.settings.timeout,
            stop: &self.for_handlers.stop,
            queue: self.worker.queue.as_ref(),
            tokens: held.map(|delivery| delivery.token.clone()).collect(),
        };
        let (ended, lost) = within(&mut attempt, bounds).await;
        drop(attempt);
        let answer = answer.into_inner().unwrap_or_else(PoisonError::into_inner);
        (BatchEnd::of(ended, answer, batch.len()), lost)
    }

    /// What becomes of each task; nothing for those whose lease is lost.
    fn judge(&mut self, batch: &[Delivery], ended: BatchEnd, lost: &[u64]) -> Vec<Option<How>> {
        let settings = &self.worker.settings;
        let (vitals, now) = (&self.worker.vitals, self.context.clock.now());
        let mut each: VecDeque<Ended> = match ended {
            BatchEnd::Each(answers) => answers.into_iter().map(Ended::Handled).collect(),
            BatchEnd::Alone(ended) => VecDeque::from([ended]),
            BatchEnd::Whole { reason, after } => {
                vitals.failed(now, &reason);
                tracing::warn!(
                    tasks = batch.len(),
                    reason,
                    "a batch was not carried out: its tasks are tried one by one"
                );
                let reason = format!("{reason} (in a batch of {})", batch.len());
                let nack = |delivery: &Delivery| {
                    let delay = after.unwrap_or_else(|| settings.retry.delay(delivery.attempt, &mut self.random));
                    let held = !lost.contains(&delivery.token.fence);
                    let reason = reason.clone();
                    held.then_some(How::Nack { delay, reason })
                };
                return batch.iter().map(nack).collect();
            }
            BatchEnd::Released => {
                let release = |delivery: &Delivery| {
                    let held = !lost.contains(&delivery.token.fence);
                    held.then_some(How::Release { delay: Duration::ZERO })
                };
                return batch.iter().map(release).collect();
            }
        };
        let mut hows = Vec::with_capacity(batch.len());
        for delivery in batch {
            let Some(ended) = each.pop_front() else { break };
            let (how, meaning) = judge(delivery, ended, &settings.retry, settings.timeout, &mut self.random);
            match &meaning {
                Meaning::Failure(reason) => vitals.failed(now, reason),
                Meaning::Refusal(reason) => vitals.refused(reason),
                Meaning::Success | Meaning::Nothing => {}
            }
            if let Meaning::Failure(reason) | Meaning::Refusal(reason) = &meaning {
                tracing::warn!(task = %delivery.task.id, attempt = delivery.attempt, reason, "a task was not carried out");
            }
            hows.push(how.filter(|_| !lost.contains(&delivery.token.fence)));
        }
        hows
    }

    /// Ends deliveries; what can't be recorded is tried again for as long as the leases hold.
    async fn end(&mut self, mut finished: Vec<Finished>) {
        let mut back_off = BackOff::new(Duration::from_millis(100), Duration::from_secs(5));
        while !finished.is_empty() {
            let copies: Vec<Finished> = finished
                .iter()
                .map(|(ending, attempt)| (copy(ending), *attempt))
                .collect();
            let results = self
                .worker
                .queue
                .end(finished.into_iter().map(|(ending, _)| ending).collect())
                .await;
            let mut error = None;
            finished = match results {
                Ok(results) => self.left_over(copies, results, &mut error),
                Err(failed) => {
                    error = Some(plba_contracts::describe(&failed));
                    copies
                }
            };
            let Some(error) = error else { continue };
            tracing::warn!(
                error,
                count = finished.len(),
                "finished tasks can't be recorded, trying again"
            );
            self.worker.vitals.hindered(self.context.clock.now(), error);
            let stop = &self.for_handlers.stop;
            if stop.phase() == StopPhase::Force {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(back_off.next(&mut self.random)) => {}
                () = stop.forced() => {}
            }
            let tokens: Vec<_> = finished.iter().map(|(ending, _)| ending.token.clone()).collect();
            // Those that are lost by now will say so when they are ended.
            drop(self.worker.queue.extend(&tokens).await);
        }
    }

    /// What has to be ended once more.
    fn left_over(
        &mut self,
        sent: Vec<Finished>,
        results: Vec<Result<(), EndError>>,
        unreached: &mut Option<String>,
    ) -> Vec<Finished> {
        let (mut acked, mut left_over) = (0, Vec::new());
        let now = self.context.clock.now();
        for ((ending, attempt), result) in sent.into_iter().zip(results) {
            let Ending { token, how } = ending;
            match result {
                Ok(()) => acked += u64::from(matches!(how, How::Ack { .. })),
                Err(EndError::LeaseLost) => {
                    tracing::warn!(task = %token.task, "the lease was lost before the end: the task comes once more");
                }
                Err(EndError::Effect(error)) => {
                    let reason = format!("the completion failed: {}", plba_contracts::describe(error.as_ref()));
                    self.worker.vitals.failed(now, &reason);
                    let how = fail(&self.worker.settings.retry, attempt, reason, None, &mut self.random);
                    left_over.push((Ending { token, how }, attempt));
                }
                Err(EndError::Refused(reason)) => {
                    self.worker.vitals.refused(&reason);
                    let how = How::Bury { reason };
                    left_over.push((Ending { token, how }, attempt));
                }
                Err(EndError::Queue(error)) => {
                    *unreached = Some(plba_contracts::describe(&error));
                    left_over.push((Ending { token, how }, attempt));
                }
            }
        }
        self.worker.vitals.succeeded(acked, now);
        left_over
    }
}

/// How a batch ended.
enum BatchEnd {
    /// With an answer for each task.
    Each(Vec<Result<Outcome, HandlerError>>),
    /// With the failure of a task that was alone.
    Alone(Ended),
    /// With a failure of several tasks together.
    Whole { reason: String, after: Option<Duration> },
    /// Before its end.
    Released,
}

impl BatchEnd {
    fn of(ended: Ended, answer: Option<BatchOutcome>, tasks: usize) -> Self {
        let whole = |reason: String, after| Self::Whole { reason, after };
        match (ended, answer) {
            (Ended::Handled(Ok(_)), Some(BatchOutcome::Done) | None) => {
                Self::Each((0..tasks).map(|_| Ok(Outcome::done())).collect())
            }
            (Ended::Handled(Ok(_)), Some(BatchOutcome::Each(answers))) if answers.len() == tasks => Self::Each(answers),
            (Ended::Handled(Ok(_)), Some(BatchOutcome::Each(answers))) => {
                let reason = format!("the handler gave {} answers for {tasks} tasks", answers.len());
                if tasks == 1 {
                    return Self::Each(vec![Ok(Outcome::retry(reason))]);
                }
                whole(reason, None)
            }
            (Ended::Forced | Ended::Lost, _) => Self::Released,
            (ended, _) if tasks == 1 => Self::Alone(ended),
            (Ended::Handled(Err(error)), _) => {
                let after = match error.verdict() {
                    Verdict::RetryAfter(after) => Some(after),
                    Verdict::Retry | Verdict::Reject => None,
                };
                whole(error.to_string(), after)
            }
            (Ended::Panicked(message), _) => whole(format!("the handler panicked: {message}"), None),
            (Ended::TimedOut, _) => whole("the handler took too long".to_owned(), None),
        }
    }
}

impl BatchTask {
    fn of(delivery: &Delivery) -> Self {
        Self {
            task: Arc::clone(&delivery.task),
            attempt: delivery.attempt,
            deliveries: delivery.deliveries,
            waited: delivery.waited,
        }
    }
}

/// The span of one task of a batch, in the journey of that task.
fn span(delivery: &Delivery, tasks: usize) -> Span {
    let task = &delivery.task;
    tracing::info_span!(
        parent: None,
        "task.attempt",
        traceparent = task.headers.get(TRACEPARENT).map(String::as_str),
        task = task.id.as_str(),
        kind = &*task.kind,
        queue = task.queue.as_str(),
        attempt = delivery.attempt,
        waited_ms = delivery.waited.as_millis() as u64,
        batch = tasks,
        error = tracing::field::Empty,
    )
}
