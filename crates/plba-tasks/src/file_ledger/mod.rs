//! The ledger of sources on one file in the state directory: read whole at the start, appended to by one writer, compacted
//! when it has grown. Exclusive use is the owner's business: the platform locks the state directory.

mod book;
mod event;
mod journal;
mod writer;

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::oneshot::error::RecvError;

use self::book::Book;
use self::event::{Event, texts};
use self::journal::Journal;
use self::writer::{Answer, Shared, Writer};
use crate::intake::MAXIMUM_KEY;
use crate::ledger::{Counts, DeliveryEnd, Known, LedgerError, LedgerStats, SourceLedger};
use crate::queue::{Cursor, DeadPage, Durability};
use crate::task::{Origin, QueueName, TaskId};

const MAXIMUM_CURSOR: usize = 64 * 1024;
const MAXIMUM_PAGE: usize = 1_000;
const MAXIMUM_SOURCE: usize = 200;

/// The bounds of a [`FileLedger`].
///
/// How many dead entries are kept, and for how long, is not said here: the queue that has the ledger
/// ([`InMemoryTaskQueue::with_ledger`](crate::memory::InMemoryTaskQueue::with_ledger)) drops them by the
/// [rules](crate::queue::QueueRules) of the queue in which they died, by default above 100,000 and after 90 days. What goes is
/// settled, so that its source does not bring it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileLedgerSettings {
    /// How many settled entries of one source are kept, so that they are recognised; the longest settled are forgotten
    /// first. Default: 100,000.
    pub settled: usize,
    /// The journal is compacted when it is larger than this many bytes and twice its size after the latest compaction.
    /// Default: 8 MiB.
    pub compact_above: u64,
}

impl Default for FileLedgerSettings {
    fn default() -> Self {
        Self {
            settled: 100_000,
            compact_above: 8 << 20,
        }
    }
}

/// A [`SourceLedger`] on a file.
///
/// Every change is on the disk (`fdatasync`) when it is answered; changes that are asked for at the same time share one
/// write. Only counted deliveries, for which work waits, are answered when they are written, which the end of the process
/// can't undo, and are on the disk a moment later: a task that takes the operating system down with it at once may be
/// delivered once more than is counted. An error leaves the ledger as it was, and the next change starts with a fresh file.
pub struct FileLedger {
    shared: Arc<Shared>,
    /// None for a ledger that is kept in memory only.
    writer: Option<Writer>,
    /// Whoever opens the same path next waits for this lock. Dropped last, after the writer has ended.
    _lock: Option<File>,
}

/// Why a ledger could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenLedgerError {
    /// The file can't be read or written.
    #[error("the ledger {} can't be used: {source}; check the path, its owner and the space on its disk", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// A newer program wrote it.
    #[error(
        "the ledger {} has format {found}, and this program knows up to {known}: a newer version wrote it; use that one",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format that is known here.
        known: u32,
    },
    /// It is something else.
    #[error("{} is not a ledger; name another file, or move this one away", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// It is damaged before its end, which no crash does.
    #[error(
        "the ledger {} is damaged at line {line}, with sound lines after it, so the disk or somebody has changed it; \
         restore it from a backup, or move it away to take in everything anew",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The damaged line, from 1.
        line: usize,
    },
}

impl FileLedger {
    /// Opens the ledger at `path`, or makes one. Entries that were in hand have lost their process: each counts a crash.
    /// Waits until nobody else has the ledger open: after a reload its previous owner may still be letting go.
    ///
    /// Reads the whole file; on an executor, call it by `spawn_blocking`, or use [`open`](Self::open).
    ///
    /// # Errors
    /// See [`OpenLedgerError`].
    pub fn open_blocking(path: &Path, settings: &FileLedgerSettings) -> Result<Self, OpenLedgerError> {
        let failed = |source| OpenLedgerError::Io {
            path: path.to_owned(),
            source,
        };
        let lock = lock(path).map_err(failed)?;
        let mut book = Book::new(settings.settled);
        let mut journal = Journal::open(path, |event| {
            book.apply(event);
        })?;
        book.unpublish();
        if book.changes(&Event::Opened) {
            journal.append(&[&Event::Opened]).map_err(failed)?;
            if let Some(written) = journal.unsynchronised() {
                let result = written.synchronise();
                journal.synchronised(&written, result).map_err(failed)?;
            }
            book.apply(&Event::Opened);
        }
        let shared = Shared::new(book);
        let writer = Writer::start(journal, Arc::clone(&shared), settings.compact_above).map_err(failed)?;
        let (writer, _lock) = (Some(writer), Some(lock));
        Ok(Self { shared, writer, _lock })
    }

    /// A ledger in memory that nothing is written of: for programs whose sources need no memory, and for tests under
    /// paused time.
    pub fn in_memory(settings: &FileLedgerSettings) -> Self {
        Self {
            shared: Shared::new(Book::new(settings.settled)),
            writer: None,
            _lock: None,
        }
    }

    /// [`open_blocking`](Self::open_blocking) off the executor.
    ///
    /// # Errors
    /// As [`open_blocking`](Self::open_blocking).
    ///
    /// # Cancel safety
    /// A dropped call may go on opening for a moment; open the same path only after that.
    pub async fn open(path: impl Into<PathBuf>, settings: FileLedgerSettings) -> Result<Self, OpenLedgerError> {
        let path = path.into();
        let place = path.clone();
        let opening = tokio::task::spawn_blocking(move || Self::open_blocking(&path, &settings));
        opening.await.unwrap_or_else(|error| {
            Err(OpenLedgerError::Io {
                path: place,
                source: io::Error::other(error),
            })
        })
    }

    async fn write(&self, event: Event) -> Answer {
        let Some(writer) = &self.writer else {
            return Ok(self.shared.book().apply(&event));
        };
        writer.write(event).await.unwrap_or_else(gone)
    }
}

fn gone(_: RecvError) -> Answer {
    Err(LedgerError::new("its writer has ended; restart the process"))
}

fn check<'a>(source: &str, keys: impl IntoIterator<Item = &'a Arc<str>>) -> Result<(), LedgerError> {
    if source.is_empty() || source.len() > MAXIMUM_SOURCE {
        return Err(LedgerError::new(format!(
            "a source's name has 1 to {MAXIMUM_SOURCE} bytes, not {}",
            source.len()
        )));
    }
    match keys.into_iter().find(|key| key.len() > MAXIMUM_KEY) {
        Some(key) => Err(LedgerError::new(format!(
            "a key has at most {MAXIMUM_KEY} bytes, not {}",
            key.len()
        ))),
        None => Ok(()),
    }
}

/// Takes the file beside the ledger that says who has it open, and waits for whoever has.
fn lock(path: &Path) -> io::Result<File> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let lock = File::options().create(true).write(true).truncate(false).open(&name)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            tracing::info!(ledger = %path.display(), "the ledger is still open elsewhere; waiting for it");
            lock.lock()?;
        }
        Err(TryLockError::Error(error)) => return Err(error),
    }
    Ok(lock)
}

#[async_trait]
impl SourceLedger for FileLedger {
    fn durability(&self) -> Durability {
        match self.writer {
            Some(_) => Durability::OsCrash,
            None => Durability::Volatile,
        }
    }

    async fn record_intake(&self, source: &str, keys: &[Arc<str>]) -> Result<(), LedgerError> {
        check(source, keys)?;
        let event = Event::Intake {
            source: source.to_owned(),
            keys: texts(keys),
        };
        self.write(event).await?;
        Ok(())
    }

    async fn count_deliveries(&self, origins: &[Origin]) -> Result<Vec<Option<Counts>>, LedgerError> {
        for origin in origins {
            check(&origin.source, [&origin.key])?;
        }
        let event = Event::Delivered {
            origins: origins.to_vec(),
        };
        match &self.writer {
            Some(writer) => writer.write_promptly(event).await.unwrap_or_else(gone),
            None => Ok(self.shared.book().apply(&event)),
        }
    }

    async fn record_ends(&self, ends: Vec<(Origin, DeliveryEnd)>) -> Result<(), LedgerError> {
        for (origin, _) in &ends {
            check(&origin.source, [&origin.key])?;
        }
        let ends = ends.into_iter().map(|(origin, end)| (origin, end.into())).collect();
        self.write(Event::Ended { ends }).await?;
        Ok(())
    }

    async fn settle(&self, source: &str, keys: &[Arc<str>]) -> Result<(), LedgerError> {
        check(source, keys)?;
        let event = Event::Settled {
            source: source.to_owned(),
            keys: texts(keys),
        };
        self.write(event).await?;
        Ok(())
    }

    async fn forget(&self, source: &str, keys: &[Arc<str>]) -> Result<(), LedgerError> {
        check(source, keys)?;
        let event = Event::Forgotten {
            source: source.to_owned(),
            keys: texts(keys),
        };
        self.write(event).await?;
        Ok(())
    }

    async fn known(&self, source: &str, keys: &[Arc<str>]) -> Result<Vec<Option<Known>>, LedgerError> {
        let book = self.shared.book();
        Ok(keys.iter().map(|key| book.known(source, key)).collect())
    }

    async fn pending(&self, source: &str, limit: usize) -> Result<Vec<Arc<str>>, LedgerError> {
        Ok(self.shared.book().pending(source, limit))
    }

    async fn unsettled(&self, source: &str, limit: usize) -> Result<Vec<Arc<str>>, LedgerError> {
        Ok(self.shared.book().unsettled(source, limit))
    }

    async fn cursor(&self, source: &str) -> Result<Option<String>, LedgerError> {
        Ok(self.shared.book().cursor(source))
    }

    async fn set_cursor(&self, source: &str, cursor: &str) -> Result<(), LedgerError> {
        check(source, [])?;
        if cursor.len() > MAXIMUM_CURSOR {
            return Err(LedgerError::new(format!(
                "a cursor has at most {MAXIMUM_CURSOR} bytes, not {}",
                cursor.len()
            )));
        }
        let event = Event::Cursor {
            source: source.to_owned(),
            cursor: cursor.to_owned(),
        };
        self.write(event).await?;
        Ok(())
    }

    async fn dead_letters(&self, cursor: Option<Cursor>, limit: usize) -> Result<DeadPage, LedgerError> {
        Ok(self
            .shared
            .book()
            .dead_letters(cursor.as_ref(), limit.clamp(1, MAXIMUM_PAGE)))
    }

    async fn retry_dead(&self, queue: &QueueName, ids: &[TaskId]) -> Result<usize, LedgerError> {
        let origins = self.shared.book().dead_origins(queue, ids);
        let count = origins.len();
        self.write(Event::Retried { origins }).await?;
        Ok(count)
    }

    async fn drop_dead(&self, queue: &QueueName, ids: &[TaskId]) -> Result<usize, LedgerError> {
        let origins = self.shared.book().dead_origins(queue, ids);
        let count = origins.len();
        self.write(Event::Dropped { origins }).await?;
        Ok(count)
    }

    async fn stats(&self) -> Result<Vec<LedgerStats>, LedgerError> {
        Ok(self.shared.book().stats())
    }
}

#[cfg(test)]
mod tests {
    use plba_contracts::clock::Clock;

    use super::*;
    use crate::memory::{InMemoryTaskQueue, MemorySettings};
    use crate::queue::{ConsumerId, Incarnation, TaskQueue};
    use crate::task::NewTask;

    struct Still;

    impl Clock for Still {
        fn now(&self) -> jiff::Timestamp {
            jiff::Timestamp::UNIX_EPOCH
        }

        fn monotonic(&self) -> std::time::Duration {
            std::time::Duration::ZERO
        }
    }

    /// A ledger that can't be written the next time.
    fn broken(name: &str) -> (FileLedger, PathBuf) {
        let path = std::env::temp_dir().join(format!("plba-{name}-{}", std::process::id()));
        drop(std::fs::remove_file(&path));
        let mut journal = Journal::open(&path, |_| {}).unwrap();
        journal.break_file().unwrap();
        let shared = Shared::new(Book::new(10));
        let writer = Some(Writer::start(journal, Arc::clone(&shared), 1 << 20).unwrap());
        let ledger = FileLedger {
            shared,
            writer,
            _lock: None,
        };
        (ledger, path)
    }

    #[tokio::test]
    async fn what_could_not_be_counted_is_handed_out_by_the_next_consume() {
        let (ledger, path) = broken("uncounted");
        let settings = MemorySettings::default();
        let queue = InMemoryTaskQueue::with_ledger(settings, Arc::new(Still), Arc::new(ledger)).unwrap();
        let mut task = NewTask::new("orders", "mail", "").with_id("inbox/1");
        task.origin = Some(Origin::new("inbox", "1"));
        queue.publish(vec![task]).await.unwrap();
        let (name, consumer) = (
            "orders".into(),
            ConsumerId::new(Incarnation::of_this_process(1), "test"),
        );
        let failed = queue.consume(&name, &consumer, 1).await.unwrap_err();
        assert!(failed.to_string().contains("disk"), "{failed}");
        let limit = std::time::Duration::from_secs(10);
        let taken = tokio::time::timeout(limit, queue.consume(&name, &consumer, 1)).await;
        let taken = taken.expect("it is in nobody's hand").unwrap();
        assert_eq!((taken[0].deliveries, taken[0].attempt), (1, 1));
        drop(queue);
        std::fs::remove_file(&path).unwrap();
    }

    #[tokio::test]
    async fn a_write_that_fails_changes_nothing_and_the_next_one_mends_the_file() {
        let (ledger, path) = broken("ledger");
        let key: [Arc<str>; 1] = ["1".into()];
        let failed = ledger.record_intake("inbox", &key).await.unwrap_err();
        assert!(failed.to_string().contains("disk"), "{failed}");
        assert_eq!(ledger.known("inbox", &key).await.unwrap(), [None]);
        ledger.record_intake("inbox", &key).await.unwrap();
        drop(ledger);
        let ledger = FileLedger::open_blocking(&path, &FileLedgerSettings::default()).unwrap();
        assert_eq!(ledger.pending("inbox", 10).await.unwrap(), key);
        drop(ledger);
        std::fs::remove_file(&path).unwrap();
    }
}
