//! Why a command to the supervisor did not do what was asked, with what to do next.

use jiff::Timestamp;

use super::machine::MAX_SLOTS;
use super::machine::graph::GraphError;
use super::machine::protocol::{Answer, Refusal, SlotFailure};

/// Why a command to the supervisor did not do what was asked.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SupervisionError {
    /// The definitions don't fit together; nothing was done.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// A worker did not start. During start-up nothing further is started: stop, mend the cause, start again. Later it
    /// goes on being supervised.
    #[error("worker \"{worker}\" did not start: it {cause}{}; mend that and start again", others(*.more))]
    NotStarted {
        /// Which.
        worker: String,
        /// Why, such as `could not start: port 8080 is in use`.
        cause: String,
        /// How many further slots did not start.
        more: usize,
    },
    /// The supervisor stops or has stopped; nothing more is started.
    #[error("the supervisor stops, so nothing more is started")]
    Stopped,
    /// It was started before.
    #[error("the supervisor was started before; change its workers with `apply`")]
    AlreadyStarted,
    /// It has not been started.
    #[error("the supervisor has not been started; start it first")]
    NotYetStarted,
    /// There is no such worker.
    #[error("there is no worker \"{0}\"; the workers view lists those there are")]
    Unknown(String),
    /// The number of instances can't be had.
    #[error("a worker has 1 to {MAX_SLOTS} instances; pause it to have none")]
    Instances,
    /// A pause was to end at a moment that is past; nothing was done.
    #[error("the pause was to end at {0}, which is past; name a moment to come")]
    PastPause(Timestamp),
    /// A later command wanted something else of the same worker.
    #[error("a later command wanted something else of the same worker, and has been followed")]
    Overtaken,
}

fn others(more: usize) -> String {
    match more {
        0 => String::new(),
        more => format!(" (and {more} more did not start)"),
    }
}

impl SupervisionError {
    pub(super) fn from_failures(failures: Vec<SlotFailure>) -> Self {
        let more = failures.len().saturating_sub(1);
        match failures.into_iter().next() {
            Some(first) => Self::NotStarted {
                worker: first.worker.to_string(),
                cause: first.cause.to_string(),
                more,
            },
            None => Self::Overtaken,
        }
    }

    pub(super) fn check(answer: Answer) -> Result<(), Self> {
        match answer {
            Answer::Done | Answer::Stopped(_) => Ok(()),
            Answer::Failed(failures) => Err(Self::from_failures(failures)),
            Answer::Overtaken => Err(Self::Overtaken),
            Answer::Refused(refusal) => Err(match refusal {
                Refusal::AlreadyStarted => Self::AlreadyStarted,
                Refusal::NotStarted => Self::NotYetStarted,
                Refusal::Stopping => Self::Stopped,
                Refusal::Unknown(name) => Self::Unknown(name),
                Refusal::SlotCount => Self::Instances,
                Refusal::Graph(error) => Self::Graph(error),
            }),
        }
    }
}
