//! The store in one SQLite file.
//!
//! WAL mode with `synchronous = FULL`: when a call returned, its data survives the loss of power, which it must, because
//! the message is marked as read afterwards. That costs one fsync per order (NORMAL would save it, and could lose the last
//! orders of a machine that lost power although their messages are `\Seen`). There is one writing connection behind a
//! mutex, a second one for reads, and a five-second busy time-out towards other processes.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OpenFlags, ToSql, TransactionBehavior, params_from_iter};

use super::session::{Answer, Cell, Row, Session, Value};
use super::{StoreError, schema};

/// The oldest SQLite without the WAL corruption bug.
const OLDEST_SQLITE: i32 = 3_051_003;
/// How long a statement waits for another process's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection that several threads share. Cheap to clone.
#[derive(Clone)]
pub(crate) struct SqliteDatabase(Arc<Mutex<Connection>>);

impl SqliteDatabase {
    /// Opens or creates the file, whose directory must exist, and brings its tables up to date.
    pub(super) fn writing(path: &Path) -> Result<Self, StoreError> {
        check_version()?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        create_private(path)?;
        let mut connection = open(path, flags)?;
        // An `execute` would fail on the row that this pragma returns.
        let _mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
        connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;")?;
        schema::sqlite::migrate(&mut connection, path)?;
        Ok(Self(Arc::new(Mutex::new(connection))))
    }

    /// Opens an existing file for reading only.
    pub(super) fn reading(path: &Path) -> Result<Self, StoreError> {
        check_version()?;
        let connection = open(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        let found = schema::sqlite::version(&connection, path)?;
        if found < schema::sqlite::CURRENT {
            return Err(StoreError::Older {
                store: path.display().to_string(),
                found,
                known: schema::sqlite::CURRENT,
            });
        }
        Ok(Self(Arc::new(Mutex::new(connection))))
    }

    /// Runs `work` in a transaction, which is committed if it succeeds. Blocks.
    pub(crate) fn write<T>(
        &self,
        work: impl FnOnce(&mut SqliteSession<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut connection = self.lock();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let done = work(&mut SqliteSession(&transaction))?;
        transaction.commit()?;
        Ok(done)
    }

    /// Runs `work` on one snapshot. Blocks.
    pub(crate) fn read<T>(
        &self,
        work: impl FnOnce(&mut SqliteSession<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let connection = self.lock();
        let snapshot = connection.unchecked_transaction()?;
        work(&mut SqliteSession(&snapshot))
    }

    /// A panic while the lock was held rolled its transaction back when it unwound, so the connection is sound.
    pub(super) fn lock(&self) -> MutexGuard<'_, Connection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An open transaction on the store's file.
pub(crate) struct SqliteSession<'c>(pub(super) &'c Connection);

impl SqliteSession<'_> {
    fn rows(&self, statement: &str, values: &[Value<'_>]) -> Result<Vec<Row>, StoreError> {
        let text = statement.replace('~', "").replace('$', "?");
        let mut prepared = self.0.prepare_cached(&text)?;
        let columns = prepared.column_count();
        let mut found = prepared.query(params_from_iter(values))?;
        let mut rows = Vec::new();
        while let Some(row) = found.next()? {
            let cell = |column| -> Result<Cell, StoreError> {
                Ok(match row.get_ref(column)? {
                    ValueRef::Null => Cell::Null,
                    ValueRef::Integer(value) => Cell::Int(value),
                    ValueRef::Text(text) => Cell::Text(String::from_utf8_lossy(text).into_owned()),
                    ValueRef::Blob(bytes) => Cell::Bytes(bytes.to_vec()),
                    ValueRef::Real(value) => {
                        return Err(StoreError::Damaged {
                            what: format!("column {} of a row", column + 1),
                            problem: format!("{value} has a fraction, and the store writes none"),
                        });
                    }
                })
            };
            rows.push(Row((0..columns).map(cell).collect::<Result<_, _>>()?));
        }
        Ok(rows)
    }
}

impl Session for SqliteSession<'_> {
    fn query<'a>(&'a mut self, statement: &'a str, values: &'a [Value<'a>]) -> Answer<'a, Vec<Row>> {
        Box::pin(std::future::ready(self.rows(statement, values)))
    }

    fn hold<'a>(&'a mut self, _: &'a [&'a str]) -> Answer<'a, ()> {
        // Who writes has the whole file.
        Box::pin(std::future::ready(Ok(())))
    }
}

impl ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let value = match self {
            Self::Int(Some(value)) => ValueRef::Integer(*value),
            Self::Text(Some(text)) => ValueRef::Text(text.as_bytes()),
            Self::Bytes(Some(bytes)) => ValueRef::Blob(bytes),
            Self::Int(None) | Self::Text(None) | Self::Bytes(None) => ValueRef::Null,
        };
        Ok(ToSqlOutput::Borrowed(value))
    }
}

fn open(path: &Path, flags: OpenFlags) -> Result<Connection, StoreError> {
    let connection = Connection::open_with_flags(path, flags).map_err(|source| StoreError::Open {
        path: path.to_owned(),
        source,
    })?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// Makes a missing file so that only its owner reads it: orders name customers. SQLite's side files follow its mode.
fn create_private(path: &Path) -> Result<(), StoreError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    match options.open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(source) => Err(StoreError::Create {
            path: path.to_owned(),
            source,
        }),
    }
}

fn check_version() -> Result<(), StoreError> {
    if rusqlite::version_number() < OLDEST_SQLITE {
        return Err(StoreError::SqliteTooOld {
            version: rusqlite::version().to_owned(),
        });
    }
    Ok(())
}
