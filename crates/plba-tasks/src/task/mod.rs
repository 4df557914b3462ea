//! A task: a piece of work with an identity, as a producer gives it and as a handler gets it. Where tasks are kept and
//! what states they pass through is told by the queue's contract.

mod history;
mod name;
mod new;
mod origin;
mod unique;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::history::{AttemptEnd, EndedAttempt, MAXIMUM_HISTORY, MAXIMUM_REASON, remember};
pub use self::name::{QueueName, TaskId};
pub use self::new::NewTask;
pub use self::origin::Origin;
pub use self::unique::{Conflict, Unique, UniqueScope};

/// How many bytes the name of a queue or a kind may have.
pub const MAXIMUM_NAME: usize = 200;

/// How many bytes a task's id may have.
pub const MAXIMUM_ID: usize = 1_500;

/// How many bytes a task's key, or its unique key, may have.
pub const MAXIMUM_TASK_KEY: usize = 500;

/// How many bytes a task's headers may have together.
pub const MAXIMUM_HEADERS: usize = 64 * 1024;

/// The header that carries the W3C trace context of whoever published the task.
pub const TRACEPARENT: &str = "traceparent";

/// The header that names who published the task: `worker (host:pid)`. Set by the toolkit, never by backends.
pub const PRODUCER: &str = "producer";

/// Facts that travel beside a payload, such as [`TRACEPARENT`].
pub type Headers = BTreeMap<String, String>;

/// A task as a handler gets it.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// Which task.
    pub id: TaskId,
    /// The queue it was published to.
    pub queue: QueueName,
    /// What is to be done, such as `order.received`; handlers tell tasks of one queue apart by it.
    pub kind: Cow<'static, str>,
    /// The work itself, in the form that producer and handler agreed on.
    pub payload: Bytes,
    /// Facts beside the payload.
    pub headers: Headers,
    /// Where it came from, when a source published it.
    pub origin: Option<Origin>,
    /// The attempts that have ended, oldest first; at most [`MAXIMUM_HISTORY`].
    pub history: Vec<EndedAttempt>,
    /// Which of two ready tasks comes first.
    pub priority: Priority,
    /// What it is ordered or limited by.
    pub key: Option<Arc<str>>,
    /// Whether tasks with its key are carried out one after the other.
    pub ordered: bool,
    /// When it was published.
    pub published: Timestamp,
    /// When it is no longer worth handing out.
    pub expires: Option<Timestamp>,
}

/// Which of two ready tasks of a queue is handed out first. Strict: a lower class waits while a higher one has ready tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// Before all others.
    High,
    /// Unless said otherwise.
    #[default]
    Normal,
    /// When there is nothing else to do.
    Low,
}

impl Priority {
    /// All classes, the first one first. Their numbers, by `as u8`, are 0, 1 and 2.
    pub const ALL: [Self; 3] = [Self::High, Self::Normal, Self::Low];

    /// The class with this number, which backends keep; `None` for numbers that are no class.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}
