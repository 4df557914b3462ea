//! The counts of a named queue.

use std::time::Duration;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The counts of one named queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QueueStats {
    /// The queue.
    pub queue: String,
    /// Tasks that are ready now.
    pub ready: u64,
    /// Tasks that will be ready later.
    pub delayed: u64,
    /// Tasks that wait behind an earlier task of their ordered key, or for a lease of their key.
    #[serde(default)]
    pub held: u64,
    /// Tasks in the hands of consumers.
    pub leased: u64,
    /// Dead letters.
    pub dead: u64,
    /// Bytes of all of them but the dead.
    pub bytes: u64,
    /// Tasks published since the backend was opened, follow-ups included.
    pub published: u64,
    /// Tasks acked since the backend was opened.
    pub acked: u64,
    /// Failed attempts since the backend was opened.
    pub failed: u64,
    /// Leases that ran out since the backend was opened.
    pub lost: u64,
    /// Tasks that died because they were not carried out in time, since the backend was opened.
    #[serde(default)]
    pub expired: u64,
    /// Dead letters that retention removed since the backend was opened.
    #[serde(default)]
    pub dropped: u64,
    /// How long the oldest ready task has been ready.
    pub oldest: Option<Duration>,
    /// Whether nothing is handed out.
    #[serde(default)]
    pub paused: bool,
    /// Until when nothing is handed out; `None` while [`paused`](Self::paused) until it is resumed.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub paused_until: Option<Timestamp>,
}
