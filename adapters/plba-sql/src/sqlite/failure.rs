//! What can go wrong with a database, each with what to do about it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use plba_tasks::ledger::LedgerError;
use plba_tasks::queue::{PublishError, QueueError};
use rusqlite::ErrorCode;

/// Why a transaction failed. Nothing of it has happened, unless it failed while it was being committed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{text}")]
pub(super) struct Failure {
    text: Arc<str>,
    code: Option<ErrorCode>,
}

impl Failure {
    pub(super) fn new(text: impl Into<Arc<str>>) -> Self {
        let (text, code) = (text.into(), None);
        Self { text, code }
    }

    pub(super) fn of(path: &Path, error: &rusqlite::Error) -> Self {
        Self {
            code: error.sqlite_error_code(),
            ..Self::new(format!("{}: {error}; {}", path.display(), remedy(error)))
        }
    }

    /// Whether space was wanting, or a file was as large as it may be.
    pub(super) fn is_for_space(&self) -> bool {
        matches!(self.code, Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure))
    }

    pub(super) fn closed() -> Self {
        Self::new("the database is closed: the program is stopping")
    }
}

/// What to do about an error.
fn remedy(error: &rusqlite::Error) -> &'static str {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => {
            "the disk or its quota is full: free some space, and it goes on by itself; what was accepted before is safe"
        }
        Some(ErrorCode::SystemIoFailure) => {
            "the disk failed, or a limit on file sizes was met: see the system's log; it is tried again"
        }
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            "it can't be written: give this user the right to write the file and its directory, and mount them writable"
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            "another process has been writing to it for too long: look for one that is stopped or keeps a transaction open"
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            "the file is damaged or no database: stop every process that has it open, then restore a backup, or save what \
             can be read with `sqlite3 FILE .recover`"
        }
        Some(ErrorCode::CannotOpen) => {
            "check that its directory exists and is writable, and how many files this process may open"
        }
        Some(ErrorCode::OutOfMemory) => "there is too little memory",
        Some(ErrorCode::FileLockingProtocolFailed) => "locks don't hold there: keep it on a local disk",
        _ => "it is tried again",
    }
}

impl From<Failure> for QueueError {
    fn from(failure: Failure) -> Self {
        Self::new(failure)
    }
}

impl From<Failure> for PublishError {
    fn from(failure: Failure) -> Self {
        Self::Unknown { source: failure.into() }
    }
}

impl From<Failure> for LedgerError {
    fn from(failure: Failure) -> Self {
        Self::new(failure)
    }
}

/// Why a database of tasks can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenDatabaseError {
    /// It can't be opened or written.
    #[error("tasks in {}: {source}; {}", path.display(), remedy(source))]
    Database {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// The file can't be made.
    #[error("tasks in {}: {source}; check that its directory exists and is writable", path.display())]
    Create {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A newer program has used it.
    #[error(
        "tasks in {}: the tables are of version {found}, this program knows up to {known}; run the newer program",
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
    /// It lies where locks don't hold.
    #[error(
        "tasks in {}: it lies on a network file system ({kind}), where locks don't hold and two processes would damage \
         it; keep it on a local disk, or use a queue on a server; `network=allow` overrides this",
        path.display()
    )]
    Network {
        /// Which file.
        path: PathBuf,
        /// The file system.
        kind: &'static str,
    },
    /// The file can't be in WAL mode.
    #[error(
        "tasks in {}: it stays in journal mode \"{mode}\" instead of \"wal\"; keep it on a local disk with shared memory",
        path.display()
    )]
    Mode {
        /// Which file.
        path: PathBuf,
        /// The mode that it stays in.
        mode: String,
    },
    /// The SQLite library has a known bug that damages WAL files.
    #[error("SQLite {version} can damage files in WAL mode; build with the bundled SQLite (3.51.3 or newer)")]
    SqliteTooOld {
        /// Its version.
        version: String,
    },
    /// A setting won't do.
    #[error("tasks in SQLite: {0}")]
    Settings(String),
    /// It could be opened, but not written.
    #[error("tasks in SQLite: {reason}")]
    Unwritable {
        /// Why, and what to do.
        reason: String,
    },
    /// The writer's thread can't be started.
    #[error("tasks in {}: no thread for its writer: {source}", path.display())]
    Thread {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}
