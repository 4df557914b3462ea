//! From a handler's answer to the ending of its delivery, and from endings to the queue, for as long as that takes.

use std::time::Duration;

use plba_contracts::trace::TraceFactory;

use super::attempt::Ended;
use crate::handler::{HandlerError, Outcome, Verdict};
use crate::intake::completion_task;
use crate::queue::{Delivery, Ending, How};
use crate::retry::RetryPolicy;
use crate::task::{NewTask, PRODUCER, TRACEPARENT};

/// What an attempt means for the worker's own health.
pub(crate) enum Meaning {
    /// The task is done, if the queue says so too.
    Success,
    /// The attempt failed.
    Failure(String),
    /// The task was refused for good.
    Refusal(String),
    /// Neither.
    Nothing,
}

/// What becomes of a delivery; no ending when its lease is lost.
pub(crate) fn judge(
    delivery: &Delivery,
    ended: Ended,
    policy: &RetryPolicy,
    timeout: Duration,
    random: &mut fastrand::Rng,
) -> (Option<How>, Meaning) {
    let mut failure = |reason: String, after: Option<Duration>| {
        let how = fail(policy, delivery.attempt, reason.clone(), after, random);
        (Some(how), Meaning::Failure(reason))
    };
    let refusal = |reason: String| (Some(How::Bury { reason: reason.clone() }), Meaning::Refusal(reason));
    match ended {
        Ended::Handled(Ok(outcome)) => match outcome {
            Outcome::Done { then } => (Some(How::ack(then)), Meaning::Success),
            Outcome::DoneWith { effect, then } => {
                let effect = Some(effect);
                (Some(How::Ack { effect, then }), Meaning::Success)
            }
            Outcome::Retry { after, reason } => failure(reason, after),
            Outcome::Reject { reason } => refusal(reason),
            Outcome::Snooze { delay } => (Some(How::Release { delay }), Meaning::Nothing),
        },
        Ended::Handled(Err(error)) => judge_error(&error, failure, refusal),
        Ended::Panicked(message) => failure(format!("the handler panicked: {message}"), None),
        Ended::TimedOut => failure(
            format!("the handler took longer than {} s", timeout.as_secs_f64()),
            None,
        ),
        Ended::Forced => {
            let delay = Duration::ZERO;
            (Some(How::Release { delay }), Meaning::Nothing)
        }
        Ended::Lost => {
            tracing::warn!(task = %delivery.task.id, "the lease is lost: somebody else has the task, its handler was dropped");
            (None, Meaning::Nothing)
        }
    }
}

/// A failed attempt: the next one later, or none.
pub(crate) fn fail(
    policy: &RetryPolicy,
    attempt: u32,
    reason: String,
    after: Option<Duration>,
    random: &mut fastrand::Rng,
) -> How {
    if policy.is_last(attempt) {
        let reason = format!("{reason} (attempt {attempt}, the last)");
        return How::Bury { reason };
    }
    let delay = after.unwrap_or_else(|| policy.delay(attempt, random));
    How::Nack { delay, reason }
}

fn judge_error(
    error: &HandlerError,
    failure: impl FnOnce(String, Option<Duration>) -> (Option<How>, Meaning),
    refusal: impl Fn(String) -> (Option<How>, Meaning),
) -> (Option<How>, Meaning) {
    let reason = error.to_string();
    match error.verdict() {
        Verdict::Retry => failure(reason, None),
        Verdict::RetryAfter(delay) => failure(reason, Some(delay)),
        Verdict::Reject => refusal(reason),
    }
}

/// Adds to a completion what the platform wants to follow: the trace context and the producer to follow-ups, and word to
/// the task's source.
pub(crate) fn complete(delivery: &Delivery, how: &mut How, traces: Option<&dyn TraceFactory>, producer: &str) {
    let How::Ack { then, .. } = how else { return };
    if let Some(origin) = &delivery.task.origin {
        then.push(completion_task(origin));
    }
    if then.is_empty() {
        return;
    }
    for task in then.iter_mut().filter(|task| !task.headers.contains_key(PRODUCER)) {
        task.headers.insert(PRODUCER.to_owned(), producer.to_owned());
    }
    let current = traces
        .and_then(TraceFactory::current)
        .map(|context| context.to_string());
    let Some(context) = current.or_else(|| delivery.task.headers.get(TRACEPARENT).cloned()) else {
        return;
    };
    for task in then.iter_mut().filter(|task| !task.headers.contains_key(TRACEPARENT)) {
        task.headers.insert(TRACEPARENT.to_owned(), context.clone());
    }
}

/// A copy of an ending to try again with, should the queue not be reached. An effect can't be run twice by the same value:
/// then the attempt has failed, and the handler makes the effect anew.
pub(crate) fn copy(ending: &Ending) -> Ending {
    let how = match &ending.how {
        How::Ack { effect: None, then } => How::ack(then.iter().map(NewTask::clone).collect()),
        How::Ack { .. } => How::Nack {
            delay: Duration::from_secs(1),
            reason: "the queue could not be reached to complete the task".to_owned(),
        },
        How::Nack { delay, reason } => How::Nack {
            delay: *delay,
            reason: reason.clone(),
        },
        How::Bury { reason } => How::Bury { reason: reason.clone() },
        How::Release { delay } => How::Release { delay: *delay },
    };
    Ending {
        token: ending.token.clone(),
        how,
    }
}
