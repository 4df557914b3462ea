//! The outbox: replies and webhooks that became durable with their order and wait to be handed over. Handing over must be
//! idempotent per [`OutboxId`], because a crash between handing over and [`Outbox::mark_sent`] repeats it.

use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::record::{MessageKey, NewMessage, Queued};
use super::session::{Row, Session, number};
use super::{OrderReads, OrderStore, StoreError, reading, rows, writing};
use crate::domain::OrderId;

/// Most rows that one call returns.
pub const MAX_PENDING: usize = 1000;

/// The identity of something that is sent: 32 hex digits derived from the message that it is about. The same message always
/// gives the same one, even in a store that was made anew, so that nothing that has been handed over under it is handed
/// over twice.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct OutboxId(String);

impl OutboxId {
    /// The identity of the reply to the message with this key.
    #[must_use]
    pub fn for_message(key: &MessageKey) -> Self {
        Self::of(&format!("reply\n{}\n{}", key.message_id, key.body_hash))
    }

    /// The identity of what a webhook is told of the message with this key.
    #[must_use]
    pub fn for_event(key: &MessageKey, hook: &str) -> Self {
        Self::of(&format!("event\n{}\n{}\n{hook}", key.message_id, key.body_hash))
    }

    fn of(text: &str) -> Self {
        Self(crate::reading::mail::hex(&Sha256::digest(text)[..16]))
    }

    /// Reads an identity from its text form, for instance from a task's payload; `None` if it is not 32 hex digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        (text.len() == 32 && text.bytes().all(hex)).then(|| Self(text.to_owned()))
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

/// How something is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    /// As a mail.
    Reply,
    /// As a signed request.
    Webhook,
}

impl Channel {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Reply, Self::Webhook];

    /// The stored and serialised word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reply => "reply",
            Self::Webhook => "webhook",
        }
    }
}

/// Something to be handed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxRow {
    /// Its identity.
    pub id: OutboxId,
    /// How it is sent.
    pub channel: Channel,
    /// Its place in the order of writing, from 1.
    pub seq: i64,
    /// The order it is about, if the message was one.
    pub order_id: Option<OrderId>,
    /// The address or the webhook that it goes to.
    pub recipient: String,
    /// The whole message, RFC 5322 or JSON.
    pub message: Vec<u8>,
    /// When it was written.
    pub created_at: Timestamp,
    /// When it was handed over, if it was.
    pub sent_at: Option<Timestamp>,
    /// Where the message that it is about stood in its journey (a W3C `traceparent`).
    pub traceparent: Option<String>,
}

/// The outbox of a store. Blocking; cheap to clone.
#[derive(Clone)]
pub struct Outbox(OrderStore);

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").finish_non_exhaustive()
    }
}

impl Outbox {
    pub(super) fn new(store: OrderStore) -> Self {
        Self(store)
    }

    /// The schema of its store, where that is kept in PostgreSQL.
    #[must_use]
    pub fn postgres_schema(&self) -> Option<&str> {
        self.0.postgres_schema()
    }

    /// What waits, the oldest first, at most `limit` (and at most [`MAX_PENDING`]) of those whose place is behind `after`:
    /// 0, or the last place of the page before. In PostgreSQL a place may appear after a later one, so begin anew now and
    /// then.
    ///
    /// # Errors
    /// [`StoreError`] of the database.
    pub fn pending(&self, after: i64, limit: usize) -> Result<Vec<OutboxRow>, StoreError> {
        self.0.reads().waiting(after, limit)
    }

    /// One of them.
    ///
    /// # Errors
    /// [`StoreError`] of the database.
    pub fn get(&self, id: &OutboxId) -> Result<Option<OutboxRow>, StoreError> {
        self.0.reads().outbox_row(id)
    }

    /// Records that it was handed over; the first call's time stays. `false` when there is no such thing.
    ///
    /// # Errors
    /// [`StoreError`] of the database.
    pub fn mark_sent(&self, id: &OutboxId, at: Timestamp) -> Result<bool, StoreError> {
        writing!(self.0.database(), session => mark_sent(session, id, at).await)
    }
}

impl OrderReads {
    /// As [`Outbox::pending`].
    ///
    /// # Errors
    /// [`StoreError`] of the database.
    pub fn waiting(&self, after: i64, limit: usize) -> Result<Vec<OutboxRow>, StoreError> {
        let sql = format!(
            "SELECT {} FROM ~outbox WHERE sent_at IS NULL AND seq > $1 ORDER BY seq LIMIT $2",
            rows::OUTBOX_COLUMNS
        );
        let limit = i64::try_from(limit.min(MAX_PENDING)).unwrap_or(0);
        reading!(&self.0, session => {
            session.query(&sql, &[after.into(), limit.into()]).await?.iter().map(rows::outbox).collect()
        })
    }

    /// What was written about an order, the newest first; at most [`MAX_PENDING`].
    ///
    /// # Errors
    /// [`StoreError`] of the database.
    pub fn sent_about(&self, order: OrderId) -> Result<Vec<OutboxRow>, StoreError> {
        self.sent_lately(Some(order), MAX_PENDING)
    }

    /// What was written lately, about an order or all, the newest first; at most `limit` and [`MAX_PENDING`].
    ///
    /// # Errors
    /// [`StoreError`] of the database.
    pub fn sent_lately(&self, order: Option<OrderId>, limit: usize) -> Result<Vec<OutboxRow>, StoreError> {
        let sql = format!(
            "SELECT {} FROM ~outbox WHERE ($1 IS NULL OR order_id = $1) ORDER BY seq DESC LIMIT $2",
            rows::OUTBOX_COLUMNS
        );
        let limit = i64::try_from(limit.min(MAX_PENDING)).unwrap_or(0);
        reading!(&self.0, session => {
            let values = [order.map(|order| order.0).into(), limit.into()];
            session.query(&sql, &values).await?.iter().map(rows::outbox).collect()
        })
    }

    /// One of the outbox.
    ///
    /// # Errors
    /// [`StoreError`] of the database.
    pub fn outbox_row(&self, id: &OutboxId) -> Result<Option<OutboxRow>, StoreError> {
        let sql = format!("SELECT {} FROM ~outbox WHERE id = $1", rows::OUTBOX_COLUMNS);
        reading!(&self.0, session => {
            session.query(&sql, &[id.as_str().into()]).await?.first().map(rows::outbox).transpose()
        })
    }
}

/// As [`Outbox::mark_sent`], in an open transaction.
pub(crate) async fn mark_sent<S: Session>(session: &mut S, id: &OutboxId, at: Timestamp) -> Result<bool, StoreError> {
    let sql = "UPDATE ~outbox SET sent_at = coalesce(sent_at, $2) WHERE id = $1 RETURNING seq";
    let changed = session
        .query(sql, &[id.as_str().into(), at.as_millisecond().into()])
        .await?;
    Ok(!changed.is_empty())
}

/// Writes one, unless it is there already.
pub(super) async fn insert<S: Session>(
    session: &mut S,
    message: &NewMessage,
    channel: Channel,
    id: OutboxId,
    order: Option<OrderId>,
    recipient: &str,
    content: &[u8],
) -> Result<Option<Queued>, StoreError> {
    let sql = "INSERT INTO ~outbox (id, channel, order_id, recipient, message, created_at, traceparent) \
               VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (id) DO NOTHING RETURNING seq";
    let values = [
        id.as_str().into(),
        channel.as_str().into(),
        order.map(|order| order.0).into(),
        recipient.into(),
        content.into(),
        message.received_at.as_millisecond().into(),
        message.traceparent.as_deref().into(),
    ];
    let written = session.query(sql, &values).await?;
    Ok((!written.is_empty()).then_some(Queued { id, channel }))
}

/// Replies written to `recipient` in the hour before `now`.
pub(super) async fn recent_replies<S: Session>(
    session: &mut S,
    recipient: &str,
    now: Timestamp,
) -> Result<u64, StoreError> {
    const HOUR: i64 = 3_600_000;
    let sql = "SELECT count(*) FROM ~outbox WHERE recipient = $1 AND created_at > $2 AND channel = 'reply'";
    let since = now.as_millisecond().saturating_sub(HOUR);
    let count = number(&session.query(sql, &[recipient.into(), since.into()]).await?)?;
    Ok(u64::try_from(count).unwrap_or_default())
}

/// Counts a reply to a correspondent, for longer than the reply itself is kept.
pub(super) async fn count_reply<S: Session>(
    session: &mut S,
    recipient: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO ~correspondents AS c (address, replies, first_at, last_at) VALUES ($1, 1, $2, $2) \
               ON CONFLICT (address) DO UPDATE SET replies = c.replies + 1, last_at = excluded.last_at RETURNING replies";
    let _: Vec<Row> = session
        .query(sql, &[recipient.into(), now.as_millisecond().into()])
        .await?;
    Ok(())
}
