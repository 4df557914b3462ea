//! Dead letters: tasks that nobody will try again unless told to. Retrying and dropping them are verbs of the queue.

use bytes::Bytes;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Cursor;
use crate::task::{EndedAttempt, Headers, Origin, QueueName, TaskId};

/// The kind of a dead letter that could not be decoded.
pub const UNDECODABLE: &str = "undecodable";

/// A task that nobody will try again unless told to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeadLetter {
    /// Which task.
    pub id: TaskId,
    /// The queue it was in.
    pub queue: QueueName,
    /// What was to be done.
    pub kind: String,
    /// Where it came from.
    pub origin: Option<Origin>,
    /// When it died.
    #[schemars(with = "String")]
    pub died: Timestamp,
    /// Why it died, in a sentence.
    pub reason: String,
    /// How often it was handed out.
    pub deliveries: u32,
    /// All attempts, the last one included.
    pub history: Vec<EndedAttempt>,
}

/// A page of dead letters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeadPage {
    /// The letters.
    pub letters: Vec<DeadLetter>,
    /// Where the next page begins; `None` on the last one.
    pub next: Option<Cursor>,
}

/// Which dead letters to list; an empty filter is all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeadFilter {
    /// Those of this queue.
    pub queue: Option<QueueName>,
    /// Those of exactly this kind.
    pub kind: Option<String>,
    /// Those with this text in their id, kind, reason, or origin's source or key; upper and lower case differ.
    pub text: Option<String>,
}

/// One dead letter, whole.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadTask {
    /// What the list says of it.
    pub letter: DeadLetter,
    /// The work itself. Of a record that could not be decoded, its raw bytes; empty for one whose payload only its source
    /// still has.
    pub payload: Bytes,
    /// Facts beside the payload.
    pub headers: Headers,
    /// Whether it could be decoded. One that could not has the kind [`UNDECODABLE`], and can only be dropped.
    pub decoded: bool,
}

impl DeadFilter {
    /// Those of one queue.
    pub fn of_queue(queue: impl Into<QueueName>) -> Self {
        Self {
            queue: Some(queue.into()),
            ..Self::default()
        }
    }

    /// Whether every letter passes.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a letter passes. Backends that can't ask their store do this for each.
    pub fn matches(&self, letter: &DeadLetter) -> bool {
        self.queue.as_ref().is_none_or(|queue| *queue == letter.queue)
            && self.kind.as_ref().is_none_or(|kind| *kind == letter.kind)
            && self.text.as_ref().is_none_or(|text| {
                letter.id.as_str().contains(text)
                    || letter.kind.contains(text)
                    || letter.reason.contains(text)
                    || letter.origin.as_ref().is_some_and(|origin| origin.contains(text))
            })
    }
}
