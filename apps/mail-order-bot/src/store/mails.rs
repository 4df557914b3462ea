//! Raw mails and attachments, as long as they are kept: by age and by count. What is on the review list stays.

use jiff::{SignedDuration, Timestamp};

use super::record::NewMessage;
use super::session::{Session, number};
use super::{OrderReads, OrderStore, StoreError, reading, rows, writing};
use crate::authentication::Verdict;
use crate::domain::OrderId;

/// How many rows one transaction removes, so that nobody waits long for it.
const BATCH: i64 = 200;

/// Most bytes of a file name and of a declared type that are kept.
const NAME: usize = 200;

/// A file that came with a mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Its declared name, never used as a path; empty when it has none.
    pub file_name: String,
    /// Its declared type: a claim, not a fact.
    pub content_type: String,
    /// Its content.
    pub content: Vec<u8>,
}

/// For how long things are kept. Orders are kept for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// Raw mails.
    pub mails: SignedDuration,
    /// Raw mails, at most so many: the oldest go first.
    pub most_mails: u32,
    /// Attachments.
    pub attachments: SignedDuration,
    /// Replies and webhooks that were sent.
    pub sent: SignedDuration,
}

/// What was removed because its time was up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Forgotten {
    /// Raw mails.
    pub mails: u64,
    /// Attachments.
    pub attachments: u64,
    /// Replies and webhooks that were sent.
    pub sent: u64,
}

impl OrderStore {
    /// Removes what needs to be kept no longer, a few at a time; call it again while it removes anything.
    ///
    /// # Errors
    /// [`StoreError`] of the database.
    pub fn forget(&self, keep: &Keep, now: Timestamp) -> Result<Forgotten, StoreError> {
        let before = |span: SignedDuration| {
            let span = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
            now.as_millisecond().saturating_sub(span)
        };
        let old = "DELETE FROM ~mails WHERE message IN (SELECT k.message FROM ~mails k \
                       LEFT JOIN ~reviews r ON r.message = k.message AND r.state = 'open' \
                   WHERE k.kept_at < $1 AND r.id IS NULL ORDER BY k.kept_at LIMIT $2) RETURNING message";
        let many = "DELETE FROM ~mails WHERE message IN (SELECT k.message FROM ~mails k \
                       LEFT JOIN ~reviews r ON r.message = k.message AND r.state = 'open' \
                    WHERE r.id IS NULL ORDER BY k.kept_at, k.message LIMIT $1) RETURNING message";
        let files = "DELETE FROM ~attachments WHERE message IN (SELECT message FROM ~attachments WHERE kept_at < $1 \
                     ORDER BY kept_at LIMIT $2) RETURNING message";
        let sent = "DELETE FROM ~outbox WHERE seq IN (SELECT seq FROM ~outbox WHERE sent_at IS NOT NULL AND sent_at < $1 \
                    ORDER BY sent_at LIMIT $2) RETURNING seq";
        writing!(&self.database, session => {
            let count = |rows: Vec<super::session::Row>| rows.len() as u64;
            let mut mails = count(session.query(old, &[before(keep.mails).into(), BATCH.into()]).await?);
            let there = number(&session.query("SELECT count(*) FROM ~mails", &[]).await?)?;
            let surplus = there.saturating_sub(i64::from(keep.most_mails)).clamp(0, BATCH);
            if surplus > 0 {
                mails += count(session.query(many, &[surplus.into()]).await?);
            }
            Ok(Forgotten {
                mails,
                attachments: count(session.query(files, &[before(keep.attachments).into(), BATCH.into()]).await?),
                sent: count(session.query(sent, &[before(keep.sent).into(), BATCH.into()]).await?),
            })
        })
    }
}

impl OrderReads {
    /// The raw mails of an order, the first one first, each with its Message-ID; those that are still kept.
    ///
    /// # Errors
    /// [`StoreError`] of the database.
    pub fn mails_of(&self, order: OrderId) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let sql = "SELECT m.message_id, k.raw FROM ~messages m JOIN ~mails k ON k.message = m.id \
                   WHERE m.order_id = $1 ORDER BY m.id LIMIT 50";
        reading!(&self.0, session => {
            let rows = session.query(sql, &[order.0.into()]).await?;
            rows.iter().map(|row| Ok((row.text(0)?, row.bytes(1)?))).collect()
        })
    }

    /// What was found out about the senders of an order's mails, the first one first, each with its Message-ID; of those
    /// about which anybody looked. It is kept as long as the order.
    ///
    /// # Errors
    /// [`StoreError`] of the database.
    pub fn verdicts_of(&self, order: OrderId) -> Result<Vec<(String, Verdict)>, StoreError> {
        let sql = "SELECT message_id, authentication FROM ~messages \
                   WHERE order_id = $1 AND authentication IS NOT NULL ORDER BY id LIMIT 50";
        reading!(&self.0, session => {
            let mut verdicts = Vec::new();
            for row in session.query(sql, &[order.0.into()]).await? {
                verdicts.extend(rows::verdict(&row, 1)?.map(|verdict| Ok((row.text(0)?, verdict))));
            }
            verdicts.into_iter().collect()
        })
    }

    /// The attachments of an order's mails, in the order in which they came; those that are still kept.
    ///
    /// # Errors
    /// [`StoreError`] of the database.
    pub fn attachments_of(&self, order: OrderId) -> Result<Vec<Attachment>, StoreError> {
        let sql = "SELECT a.file_name, a.content_type, a.content FROM ~attachments a JOIN ~messages m ON m.id = a.message \
                   WHERE m.order_id = $1 ORDER BY a.message, a.position LIMIT 100";
        reading!(&self.0, session => {
            let rows = session.query(sql, &[order.0.into()]).await?;
            let attachment = |row: &super::session::Row| {
                Ok(Attachment {
                    file_name: row.text(0)?,
                    content_type: row.text(1)?,
                    content: row.bytes(2)?,
                })
            };
            rows.iter().map(attachment).collect()
        })
    }
}

/// Keeps what came with a message that was just recorded as number `of`.
pub(super) async fn keep<S: Session>(session: &mut S, of: i64, message: &NewMessage) -> Result<(), StoreError> {
    let at = message.received_at.as_millisecond();
    if !message.raw.is_empty() {
        let sql = "INSERT INTO ~mails (message, kept_at, raw) VALUES ($1, $2, $3)";
        session
            .query(sql, &[of.into(), at.into(), (&*message.raw).into()])
            .await?;
    }
    let sql = "INSERT INTO ~attachments (message, position, kept_at, file_name, content_type, content) \
               VALUES ($1, $2, $3, $4, $5, $6)";
    for (position, attachment) in (1_i64..).zip(&message.attachments) {
        let values = [
            of.into(),
            position.into(),
            at.into(),
            shortened(&attachment.file_name).into(),
            shortened(&attachment.content_type).into(),
            attachment.content.as_slice().into(),
        ];
        session.query(sql, &values).await?;
    }
    Ok(())
}

fn shortened(text: &str) -> &str {
    &text[..text.floor_char_boundary(NAME)]
}
