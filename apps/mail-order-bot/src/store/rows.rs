//! Rows ↔ values: the columns of orders, lines and outbox rows, and what is said about damaged ones.

use jiff::Timestamp;

use super::StoreError;
use super::outbox::{Channel, OutboxId, OutboxRow};
use super::session::{Row, Session};
use crate::authentication::Verdict;
use crate::domain::{Customer, LineStatus, Money, Order, OrderId, OrderLine, OrderState, OrderStatus, Quantity};

pub(super) const ORDER_COLUMNS: &str = "id, status, customer_id, customer_name, customer_address, message_id, subject, \
     received_at, total, currency, possible_duplicate_of, notes, reply_withheld, version, state, changed_at, \
     order_number";

pub(super) const OUTBOX_COLUMNS: &str =
    "id, order_id, recipient, message, created_at, sent_at, traceparent, seq, channel";

/// An order without its lines, from a row of `ORDER_COLUMNS`.
pub(super) fn order(row: &Row) -> Result<Order, StoreError> {
    let id = row.int(0)?;
    let damaged = |column: &str, problem: String| StoreError::Damaged {
        what: format!("{column} of order {id}"),
        problem,
    };
    let (status, state, notes) = (row.text(1)?, row.text(14)?, row.text(11)?);
    Ok(Order {
        id: OrderId(id),
        version: u32::try_from(row.int(13)?).map_err(|error| damaged("version", error.to_string()))?,
        status: OrderStatus::from_word(&status).ok_or_else(|| damaged("status", format!("{status:?}")))?,
        state: OrderState::from_word(&state).ok_or_else(|| damaged("state", format!("{state:?}")))?,
        customer: Customer {
            id: row.text(2)?,
            name: row.text(3)?,
            address: row.text(4)?,
        },
        message_id: row.text(5)?,
        subject: row.text(6)?,
        received_at: time(row.int(7)?, "received_at of an order")?,
        changed_at: time(row.int(15)?, "changed_at of an order")?,
        total: Money::from_minor(row.int(8)?),
        currency: row.text(9)?,
        order_number: row.maybe_text(16)?,
        possible_duplicate_of: row.maybe_int(10)?.map(OrderId),
        notes: serde_json::from_str(&notes).map_err(|error| damaged("notes", error.to_string()))?,
        reply_withheld: row.maybe_text(12)?,
        lines: Vec::new(),
    })
}

/// One order with its lines.
pub(super) async fn one_order<S: Session>(session: &mut S, id: OrderId) -> Result<Option<Order>, StoreError> {
    let sql = format!("SELECT {ORDER_COLUMNS} FROM ~orders WHERE id = $1");
    let found = session.query(&sql, &[id.0.into()]).await?;
    let Some(mut order) = found.first().map(order).transpose()? else {
        return Ok(None);
    };
    fill_lines(session, &mut order).await?;
    Ok(Some(order))
}

/// Reads the lines of an order into it.
pub(super) async fn fill_lines<S: Session>(session: &mut S, order: &mut Order) -> Result<(), StoreError> {
    let sql = "SELECT position, article, name, quantity, quantity_given, unit, price_given, place, unit_price, amount, \
                   reason FROM ~order_lines WHERE order_id = $1 ORDER BY position";
    let rows = session.query(sql, &[order.id.0.into()]).await?;
    order.lines = rows.iter().map(|row| line(row, order.id)).collect::<Result<_, _>>()?;
    Ok(())
}

fn line(row: &Row, order: OrderId) -> Result<OrderLine, StoreError> {
    let position = row.int(0)?;
    let damaged = |column: &str, problem: String| StoreError::Damaged {
        what: format!("{column} of order {order}, line {position}"),
        problem,
    };
    let status = match row.maybe_text(10)? {
        None => LineStatus::Accepted {
            unit_price: Money::from_minor(row.int(8)?),
            amount: Money::from_minor(row.int(9)?),
        },
        Some(json) => LineStatus::Rejected {
            reason: serde_json::from_str(&json).map_err(|error| damaged("reason", error.to_string()))?,
        },
    };
    Ok(OrderLine {
        position: u32::try_from(position).map_err(|error| damaged("position", error.to_string()))?,
        article: row.text(1)?,
        name: row.maybe_text(2)?,
        quantity: row.maybe_int(3)?.map(Quantity::from_thousandths),
        quantity_given: row.text(4)?,
        unit: row.maybe_text(5)?,
        price_given: row.maybe_text(6)?,
        place: row.text(7)?,
        status,
    })
}

/// An outbox row from a row of `OUTBOX_COLUMNS`.
pub(super) fn outbox(row: &Row) -> Result<OutboxRow, StoreError> {
    let (id, channel) = (row.text(0)?, row.text(8)?);
    let damaged = |column: &str, problem: &str| StoreError::Damaged {
        what: format!("{column} of outbox row {id}"),
        problem: problem.to_owned(),
    };
    let known = Channel::ALL.into_iter().find(|known| known.as_str() == channel);
    let sent = row.maybe_int(5)?;
    Ok(OutboxRow {
        id: OutboxId::parse(&id).ok_or_else(|| damaged("id", "it is not 32 hex digits"))?,
        channel: known.ok_or_else(|| damaged("channel", &channel))?,
        seq: row.int(7)?,
        order_id: row.maybe_int(1)?.map(OrderId),
        recipient: row.text(2)?,
        message: row.bytes(3)?,
        created_at: time(row.int(4)?, "created_at of an outbox row")?,
        sent_at: sent.map(|sent| time(sent, "sent_at of an outbox row")).transpose()?,
        traceparent: row.maybe_text(6)?,
    })
}

/// What was found out about a message's sender.
pub(super) fn verdict(row: &Row, column: usize) -> Result<Option<Verdict>, StoreError> {
    let damaged = |error: serde_json::Error| StoreError::Damaged {
        what: "the verdict about a message's sender".to_owned(),
        problem: error.to_string(),
    };
    let text = row.maybe_text(column)?;
    text.map(|text| serde_json::from_str(&text).map_err(damaged))
        .transpose()
}

pub(super) fn time(milliseconds: i64, what: &str) -> Result<Timestamp, StoreError> {
    Timestamp::from_millisecond(milliseconds).map_err(|error| StoreError::Damaged {
        what: what.to_owned(),
        problem: error.to_string(),
    })
}
