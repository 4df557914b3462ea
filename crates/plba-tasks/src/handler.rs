//! The port of task handlers: who carries a task out, and the value that names what happens next. Running handlers under
//! leases, time-outs and retries is the task worker's business.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use plba_contracts::BoxError;
use plba_contracts::clock::Clock;
use plba_contracts::services::BoxFuture;
use plba_contracts::stop::StopSignal;

use crate::queue::Effect;
use crate::task::{NewTask, Task};

/// Carries tasks out.
///
/// A task worker calls [`handle`](Self::handle) for one delivery at a time, from as many instances at once as the worker
/// has, on the workers' executor. A task may come more than once (after a crash, a lost lease, a failed attempt), so what
/// a handler does must bear repetition; see [`Outcome::done_with`] for effects that share the queue's transaction.
///
/// - **`Ok`**: the [`Outcome`] names what happens next.
/// - **`Err`**: by default a failed attempt, retried after the worker's policy; see [`HandlerError`].
/// - **Panic** and **time-out**: failed attempts.
///
/// # Cancel safety
/// `handle` is dropped at its time-out, when the lease is lost (somebody else has the task then), and on a forced stop.
///
/// ```
/// use plba_tasks::handler::{HandlerError, Outcome, TaskContext, TaskHandler};
/// use plba_tasks::task::{NewTask, Task};
///
/// struct Store;
///
/// #[async_trait::async_trait]
/// impl TaskHandler for Store {
///     async fn handle(&self, task: &Task, _context: &TaskContext) -> Result<Outcome, HandlerError> {
///         let Ok(order) = std::str::from_utf8(&task.payload) else {
///             return Ok(Outcome::reject("the order is not text"));
///         };
///         let total: u32 = order.trim().parse()?; // an error is retried
///         Ok(Outcome::done().then(NewTask::new("replies", "reply.send", format!("total {total}"))))
///     }
/// }
/// ```
#[async_trait]
pub trait TaskHandler: Send + Sync + 'static {
    /// Carries out one delivery of a task.
    async fn handle(&self, task: &Task, context: &TaskContext) -> Result<Outcome, HandlerError>;
}

/// What a handler is told besides the task.
#[derive(Clone)]
pub struct TaskContext {
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// How often the task has been handed out, this time included.
    pub deliveries: u32,
    /// How long the task had been ready before it was handed out.
    pub waited: Duration,
    /// The worker that runs the handler.
    pub worker: Arc<str>,
    /// Whether the worker is asked to stop: finish what is in hand.
    pub stop: StopSignal,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// What happens after a handler has looked at a task.
#[derive(Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// The work is done.
    Done {
        /// Follow-up tasks, published atomically with the completion.
        then: Vec<NewTask>,
    },
    /// The work is done once this effect has run in the completion step.
    DoneWith {
        /// Run in the completion step.
        effect: Effect,
        /// Follow-up tasks, published in the same step.
        then: Vec<NewTask>,
    },
    /// The attempt failed; try again.
    Retry {
        /// After how long; `None` leaves it to the worker's policy.
        after: Option<Duration>,
        /// For the history.
        reason: String,
    },
    /// Never try again: a dead letter.
    Reject {
        /// For the history.
        reason: String,
    },
    /// Not now, and not a failure: ready again later, at no cost.
    Snooze {
        /// For how long.
        delay: Duration,
    },
}

impl Outcome {
    /// The work is done.
    pub fn done() -> Self {
        Self::Done { then: Vec::new() }
    }

    /// The work is done once `effect` has succeeded in the completion step: it is run while the lease is verified to be
    /// held, and with it, in the same step, the task is acked and all follow-ups are published. What the effect returns
    /// are more follow-ups. The transaction is the backend's, erased; in memory and on Redis it is `()`, and an effect whose
    /// process dies between it and the ack is run again: there it has to bear repetition.
    pub fn done_with<F>(effect: F) -> Self
    where
        F: for<'a> FnOnce(&'a mut (dyn Any + Send)) -> BoxFuture<'a, Result<Vec<NewTask>, BoxError>> + Send + 'static,
    {
        Self::DoneWith {
            effect: Effect::new(effect),
            then: Vec::new(),
        }
    }

    /// Adds a follow-up task; only completions have any.
    #[must_use]
    pub fn then(mut self, task: NewTask) -> Self {
        if let Self::Done { then } | Self::DoneWith { then, .. } = &mut self {
            then.push(task);
        }
        self
    }

    /// The attempt failed; try again after the worker's policy.
    pub fn retry(reason: impl Into<String>) -> Self {
        Self::Retry {
            after: None,
            reason: reason.into(),
        }
    }

    /// The attempt failed; try again after `delay`.
    pub fn retry_after(delay: Duration, reason: impl Into<String>) -> Self {
        Self::Retry {
            after: Some(delay),
            reason: reason.into(),
        }
    }

    /// Never try again: a dead letter with this reason.
    pub fn reject(reason: impl Into<String>) -> Self {
        Self::Reject { reason: reason.into() }
    }

    /// Not now, and not a failure: ready again after `delay`, without costing an attempt.
    pub fn snooze(delay: Duration) -> Self {
        Self::Snooze { delay }
    }
}

/// An error of a handler. Any error converts into one, which is then retried after the worker's policy.
///
/// It is no `std::error::Error` itself: only so can every error convert into it by `?`.
pub struct HandlerError {
    source: BoxError,
    verdict: Verdict,
}

/// What is to be done about a handler's error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Try again after the worker's policy.
    Retry,
    /// Try again after this long.
    RetryAfter(Duration),
    /// Never try again.
    Reject,
}

impl HandlerError {
    /// An error that is tried again after the worker's policy.
    pub fn retry(source: impl Into<BoxError>) -> Self {
        Self {
            source: source.into(),
            verdict: Verdict::Retry,
        }
    }

    /// An error that is tried again after `delay`.
    pub fn retry_after(delay: Duration, source: impl Into<BoxError>) -> Self {
        Self {
            source: source.into(),
            verdict: Verdict::RetryAfter(delay),
        }
    }

    /// An error that no further attempt will mend.
    pub fn reject(source: impl Into<BoxError>) -> Self {
        Self {
            source: source.into(),
            verdict: Verdict::Reject,
        }
    }

    /// What is to be done about it.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// The error itself.
    pub fn into_source(self) -> BoxError {
        self.source
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for HandlerError {
    fn from(error: E) -> Self {
        Self::retry(error)
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&plba_contracts::describe(self.source.as_ref()))
    }
}

impl fmt::Debug for HandlerError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("HandlerError")
            .field("source", &self.source)
            .field("verdict", &self.verdict)
            .finish()
    }
}
