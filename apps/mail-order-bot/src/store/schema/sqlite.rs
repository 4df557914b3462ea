//! The tables in SQLite, their version, and how older ones become current. `PRAGMA user_version` holds the version; each entry of
//! `MIGRATIONS` takes the store from its index to the next version and is never changed once released.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use crate::store::StoreError;

/// Marks the file as ours (`mobt`), so that a foreign database is not overwritten.
const APPLICATION_ID: i64 = 0x6d6f_6274;

pub(in crate::store) const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE orders (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        status TEXT NOT NULL,
        customer_id TEXT NOT NULL,
        customer_name TEXT NOT NULL,
        customer_address TEXT NOT NULL,
        message_id TEXT NOT NULL,
        subject TEXT NOT NULL,
        received_at INTEGER NOT NULL,       -- milliseconds since 1970
        total INTEGER NOT NULL,             -- hundredths of the currency
        currency TEXT NOT NULL,
        possible_duplicate_of INTEGER REFERENCES orders (id),
        lines_fingerprint TEXT NOT NULL,
        notes TEXT NOT NULL,                -- JSON array of strings
        reply_withheld TEXT
    ) STRICT;
    CREATE INDEX orders_by_lines ON orders (customer_id, lines_fingerprint, received_at);
    CREATE INDEX orders_by_status ON orders (status, id);
    CREATE INDEX orders_by_customer ON orders (customer_id, id);

    CREATE TABLE order_lines (
        order_id INTEGER NOT NULL REFERENCES orders (id) ON DELETE CASCADE,
        position INTEGER NOT NULL,
        article TEXT NOT NULL,
        name TEXT,
        quantity INTEGER,                   -- thousandths of the unit; NULL if it could not be read
        quantity_given TEXT NOT NULL,
        unit TEXT,
        price_given TEXT,
        place TEXT NOT NULL,
        unit_price INTEGER,                 -- set if accepted
        amount INTEGER,                     -- set if accepted
        reason TEXT,                        -- set if rejected: JSON
        PRIMARY KEY (order_id, position),
        CHECK ((reason IS NULL) = (amount IS NOT NULL))
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE messages (
        id INTEGER PRIMARY KEY,
        message_id TEXT NOT NULL,
        body_hash TEXT NOT NULL,
        sender TEXT NOT NULL,
        subject TEXT NOT NULL,
        received_at INTEGER NOT NULL,
        order_id INTEGER REFERENCES orders (id),
        not_an_order TEXT,                  -- why, if it is none
        UNIQUE (message_id, body_hash),
        CHECK ((order_id IS NULL) = (not_an_order IS NOT NULL))
    ) STRICT;

    CREATE TABLE outbox (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        order_id INTEGER REFERENCES orders (id),
        recipient TEXT NOT NULL,
        message BLOB NOT NULL,
        created_at INTEGER NOT NULL,
        sent_at INTEGER
    ) STRICT;
    CREATE INDEX outbox_pending ON outbox (seq) WHERE sent_at IS NULL;
    CREATE INDEX outbox_by_recipient ON outbox (recipient, created_at);
    CREATE INDEX outbox_by_order ON outbox (order_id);
",
    "
    ALTER TABLE outbox ADD COLUMN traceparent TEXT;
",
    include_str!("sqlite_3.sql"),
    include_str!("sqlite_4.sql"),
    include_str!("sqlite_5.sql"),
];

/// The schema version of this program.
pub(in crate::store) const CURRENT: i64 = MIGRATIONS.len() as i64;

/// Brings the tables up to date, in one transaction.
pub(in crate::store) fn migrate(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    // Immediate: two programs that open a new store at once take turns.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found = version(&transaction, path)?;
    for (migration, next) in MIGRATIONS.iter().zip(1_i64..).skip(usize::try_from(found).unwrap_or(0)) {
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "user_version", next)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.commit()?;
    Ok(())
}

/// The version of a store that is ours and not newer than this program; 0 for an empty file.
pub(in crate::store) fn version(connection: &Connection, path: &Path) -> Result<i64, StoreError> {
    let number = |pragma: &str| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let (found, application) = (number("user_version")?, number("application_id")?);
    // A queue may keep its tasks in the same file, and may have been there first.
    let sql = "SELECT count(*) FROM sqlite_schema WHERE tbl_name NOT LIKE 'plba\\_%' ESCAPE '\\'";
    let tables: i64 = connection.query_row(sql, [], |row| row.get(0))?;
    if application != APPLICATION_ID && (tables > 0 || application != 0 || found != 0) {
        return Err(StoreError::NotOurs {
            store: path.display().to_string(),
        });
    }
    if found > CURRENT {
        return Err(StoreError::Newer {
            store: path.display().to_string(),
            found,
            known: CURRENT,
        });
    }
    Ok(found)
}
