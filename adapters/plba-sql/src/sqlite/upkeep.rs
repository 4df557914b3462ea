//! The write-ahead log and free pages: kept small when there is time, and told of when somebody holds the log back.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rusqlite::Connection;

/// How many pages of 4 KiB the log has before SQLite copies them into the file on its own.
pub(super) const CHECKPOINT_PAGES: u32 = 4_000;

/// A log smaller than this is left as it is: it is used again.
const SMALL: u64 = 1 << 20;

/// How many free pages one tidying gives back to the file system, and how many it leaves for what comes.
const PAGES: i64 = 500;
const SPARE_PAGES: i64 = 2_000;

/// How often a log that can't be emptied is told of, and how often emptying is tried.
const REMIND: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_secs(1);

/// What the writer knows of its log.
pub(super) struct Upkeep {
    /// Set while the connection is to wait for nobody.
    hurry: Arc<AtomicBool>,
    limit: u64,
    /// Bytes of the log when it was last looked at.
    log: u64,
    written: bool,
    last: Instant,
    tried: Option<Instant>,
    told: Option<Instant>,
}

impl Upkeep {
    pub(super) fn new(limit: u64, hurry: Arc<AtomicBool>) -> Self {
        Self {
            hurry,
            limit,
            log: 0,
            written: true,
            last: Instant::now(),
            tried: None,
            told: None,
        }
    }

    /// Whether there is something to tidy up.
    pub(super) fn is_due(&self) -> bool {
        self.written
    }

    /// A transaction was committed; the log had so many bytes before.
    pub(super) fn committed(&mut self, connection: &Connection, path: &Path, log: u64) {
        self.written = true;
        self.last = Instant::now();
        self.log = log;
        if log > self.limit && self.tried.is_none_or(|tried| tried.elapsed() >= RETRY) {
            self.tried = Some(Instant::now());
            self.empty(connection, path);
        }
    }

    /// Nothing was asked for a while.
    pub(super) fn tidy(&mut self, connection: &Connection, path: &Path, idle: Duration) {
        if !self.written || self.last.elapsed() < idle {
            return;
        }
        let more = shrink(connection);
        self.written = more.unwrap_or(false);
        if !self.written && self.log > SMALL {
            self.empty(connection, path);
        }
    }

    /// Nothing could be written: the log may be what keeps others, or itself, from having space.
    pub(super) fn refused(&mut self, connection: &Connection, path: &Path) {
        if self.log > 0 && self.tried.is_none_or(|tried| tried.elapsed() >= RETRY) {
            self.tried = Some(Instant::now());
            self.empty(connection, path);
        }
    }

    /// Copies the log into the file and empties it. Waits for nobody: a reader may be long.
    fn empty(&mut self, connection: &Connection, path: &Path) {
        self.hurry.store(true, Ordering::Relaxed);
        self.try_to_empty(connection, path);
        self.hurry.store(false, Ordering::Relaxed);
    }

    fn try_to_empty(&mut self, connection: &Connection, path: &Path) {
        let busy = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
            Ok(row.get::<_, i64>(1)? > row.get::<_, i64>(2)?)
        });
        match busy {
            Ok(false) => {
                let emptied = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
                if let Ok(0) = emptied {
                    self.log = 0;
                    self.told = None;
                }
            }
            Ok(true) if self.log > self.limit && self.told.is_none_or(|told| told.elapsed() >= REMIND) => {
                self.told = Some(Instant::now());
                tracing::warn!(
                    file = %path.display(),
                    bytes = self.log,
                    "the write-ahead log grows, because somebody keeps reading an old state: end the program that has a \
                     transaction open on this file"
                );
            }
            Ok(true) => {}
            Err(error) => tracing::warn!(file = %path.display(), %error, "the write-ahead log can't be emptied"),
        }
    }
}

/// Gives some free pages back, where the file was made for that; says whether there are more.
fn shrink(connection: &Connection) -> rusqlite::Result<bool> {
    let number = |pragma: &str| connection.query_row(pragma, [], |row| row.get::<_, i64>(0));
    if number("PRAGMA auto_vacuum")? != 2 || number("PRAGMA freelist_count")? <= SPARE_PAGES + PAGES {
        return Ok(false);
    }
    let mut shrink = connection.prepare(&format!("PRAGMA incremental_vacuum({PAGES})"))?;
    let mut rows = shrink.query([])?;
    while rows.next()?.is_some() {}
    Ok(true)
}
