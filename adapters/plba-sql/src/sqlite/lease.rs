//! Leases in an SQLite file: for several processes on one machine. A file on a network drive won't do, because SQLite's
//! locks don't hold there.
//!
//! The store's time is the machine's time of day, which all its processes share. Set back, it prolongs no lease beyond
//! its time to live; set forward, it ends leases early, and the fence refuses what their holders still write.
//!
//! A process that is paused in the middle of a write keeps the file locked until it goes on or is killed: nobody can take
//! over meanwhile, and nobody can write.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use plba_contracts::clock::Clock;
use plba_contracts::lease::{FencingToken, Grant, Holding, Lease, LeaseError, check_request};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::schema::{self, MigrateError};

/// How long a call waits for another process's write.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a database can't keep leases.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It can't be opened or written.
    #[error("leases in {}: {source}; check that its directory exists and is writable", path.display())]
    Database {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// A newer program has used it.
    #[error(
        "leases in {}: the table is version {found}, this program knows up to {known}; run the newer program",
        path.display()
    )]
    Newer {
        /// Which file.
        path: PathBuf,
        /// The version in the file.
        found: i64,
        /// The newest version this program knows.
        known: i64,
    },
}

/// A store of leases in an SQLite file, best the one that holds the data which their holders write: see
/// [`check_fence`](crate::check_fence). Clones share one connection; all calls run on blocking threads.
#[derive(Clone)]
pub struct SqliteLease {
    connection: Arc<Mutex<Connection>>,
    clock: Arc<dyn Clock>,
}

impl SqliteLease {
    /// Opens or creates the file, and its table; blocks meanwhile. `clock` is the store's: give every process of the
    /// machine its system clock.
    ///
    /// The file is put into WAL mode and synced at each commit, so that no token is given twice, whatever fails.
    ///
    /// # Errors
    /// [`OpenError`]: no such directory, no right to write, no database, or one of a newer program.
    pub fn open(path: &Path, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let opened = open(path).map_err(|error| match error {
            MigrateError::Database(source) => OpenError::Database {
                path: path.to_owned(),
                source,
            },
            MigrateError::Newer { found, known } => OpenError::Newer {
                path: path.to_owned(),
                found,
                known,
            },
        });
        Ok(Self {
            connection: Arc::new(Mutex::new(opened?)),
            clock,
        })
    }

    /// Runs a call on a blocking thread.
    async fn call<T: Send + 'static>(
        &self,
        name: &str,
        call: impl FnOnce(&mut Connection, &str, Moment) -> Result<T, rusqlite::Error> + Send + 'static,
    ) -> Result<T, LeaseError> {
        let (connection, clock) = (Arc::clone(&self.connection), Arc::clone(&self.clock));
        let owned = name.to_owned();
        let called = tokio::task::spawn_blocking(move || {
            // A panic rolled its transaction back when it unwound, so the connection is sound.
            let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            call(&mut connection, &owned, Moment(clock))
        });
        let unavailable = |source| LeaseError::Unavailable {
            name: name.to_owned(),
            source,
        };
        match called.await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(unavailable(error.into())),
            Err(error) => Err(unavailable(error.into())),
        }
    }
}

fn open(path: &Path) -> Result<Connection, MigrateError> {
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // An `execute` would fail on the row that this pragma returns.
    let _mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    connection.execute_batch("PRAGMA synchronous = FULL")?;
    schema::migrate(&mut connection, schema::LEASES)?;
    Ok(connection)
}

/// The store's clock, asked only once the write lock is held: before, time may pass unseen.
struct Moment(Arc<dyn Clock>);

impl Moment {
    fn milliseconds(&self) -> i64 {
        self.0.now().as_millisecond()
    }
}

/// A row of the table.
struct Row {
    token: i64,
    holder: Option<String>,
    since: i64,
    renewed: i64,
    deadline: i64,
}

impl Row {
    fn read(connection: &Connection, name: &str) -> Result<Option<Self>, rusqlite::Error> {
        connection
            .prepare_cached("SELECT token, holder, since, renewed, deadline FROM plba_leases WHERE name = ?1")?
            .query_row([name], |row| {
                Ok(Self {
                    token: row.get(0)?,
                    holder: row.get(1)?,
                    since: row.get(2)?,
                    renewed: row.get(3)?,
                    deadline: row.get(4)?,
                })
            })
            .optional()
    }

    fn in_force(&self, now: i64) -> bool {
        self.holder.is_some() && now < self.deadline
    }

    /// The time of day was set back since the grant was given.
    fn was_given_later(&self, now: i64) -> bool {
        self.renewed > now
    }
}

fn acquire(connection: &mut Connection, name: &str, holder: &str, ttl: i64, clock: &Moment) -> Given {
    // Those who stand by ask often, and should not queue for the write lock.
    let now = clock.milliseconds();
    if Row::read(connection, name)?.is_some_and(|row| row.in_force(now) && !row.was_given_later(now)) {
        return Ok(None);
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let now = clock.milliseconds();
    let found = Row::read(&transaction, name)?;
    if let Some(row) = found.as_ref().filter(|row| row.in_force(now)) {
        if row.was_given_later(now) {
            // What was left of the grant counts from now on, for at most its whole length.
            let length = row.deadline.saturating_sub(row.renewed);
            write_times(&transaction, name, now, now.saturating_add(length))?;
            transaction.commit()?;
        }
        return Ok(None);
    }
    // With a grant each nanosecond, this would stop growing after 292 years.
    let token = found.map_or(0, |row| row.token).saturating_add(1);
    let deadline = now.saturating_add(ttl);
    transaction
        .prepare_cached(
            "INSERT INTO plba_leases (name, token, holder, since, renewed, deadline) VALUES (?1, ?2, ?3, ?4, ?4, ?5)
             ON CONFLICT (name) DO UPDATE SET token = excluded.token, holder = excluded.holder, since = excluded.since,
                 renewed = excluded.renewed, deadline = excluded.deadline",
        )?
        .execute(params![name, token, holder, now, deadline])?;
    transaction.commit()?;
    Ok(Some((token, deadline)))
}

fn renew(connection: &mut Connection, name: &str, token: i64, ttl: i64, clock: &Moment) -> Given {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let now = clock.milliseconds();
    let found = Row::read(&transaction, name)?;
    if !found.is_some_and(|row| row.token == token && row.in_force(now)) {
        return Ok(None);
    }
    let deadline = now.saturating_add(ttl);
    write_times(&transaction, name, now, deadline)?;
    transaction.commit()?;
    Ok(Some((token, deadline)))
}

fn write_times(transaction: &Transaction<'_>, name: &str, now: i64, deadline: i64) -> Result<(), rusqlite::Error> {
    transaction
        .prepare_cached("UPDATE plba_leases SET renewed = ?2, deadline = ?3 WHERE name = ?1")?
        .execute(params![name, now, deadline])
        .map(drop)
}

/// A token and a deadline, if any.
type Given = Result<Option<(i64, i64)>, rusqlite::Error>;

fn grant((token, deadline): (i64, i64)) -> Grant {
    Grant {
        token: FencingToken(u64::try_from(token).unwrap_or(0)),
        deadline: timestamp(deadline),
    }
}

fn timestamp(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::MAX)
}

fn milliseconds(ttl: Duration) -> i64 {
    i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX)
}

#[async_trait]
impl Lease for SqliteLease {
    async fn acquire(&self, name: &str, holder: &str, ttl: Duration) -> Result<Option<Grant>, LeaseError> {
        check_request(name, holder, ttl)?;
        let (holder, ttl) = (holder.to_owned(), milliseconds(ttl));
        let taking = self.call(name, move |connection, name, clock| {
            acquire(connection, name, &holder, ttl, &clock)
        });
        Ok(taking.await?.map(grant))
    }

    async fn renew(&self, name: &str, token: FencingToken, ttl: Duration) -> Result<Option<Grant>, LeaseError> {
        check_request(name, "renews", ttl)?;
        // A token beyond what SQLite counts was never given.
        let Ok(token) = i64::try_from(token.0) else {
            return Ok(None);
        };
        let ttl = milliseconds(ttl);
        let renewing = self.call(name, move |connection, name, clock| {
            renew(connection, name, token, ttl, &clock)
        });
        Ok(renewing.await?.map(grant))
    }

    async fn release(&self, name: &str, token: FencingToken) -> Result<(), LeaseError> {
        let Ok(token) = i64::try_from(token.0) else {
            return Ok(());
        };
        let releasing = self.call(name, move |connection, name, _| {
            connection
                .prepare_cached("UPDATE plba_leases SET holder = NULL WHERE name = ?1 AND token = ?2")?
                .execute(params![name, token])
                .map(drop)
        });
        releasing.await
    }

    async fn holding(&self, name: &str) -> Result<Option<Holding>, LeaseError> {
        let read = self.call(name, |connection, name, clock| {
            let now = clock.milliseconds();
            Ok(Row::read(connection, name)?.filter(|row| row.in_force(now)))
        });
        Ok(read.await?.and_then(|row| {
            Some(Holding {
                holder: row.holder?,
                token: FencingToken(u64::try_from(row.token).unwrap_or(0)),
                since: timestamp(row.since),
                deadline: timestamp(row.deadline),
            })
        }))
    }
}
