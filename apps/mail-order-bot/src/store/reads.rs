//! Reading the store: lists, single orders, counts. Works beside a running bot, which is never made to wait.

use std::fmt;
use std::path::Path;

use jiff::Timestamp;
use plba::config::Location;
use serde::Serialize;

use super::postgres::PostgresDatabase;
use super::session::{Session, Value, number};
use super::sqlite::SqliteDatabase;
use super::{Database, StoreError, reading, rows, sqlite_path};
use crate::domain::{Order, OrderId, OrderState, OrderStatus};

/// Most orders that one call returns.
pub const MAX_ORDERS: usize = 1000;

/// Which orders to list. The default lists the newest 100.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderFilter {
    /// Only this outcome.
    pub status: Option<OrderStatus>,
    /// Only those that stand there.
    pub state: Option<OrderState>,
    /// Only this customer's id.
    pub customer: Option<String>,
    /// Only those with this text in their customer's name or address, their number, subject, Message-ID or an article;
    /// without regard to case in ASCII.
    pub text: Option<String>,
    /// Only orders that came or changed at this time or later.
    pub since: Option<Timestamp>,
    /// Only orders with a smaller number: the cursor. Pass the last number of a page to get the next.
    pub before: Option<OrderId>,
    /// At most so many, and at most [`MAX_ORDERS`].
    pub limit: usize,
}

impl Default for OrderFilter {
    fn default() -> Self {
        Self {
            status: None,
            state: None,
            customer: None,
            text: None,
            since: None,
            before: None,
            limit: 100,
        }
    }
}

/// How much is in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Counts {
    /// Orders whose every line is accepted.
    pub accepted: u64,
    /// Orders of which a part is accepted.
    pub partly_accepted: u64,
    /// Orders of which nothing is accepted.
    pub rejected: u64,
    /// Messages that were no orders.
    pub not_orders: u64,
    /// Mails on the review list that nobody has decided.
    pub reviews: u64,
    /// Replies that wait to be handed over.
    pub replies_pending: u64,
    /// Replies that were handed over, as long as they are kept.
    pub replies_sent: u64,
    /// Webhooks that wait to be handed over.
    pub webhooks_pending: u64,
}

/// An earlier version of an order.
#[derive(Debug, Clone, PartialEq)]
pub struct EarlierVersion {
    /// The order as it was.
    pub order: Order,
    /// The mail that replaced it.
    pub replaced_by: String,
    /// When that was.
    pub replaced_at: Timestamp,
}

/// A reading connection. Blocking; cheap to clone.
#[derive(Clone)]
pub struct OrderReads(pub(super) Database);

impl fmt::Debug for OrderReads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OrderReads").finish_non_exhaustive()
    }
}

impl OrderReads {
    /// Opens an existing store for reading only, whether a bot runs on it or not.
    ///
    /// # Errors
    /// [`StoreError`]: there is none, not ours, newer than this program, or not yet brought up to date.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self(Database::Sqlite(SqliteDatabase::reading(path)?)))
    }

    /// Opens an existing store at a location for reading only; `None` while nothing was ever stored there. For PostgreSQL as
    /// [`OrderStore::connect`](super::OrderStore::connect).
    ///
    /// # Errors
    /// As [`open`](Self::open); the server can't be reached.
    pub fn connect(location: &Location) -> Result<Option<Self>, StoreError> {
        let Some(path) = sqlite_path(location) else {
            let database = PostgresDatabase::open(location, false)?;
            return Ok(database.map(|database| Self(Database::Postgres(database))));
        };
        if !path.exists() {
            return Ok(None);
        }
        match Self::open(path) {
            // The file was made a moment ago, and its tables are about to be.
            Err(StoreError::Older { found: 0, .. }) => Ok(None),
            opened => opened.map(Some),
        }
    }

    pub(super) fn of(database: Database) -> Self {
        Self(database)
    }

    /// Orders with their lines, newest first.
    ///
    /// # Errors
    /// [`StoreError`] of the database.
    pub fn orders(&self, filter: &OrderFilter) -> Result<Vec<Order>, StoreError> {
        let sql = format!(
            "SELECT {} FROM ~orders
             WHERE ($1 IS NULL OR status = $1) AND ($2 IS NULL OR customer_id = $2) AND ($3 IS NULL OR id < $3)
               AND ($4 IS NULL OR state = $4) AND ($5 IS NULL OR changed_at >= $5)
               AND ($6 IS NULL OR lower(customer_name) LIKE $6 ESCAPE '!' OR lower(customer_address) LIKE $6 ESCAPE '!'
                    OR lower(subject) LIKE $6 ESCAPE '!' OR lower(message_id) LIKE $6 ESCAPE '!'
                    OR lower(order_number) LIKE $6 ESCAPE '!'
                    OR EXISTS (SELECT 1 FROM ~order_lines l WHERE l.order_id = ~orders.id
                               AND (lower(l.article) LIKE $6 ESCAPE '!' OR lower(l.name) LIKE $6 ESCAPE '!')))
             ORDER BY id DESC LIMIT $7",
            rows::ORDER_COLUMNS
        );
        let pattern = filter.text.as_deref().map(pattern);
        let values: [Value<'_>; 7] = [
            filter.status.map(OrderStatus::as_str).into(),
            filter.customer.as_deref().into(),
            filter.before.map(|before| before.0).into(),
            filter.state.map(OrderState::as_str).into(),
            filter.since.map(Timestamp::as_millisecond).into(),
            pattern.as_deref().into(),
            i64::try_from(filter.limit.min(MAX_ORDERS)).unwrap_or(0).into(),
        ];
        self.select(&sql, &values)
    }

    /// Orders with their lines in the order of their numbers, of those behind `after`: what an export reads, page by page.
    ///
    /// # Errors
    /// [`StoreError`] of the database.
    pub fn orders_after(
        &self,
        after: OrderId,
        status: Option<OrderStatus>,
        state: Option<OrderState>,
        since: Option<Timestamp>,
        limit: usize,
    ) -> Result<Vec<Order>, StoreError> {
        let sql = format!(
            "SELECT {} FROM ~orders WHERE id > $1 AND ($2 IS NULL OR status = $2) AND ($3 IS NULL OR state = $3)
               AND ($4 IS NULL OR changed_at >= $4) ORDER BY id LIMIT $5",
            rows::ORDER_COLUMNS
        );
        let values: [Value<'_>; 5] = [
            after.0.into(),
            status.map(OrderStatus::as_str).into(),
            state.map(OrderState::as_str).into(),
            since.map(Timestamp::as_millisecond).into(),
            i64::try_from(limit.min(MAX_ORDERS)).unwrap_or(0).into(),
        ];
        self.select(&sql, &values)
    }

    fn select(&self, sql: &str, values: &[Value<'_>]) -> Result<Vec<Order>, StoreError> {
        reading!(&self.0, session => {
            let found = session.query(sql, values).await?;
            let mut orders = found.iter().map(rows::order).collect::<Result<Vec<Order>, _>>()?;
            for order in &mut orders {
                rows::fill_lines(session, order).await?;
            }
            Ok(orders)
        })
    }

    /// One order with its lines.
    ///
    /// # Errors
    /// [`StoreError`] of the database.
    pub fn order(&self, id: OrderId) -> Result<Option<Order>, StoreError> {
        reading!(&self.0, session => rows::one_order(session, id).await)
    }

    /// The versions of an order that were replaced, the first one first.
    ///
    /// # Errors
    /// [`StoreError`] of the database.
    pub fn earlier_versions(&self, id: OrderId) -> Result<Vec<EarlierVersion>, StoreError> {
        let sql = "SELECT document, message_id, replaced_at FROM ~order_versions WHERE order_id = $1 ORDER BY version";
        let earlier = |row: &super::session::Row| {
            Ok(EarlierVersion {
                order: serde_json::from_str(&row.text(0)?).map_err(|error| StoreError::Damaged {
                    what: format!("an earlier version of order {id}"),
                    problem: error.to_string(),
                })?,
                replaced_by: row.text(1)?,
                replaced_at: rows::time(row.int(2)?, "replaced_at of a version")?,
            })
        };
        reading!(&self.0, session => session.query(sql, &[id.0.into()]).await?.iter().map(earlier).collect())
    }

    /// How many replies an address was ever sent.
    ///
    /// # Errors
    /// [`StoreError`] of the database.
    pub fn replies_to(&self, address: &str) -> Result<u64, StoreError> {
        let sql = "SELECT replies FROM ~correspondents WHERE address = $1";
        let found = reading!(&self.0, session => number(&session.query(sql, &[address.into()]).await?));
        Ok(u64::try_from(found?).unwrap_or_default())
    }

    /// How much is in the store.
    ///
    /// # Errors
    /// [`StoreError`] of the database.
    pub fn counts(&self) -> Result<Counts, StoreError> {
        const SQL: [&str; 8] = [
            "SELECT count(*) FROM ~orders WHERE status = 'accepted'",
            "SELECT count(*) FROM ~orders WHERE status = 'partly_accepted'",
            "SELECT count(*) FROM ~orders WHERE status = 'rejected'",
            "SELECT count(*) FROM ~messages m WHERE order_id IS NULL AND NOT EXISTS \
             (SELECT 1 FROM ~reviews r WHERE r.message = m.id AND r.state = 'open')",
            "SELECT count(*) FROM ~reviews WHERE state = 'open'",
            "SELECT count(*) FROM ~outbox WHERE sent_at IS NULL AND channel = 'reply'",
            "SELECT count(*) FROM ~outbox WHERE sent_at IS NOT NULL AND channel = 'reply'",
            "SELECT count(*) FROM ~outbox WHERE sent_at IS NULL AND channel = 'webhook'",
        ];
        reading!(&self.0, session => {
            let mut counts = [0_u64; SQL.len()];
            for (count, sql) in counts.iter_mut().zip(SQL) {
                *count = u64::try_from(number(&session.query(sql, &[]).await?)?).unwrap_or_default();
            }
            let [accepted, partly_accepted, rejected, not_orders, reviews, pending, sent, webhooks] = counts;
            Ok(Counts {
                accepted,
                partly_accepted,
                rejected,
                not_orders,
                reviews,
                replies_pending: pending,
                replies_sent: sent,
                webhooks_pending: webhooks,
            })
        })
    }
}

/// A LIKE pattern that finds the text as it is.
pub(super) fn pattern(text: &str) -> String {
    let mut pattern = String::from("%");
    for letter in text.to_lowercase().chars() {
        if matches!(letter, '%' | '_' | '!') {
            pattern.push('!');
        }
        pattern.push(letter);
    }
    pattern.push('%');
    pattern
}
