//! Passes over many entries: where they go on, and what a pass of recovery did.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a pass over many entries goes on. Meaningless outside the backend that made it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Cursor(pub String);

/// What a pass of [`TaskQueue::recover`](super::TaskQueue::recover) did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Tasks whose lease had run out.
    pub recovered: usize,
    /// Where to go on; `None` when the pass has been all round.
    pub next: Option<Cursor>,
}
