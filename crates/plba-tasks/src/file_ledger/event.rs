//! What the journal records. Events are the ledger's only way to change, and say nothing of how they came about.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ledger::{Counts, DeliveryEnd, EntryState};
use crate::task::{EndedAttempt, Origin};

/// A change of the ledger.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Event {
    /// A process has opened the ledger: whatever was in hand then had been in the hand of one that died.
    Opened,
    Intake {
        source: String,
        keys: Vec<String>,
    },
    Delivered {
        origins: Vec<Origin>,
    },
    Ended {
        ends: Vec<(Origin, End)>,
    },
    Settled {
        source: String,
        keys: Vec<String>,
    },
    Forgotten {
        source: String,
        keys: Vec<String>,
    },
    Cursor {
        source: String,
        cursor: String,
    },
    Retried {
        origins: Vec<Origin>,
    },
    Dropped {
        origins: Vec<Origin>,
    },
    /// A whole entry, as compaction writes it.
    Entry(Box<Saved>),
}

/// [`DeliveryEnd`] as it is written.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum End {
    Released,
    Failed(EndedAttempt),
    Done,
    Dead {
        attempt: EndedAttempt,
        queue: String,
        kind: String,
    },
}

/// An entry as compaction writes it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Saved {
    pub(super) source: String,
    pub(super) key: String,
    pub(super) state: EntryState,
    pub(super) counts: Counts,
    pub(super) in_hand: bool,
    pub(super) history: Vec<EndedAttempt>,
    pub(super) queue: String,
    pub(super) kind: String,
}

impl From<DeliveryEnd> for End {
    fn from(end: DeliveryEnd) -> Self {
        match end {
            DeliveryEnd::Released => Self::Released,
            DeliveryEnd::Failed(attempt) => Self::Failed(attempt),
            DeliveryEnd::Done => Self::Done,
            DeliveryEnd::Dead { attempt, queue, kind } => Self::Dead { attempt, queue, kind },
        }
    }
}

/// Keys as they are written.
pub(super) fn texts(keys: &[Arc<str>]) -> Vec<String> {
    keys.iter().map(|key| key.to_string()).collect()
}
