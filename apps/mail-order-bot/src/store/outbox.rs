//! The outbox: replies that became durable with their order and wait to be handed over. Handing over must be idempotent
//! per [`OutboxId`], because a crash between handing over and [`Outbox::mark_sent`] repeats it.

use std::fmt;
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::record::MessageKey;
use super::{OrderReads, StoreError, lock, rows};
use crate::domain::OrderId;

/// Most rows that one call returns.
pub const MAX_PENDING: usize = 1000;

/// The identity of a reply: 32 hex digits derived from the message it answers. The same message always gives the same
/// one, even in a store that was made anew, so that nothing that has been handed over under it is handed over twice.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OutboxId(String);

impl OutboxId {
    /// The identity of the reply to the message with this key.
    #[must_use]
    pub fn for_message(key: &MessageKey) -> Self {
        let digest = Sha256::digest(format!("reply\n{}\n{}", key.message_id, key.body_hash));
        Self(crate::reading::mail::hex(&digest[..16]))
    }

    /// Reads an identity from its text form, for instance from a task's payload; `None` if it is not 32 hex digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        (text.len() == 32 && text.bytes().all(hex)).then(|| Self(text.to_owned()))
    }

    pub(super) fn from_stored(text: String) -> Self {
        Self(text)
    }

    /// The 32 hex digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for OutboxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A reply to be handed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxRow {
    /// Its identity.
    pub id: OutboxId,
    /// Its place in the order of writing, from 1.
    pub seq: i64,
    /// The order it answers, if the message was one.
    pub order_id: Option<OrderId>,
    /// The address it goes to.
    pub recipient: String,
    /// The whole message, RFC 5322.
    pub message: Vec<u8>,
    /// When it was written.
    pub created_at: Timestamp,
    /// When it was handed over, if it was.
    pub sent_at: Option<Timestamp>,
    /// Where the message that it answers stood in its journey (a W3C `traceparent`).
    pub traceparent: Option<String>,
}

/// The outbox of a store. Blocking; cheap to clone.
#[derive(Clone)]
pub struct Outbox {
    writer: Arc<Mutex<Connection>>,
    reads: OrderReads,
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").finish_non_exhaustive()
    }
}

impl Outbox {
    pub(super) fn new(writer: Arc<Mutex<Connection>>, reads: OrderReads) -> Self {
        Self { writer, reads }
    }

    /// Replies that wait, the oldest first, at most `limit` (and at most [`MAX_PENDING`]) of those whose place is behind
    /// `after`: 0, or the last place of the page before.
    ///
    /// # Errors
    /// [`StoreError`] of the database.
    pub fn pending(&self, after: i64, limit: usize) -> Result<Vec<OutboxRow>, StoreError> {
        self.reads.with(|connection| {
            let mut statement = connection.prepare_cached(&format!(
                "SELECT {} FROM outbox WHERE sent_at IS NULL AND seq > ?1 ORDER BY seq LIMIT ?2",
                rows::OUTBOX_COLUMNS
            ))?;
            let mut found = statement.query([after, limit.min(MAX_PENDING) as i64])?;
            let mut pending = Vec::new();
            while let Some(row) = found.next()? {
                pending.push(rows::outbox(row)?);
            }
            Ok(pending)
        })
    }

    /// One reply.
    ///
    /// # Errors
    /// [`StoreError`] of the database.
    pub fn get(&self, id: &OutboxId) -> Result<Option<OutboxRow>, StoreError> {
        self.reads.with(|connection| {
            let mut statement =
                connection.prepare_cached(&format!("SELECT {} FROM outbox WHERE id = ?1", rows::OUTBOX_COLUMNS))?;
            let mut found = statement.query([id.as_str()])?;
            found.next()?.map(rows::outbox).transpose()
        })
    }

    /// Records that a reply was handed over; the first call's time stays. `false` when there is no such reply.
    ///
    /// # Errors
    /// [`StoreError`] of the database.
    pub fn mark_sent(&self, id: &OutboxId, at: Timestamp) -> Result<bool, StoreError> {
        mark_sent(&lock(&self.writer), id, at)
    }
}

/// As [`Outbox::mark_sent`], in a transaction on the store's file that somebody else has opened and commits.
pub(crate) fn mark_sent(connection: &Connection, id: &OutboxId, at: Timestamp) -> Result<bool, StoreError> {
    let mut statement =
        connection.prepare_cached("UPDATE outbox SET sent_at = coalesce(sent_at, ?2) WHERE id = ?1 RETURNING seq")?;
    let changed: Option<i64> = statement
        .query_row((id.as_str(), at.as_millisecond()), |row| row.get(0))
        .optional()?;
    Ok(changed.is_some())
}
