//! Writing orders: the row, its lines, its conversation.

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use super::StoreError;
use super::record::NewMessage;
use super::session::{Session, Value, number};
use crate::domain::{Customer, LineStatus, Money, Order, OrderId, OrderLine, OrderState, OrderStatus, Quantity};

/// An order to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewOrder {
    /// Who ordered.
    pub customer: Customer,
    /// The customer's own number of the order, if the mail gives one.
    pub order_number: Option<String>,
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
    /// How long ago an order of the same customer with the same lines may be to be named as a possible duplicate. One with
    /// the same number may be older; zero names neither.
    pub duplicate_window: SignedDuration,
}

pub(super) async fn insert<S: Session>(
    session: &mut S,
    message: &NewMessage,
    new: NewOrder,
) -> Result<Order, StoreError> {
    let fingerprint = fingerprint(&new.lines);
    let received = message.received_at.as_millisecond();
    let duplicate = duplicate(session, &new, &fingerprint, received).await?;
    let notes = serde_json::Value::from(new.notes.clone()).to_string();
    let sql = "INSERT INTO ~orders (status, customer_id, customer_name, customer_address, message_id, subject, \
                   received_at, total, currency, possible_duplicate_of, lines_fingerprint, notes, changed_at, order_number) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $7, $13) RETURNING id";
    let values = [
        new.status.as_str().into(),
        (&new.customer.id).into(),
        (&new.customer.name).into(),
        (&new.customer.address).into(),
        (&message.key.message_id).into(),
        (&message.subject).into(),
        received.into(),
        new.total.minor().into(),
        (&new.currency).into(),
        duplicate.into(),
        (&fingerprint).into(),
        (&notes).into(),
        new.order_number.as_deref().into(),
    ];
    let id = number(&session.query(sql, &values).await?)?;
    let received_at = Timestamp::from_millisecond(received).unwrap_or(message.received_at);
    let order = Order {
        id: OrderId(id),
        version: 1,
        status: new.status,
        state: OrderState::Open,
        customer: new.customer,
        message_id: message.key.message_id.clone(),
        subject: message.subject.clone(),
        received_at,
        changed_at: received_at,
        total: new.total,
        currency: new.currency,
        order_number: new.order_number,
        possible_duplicate_of: duplicate.map(OrderId),
        notes: new.notes,
        reply_withheld: None,
        lines: new.lines,
    };
    insert_lines(session, &order).await?;
    Ok(order)
}

/// An order of the same customer with the same number of theirs, however long ago: such a number names one order. Else one
/// for the same, not long ago. Customers who count anew each year are told of last year's, which costs a look; the order is
/// stored all the same.
async fn duplicate<S: Session>(
    session: &mut S,
    new: &NewOrder,
    fingerprint: &str,
    received: i64,
) -> Result<Option<i64>, StoreError> {
    let window = i64::try_from(new.duplicate_window.as_millis()).unwrap_or(i64::MAX);
    if window == 0 {
        return Ok(None);
    }
    // Of two that come at this moment, maybe from two addresses, the second one sees the first.
    session.hold(&[&format!("customer {}", new.customer.id)]).await?;
    if let Some(number) = &new.order_number {
        let sql = "SELECT id FROM ~orders WHERE customer_id = $1 AND lower(order_number) = lower($2) \
                       AND state <> 'cancelled' ORDER BY id DESC LIMIT 1";
        let rows = session.query(sql, &[(&new.customer.id).into(), number.into()]).await?;
        if let Some(row) = rows.first() {
            return row.int(0).map(Some);
        }
    }
    // Orders without lines (an unreadable attachment) have nothing to compare.
    if new.lines.is_empty() {
        return Ok(None);
    }
    let sql = "SELECT id FROM ~orders WHERE customer_id = $1 AND lines_fingerprint = $2 AND state <> 'cancelled' \
                   AND received_at BETWEEN $3 AND $4 ORDER BY id DESC LIMIT 1";
    let values = [
        (&new.customer.id).into(),
        fingerprint.into(),
        received.saturating_sub(window).into(),
        received.saturating_add(window).into(),
    ];
    let rows = session.query(sql, &values).await?;
    rows.first().map(|row| row.int(0)).transpose()
}

pub(super) async fn insert_lines<S: Session>(session: &mut S, order: &Order) -> Result<(), StoreError> {
    let sql = "INSERT INTO ~order_lines (order_id, position, article, name, quantity, quantity_given, unit, \
                   price_given, place, unit_price, amount, reason) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
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
        let values: [Value<'_>; 12] = [
            order.id.0.into(),
            i64::from(line.position).into(),
            (&line.article).into(),
            line.name.as_deref().into(),
            line.quantity.map(Quantity::thousandths).into(),
            (&line.quantity_given).into(),
            line.unit.as_deref().into(),
            line.price_given.as_deref().into(),
            (&line.place).into(),
            unit_price.into(),
            amount.into(),
            reason.as_deref().into(),
        ];
        session.query(sql, &values).await?;
    }
    Ok(())
}

/// From now on a mail that answers this message is about this order.
pub(super) async fn join_thread<S: Session>(
    session: &mut S,
    order: OrderId,
    message_id: &str,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO ~threads (message_id, order_id) VALUES ($1, $2) ON CONFLICT DO NOTHING";
    session.query(sql, &[message_id.into(), order.0.into()]).await?;
    Ok(())
}

/// Equal for orders that ask for the same: articles and quantities, whatever their order, layout and wording.
pub(super) fn fingerprint(lines: &[OrderLine]) -> String {
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
