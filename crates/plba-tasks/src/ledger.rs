//! The port of the ledger: what became of everything that sources took in, kept apart from the queue so that intake and
//! completion are two things. The implementation on a file is [`crate::file_ledger`]; others are adapters.

use std::sync::Arc;

use async_trait::async_trait;
use plba_contracts::BoxError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::queue::{Cursor, DeadPage, Durability};
use crate::task::{EndedAttempt, Origin, QueueName, TaskId};

/// Keeps an entry for each thing that a source took in, until upstream has been told that it is done.
///
/// ```text
///    intake           end: done             settle
///  ─────────► open ─────────────► done ─────────────► settled ──► forgotten
///              │ ▲
///    end: dead │ │ retry
///              ▼ │     drop
///             dead ─────────────► settled
/// ```
///
/// An open entry counts *deliveries* before the handler runs, *attempts* that the handler ended, and *crashes*:
/// deliveries whose process died. Every method is durable, to the ledger's [`durability`](Self::durability), when it
/// returns `Ok`, but for counted deliveries, which then survive the end of the process and the rest a moment later; all are
/// idempotent, and an entry never goes back: intake of a known key changes nothing.
///
/// Sources are named by `&str`, keys are the source's own (see [`Origin`]).
///
/// # Cancel safety
/// Of a dropped call each entry's change has been recorded or has not.
///
/// ```
/// use plba_tasks::ledger::{LedgerError, SourceLedger};
///
/// /// What a source does first after a restart.
/// async fn left_over(ledger: &dyn SourceLedger, source: &str) -> Result<usize, LedgerError> {
///     let publish_again = ledger.pending(source, 100).await?;
///     let tell_upstream = ledger.unsettled(source, 100).await?;
///     Ok(publish_again.len() + tell_upstream.len())
/// }
/// ```
#[async_trait]
pub trait SourceLedger: Send + Sync + 'static {
    /// What its entries survive.
    fn durability(&self) -> Durability;

    /// These keys have been published by this process. Unknown ones become open; open ones no longer count as pending.
    ///
    /// # Errors
    /// It could not be recorded; do not tell upstream, and try again.
    async fn record_intake(&self, source: &str, keys: &[Arc<str>]) -> Result<(), LedgerError>;

    /// Counts a delivery of each before it is handed out, so that the end of the process can't undo it; gives the counts with it, in order. An unknown key
    /// becomes open; `None` for an entry that is not open, which must not be handed out. A delivery counted while the one
    /// before has not ended counts that as a crash: its holder disappeared.
    ///
    /// # Errors
    /// It could not be recorded; nothing may be handed out.
    async fn count_deliveries(&self, origins: &[Origin]) -> Result<Vec<Option<Counts>>, LedgerError>;

    /// How deliveries ended. Endings of entries that are not open change nothing; an unknown key counts as open.
    ///
    /// # Errors
    /// It could not be recorded; the deliveries have not ended.
    async fn record_ends(&self, ends: Vec<(Origin, DeliveryEnd)>) -> Result<(), LedgerError>;

    /// Upstream has been told that these are done.
    ///
    /// # Errors
    /// It could not be recorded; upstream will be told again.
    async fn settle(&self, source: &str, keys: &[Arc<str>]) -> Result<(), LedgerError>;

    /// The source's cursor covers these settled keys: it won't come upon them again, so they need not be kept.
    ///
    /// # Errors
    /// It could not be recorded; they are kept.
    async fn forget(&self, source: &str, keys: &[Arc<str>]) -> Result<(), LedgerError>;

    /// What is known of each key, in order. `None` for one that was never taken in, or is forgotten.
    ///
    /// # Errors
    /// The ledger can't be read.
    async fn known(&self, source: &str, keys: &[Arc<str>]) -> Result<Vec<Option<Known>>, LedgerError>;

    /// Open entries that this process has not published, at most `limit`, in the order of their intake: a source
    /// publishes them again after a restart, and after a dead letter was retried.
    ///
    /// # Errors
    /// The ledger can't be read.
    async fn pending(&self, source: &str, limit: usize) -> Result<Vec<Arc<str>>, LedgerError>;

    /// Entries that are done but not settled, at most `limit`, in the order of their completion: upstream has yet to be
    /// told.
    ///
    /// # Errors
    /// The ledger can't be read.
    async fn unsettled(&self, source: &str, limit: usize) -> Result<Vec<Arc<str>>, LedgerError>;

    /// Where the source has got to, in its own words.
    ///
    /// # Errors
    /// The ledger can't be read.
    async fn cursor(&self, source: &str) -> Result<Option<String>, LedgerError>;

    /// The source has got here; at most 64 KiB.
    ///
    /// # Errors
    /// It could not be recorded; after a restart the source starts from the old cursor.
    async fn set_cursor(&self, source: &str, cursor: &str) -> Result<(), LedgerError>;

    /// Dead entries of all sources, at most `limit` (and at most 1,000) from `cursor` on, oldest first.
    ///
    /// # Errors
    /// The ledger can't be read.
    async fn dead_letters(&self, cursor: Option<Cursor>, limit: usize) -> Result<DeadPage, LedgerError>;

    /// Makes dead entries of one queue open and pending again, counts at zero and history kept. Takes the ids of their tasks
    /// (see [`Origin::task_id`]), gives how many there were.
    ///
    /// # Errors
    /// It could not be recorded.
    async fn retry_dead(&self, queue: &QueueName, ids: &[TaskId]) -> Result<usize, LedgerError>;

    /// Makes dead entries of one queue settled: they stay known, and are not taken in again. Gives how many there were.
    ///
    /// # Errors
    /// It could not be recorded.
    async fn drop_dead(&self, queue: &QueueName, ids: &[TaskId]) -> Result<usize, LedgerError>;

    /// The counts of every source, in the order of their names.
    ///
    /// # Errors
    /// The ledger can't be read.
    async fn stats(&self) -> Result<Vec<LedgerStats>, LedgerError>;
}

/// How the delivery of an entry ended.
#[derive(Clone, Debug, PartialEq)]
pub enum DeliveryEnd {
    /// Given back: costs nothing.
    Released,
    /// A failed attempt.
    Failed(EndedAttempt),
    /// The handler succeeded.
    Done,
    /// No further attempt, because of this last one.
    Dead {
        /// The last attempt; its reason is why the task died.
        attempt: EndedAttempt,
        /// The queue it was in, for the list of dead letters.
        queue: String,
        /// What was to be done, for the list of dead letters.
        kind: String,
    },
}

/// The counts of an open entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// How often it was handed out.
    pub deliveries: u32,
    /// How many attempts the handler ended.
    pub attempts: u32,
    /// How many processes died with it in hand.
    pub crashes: u32,
}

/// What a ledger knows of a key.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    /// Its state.
    pub state: EntryState,
    /// Its counts.
    pub counts: Counts,
    /// Its ended attempts, oldest first.
    pub history: Vec<EndedAttempt>,
    /// Whether this process has published it (for open entries).
    pub published: bool,
}

/// The state of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EntryState {
    /// Taken in, and not yet carried out.
    Open,
    /// Carried out; upstream has yet to be told.
    Done,
    /// Carried out and told, or dropped.
    Settled,
    /// Given up, until it is retried or dropped.
    Dead,
}

/// The counts of one source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LedgerStats {
    /// The source.
    pub source: String,
    /// Open entries.
    pub open: u64,
    /// Done entries of which upstream has yet to be told.
    pub unsettled: u64,
    /// Settled entries that are still kept.
    pub settled: u64,
    /// Dead entries.
    pub dead: u64,
}

/// The ledger could not be read or written. What was asked for has not happened, as far as is known; try again.
#[derive(Debug, thiserror::Error)]
#[error("the ledger of sources can't be used: {source}")]
pub struct LedgerError {
    /// What happened, and the remedy.
    pub source: BoxError,
}

impl LedgerError {
    /// Wraps what happened.
    pub fn new(source: impl Into<BoxError>) -> Self {
        Self { source: source.into() }
    }
}
