//! The review list: mails that a person has to look at, with their raw bytes and the reason.

use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::record::{KnownMessage, NewMessage, Recorded, begin, keep};
use super::session::{Row, Session, Value, number};
use super::{OrderReads, OrderStore, StoreError, reading, rows, writing};
use crate::authentication::Verdict;
use crate::domain::OrderId;

/// Most entries that one call returns.
pub const MAX_REVIEWS: usize = 1000;

/// The number of an entry of the review list, counting from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct ReviewId(pub i64);

impl fmt::Display for ReviewId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a mail has to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReviewReason {
    /// No profile names its sender.
    UnknownSender,
    /// It may come from somebody else than it says.
    Authentication,
    /// It may be an order, or change one, and none of its lines is understood.
    Unclear,
    /// It wants to change an order, and answers no mail about one.
    NoSuchOrder,
    /// It wants to change one of several orders, or takes back less of an article than was ordered.
    Ambiguous,
    /// It wants to change an order that was handed on or cancelled.
    OrderClosed,
}

impl ReviewReason {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::UnknownSender,
        Self::Authentication,
        Self::Unclear,
        Self::NoSuchOrder,
        Self::Ambiguous,
        Self::OrderClosed,
    ];

    /// The stored and serialised word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UnknownSender => "unknown_sender",
            Self::Authentication => "authentication",
            Self::Unclear => "unclear",
            Self::NoSuchOrder => "no_such_order",
            Self::Ambiguous => "ambiguous",
            Self::OrderClosed => "order_closed",
        }
    }
}

/// Whether somebody has looked at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReviewState {
    /// Not yet.
    Open,
    /// It was processed as its sender's order.
    Accepted,
    /// It is no business of ours.
    Rejected,
}

impl ReviewState {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Open, Self::Accepted, Self::Rejected];

    /// The stored and serialised word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Accepted => "accepted",
            Self::Rejected => "rejected",
        }
    }
}

/// An entry of the review list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Review {
    /// Its number.
    pub id: ReviewId,
    /// Why it is here.
    pub reason: ReviewReason,
    /// In words.
    pub detail: String,
    /// Whether it was decided.
    pub state: ReviewState,
    /// The address that the mail came from.
    pub sender: String,
    /// Its subject.
    pub subject: String,
    /// Its Message-ID.
    pub message_id: String,
    /// When it came onto the list.
    #[schemars(with = "String")]
    pub created_at: Timestamp,
    /// When it was decided.
    #[schemars(with = "Option<String>")]
    pub decided_at: Option<Timestamp>,
    /// The order that it became.
    #[schemars(with = "Option<i64>")]
    pub order_id: Option<OrderId>,
    /// What was found out about who sent it, where anybody looked.
    pub authentication: Option<Verdict>,
}

/// A mail as it came.
pub type RawMail = Vec<u8>;

const COLUMNS: &str = "r.id, r.reason, r.detail, r.state, m.sender, m.subject, m.message_id, r.created_at, \
                       r.decided_at, m.order_id, m.authentication";

impl OrderStore {
    /// Puts a message onto the review list. Nothing is answered before somebody has decided.
    ///
    /// # Errors
    /// [`StoreError`] of the database; nothing is stored then.
    pub fn record_review(
        &self,
        message: &NewMessage,
        reason: ReviewReason,
        detail: &str,
        correspondent: &str,
    ) -> Result<Recorded<ReviewId>, StoreError> {
        writing!(&self.database, session => record_review(session, message, reason, detail, correspondent).await)
    }

    /// Closes an open review without an order; `false` when there is none with this number.
    ///
    /// # Errors
    /// [`StoreError`] of the database.
    pub fn reject_review(&self, id: ReviewId, now: Timestamp) -> Result<bool, StoreError> {
        writing!(&self.database, session => {
            if !is_open(session, id).await? {
                return Ok(false);
            }
            let of = decide(session, id, false, now).await?;
            let sql = "UPDATE ~messages SET not_an_order = $2 WHERE id = $1";
            session.query(sql, &[of.into(), "it was rejected on the review list".into()]).await?;
            Ok(true)
        })
    }
}

impl OrderReads {
    /// Reviews in this state, or all, the oldest first, of those behind `after`; at most `limit` and [`MAX_REVIEWS`].
    ///
    /// # Errors
    /// [`StoreError`] of the database.
    pub fn reviews(&self, state: Option<ReviewState>, after: i64, limit: usize) -> Result<Vec<Review>, StoreError> {
        let state = state.map(ReviewState::as_str);
        let limit = i64::try_from(limit.min(MAX_REVIEWS)).unwrap_or(0);
        let sql = format!(
            "SELECT {COLUMNS} FROM ~reviews r JOIN ~messages m ON m.id = r.message \
             WHERE ($1 IS NULL OR r.state = $1) AND r.id > $2 ORDER BY r.id LIMIT $3"
        );
        reading!(&self.0, session => {
            let values: [Value<'_>; 3] = [state.into(), after.into(), limit.into()];
            session.query(&sql, &values).await?.iter().map(review).collect()
        })
    }

    /// One review, with the raw mail if that is still kept.
    ///
    /// # Errors
    /// [`StoreError`] of the database.
    pub fn review(&self, id: ReviewId) -> Result<Option<(Review, Option<RawMail>)>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM ~reviews r JOIN ~messages m ON m.id = r.message WHERE r.id = $1");
        reading!(&self.0, session => {
            let found = session.query(&sql, &[id.0.into()]).await?;
            let Some(found) = found.first().map(review).transpose()? else { return Ok(None) };
            let raw = "SELECT k.raw FROM ~mails k JOIN ~reviews r ON r.message = k.message WHERE r.id = $1";
            let raw = session.query(raw, &[id.0.into()]).await?;
            let raw = raw.first().map(|row| row.bytes(0)).transpose()?;
            Ok(Some((found, raw)))
        })
    }
}

/// As [`OrderStore::record_review`], in an open transaction.
pub(crate) async fn record_review<S: Session>(
    session: &mut S,
    message: &NewMessage,
    reason: ReviewReason,
    detail: &str,
    correspondent: &str,
) -> Result<Recorded<ReviewId>, StoreError> {
    if let Some(known) = begin(session, message, correspondent).await? {
        return Ok(Recorded::Known(known));
    }
    if message.decides.is_some() {
        // It stays where it is: what was decided does not make it an order.
        return Ok(Recorded::Known(KnownMessage {
            order_id: None,
            pending_reply: None,
        }));
    }
    let record = open(session, message, reason, detail).await?;
    Ok(Recorded::New {
        record,
        queued: Vec::new(),
    })
}

/// Puts a message that is not recorded yet onto the list.
pub(super) async fn open<S: Session>(
    session: &mut S,
    message: &NewMessage,
    reason: ReviewReason,
    detail: &str,
) -> Result<ReviewId, StoreError> {
    if message.decides.is_some() {
        return Err(StoreError::Refused(format!("it can't be processed: {detail}")));
    }
    let why = format!("it waits on the review list: {detail}");
    let of = keep(session, message, None, Some(&why)).await?;
    let sql = "INSERT INTO ~reviews (message, reason, detail, created_at) VALUES ($1, $2, $3, $4) RETURNING id";
    let values = [
        of.into(),
        reason.as_str().into(),
        detail.into(),
        message.received_at.as_millisecond().into(),
    ];
    Ok(ReviewId(number(&session.query(sql, &values).await?)?))
}

pub(super) async fn is_open<S: Session>(session: &mut S, id: ReviewId) -> Result<bool, StoreError> {
    session.hold(&[&format!("review {id}")]).await?;
    let sql = "SELECT id FROM ~reviews WHERE id = $1 AND state = 'open'";
    Ok(!session.query(sql, &[id.0.into()]).await?.is_empty())
}

/// Closes it, and gives the number of its message.
pub(super) async fn decide<S: Session>(
    session: &mut S,
    id: ReviewId,
    accepted: bool,
    at: Timestamp,
) -> Result<i64, StoreError> {
    let state = if accepted {
        ReviewState::Accepted
    } else {
        ReviewState::Rejected
    };
    let sql = "UPDATE ~reviews SET state = $2, decided_at = $3 WHERE id = $1 RETURNING message";
    let values = [id.0.into(), state.as_str().into(), at.as_millisecond().into()];
    number(&session.query(sql, &values).await?)
}

fn review(row: &Row) -> Result<Review, StoreError> {
    let id = row.int(0)?;
    let damaged = |column: &str, found: String| StoreError::Damaged {
        what: format!("{column} of review {id}"),
        problem: found,
    };
    let (reason, state) = (row.text(1)?, row.text(3)?);
    let known = ReviewReason::ALL.into_iter().find(|known| known.as_str() == reason);
    let standing = ReviewState::ALL.into_iter().find(|known| known.as_str() == state);
    Ok(Review {
        id: ReviewId(id),
        reason: known.ok_or_else(|| damaged("reason", reason))?,
        detail: row.text(2)?,
        state: standing.ok_or_else(|| damaged("state", state))?,
        sender: row.text(4)?,
        subject: row.text(5)?,
        message_id: row.text(6)?,
        created_at: rows::time(row.int(7)?, "created_at of a review")?,
        decided_at: row
            .maybe_int(8)?
            .map(|at| rows::time(at, "decided_at of a review"))
            .transpose()?,
        order_id: row.maybe_int(9)?.map(OrderId),
        authentication: rows::verdict(row, 10)?,
    })
}
