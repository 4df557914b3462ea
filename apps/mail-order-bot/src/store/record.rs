//! Recording what became of a message: its order or the fact that it is none, and the reply, in one transaction.

use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use sha2::{Digest, Sha256};

use super::outbox::OutboxId;
use super::{OrderStore, StoreError};
use crate::domain::{Customer, LineStatus, Money, Order, OrderId, OrderLine, OrderStatus};

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
}

/// An order to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewOrder {
    /// Who ordered.
    pub customer: Customer,
    /// The outcome.
    pub status: OrderStatus,
    /// The checked lines.
    pub lines: Vec<OrderLine>,
    /// The sum of the accepted lines.
    pub total: Money,
    /// Its currency.
    pub currency: String,
    /// What concerns the order as a whole.
    pub notes: Vec<String>,
    /// How long ago an order of the same customer with the same lines may be to be named as a possible duplicate.
    pub duplicate_window: SignedDuration,
}

/// What to do about a reply, decided inside the transaction, when the order has its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplyPlan {
    /// Put this message into the outbox.
    Send {
        /// The address it goes to.
        recipient: String,
        /// The whole message, RFC 5322.
        message: Vec<u8>,
    },
    /// Answer nothing, for this reason.
    Withhold(String),
}

/// A message that was recorded before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownMessage {
    /// Its order; `None` when it was not an order.
    pub order_id: Option<OrderId>,
    /// Its reply, if that still waits to be handed over.
    pub pending_reply: Option<OutboxId>,
}

/// The result of recording a message: as an [`Order`], or as `()` when it is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recorded<T> {
    /// Recorded now.
    New {
        /// As it is stored.
        record: T,
        /// The reply in the outbox, if there is one.
        outbox_id: Option<OutboxId>,
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
        self.reads.with(|connection| known(connection, key))
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
        plan: impl FnOnce(&Order, u64) -> ReplyPlan,
    ) -> Result<Recorded<Order>, StoreError> {
        let mut connection = self.writer();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let recorded = record_order(&transaction, message, order, correspondent, plan)?;
        transaction.commit()?;
        Ok(recorded)
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
        let mut connection = self.writer();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let recorded = record_not_an_order(&transaction, message, reason, correspondent, plan)?;
        transaction.commit()?;
        Ok(recorded)
    }
}

/// As [`OrderStore::record_order`], in a transaction on the store's file that somebody else has opened and commits.
pub(crate) fn record_order(
    transaction: &Connection,
    message: &NewMessage,
    order: NewOrder,
    correspondent: &str,
    plan: impl FnOnce(&Order, u64) -> ReplyPlan,
) -> Result<Recorded<Order>, StoreError> {
    if let Some(known) = known(transaction, &message.key)? {
        return Ok(Recorded::Known(known));
    }
    let mut order = insert_order(transaction, message, order)?;
    insert_message(transaction, message, Some(order.id), None)?;
    let recent = recent_replies(transaction, correspondent, message.received_at)?;
    let outbox_id = match plan(&order, recent) {
        ReplyPlan::Send {
            recipient,
            message: reply,
        } => Some(insert_reply(transaction, message, Some(order.id), &recipient, &reply)?),
        ReplyPlan::Withhold(reason) => {
            let sql = "UPDATE orders SET reply_withheld = ?2 WHERE id = ?1";
            transaction.prepare_cached(sql)?.execute(params![order.id.0, reason])?;
            order.reply_withheld = Some(reason);
            None
        }
    };
    Ok(Recorded::New {
        record: order,
        outbox_id,
    })
}

/// As [`OrderStore::record_not_an_order`], in a transaction on the store's file that somebody else has opened and commits.
pub(crate) fn record_not_an_order(
    transaction: &Connection,
    message: &NewMessage,
    reason: &str,
    correspondent: &str,
    plan: impl FnOnce(u64) -> ReplyPlan,
) -> Result<Recorded<()>, StoreError> {
    if let Some(known) = known(transaction, &message.key)? {
        return Ok(Recorded::Known(known));
    }
    insert_message(transaction, message, None, Some(reason))?;
    let recent = recent_replies(transaction, correspondent, message.received_at)?;
    let outbox_id = match plan(recent) {
        ReplyPlan::Send {
            recipient,
            message: reply,
        } => Some(insert_reply(transaction, message, None, &recipient, &reply)?),
        ReplyPlan::Withhold(_) => None,
    };
    Ok(Recorded::New { record: (), outbox_id })
}

fn known(connection: &Connection, key: &MessageKey) -> Result<Option<KnownMessage>, StoreError> {
    let sql = "SELECT order_id FROM messages WHERE message_id = ?1 AND body_hash = ?2";
    let found: Option<Option<i64>> = connection
        .prepare_cached(sql)?
        .query_row([&key.message_id, &key.body_hash], |row| row.get(0))
        .optional()?;
    let Some(order_id) = found else { return Ok(None) };
    let reply = OutboxId::for_message(key);
    let sql = "SELECT 1 FROM outbox WHERE id = ?1 AND sent_at IS NULL";
    let pending = connection.prepare_cached(sql)?.exists([reply.as_str()])?;
    Ok(Some(KnownMessage {
        order_id: order_id.map(OrderId),
        pending_reply: pending.then_some(reply),
    }))
}

fn insert_order(connection: &Connection, message: &NewMessage, new: NewOrder) -> Result<Order, StoreError> {
    let fingerprint = fingerprint(&new.lines);
    let received = message.received_at.as_millisecond();
    let window = i64::try_from(new.duplicate_window.as_millis()).unwrap_or(i64::MAX);
    // Orders without lines (an unreadable attachment) have nothing to compare.
    let duplicate: Option<i64> = if new.lines.is_empty() || window == 0 {
        None
    } else {
        connection
            .prepare_cached(
                "SELECT id FROM orders WHERE customer_id = ?1 AND lines_fingerprint = ?2
                   AND received_at BETWEEN ?3 AND ?4 ORDER BY id DESC LIMIT 1",
            )?
            .query_row(
                params![
                    new.customer.id,
                    fingerprint,
                    received.saturating_sub(window),
                    received.saturating_add(window)
                ],
                |row| row.get(0),
            )
            .optional()?
    };
    let notes = serde_json::Value::from(new.notes.clone()).to_string();
    let id: i64 = connection
        .prepare_cached(
            "INSERT INTO orders (status, customer_id, customer_name, customer_address, message_id, subject, received_at,
                 total, currency, possible_duplicate_of, lines_fingerprint, notes)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) RETURNING id",
        )?
        .query_row(
            params![
                new.status.as_str(),
                new.customer.id,
                new.customer.name,
                new.customer.address,
                message.key.message_id,
                message.subject,
                received,
                new.total.minor(),
                new.currency,
                duplicate,
                fingerprint,
                notes
            ],
            |row| row.get(0),
        )?;
    let order = Order {
        id: OrderId(id),
        status: new.status,
        customer: new.customer,
        message_id: message.key.message_id.clone(),
        subject: message.subject.clone(),
        received_at: Timestamp::from_millisecond(received).unwrap_or(message.received_at),
        total: new.total,
        currency: new.currency,
        possible_duplicate_of: duplicate.map(OrderId),
        notes: new.notes,
        reply_withheld: None,
        lines: new.lines,
    };
    insert_lines(connection, &order)?;
    Ok(order)
}

fn insert_lines(connection: &Connection, order: &Order) -> Result<(), StoreError> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO order_lines (order_id, position, article, name, quantity, quantity_given, unit, price_given, place,
             unit_price, amount, reason)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
    )?;
    for line in &order.lines {
        let (unit_price, amount, reason) = match &line.status {
            LineStatus::Accepted { unit_price, amount } => (Some(unit_price.minor()), Some(amount.minor()), None),
            LineStatus::Rejected { reason } => {
                let json = serde_json::to_string(reason).map_err(|error| StoreError::Damaged {
                    what: format!("reason of line {}", line.position),
                    problem: error.to_string(),
                })?;
                (None, None, Some(json))
            }
        };
        statement.execute(params![
            order.id.0,
            line.position,
            line.article,
            line.name,
            line.quantity.map(crate::domain::Quantity::thousandths),
            line.quantity_given,
            line.unit,
            line.price_given,
            line.place,
            unit_price,
            amount,
            reason
        ])?;
    }
    Ok(())
}

fn insert_message(
    connection: &Connection,
    message: &NewMessage,
    order: Option<OrderId>,
    not_an_order: Option<&str>,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO messages (message_id, body_hash, sender, subject, received_at, order_id, not_an_order)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            message.key.message_id,
            message.key.body_hash,
            message.sender,
            message.subject,
            message.received_at.as_millisecond(),
            order.map(|order| order.0),
            not_an_order
        ])?;
    Ok(())
}

fn insert_reply(
    connection: &Connection,
    message: &NewMessage,
    order: Option<OrderId>,
    recipient: &str,
    reply: &[u8],
) -> Result<OutboxId, StoreError> {
    let id = OutboxId::for_message(&message.key);
    connection
        .prepare_cached(
            "INSERT INTO outbox (id, order_id, recipient, message, created_at, traceparent) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            id.as_str(),
            order.map(|order| order.0),
            recipient,
            reply,
            message.received_at.as_millisecond(),
            message.traceparent
        ])?;
    Ok(id)
}

/// Replies written to `recipient` in the hour before `now`.
fn recent_replies(connection: &Connection, recipient: &str, now: Timestamp) -> Result<u64, StoreError> {
    const HOUR: i64 = 3_600_000;
    let sql = "SELECT count(*) FROM outbox WHERE recipient = ?1 AND created_at > ?2";
    let since = now.as_millisecond().saturating_sub(HOUR);
    let count: i64 = connection
        .prepare_cached(sql)?
        .query_row(params![recipient, since], |row| row.get(0))?;
    Ok(u64::try_from(count).unwrap_or_default())
}

/// Equal for orders that ask for the same: articles and quantities, whatever their order, layout and wording.
fn fingerprint(lines: &[OrderLine]) -> String {
    let mut wanted: Vec<String> = lines
        .iter()
        .map(|line| {
            let quantity = line
                .quantity
                .map_or_else(|| line.quantity_given.clone(), |quantity| quantity.to_string());
            format!("{}\t{quantity}", line.article.to_lowercase())
        })
        .collect();
    wanted.sort_unstable();
    crate::reading::mail::hex(&Sha256::digest(wanted.join("\n"))[..16])
}
