//! What can go wrong with the store, and whether trying again helps.

use std::path::PathBuf;

use rusqlite::ErrorCode;

/// A failed call of the store. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file can't be opened.
    #[error("order store {}: cannot be opened: {source}; check that its directory exists and is writable", path.display())]
    Open {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// The file can't be made.
    #[error("order store {}: cannot be created: {source}; check that its directory exists and is writable", path.display())]
    Create {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is a database, but not this application's.
    #[error("order store {store}: this database belongs to another application; choose another one")]
    NotOurs {
        /// Which file or schema.
        store: String,
    },
    /// The store has been used by a newer program.
    #[error(
        "order store {store}: its schema is version {found}, this program knows up to {known}; run the newer program, or \
         restore a backup from before the upgrade"
    )]
    Newer {
        /// Which file or schema.
        store: String,
        /// The version that it has.
        found: i64,
        /// The newest version this program knows.
        known: i64,
    },
    /// The store is older than this program, and this opening may not write.
    #[error("order store {store}: its schema is version {found}; start the bot once to bring it to {known}")]
    Older {
        /// Which file or schema.
        store: String,
        /// The version that it has.
        found: i64,
        /// The version this program needs.
        known: i64,
    },
    /// The SQLite library has a known bug that corrupts WAL files.
    #[error("SQLite {version} can corrupt the order store; build with the bundled SQLite (3.51.3 or newer)")]
    SqliteTooOld {
        /// Its version.
        version: String,
    },
    /// A stored value is not one that this program writes.
    #[error("order store: {what} is damaged: {problem}")]
    Damaged {
        /// Which row and column.
        what: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The location can't be used.
    #[error("order store: {0}")]
    Setting(String),
    /// What was asked for does not fit what is stored.
    #[error("{0}")]
    Refused(String),
    /// SQLite failed.
    #[error("order store: {0}")]
    Database(#[from] rusqlite::Error),
    /// PostgreSQL failed, or can't be reached.
    #[error("order store: {}", plba::describe(.0.as_ref()))]
    Postgres(#[source] plba::BoxError),
}

impl StoreError {
    /// Whether the same call may succeed later: the database was locked or out of reach, the disk full or failing.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        if let Self::Postgres(error) = self {
            return plba::sql::postgres::is_passing(error.as_ref());
        }
        let (Self::Database(source) | Self::Open { source, .. }) = self else {
            return false;
        };
        matches!(
            source.sqlite_error_code(),
            Some(
                ErrorCode::DatabaseBusy
                    | ErrorCode::DatabaseLocked
                    | ErrorCode::DiskFull
                    | ErrorCode::SystemIoFailure
                    | ErrorCode::OutOfMemory
                    | ErrorCode::CannotOpen
                    | ErrorCode::OperationInterrupted
                    | ErrorCode::FileLockingProtocolFailed
            )
        )
    }
}
