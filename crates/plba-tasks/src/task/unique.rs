//! Unique keys: what only one task of a queue has at a time.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A key that only one task of its queue has at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unique {
    /// The key, 1 to 500 bytes.
    #[serde(with = "super::origin::shared")]
    pub key: Arc<str>,
    /// How long it is taken.
    pub scope: UniqueScope,
    /// What is to be done when it is taken.
    pub conflict: Conflict,
}

/// How long a task keeps its unique key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UniqueScope {
    /// Until it is acked or dead. A dead letter that is retried takes the key again, unless another task has it.
    UntilDone,
    /// For this long from its publication (or its latest replacement), whatever became of it.
    For(Duration),
}

/// What a new task does when another one has its unique key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Conflict {
    /// It gives way: nothing is published, and the id of the task that has the key comes back.
    #[default]
    Keep,
    /// If the other one waits (ready, delayed or held), its kind, payload, headers, priority, delay, expiry and scope
    /// become the new one's, its publication is now, and its id comes back; id, origin, key and place in its line, counts
    /// and history stay. If it does not wait (it is leased, or gone or dead though its period lasts), the new task is
    /// published beside it, and the key is the new one's from then on: so the latest state is always carried out.
    Replace,
}
