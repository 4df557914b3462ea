//! Rows ↔ values: the columns of orders, lines and outbox rows, and what is said about damaged ones.

use jiff::Timestamp;
use rusqlite::{Connection, Row};

use super::StoreError;
use super::outbox::{OutboxId, OutboxRow};
use crate::domain::{Customer, LineStatus, Money, Order, OrderId, OrderLine, OrderStatus, Quantity};

pub(super) const ORDER_COLUMNS: &str = "id, status, customer_id, customer_name, customer_address, message_id, subject, \
     received_at, total, currency, possible_duplicate_of, notes, reply_withheld";

pub(super) const OUTBOX_COLUMNS: &str = "id, order_id, recipient, message, created_at, sent_at, traceparent, seq";

/// An order without its lines, from a row of `ORDER_COLUMNS`.
pub(super) fn order(row: &Row<'_>) -> Result<Order, StoreError> {
    let id: i64 = row.get(0)?;
    let damaged = |column: &str, problem: String| StoreError::Damaged {
        what: format!("{column} of order {id}"),
        problem,
    };
    let status: String = row.get(1)?;
    let notes: String = row.get(11)?;
    Ok(Order {
        id: OrderId(id),
        status: OrderStatus::from_word(&status).ok_or_else(|| damaged("status", format!("{status:?}")))?,
        customer: Customer {
            id: row.get(2)?,
            name: row.get(3)?,
            address: row.get(4)?,
        },
        message_id: row.get(5)?,
        subject: row.get(6)?,
        received_at: time(row.get(7)?).map_err(|problem| damaged("received_at", problem))?,
        total: Money::from_minor(row.get(8)?),
        currency: row.get(9)?,
        possible_duplicate_of: row.get::<_, Option<i64>>(10)?.map(OrderId),
        notes: serde_json::from_str(&notes).map_err(|error| damaged("notes", error.to_string()))?,
        reply_withheld: row.get(12)?,
        lines: Vec::new(),
    })
}

/// Reads the lines of an order into it.
pub(super) fn fill_lines(connection: &Connection, order: &mut Order) -> Result<(), StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT position, article, name, quantity, quantity_given, unit, price_given, place, unit_price, amount, reason
         FROM order_lines WHERE order_id = ?1 ORDER BY position",
    )?;
    let mut rows = statement.query([order.id.0])?;
    while let Some(row) = rows.next()? {
        order.lines.push(line(row, order.id)?);
    }
    Ok(())
}

fn line(row: &Row<'_>, order: OrderId) -> Result<OrderLine, StoreError> {
    let position: u32 = row.get(0)?;
    let reason: Option<String> = row.get(10)?;
    let status = match reason {
        None => LineStatus::Accepted {
            unit_price: Money::from_minor(row.get(8)?),
            amount: Money::from_minor(row.get(9)?),
        },
        Some(json) => LineStatus::Rejected {
            reason: serde_json::from_str(&json).map_err(|error| StoreError::Damaged {
                what: format!("reason of order {order}, line {position}"),
                problem: error.to_string(),
            })?,
        },
    };
    Ok(OrderLine {
        position,
        article: row.get(1)?,
        name: row.get(2)?,
        quantity: row.get::<_, Option<i64>>(3)?.map(Quantity::from_thousandths),
        quantity_given: row.get(4)?,
        unit: row.get(5)?,
        price_given: row.get(6)?,
        place: row.get(7)?,
        status,
    })
}

/// An outbox row from a row of `OUTBOX_COLUMNS`.
pub(super) fn outbox(row: &Row<'_>) -> Result<OutboxRow, StoreError> {
    let id = OutboxId::from_stored(row.get(0)?);
    let at = |column: &str, milliseconds: i64| {
        time(milliseconds).map_err(|problem| StoreError::Damaged {
            what: format!("{column} of outbox row {id}"),
            problem,
        })
    };
    let created_at = at("created_at", row.get(4)?)?;
    let sent_at = row
        .get::<_, Option<i64>>(5)?
        .map(|sent| at("sent_at", sent))
        .transpose()?;
    Ok(OutboxRow {
        seq: row.get(7)?,
        order_id: row.get::<_, Option<i64>>(1)?.map(OrderId),
        recipient: row.get(2)?,
        message: row.get(3)?,
        created_at,
        sent_at,
        traceparent: row.get(6)?,
        id,
    })
}

fn time(milliseconds: i64) -> Result<Timestamp, String> {
    Timestamp::from_millisecond(milliseconds).map_err(|error| error.to_string())
}
