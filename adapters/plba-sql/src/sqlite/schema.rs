//! The table of leases and its version. It may lie in an application's own database, so the version is kept in a table
//! beside it and not in `PRAGMA user_version`, which is the application's.

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};

/// What takes the tables from each version to the next; never changed once released.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE plba_leases (
        name TEXT PRIMARY KEY,
        token INTEGER NOT NULL,     -- of the newest grant; never goes back, so the row stays for good
        holder TEXT,                -- NULL once released
        since INTEGER NOT NULL,     -- milliseconds since 1970, as all times here
        renewed INTEGER NOT NULL,
        deadline INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
"];

/// The version of this program.
const CURRENT: i64 = MIGRATIONS.len() as i64;

/// Why the tables could not be brought up to date.
pub(crate) enum MigrateError {
    /// A newer program has been here.
    Newer { found: i64, known: i64 },
    /// The database failed.
    Database(rusqlite::Error),
}

impl From<rusqlite::Error> for MigrateError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

/// Brings the tables up to date, in one transaction.
pub(crate) fn migrate(connection: &mut Connection) -> Result<(), MigrateError> {
    // Immediate: two processes that open a new database at once take turns.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(
        "CREATE TABLE IF NOT EXISTS plba_schema (part TEXT PRIMARY KEY, version INTEGER NOT NULL) STRICT, WITHOUT ROWID",
    )?;
    let found = version(&transaction)?;
    if found > CURRENT {
        return Err(MigrateError::Newer { found, known: CURRENT });
    }
    for migration in MIGRATIONS.iter().skip(usize::try_from(found).unwrap_or(0)) {
        transaction.execute_batch(migration)?;
    }
    transaction.execute(
        "INSERT INTO plba_schema (part, version) VALUES ('leases', ?1)
         ON CONFLICT (part) DO UPDATE SET version = excluded.version",
        [CURRENT],
    )?;
    transaction.commit()?;
    Ok(())
}

fn version(transaction: &Transaction<'_>) -> Result<i64, rusqlite::Error> {
    let found = transaction
        .query_row("SELECT version FROM plba_schema WHERE part = 'leases'", [], |row| {
            row.get(0)
        })
        .optional()?;
    Ok(found.unwrap_or(0))
}
