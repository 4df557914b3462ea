//! What became of every mail: each has one outcome, an order, the review list, or the reason why it is none.

use jiff::Timestamp;
use serde::Serialize;

use super::reads::pattern;
use super::session::{Row, Session, Value};
use super::{OrderReads, StoreError, reading, rows};
use crate::domain::OrderId;
use crate::store::ReviewId;

/// Most mails that one call returns.
pub const MAX_MAILS: usize = 1000;

/// Which mails to list. The default lists the newest 100.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailFilter {
    /// Only those that are no orders and wait for nobody.
    pub ignored: bool,
    /// Only those with this text in their sender, subject or Message-ID; without regard to case in ASCII.
    pub text: Option<String>,
    /// Only those with a smaller number: the cursor.
    pub before: Option<i64>,
    /// At most so many, and at most [`MAX_MAILS`].
    pub limit: usize,
}

impl Default for MailFilter {
    fn default() -> Self {
        Self {
            ignored: false,
            text: None,
            before: None,
            limit: 100,
        }
    }
}

/// A mail that was worked on, and its outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SeenMail {
    /// Its number.
    pub id: i64,
    /// When it was taken in.
    pub received_at: Timestamp,
    /// The address that it came from; empty when it names none.
    pub sender: String,
    /// Its subject.
    pub subject: String,
    /// Its Message-ID.
    pub message_id: String,
    /// The order that it became, or is about.
    pub order: Option<OrderId>,
    /// Its number on the review list, as long as nobody has decided.
    pub review: Option<ReviewId>,
    /// Why it is no order, if it is none.
    pub not_an_order: Option<String>,
}

/// A mail, and its bytes as long as they are kept.
pub type MailAsItCame = (SeenMail, Option<Vec<u8>>);

const COLUMNS: &str = "m.id, m.received_at, m.sender, m.subject, m.message_id, m.order_id, r.id, m.not_an_order";

impl OrderReads {
    /// Mails that were worked on, the newest first.
    ///
    /// # Errors
    /// [`StoreError`] of the database.
    pub fn seen_mails(&self, filter: &MailFilter) -> Result<Vec<SeenMail>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM ~messages m LEFT JOIN ~reviews r ON r.message = m.id AND r.state = 'open'
             WHERE ($1 IS NULL OR m.id < $1) AND ($2 = 0 OR m.order_id IS NULL AND r.id IS NULL)
               AND ($3 IS NULL OR lower(m.sender) LIKE $3 ESCAPE '!' OR lower(m.subject) LIKE $3 ESCAPE '!'
                    OR lower(m.message_id) LIKE $3 ESCAPE '!')
             ORDER BY m.id DESC LIMIT $4"
        );
        let pattern = filter.text.as_deref().map(pattern);
        let values: [Value<'_>; 4] = [
            filter.before.into(),
            i64::from(filter.ignored).into(),
            pattern.as_deref().into(),
            i64::try_from(filter.limit.min(MAX_MAILS)).unwrap_or(0).into(),
        ];
        reading!(&self.0, session => session.query(&sql, &values).await?.iter().map(seen).collect())
    }

    /// One of them, with the mail as it came as long as that is kept.
    ///
    /// # Errors
    /// [`StoreError`] of the database.
    pub fn seen_mail(&self, id: i64) -> Result<Option<MailAsItCame>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM ~messages m LEFT JOIN ~reviews r ON r.message = m.id AND r.state = 'open' WHERE m.id = $1"
        );
        reading!(&self.0, session => {
            let found = session.query(&sql, &[id.into()]).await?;
            let Some(mail) = found.first().map(seen).transpose()? else {
                return Ok(None);
            };
            let raw = session.query("SELECT raw FROM ~mails WHERE message = $1", &[id.into()]).await?;
            Ok(Some((mail, raw.first().map(|row| row.bytes(0)).transpose()?)))
        })
    }
}

fn seen(row: &Row) -> Result<SeenMail, StoreError> {
    Ok(SeenMail {
        id: row.int(0)?,
        received_at: rows::time(row.int(1)?, "received_at of a mail")?,
        sender: row.text(2)?,
        subject: row.text(3)?,
        message_id: row.text(4)?,
        order: row.maybe_int(5)?.map(OrderId),
        review: row.maybe_int(6)?.map(ReviewId),
        not_an_order: row.maybe_text(7)?,
    })
}
