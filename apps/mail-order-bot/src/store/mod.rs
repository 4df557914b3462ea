//! Orders, message outcomes and the outbox, in one SQLite file that belongs to this application.
//!
//! **One transaction per message**: the order, its lines, the message's outcome and the reply in the outbox become
//! durable together or not at all. `(Message-ID, body hash)` is unique, so that a second delivery of a message finds the
//! first one's outcome, however the first one ended or was interrupted.
//!
//! SQLite runs in WAL mode with `synchronous = FULL`: when a call returned, its data survives the loss of power, which
//! it must, because the message is marked as read afterwards. That costs one fsync per order (NORMAL would save it, and
//! could lose the last orders of a machine that lost power although their messages are `\Seen`). There is one writing
//! connection behind a mutex, a second one for reads, and a five-second busy time-out towards other processes.
//!
//! All calls block; call them from a blocking thread. [`OrderStore`] is cheap to clone.

mod error;
pub mod outbox;
pub mod reads;
mod record;
mod rows;
mod schema;

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

pub use error::StoreError;
pub(crate) use outbox::mark_sent;
pub use outbox::{MAX_PENDING, Outbox, OutboxId, OutboxRow};
pub use reads::{Counts, MAX_ORDERS, OrderFilter, OrderReads};
pub use record::{KnownMessage, MessageKey, NewMessage, NewOrder, Recorded, ReplyPlan};
pub(crate) use record::{record_not_an_order, record_order};

/// The oldest SQLite without the WAL corruption bug.
const OLDEST_SQLITE: i32 = 3_051_003;
/// How long a statement waits for another process's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The store of one running bot. Clones share the connections.
#[derive(Clone)]
pub struct OrderStore {
    writer: Arc<Mutex<Connection>>,
    reads: OrderReads,
}

impl std::fmt::Debug for OrderStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OrderStore").finish_non_exhaustive()
    }
}

impl OrderStore {
    /// Opens or creates the store at `path`, whose directory must exist, and brings its tables up to date.
    ///
    /// # Errors
    /// [`StoreError`]: cannot be opened, not a store of ours, written by a newer program, or locked.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        check_version()?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        create_private(path)?;
        let mut connection = open(path, flags)?;
        // An `execute` would fail on the row that this pragma returns.
        let _mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
        connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;")?;
        schema::migrate(&mut connection, path)?;
        let reads = OrderReads::open(path)?;
        Ok(Self {
            writer: Arc::new(Mutex::new(connection)),
            reads,
        })
    }

    /// The reading side, on its own connection: never waits for a writer.
    #[must_use]
    pub fn reads(&self) -> &OrderReads {
        &self.reads
    }

    /// The replies to be sent.
    #[must_use]
    pub fn outbox(&self) -> Outbox {
        Outbox::new(Arc::clone(&self.writer), self.reads.clone())
    }

    fn writer(&self) -> MutexGuard<'_, Connection> {
        lock(&self.writer)
    }
}

/// A panic while the lock was held rolled its transaction back when it unwound, so the connection is sound.
fn lock(connection: &Mutex<Connection>) -> MutexGuard<'_, Connection> {
    connection.lock().unwrap_or_else(PoisonError::into_inner)
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

#[cfg(test)]
mod tests;
