//! An open database: its writer, a connection for reading, and how both are opened. Queue and ledger share one.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use plba_contracts::clock::Clock;
use rusqlite::{Connection, OpenFlags};

use super::failure::{Failure, OpenDatabaseError};
use super::place::{Place, network};
use super::schema::{self, MigrateError, Part};
use super::settings::SqliteSettings;
use super::upkeep::CHECKPOINT_PAGES;
use super::writer::{Shared, Writer, answered};

/// The oldest SQLite without the bug that damages WAL files.
const OLDEST_SQLITE: i32 = 3_051_003;

/// How many prepared statements a connection keeps: more than there are.
const STATEMENTS: usize = 128;

/// Pages in memory, in KiB.
const CACHE: i32 = 32 * 1024;

/// An open database of tasks. Dropped, it carries out what was asked for, and closes the file.
pub(super) struct Database {
    pub(super) shared: Arc<Shared>,
    reader: Arc<Mutex<Connection>>,
    thread: Option<JoinHandle<()>>,
}

impl Database {
    /// Opens the file and its tables, or makes them; blocks meanwhile.
    pub(super) fn open(settings: SqliteSettings, clock: Arc<dyn Clock>) -> Result<Self, OpenDatabaseError> {
        settings.validate().map_err(OpenDatabaseError::Settings)?;
        if rusqlite::version_number() < OLDEST_SQLITE {
            let version = rusqlite::version().to_owned();
            return Err(OpenDatabaseError::SqliteTooOld { version });
        }
        let path = settings.path.clone();
        if let Some(kind) = network(&path) {
            if !settings.network {
                return Err(OpenDatabaseError::Network { path, kind });
            }
            tracing::warn!(file = %path.display(), kind, "tasks lie on a network file system: one process only, or they are damaged");
        }
        create_private(&path).map_err(|source| {
            let path = path.clone();
            OpenDatabaseError::Create { path, source }
        })?;
        let failed = |source| OpenDatabaseError::Database {
            path: path.clone(),
            source,
        };
        let hurry = Arc::new(AtomicBool::new(false));
        let mut connection = connect(&settings, Arc::clone(&hurry)).map_err(failed)?;
        enter_log_mode(&connection, &settings)?;
        migrate(&mut connection, &path, schema::TASKS)?;
        let ledger = schema::has(&connection, schema::LEDGER).map_err(failed)?;
        let reader = read_only(&path).map_err(failed)?;
        let shared = Arc::new(Shared::new(settings, clock));
        shared.ledger.store(ledger, Ordering::Release);
        let place = Place::new(&path);
        let writer = Writer::new(Arc::clone(&shared), connection, place, hurry);
        let thread = std::thread::Builder::new()
            .name("plba-sqlite".to_owned())
            .spawn(move || writer.run())
            .map_err(|source| OpenDatabaseError::Thread { path, source })?;
        Ok(Self {
            shared,
            reader: Arc::new(Mutex::new(reader)),
            thread: Some(thread),
        })
    }

    /// Makes the tables of the ledger, if they are not there; from now on queues keep it in step. Blocks meanwhile.
    pub(super) fn add_ledger(&self) -> Result<(), OpenDatabaseError> {
        let path = &self.shared.settings.path;
        let failed = |source| OpenDatabaseError::Database {
            path: path.clone(),
            source,
        };
        let mut connection = connect(&self.shared.settings, Arc::default()).map_err(failed)?;
        migrate(&mut connection, path, schema::LEDGER)?;
        self.shared.ledger.store(true, Ordering::Release);
        Ok(())
    }

    /// Reads on a blocking thread, from a state of the database that writers don't change meanwhile.
    pub(super) async fn read<T, F>(&self, read: F) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let (reader, path) = (Arc::clone(&self.reader), self.shared.settings.path.clone());
        let reading = tokio::task::spawn_blocking(move || {
            let connection = reader.lock().unwrap_or_else(PoisonError::into_inner);
            let transaction = connection.unchecked_transaction();
            let read = transaction.and_then(|transaction| read(&transaction));
            read.map_err(|error| Failure::of(&path, &error))
        });
        reading.await.unwrap_or_else(|_| Err(Failure::closed()))
    }

    /// Asks the writer, and waits for the commit.
    pub(super) async fn write<T, F>(&self, work: F) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: FnMut(&mut super::session::Session<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        answered(self.shared.inbox.ask(work)).await
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.shared.inbox.close();
        if let Some(thread) = self.thread.take() {
            // A panic in it has been reported by the panic hook.
            drop(thread.join());
        }
    }
}

fn connect(settings: &SqliteSettings, hurry: Arc<AtomicBool>) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(&settings.path, flags)?;
    be_patient(&mut connection, settings.busy, hurry)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    // An application's effects run here too, and may rely on its foreign keys.
    connection.execute_batch(&format!(
        "PRAGMA foreign_keys = ON; PRAGMA cache_size = -{CACHE}; PRAGMA temp_store = MEMORY"
    ))?;
    // Only takes effect in a file without tables, so an application's own file stays as it is.
    connection.execute_batch("PRAGMA auto_vacuum = INCREMENTAL")?;
    connection.execute_batch(settings.synchronous.pragma())?;
    Ok(connection)
}

/// Waits for another process's transaction in steps of a millisecond: SQLite's own steps grow to 100. Not at all while
/// there is a hurry.
fn be_patient(connection: &mut Connection, patience: Duration, hurry: Arc<AtomicBool>) -> rusqlite::Result<()> {
    let mut began = Instant::now();
    connection.busy_handler(Some(move |count| {
        if hurry.load(Ordering::Relaxed) {
            return false;
        }
        if count == 0 {
            began = Instant::now();
        }
        let step = if count < 20 { 200 } else { 1_000 };
        std::thread::park_timeout(Duration::from_micros(step));
        began.elapsed() < patience
    }))
}

fn enter_log_mode(connection: &Connection, settings: &SqliteSettings) -> Result<(), OpenDatabaseError> {
    let path = &settings.path;
    let failed = |source| OpenDatabaseError::Database {
        path: path.clone(),
        source,
    };
    // An `execute` would fail on the row that this pragma returns.
    let mode: String = connection
        .query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))
        .map_err(failed)?;
    if mode != "wal" {
        return Err(OpenDatabaseError::Mode {
            path: path.clone(),
            mode,
        });
    }
    for pragma in [
        format!("PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}"),
        format!("PRAGMA journal_size_limit = {}", settings.log_bytes),
    ] {
        let _set: i64 = connection.query_row(&pragma, [], |row| row.get(0)).map_err(failed)?;
    }
    Ok(())
}

fn read_only(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    be_patient(&mut connection, Duration::from_secs(1), Arc::default())?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(connection)
}

fn migrate(connection: &mut Connection, path: &Path, part: Part) -> Result<(), OpenDatabaseError> {
    schema::migrate(connection, part).map_err(|error| match error {
        MigrateError::Database(source) => OpenDatabaseError::Database {
            path: path.to_owned(),
            source,
        },
        MigrateError::Newer { found, known } => OpenDatabaseError::Newer {
            path: path.to_owned(),
            found,
            known,
        },
    })
}

/// Makes a missing file so that only its owner reads it. SQLite's side files follow its mode.
pub(super) fn create_private(path: &Path) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    match options.open(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}
