//! Recording what became of a message, once: who has seen it, its raw bytes, and what is to be sent, in one transaction
//! with the order or the review that it became.

use std::sync::Arc;

use jiff::Timestamp;

use super::outbox::{Channel, OutboxId};
use super::review::ReviewId;
use super::session::{Session, number};
use super::{Attachment, OrderStore, StoreError, mails, orders, outbox, reading, review, writing};
use crate::authentication::Verdict;
use crate::domain::{Order, OrderId};
use crate::store::orders::NewOrder;

/// What makes two deliveries the same message.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MessageKey {
    /// The Message-ID, given or made.
    pub message_id: String,
    /// The hash of the body, in hex.
    pub body_hash: String,
}

/// A message whose outcome is to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMessage {
    /// Its identity.
    pub key: MessageKey,
    /// The address it came from; empty if it has none.
    pub sender: String,
    /// Its subject.
    pub subject: String,
    /// When it was taken in.
    pub received_at: Timestamp,
    /// Where it stands in its journey (a W3C `traceparent`), so that its reply goes on from there.
    pub traceparent: Option<String>,
    /// The messages that it answers, oldest first.
    pub references: Vec<String>,
    /// The whole message as it came; empty to keep nothing of it.
    pub raw: Arc<[u8]>,
    /// What was found out about its sender, where anybody looked.
    pub authentication: Option<Verdict>,
    /// What was attached to it.
    pub attachments: Vec<Attachment>,
    /// The review that this outcome decides: the message was recorded before, to be looked at.
    pub decides: Option<ReviewId>,
}

/// What to do about a reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplyPlan {
    /// Put this message into the outbox.
    Send {
        /// The address it goes to.
        recipient: String,
        /// The whole message, RFC 5322.
        message: Vec<u8>,
        /// Its Message-ID without angle brackets: an answer to it belongs to the order.
        message_id: String,
    },
    /// Answer nothing, for this reason.
    Withhold(String),
}

/// What another system is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The webhook, by its name.
    pub hook: String,
    /// What it is sent: JSON.
    pub body: Vec<u8>,
}

/// All that is to be sent about a message, decided inside the transaction, when the order has its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answers {
    /// To whom wrote it.
    pub reply: ReplyPlan,
    /// To other systems.
    pub events: Vec<Event>,
}

impl From<ReplyPlan> for Answers {
    fn from(reply: ReplyPlan) -> Self {
        Self {
            reply,
            events: Vec::new(),
        }
    }
}

/// A message that was recorded before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownMessage {
    /// Its order; `None` when it was not an order.
    pub order_id: Option<OrderId>,
    /// Its reply, if that still waits to be handed over.
    pub pending_reply: Option<OutboxId>,
}

/// Something in the outbox that waits for its task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queued {
    /// Which.
    pub id: OutboxId,
    /// How it is sent.
    pub channel: Channel,
}

/// The result of recording a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recorded<T> {
    /// Recorded now.
    New {
        /// As it is stored.
        record: T,
        /// What was put into the outbox.
        queued: Vec<Queued>,
    },
    /// Recorded before, or by someone else at this moment; nothing was changed.
    Known(KnownMessage),
}

impl OrderStore {
    /// What became of a message, if it is known.
    ///
    /// # Errors
    /// [`StoreError`] of the database.
    pub fn known(&self, key: &MessageKey) -> Result<Option<KnownMessage>, StoreError> {
        reading!(&self.reads.0, session => known(session, key).await)
    }

    /// Records an order. `plan` is called once, inside the transaction, with the order as it will be stored and the
    /// number of replies written to `correspondent` within the hour before `message.received_at`.
    ///
    /// # Errors
    /// [`StoreError`] of the database; nothing is stored then.
    pub fn record_order(
        &self,
        message: &NewMessage,
        order: NewOrder,
        correspondent: &str,
        plan: impl FnOnce(&Order, u64) -> Answers,
    ) -> Result<Recorded<Order>, StoreError> {
        writing!(&self.database, session => record_order(session, message, order, correspondent, plan).await)
    }

    /// Records that a message is not an order, and why. `plan` as in [`OrderStore::record_order`].
    ///
    /// # Errors
    /// [`StoreError`] of the database; nothing is stored then.
    pub fn record_not_an_order(
        &self,
        message: &NewMessage,
        reason: &str,
        correspondent: &str,
        plan: impl FnOnce(u64) -> ReplyPlan,
    ) -> Result<Recorded<()>, StoreError> {
        writing!(&self.database, session => record_not_an_order(session, message, reason, correspondent, plan).await)
    }
}

/// As [`OrderStore::record_order`], in an open transaction.
pub(crate) async fn record_order<S: Session>(
    session: &mut S,
    message: &NewMessage,
    order: NewOrder,
    correspondent: &str,
    plan: impl FnOnce(&Order, u64) -> Answers,
) -> Result<Recorded<Order>, StoreError> {
    if let Some(known) = begin(session, message, correspondent).await? {
        return Ok(Recorded::Known(known));
    }
    let mut order = orders::insert(session, message, order).await?;
    keep(session, message, Some(order.id), None).await?;
    orders::join_thread(session, order.id, &message.key.message_id).await?;
    let recent = outbox::recent_replies(session, correspondent, message.received_at).await?;
    let answers = plan(&order, recent);
    if let ReplyPlan::Withhold(reason) = &answers.reply {
        let sql = "UPDATE ~orders SET reply_withheld = $2 WHERE id = $1";
        session.query(sql, &[order.id.0.into(), reason.into()]).await?;
        order.reply_withheld = Some(reason.clone());
    }
    let queued = send(session, message, Some(order.id), answers).await?;
    Ok(Recorded::New { record: order, queued })
}

/// As [`OrderStore::record_not_an_order`], in an open transaction.
pub(crate) async fn record_not_an_order<S: Session>(
    session: &mut S,
    message: &NewMessage,
    reason: &str,
    correspondent: &str,
    plan: impl FnOnce(u64) -> ReplyPlan,
) -> Result<Recorded<()>, StoreError> {
    if let Some(known) = begin(session, message, correspondent).await? {
        return Ok(Recorded::Known(known));
    }
    keep(session, message, None, Some(reason)).await?;
    let recent = outbox::recent_replies(session, correspondent, message.received_at).await?;
    let queued = send(session, message, None, plan(recent).into()).await?;
    Ok(Recorded::New { record: (), queued })
}

/// Holds the message and its correspondent against others who record at this moment, and looks whether somebody was first.
pub(super) async fn begin<S: Session>(
    session: &mut S,
    message: &NewMessage,
    correspondent: &str,
) -> Result<Option<KnownMessage>, StoreError> {
    let names = [
        format!("message {}", message.key.message_id),
        format!("correspondent {correspondent}"),
    ];
    session.hold(&[&names[0], &names[1]]).await?;
    let found = known(session, &message.key).await?;
    match message.decides {
        // It was recorded to wait for this.
        Some(decides) if review::is_open(session, decides).await? => Ok(None),
        Some(decides) => Err(StoreError::Refused(format!(
            "review {decides} was decided before; see `review --state all`"
        ))),
        None => Ok(found),
    }
}

async fn known<S: Session>(session: &mut S, key: &MessageKey) -> Result<Option<KnownMessage>, StoreError> {
    let sql = "SELECT order_id FROM ~messages WHERE message_id = $1 AND body_hash = $2";
    let found = session
        .query(sql, &[(&key.message_id).into(), (&key.body_hash).into()])
        .await?;
    let Some(row) = found.first() else { return Ok(None) };
    let order_id = row.maybe_int(0)?;
    let reply = OutboxId::for_message(key);
    let sql = "SELECT seq FROM ~outbox WHERE id = $1 AND sent_at IS NULL";
    let pending = !session.query(sql, &[reply.as_str().into()]).await?.is_empty();
    Ok(Some(KnownMessage {
        order_id: order_id.map(OrderId),
        pending_reply: pending.then_some(reply),
    }))
}

/// Writes the message's own row, its raw bytes and its attachments; closes the review that this decides. Gives the row's
/// number.
pub(super) async fn keep<S: Session>(
    session: &mut S,
    message: &NewMessage,
    order: Option<OrderId>,
    not_an_order: Option<&str>,
) -> Result<i64, StoreError> {
    let order = order.map(|order| order.0);
    if let Some(decides) = message.decides {
        let accepted = order.is_some();
        let of = review::decide(session, decides, accepted, message.received_at).await?;
        let sql = "UPDATE ~messages SET order_id = $2, not_an_order = $3 WHERE id = $1";
        session
            .query(sql, &[of.into(), order.into(), not_an_order.into()])
            .await?;
        return Ok(of);
    }
    let at = message.received_at.as_millisecond();
    let sql = "INSERT INTO ~messages (message_id, body_hash, sender, subject, received_at, order_id, not_an_order, \
                   authentication) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING id";
    let verdict = message.authentication.as_ref().map(serde_json::to_string).transpose();
    let verdict = verdict.map_err(|error| StoreError::Damaged {
        what: "the verdict about a sender".to_owned(),
        problem: error.to_string(),
    })?;
    let values = [
        (&message.key.message_id).into(),
        (&message.key.body_hash).into(),
        (&message.sender).into(),
        (&message.subject).into(),
        at.into(),
        order.into(),
        not_an_order.into(),
        verdict.as_deref().into(),
    ];
    let id = number(&session.query(sql, &values).await?)?;
    mails::keep(session, id, message).await?;
    Ok(id)
}

/// Puts everything that is to be sent into the outbox.
pub(super) async fn send<S: Session>(
    session: &mut S,
    message: &NewMessage,
    order: Option<OrderId>,
    answers: Answers,
) -> Result<Vec<Queued>, StoreError> {
    let mut queued = Vec::new();
    if let ReplyPlan::Send {
        recipient,
        message: reply,
        message_id,
    } = answers.reply
    {
        let id = OutboxId::for_message(&message.key);
        queued.extend(outbox::insert(session, message, Channel::Reply, id, order, &recipient, &reply).await?);
        outbox::count_reply(session, &recipient, message.received_at).await?;
        if let Some(order) = order {
            orders::join_thread(session, order, &message_id).await?;
        }
    }
    for event in answers.events {
        let id = OutboxId::for_event(&message.key, &event.hook);
        queued.extend(outbox::insert(session, message, Channel::Webhook, id, order, &event.hook, &event.body).await?);
    }
    Ok(queued)
}
