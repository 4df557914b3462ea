//! A task: a piece of work with an identity, as a producer gives it and as a handler gets it. Where tasks are kept and
//! what states they pass through is told by the queue's contract.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How many ended attempts a task remembers; of more, the first one and the latest are kept.
pub const MAXIMUM_HISTORY: usize = 25;

/// How many bytes of an attempt's reason are kept.
pub const MAXIMUM_REASON: usize = 2_000;

/// How many bytes the name of a queue or a kind may have.
pub const MAXIMUM_NAME: usize = 200;

/// How many bytes a task's id may have.
pub const MAXIMUM_ID: usize = 1_500;

/// How many bytes a task's headers may have together.
pub const MAXIMUM_HEADERS: usize = 64 * 1024;

/// The header that carries the W3C trace context of whoever published the task.
pub const TRACEPARENT: &str = "traceparent";

macro_rules! name_type {
    ($(#[$documentation:meta])* $name:ident) => {
        $(#[$documentation])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The text, shared.
            pub fn shared(&self) -> Arc<str> {
                Arc::clone(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }

        impl From<Arc<str>> for $name {
            fn from(text: Arc<str>) -> Self {
                Self(text)
            }
        }

        impl From<&$name> for $name {
            fn from(name: &$name) -> Self {
                name.clone()
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer).map(Self::from)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string" })
            }
        }
    };
}

name_type! {
    /// Which task. Given by the producer, or made by the queue; unique within one named queue. Cheap to clone.
    TaskId
}

name_type! {
    /// One of the named queues of a backend, such as `orders`. Cheap to clone.
    QueueName
}

/// Where a task came from: a source, and the source's own key for it, such as a mailbox and a message in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Origin {
    /// The source's name, unique in the application.
    #[serde(with = "shared")]
    #[schemars(with = "String")]
    pub source: Arc<str>,
    /// The source's key, at most 1,000 bytes, which names the same thing for ever.
    #[serde(with = "shared")]
    #[schemars(with = "String")]
    pub key: Arc<str>,
}

/// A shared text as a plain one: serde knows `Arc` only by a feature that nothing else here needs.
mod shared {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<str>, D::Error> {
        String::deserialize(deserializer).map(Into::into)
    }
}

impl Origin {
    /// The origin of this key of this source.
    pub fn new(source: impl Into<Arc<str>>, key: impl Into<Arc<str>>) -> Self {
        Self {
            source: source.into(),
            key: key.into(),
        }
    }

    /// The id of the task that comes from here: `source/key`, so that the same thing is never published twice.
    pub fn task_id(&self) -> TaskId {
        TaskId::from(format!("{}/{}", self.source, self.key))
    }
}

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
}

/// A task as a producer gives it.
///
/// ```
/// use std::time::Duration;
/// use plba_tasks::task::NewTask;
///
/// let reply = NewTask::new("replies", "reply.send", "order 17").with_id("reply/17").after(Duration::from_secs(60));
/// assert_eq!(reply.queue.as_str(), "replies");
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct NewTask {
    /// Its id; without one the queue makes one. Of two tasks published with one id to one queue, the first stays.
    pub id: Option<TaskId>,
    /// The queue to publish to.
    pub queue: QueueName,
    /// What is to be done.
    pub kind: Cow<'static, str>,
    /// The work itself.
    pub payload: Bytes,
    /// Facts beside the payload.
    pub headers: Headers,
    /// Where it comes from; set by a source's intake.
    pub origin: Option<Origin>,
    /// How long it waits before it is ready. Default: not at all.
    pub delay: Duration,
}

impl NewTask {
    /// A task without an id, a delay or headers.
    pub fn new(queue: impl Into<QueueName>, kind: impl Into<Cow<'static, str>>, payload: impl Into<Bytes>) -> Self {
        Self {
            id: None,
            queue: queue.into(),
            kind: kind.into(),
            payload: payload.into(),
            headers: Headers::new(),
            origin: None,
            delay: Duration::ZERO,
        }
    }

    /// Published under this id, at most once while a task with it is in the queue.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<TaskId>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// With a fact beside the payload.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.insert(name.into(), value.into());
        self
    }

    /// Ready only after `delay`.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Checks what every backend can keep: names of 1 to 200 bytes without control characters, an id of at most 1,500,
    /// headers of at most 64 KiB.
    ///
    /// # Errors
    /// What is wrong, and what would do.
    pub fn check(&self) -> Result<(), String> {
        for (what, name) in [("queue", self.queue.as_str()), ("kind", &*self.kind)] {
            if name.is_empty() || name.len() > MAXIMUM_NAME || name.chars().any(char::is_control) {
                return Err(format!(
                    "the name of its {what} has {} bytes; 1 to {MAXIMUM_NAME} without control characters will do",
                    name.len()
                ));
            }
        }
        let id = self.id.as_ref().map_or(1, |id| id.as_str().len());
        if id == 0 || id > MAXIMUM_ID {
            return Err(format!("its id has {id} bytes; 1 to {MAXIMUM_ID} will do"));
        }
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        if headers > MAXIMUM_HEADERS {
            return Err(format!(
                "its headers have {headers} bytes, at most {MAXIMUM_HEADERS} will do; move data to the payload"
            ));
        }
        Ok(())
    }

    /// What it costs to keep, in bytes: the payload, the headers and a fixed share for the rest.
    pub fn size(&self) -> usize {
        const SHARE: usize = 256;
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        SHARE + self.payload.len() + headers
    }
}

/// An attempt that has ended without success.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EndedAttempt {
    /// When it ended.
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// How it ended.
    pub how: AttemptEnd,
    /// Why, in a sentence; at most [`MAXIMUM_REASON`] bytes.
    pub reason: String,
}

/// How an attempt ended without success.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AttemptEnd {
    /// The handler failed, panicked or took too long.
    Failed,
    /// The handler rejected the task, or its attempts are used up.
    Rejected,
    /// Whoever held the task disappeared with it: the process died, or the lease ran out.
    Crashed,
}

impl EndedAttempt {
    /// An ended attempt; a long reason is cut.
    pub fn new(at: Timestamp, how: AttemptEnd, reason: impl Into<String>) -> Self {
        let mut reason = reason.into();
        if reason.len() > MAXIMUM_REASON {
            let end = reason.floor_char_boundary(MAXIMUM_REASON);
            reason.truncate(end);
        }
        Self { at, how, reason }
    }
}

/// Adds an ended attempt to a history, and keeps it within [`MAXIMUM_HISTORY`]: the first attempt stays, because it often
/// tells the cause, and then the latest ones.
pub fn remember(history: &mut Vec<EndedAttempt>, attempt: EndedAttempt) {
    if history.len() >= MAXIMUM_HISTORY {
        history.remove(1);
    }
    history.push(attempt);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_keeps_the_first_attempt_and_the_latest() {
        let mut history = Vec::new();
        for number in 0..100 {
            let attempt = EndedAttempt::new(Timestamp::UNIX_EPOCH, AttemptEnd::Failed, number.to_string());
            remember(&mut history, attempt);
        }
        assert_eq!(history.len(), MAXIMUM_HISTORY);
        assert_eq!(history[0].reason, "0");
        assert_eq!(history[1].reason, "76");
        assert_eq!(history[MAXIMUM_HISTORY - 1].reason, "99");
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let attempt = EndedAttempt::new(Timestamp::UNIX_EPOCH, AttemptEnd::Failed, "€".repeat(1_000));
        assert_eq!(attempt.reason.len(), 1_998);
    }
}
