//! Changes of stored orders by mail: an amendment makes the next version, a cancellation marks it. Which order is meant is
//! told by the thread, and only the customer of that order may change it; what fits none goes to review.

use super::record::{Answers, NewMessage, Recorded, ReplyPlan, begin, keep, send};
use super::review::{self, ReviewReason};
use super::session::{Row, Session, number};
use super::{NewOrder, OrderStore, StoreError, orders, outbox, rows, writing};
use crate::domain::{LineStatus, Money, Order, OrderId, OrderLine, OrderState, OrderStatus, Quantity, RejectReason};

/// What a mail wants with an order that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// These lines are to be added, or to be different: a line takes the place of those with its article, and one of
    /// quantity zero takes the article out.
    Amend(NewOrder),
    /// The articles of these lines are wanted no more, each in the quantity that was ordered or in one that is not said; where
    /// there are none, nothing is.
    Cancel(NewOrder),
}

/// What became of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// The order as it is now.
    Order(Box<Order>),
    /// It waits on the review list.
    Review {
        /// Why.
        reason: ReviewReason,
        /// In words.
        detail: String,
    },
}

impl OrderStore {
    /// Records a change of the order that the message's thread names. `plan` as in [`OrderStore::record_order`].
    ///
    /// # Errors
    /// [`StoreError`] of the database; nothing is stored then.
    pub fn record_change(
        &self,
        message: &NewMessage,
        change: Change,
        correspondent: &str,
        plan: impl FnOnce(&Order, u64) -> Answers,
    ) -> Result<Recorded<Changed>, StoreError> {
        writing!(&self.database, session => record_change(session, message, change, correspondent, plan).await)
    }

    /// Makes the next version of an order from a mail of its own, read anew; `message` has a key that names this version, so
    /// that what is sent has an identity of its own. `plan` as in [`OrderStore::record_order`].
    ///
    /// # Errors
    /// [`StoreError::Refused`] when the order is not open any more; [`StoreError`] of the database.
    pub fn replace(
        &self,
        id: OrderId,
        message: &NewMessage,
        new: NewOrder,
        plan: impl FnOnce(&Order) -> Answers,
    ) -> Result<(Order, Vec<super::Queued>), StoreError> {
        writing!(&self.database, session => {
            let old = hold_order(session, id).await?;
            let old = old.ok_or_else(|| StoreError::Refused(format!("there is no order {id}")))?;
            if old.state != OrderState::Open {
                return Err(StoreError::Refused(format!("order {id} is {} and can't be changed", old.state)));
            }
            let order = next_version(session, &old, message, new).await?;
            let answers = plan(&order);
            let queued = send(session, message, Some(id), answers).await?;
            Ok((order, queued))
        })
    }

    /// Marks orders as handed on: from now on mails don't change them. Those that are cancelled or further on already stay
    /// as they are. Gives the numbers of those that were changed.
    ///
    /// # Errors
    /// [`StoreError`] of the database.
    pub fn close_orders(
        &self,
        ids: &[OrderId],
        up_to: Option<OrderId>,
        state: OrderState,
        now: jiff::Timestamp,
    ) -> Result<Vec<OrderId>, StoreError> {
        let from = match state {
            OrderState::Shipped => "('open', 'exported')",
            _ => "('open')",
        };
        let at = now.as_millisecond();
        writing!(&self.database, session => {
            let mut closed = Vec::new();
            let set = format!("UPDATE ~orders SET state = $2, changed_at = $3 WHERE state IN {from} AND id");
            for id in ids {
                let sql = format!("{set} = $1 RETURNING id");
                closed.extend(session.query(&sql, &[id.0.into(), state.as_str().into(), at.into()]).await?);
            }
            if let Some(last) = up_to {
                let sql = format!("{set} <= $1 RETURNING id");
                closed.extend(session.query(&sql, &[last.0.into(), state.as_str().into(), at.into()]).await?);
            }
            closed.iter().map(|row: &Row| Ok(OrderId(row.int(0)?))).collect()
        })
    }
}

/// As [`OrderStore::record_change`], in an open transaction.
pub(crate) async fn record_change<S: Session>(
    session: &mut S,
    message: &NewMessage,
    change: Change,
    correspondent: &str,
    plan: impl FnOnce(&Order, u64) -> Answers,
) -> Result<Recorded<Changed>, StoreError> {
    if let Some(known) = begin(session, message, correspondent).await? {
        return Ok(Recorded::Known(known));
    }
    let (Change::Amend(wanted) | Change::Cancel(wanted)) = &change;
    let fits = match meant(session, &message.references, &wanted.customer.id).await? {
        Ok(old) => merged(&old, change).map(|next| (old, next)),
        Err(unfit) => Err(unfit),
    };
    let (old, next) = match fits {
        Ok(fits) => fits,
        Err((reason, detail)) => {
            review::open(session, message, reason, &detail).await?;
            return Ok(Recorded::New {
                record: Changed::Review { reason, detail },
                queued: Vec::new(),
            });
        }
    };
    let order = match next {
        Some(new) => next_version(session, &old, message, new).await?,
        None => cancelled(session, old, message).await?,
    };
    keep(session, message, Some(order.id), None).await?;
    orders::join_thread(session, order.id, &message.key.message_id).await?;
    let recent = outbox::recent_replies(session, correspondent, message.received_at).await?;
    let answers = plan(&order, recent);
    let mut order = order;
    if let ReplyPlan::Withhold(reason) = &answers.reply {
        let sql = "UPDATE ~orders SET reply_withheld = $2 WHERE id = $1";
        session.query(sql, &[order.id.0.into(), reason.into()]).await?;
        order.reply_withheld = Some(reason.clone());
    }
    let queued = send(session, message, Some(order.id), answers).await?;
    Ok(Recorded::New {
        record: Changed::Order(Box::new(order)),
        queued,
    })
}

/// The one open order of this customer that the thread names, held until the transaction ends.
async fn meant<S: Session>(
    session: &mut S,
    references: &[String],
    customer: &str,
) -> Result<Result<Order, Unfit>, StoreError> {
    let sql = "SELECT t.order_id FROM ~threads t JOIN ~orders o ON o.id = t.order_id \
               WHERE t.message_id = $1 AND o.customer_id = $2 ORDER BY t.order_id LIMIT 10";
    let mut found: Vec<i64> = Vec::new();
    for reference in references {
        let rows = session.query(sql, &[reference.into(), customer.into()]).await?;
        found = rows.iter().map(|row| row.int(0)).collect::<Result<_, _>>()?;
        // The nearest message that is about an order decides.
        if !found.is_empty() {
            break;
        }
    }
    let id = match found.as_slice() {
        [] => {
            let detail = "it answers no mail about an order of this customer".to_owned();
            return Ok(Err((ReviewReason::NoSuchOrder, detail)));
        }
        [only] => OrderId(*only),
        several => {
            let list: Vec<String> = several.iter().map(ToString::to_string).collect();
            let detail = format!("its thread is about several orders: {}", list.join(", "));
            return Ok(Err((ReviewReason::Ambiguous, detail)));
        }
    };
    match hold_order(session, id).await? {
        Some(order) if order.state == OrderState::Open => Ok(Ok(order)),
        Some(order) => {
            let detail = format!("order {id} is {} and can't be changed by mail", order.state);
            Ok(Err((ReviewReason::OrderClosed, detail)))
        }
        None => Ok(Err((ReviewReason::NoSuchOrder, format!("order {id} is gone")))),
    }
}

type Unfit = (ReviewReason, String);

/// The order as the change leaves it; `None` when nothing of it is left.
fn merged(old: &Order, change: Change) -> Result<Option<NewOrder>, Unfit> {
    let same = |one: &OrderLine, other: &OrderLine| one.article.eq_ignore_ascii_case(&other.article);
    let (wanted, lines) = match change {
        Change::Cancel(wanted) if wanted.lines.is_empty() => return Ok(None),
        Change::Cancel(wanted) => {
            let strange = wanted
                .lines
                .iter()
                .find(|line| !old.lines.iter().any(|there| same(line, there)));
            if let Some(line) = strange {
                let detail = format!("it cancels {}, which is not in order {}", line.article, old.id);
                return Err((ReviewReason::NoSuchOrder, detail));
            }
            // Part of a quantity is a change that nobody has said exactly.
            let ordered = |line: &OrderLine| {
                let there = old.lines.iter().filter(|there| same(line, there));
                let counts = there.filter_map(|there| there.quantity).map(Quantity::thousandths);
                counts.fold(0, i64::saturating_add)
            };
            let part = wanted.lines.iter().find_map(|line| {
                let (some, all) = (line.quantity?, ordered(line));
                (some.thousandths() != all).then(|| (line, some, Quantity::from_thousandths(all)))
            });
            if let Some((line, some, all)) = part {
                let detail = format!(
                    "it cancels {some} of {}, of which order {} has {all}",
                    line.article, old.id
                );
                return Err((ReviewReason::Ambiguous, detail));
            }
            let left = old
                .lines
                .iter()
                .filter(|there| !wanted.lines.iter().any(|line| same(line, there)));
            let left: Vec<OrderLine> = left.cloned().collect();
            (wanted, left)
        }
        Change::Amend(wanted) => {
            let mut new = wanted.lines.clone();
            new.retain(|line| line.reason() != Some(&RejectReason::ZeroQuantity));
            let mut lines: Vec<OrderLine> = Vec::new();
            for there in &old.lines {
                let replaced = wanted.lines.iter().any(|line| same(line, there));
                // Where the first of the old lines stood stand all the new ones.
                let mut at = 0;
                while at < new.len() {
                    if same(&new[at], there) {
                        lines.push(new.remove(at));
                    } else {
                        at += 1;
                    }
                }
                if !replaced {
                    lines.push(there.clone());
                }
            }
            lines.append(&mut new);
            (wanted, lines)
        }
    };
    if lines.is_empty() && wanted.notes.is_empty() {
        return Ok(None);
    }
    Ok(Some(recounted(wanted, lines)))
}

/// The order with these lines: their positions, their sum, and what that makes of the whole.
fn recounted(mut new: NewOrder, lines: Vec<OrderLine>) -> NewOrder {
    new.lines = lines;
    new.total = Money::ZERO;
    for (position, line) in (1..).zip(&mut new.lines) {
        line.position = position;
        let Some(amount) = line.amount() else { continue };
        match new.total.checked_add(amount) {
            Some(sum) => new.total = sum,
            None => {
                line.status = LineStatus::Rejected {
                    reason: RejectReason::AmountTooLarge,
                }
            }
        }
    }
    let accepted = new.lines.iter().filter(|line| line.reason().is_none()).count();
    new.status = match accepted {
        0 => OrderStatus::Rejected,
        all if all == new.lines.len() && new.notes.is_empty() => OrderStatus::Accepted,
        _ => OrderStatus::PartlyAccepted,
    };
    new
}

/// The order, which nobody else changes before the transaction ends.
async fn hold_order<S: Session>(session: &mut S, id: OrderId) -> Result<Option<Order>, StoreError> {
    session.hold(&[&format!("order {id}")]).await?;
    rows::one_order(session, id).await
}

async fn next_version<S: Session>(
    session: &mut S,
    old: &Order,
    message: &NewMessage,
    new: NewOrder,
) -> Result<Order, StoreError> {
    archive(session, old, message).await?;
    let at = message.received_at.as_millisecond();
    let fingerprint = orders::fingerprint(&new.lines);
    let notes = serde_json::Value::from(new.notes.clone()).to_string();
    let sql = "UPDATE ~orders SET version = version + 1, status = $2, total = $3, currency = $4, notes = $5, \
                   lines_fingerprint = $6, changed_at = $7, order_number = coalesce(order_number, $8), \
                   reply_withheld = NULL WHERE id = $1 RETURNING version";
    let values = [
        old.id.0.into(),
        new.status.as_str().into(),
        new.total.minor().into(),
        (&new.currency).into(),
        (&notes).into(),
        (&fingerprint).into(),
        at.into(),
        new.order_number.as_deref().into(),
    ];
    let version = number(&session.query(sql, &values).await?)?;
    let gone = "DELETE FROM ~order_lines WHERE order_id = $1";
    session.query(gone, &[old.id.0.into()]).await?;
    let order = Order {
        version: u32::try_from(version).unwrap_or(u32::MAX),
        status: new.status,
        total: new.total,
        currency: new.currency,
        notes: new.notes,
        lines: new.lines,
        // What names the order is what its first mail says.
        order_number: old.order_number.clone().or(new.order_number),
        changed_at: jiff::Timestamp::from_millisecond(at).unwrap_or(message.received_at),
        reply_withheld: None,
        ..old.clone()
    };
    orders::insert_lines(session, &order).await?;
    Ok(order)
}

async fn cancelled<S: Session>(session: &mut S, old: Order, message: &NewMessage) -> Result<Order, StoreError> {
    let at = message.received_at.as_millisecond();
    let sql = "UPDATE ~orders SET state = 'cancelled', changed_at = $2, reply_withheld = NULL WHERE id = $1";
    session.query(sql, &[old.id.0.into(), at.into()]).await?;
    Ok(Order {
        state: OrderState::Cancelled,
        changed_at: jiff::Timestamp::from_millisecond(at).unwrap_or(message.received_at),
        reply_withheld: None,
        ..old
    })
}

async fn archive<S: Session>(session: &mut S, old: &Order, message: &NewMessage) -> Result<(), StoreError> {
    let document = serde_json::to_string(old).map_err(|error| StoreError::Damaged {
        what: format!("order {}", old.id),
        problem: error.to_string(),
    })?;
    let sql = "INSERT INTO ~order_versions (order_id, version, message_id, replaced_at, document) \
               VALUES ($1, $2, $3, $4, $5)";
    let values = [
        old.id.0.into(),
        i64::from(old.version).into(),
        (&message.key.message_id).into(),
        message.received_at.as_millisecond().into(),
        (&document).into(),
    ];
    session.query(sql, &values).await?;
    Ok(())
}
