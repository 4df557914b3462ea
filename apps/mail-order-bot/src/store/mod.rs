//! Orders, message outcomes, raw mails, the review list and the outbox, in one SQLite file or one schema of a PostgreSQL
//! database that belongs to this application.
//!
//! **One transaction per message**: the order, its lines, the message's outcome and all that is to be sent become durable
//! together or not at all. `(Message-ID, body hash)` is unique, so that a second delivery of a message finds the first
//! one's outcome, however the first one ended or was interrupted.
//!
//! | what | where |
//! |---|---|
//! | the port to a database: statements in an open transaction | `session` |
//! | what keeps it: one file, one schema | `sqlite`, `postgres`, `schema/` |
//! | what became of a message | `record`, `orders`, `amend`, `review` |
//! | raw mails and attachments, and for how long | `mails` |
//! | what is to be sent | [`outbox`] |
//! | lists | [`reads`] |
//!
//! All calls block; call them from a blocking thread. [`OrderStore`] is cheap to clone.

pub(crate) mod amend;
mod error;
pub mod mails;
pub mod messages;
mod orders;
pub mod outbox;
pub(crate) mod postgres;
pub mod reads;
pub(crate) mod record;
pub mod review;
mod rows;
mod schema;
mod session;
mod sqlite;

use std::path::Path;

use plba::config::Location;
use rusqlite::Connection;

use self::postgres::PostgresDatabase;
use self::sqlite::SqliteDatabase;

pub use self::amend::{Change, Changed};
pub use self::error::StoreError;
pub use self::mails::{Attachment, Keep};
pub use self::messages::{MailFilter, SeenMail};
pub use self::orders::NewOrder;
pub use self::outbox::{Channel, MAX_PENDING, Outbox, OutboxId, OutboxRow};
pub use self::postgres::settings as postgres_settings;
pub use self::reads::{Counts, MAX_ORDERS, OrderFilter, OrderReads};
pub use self::record::{Answers, Event, KnownMessage, MessageKey, NewMessage, Queued, Recorded, ReplyPlan};
pub use self::review::{Review, ReviewId, ReviewReason, ReviewState};

pub(crate) use self::postgres::PostgresSession;
pub(crate) use self::session::Session;
pub(crate) use self::sqlite::SqliteSession;

/// The store of one running bot. Clones share the connections.
#[derive(Clone)]
pub struct OrderStore {
    database: Database,
    reads: OrderReads,
}

/// What keeps a store.
#[derive(Clone)]
pub(crate) enum Database {
    Sqlite(SqliteDatabase),
    Postgres(PostgresDatabase),
}

/// Runs async code with `$session` in a transaction of the store's own, and commits it.
macro_rules! writing {
    ($store:expr, $session:ident => $body:expr) => {
        match $store {
            $crate::store::Database::Sqlite(file) => file.write(|$session| $crate::store::at_once(async { $body })),
            $crate::store::Database::Postgres(server) => server.write(async |$session| $body),
        }
    };
}

/// Runs async code with `$session` on one snapshot.
macro_rules! reading {
    ($store:expr, $session:ident => $body:expr) => {
        match $store {
            $crate::store::Database::Sqlite(file) => file.read(|$session| $crate::store::at_once(async { $body })),
            $crate::store::Database::Postgres(server) => server.read(async |$session| $body),
        }
    };
}

pub(crate) use {reading, writing};

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
        Ok(Self {
            database: Database::Sqlite(SqliteDatabase::writing(path)?),
            reads: OrderReads::open(path)?,
        })
    }

    /// Opens or creates the store at a location, `sqlite:PATH` or `postgres://…`. The latter must be called on a blocking
    /// thread of the runtime on which its connections are to run.
    ///
    /// # Errors
    /// As [`open`](Self::open); the server can't be reached.
    pub fn connect(location: &Location) -> Result<Self, StoreError> {
        if let Some(path) = sqlite_path(location) {
            return Self::open(path);
        }
        let database = PostgresDatabase::open(location, true)?;
        let database = database.ok_or_else(|| StoreError::Setting("its tables were not made".to_owned()))?;
        Ok(Self {
            reads: OrderReads::of(Database::Postgres(database.clone())),
            database: Database::Postgres(database),
        })
    }

    /// The reading side, which never waits for a writer.
    #[must_use]
    pub fn reads(&self) -> &OrderReads {
        &self.reads
    }

    /// What is to be sent.
    #[must_use]
    pub fn outbox(&self) -> Outbox {
        Outbox::new(self.clone())
    }

    /// The schema of its tables, where it is kept in PostgreSQL.
    #[must_use]
    pub fn postgres_schema(&self) -> Option<&str> {
        match &self.database {
            Database::Sqlite(_) => None,
            Database::Postgres(server) => Some(server.schema()),
        }
    }

    pub(crate) fn database(&self) -> &Database {
        &self.database
    }
}

/// A session in a transaction on the store's file that somebody else has opened and commits.
pub(crate) fn in_file(transaction: &Connection) -> SqliteSession<'_> {
    SqliteSession(transaction)
}

/// Runs work that waits for nothing but such a session.
pub(crate) fn at_once<T>(work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    session::at_once(work)
}

/// The file of an `sqlite:` location.
pub(crate) fn sqlite_path(location: &Location) -> Option<&Path> {
    location.path().filter(|_| location.scheme() == "sqlite").map(Path::new)
}

#[cfg(test)]
mod tests;
