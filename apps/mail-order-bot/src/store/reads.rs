//! Reading the store: lists, single orders, counts. Works beside a running bot, which is never made to wait.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use rusqlite::{Connection, OpenFlags, OptionalExtension, named_params};
use serde::Serialize;

use super::{StoreError, check_version, lock, open, rows, schema};
use crate::domain::{Order, OrderId, OrderStatus};

/// Most orders that one call returns.
pub const MAX_ORDERS: usize = 1000;

/// Which orders to list. The default lists the newest 100.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderFilter {
    /// Only this outcome.
    pub status: Option<OrderStatus>,
    /// Only this customer's id.
    pub customer: Option<String>,
    /// Only orders with a smaller number: the cursor. Pass the last number of a page to get the next.
    pub before: Option<OrderId>,
    /// At most so many, and at most [`MAX_ORDERS`].
    pub limit: usize,
}

impl Default for OrderFilter {
    fn default() -> Self {
        Self {
            status: None,
            customer: None,
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
    /// Replies that wait to be handed over.
    pub replies_pending: u64,
    /// Replies that were handed over.
    pub replies_sent: u64,
}

/// A reading connection. Blocking; cheap to clone.
#[derive(Clone)]
pub struct OrderReads(Arc<Mutex<Connection>>);

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
        check_version()?;
        let connection = open(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        let found = schema::version(&connection, path)?;
        if found < schema::CURRENT {
            return Err(StoreError::Older {
                path: path.to_owned(),
                found,
                known: schema::CURRENT,
            });
        }
        Ok(Self(Arc::new(Mutex::new(connection))))
    }

    /// Orders with their lines, newest first.
    ///
    /// # Errors
    /// [`StoreError`] of the database.
    pub fn orders(&self, filter: &OrderFilter) -> Result<Vec<Order>, StoreError> {
        self.with(|connection| {
            // One snapshot, so that an order's lines are those of its row.
            let snapshot = connection.unchecked_transaction()?;
            let mut statement = snapshot.prepare_cached(&format!(
                "SELECT {} FROM orders
                 WHERE (:status IS NULL OR status = :status) AND (:customer IS NULL OR customer_id = :customer)
                   AND (:before IS NULL OR id < :before)
                 ORDER BY id DESC LIMIT :limit",
                rows::ORDER_COLUMNS
            ))?;
            let mut found = statement.query(named_params! {
                ":status": filter.status.map(OrderStatus::as_str),
                ":customer": filter.customer,
                ":before": filter.before.map(|before| before.0),
                ":limit": filter.limit.min(MAX_ORDERS) as i64,
            })?;
            let mut orders = Vec::new();
            while let Some(row) = found.next()? {
                orders.push(rows::order(row)?);
            }
            for order in &mut orders {
                rows::fill_lines(&snapshot, order)?;
            }
            Ok(orders)
        })
    }

    /// One order with its lines.
    ///
    /// # Errors
    /// [`StoreError`] of the database.
    pub fn order(&self, id: OrderId) -> Result<Option<Order>, StoreError> {
        self.with(|connection| one_order(connection, id))
    }

    /// How much is in the store.
    ///
    /// # Errors
    /// [`StoreError`] of the database.
    pub fn counts(&self) -> Result<Counts, StoreError> {
        self.with(|connection| {
            let count = |sql: &str| -> Result<u64, StoreError> {
                let number: Option<i64> = connection
                    .prepare_cached(sql)?
                    .query_row([], |row| row.get(0))
                    .optional()?;
                Ok(number.and_then(|number| u64::try_from(number).ok()).unwrap_or_default())
            };
            Ok(Counts {
                accepted: count("SELECT count(*) FROM orders WHERE status = 'accepted'")?,
                partly_accepted: count("SELECT count(*) FROM orders WHERE status = 'partly_accepted'")?,
                rejected: count("SELECT count(*) FROM orders WHERE status = 'rejected'")?,
                not_orders: count("SELECT count(*) FROM messages WHERE order_id IS NULL")?,
                replies_pending: count("SELECT count(*) FROM outbox WHERE sent_at IS NULL")?,
                replies_sent: count("SELECT count(*) FROM outbox WHERE sent_at IS NOT NULL")?,
            })
        })
    }

    pub(super) fn with<T>(&self, read: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        read(&lock(&self.0))
    }
}

fn one_order(connection: &Connection, id: OrderId) -> Result<Option<Order>, StoreError> {
    let snapshot = connection.unchecked_transaction()?;
    let mut statement =
        snapshot.prepare_cached(&format!("SELECT {} FROM orders WHERE id = ?1", rows::ORDER_COLUMNS))?;
    let mut found = statement.query([id.0])?;
    let Some(mut order) = found.next()?.map(rows::order).transpose()? else {
        return Ok(None);
    };
    rows::fill_lines(&snapshot, &mut order)?;
    Ok(Some(order))
}
