//! What the tests stand on: a clock that goes on its own and can be moved, and files in directories of their own.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use plba_contracts::clock::Clock;
use plba_sql::rusqlite::Connection;
use plba_sql::sqlite::{SqliteSettings, SqliteTaskQueue};
use plba_tasks::queue::{ConsumerId, Incarnation};
use plba_testkit::clock::START;
use plba_testkit::directory::Directory;

/// A clock that goes as time does, and can be moved forward too.
pub(crate) struct MovableClock {
    began: Instant,
    moved: Mutex<Duration>,
}

impl MovableClock {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            began: Instant::now(),
            moved: Mutex::default(),
        })
    }

    pub(crate) fn advance(&self, by: Duration) {
        *self.moved.lock().unwrap_or_else(PoisonError::into_inner) += by;
    }
}

impl Clock for MovableClock {
    fn now(&self) -> Timestamp {
        START + SignedDuration::try_from(self.monotonic()).unwrap()
    }

    fn monotonic(&self) -> Duration {
        self.began.elapsed() + *self.moved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A file in a directory of its own, and a clock.
pub(crate) struct Ground {
    pub(crate) directory: Directory,
    pub(crate) path: PathBuf,
    pub(crate) clock: Arc<MovableClock>,
}

impl Ground {
    pub(crate) fn new() -> Self {
        let directory = Directory::new();
        let path = directory.path().join("queue.db");
        Self {
            directory,
            path,
            clock: MovableClock::new(),
        }
    }

    pub(crate) fn settings(&self) -> SqliteSettings {
        SqliteSettings {
            seed: Some(7),
            ..SqliteSettings::new(&self.path)
        }
    }

    pub(crate) async fn open(&self) -> SqliteTaskQueue {
        self.open_with(self.settings()).await
    }

    pub(crate) async fn open_with(&self, settings: SqliteSettings) -> SqliteTaskQueue {
        SqliteTaskQueue::open(settings, Arc::clone(&self.clock) as _)
            .await
            .unwrap()
    }
}

pub(crate) fn consumer() -> ConsumerId {
    ConsumerId::new(Incarnation::of_this_process(7), "test")
}

/// A file that SQLite finds no fault with, and whose counts are those of its rows.
pub(crate) fn sound(path: &Path) {
    let connection = Connection::open(path).unwrap();
    let found: String = connection
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(found, "ok");
    let wrong: i64 = connection
        .query_row(
            "SELECT count(*) FROM plba_queues AS q WHERE
                 ready <> (SELECT count(*) FROM plba_tasks WHERE queue = q.number AND state IN (0, 1))
                 OR delayed <> (SELECT count(*) FROM plba_tasks WHERE queue = q.number AND state = 2)
                 OR held <> (SELECT count(*) FROM plba_tasks WHERE queue = q.number AND state = 3)
                 OR leased <> (SELECT count(*) FROM plba_tasks WHERE queue = q.number AND state IN (4, 5))
                 OR dead <> (SELECT count(*) FROM plba_tasks WHERE queue = q.number AND state = 6)
                 OR bytes <> (SELECT coalesce(sum(bytes), 0) FROM plba_tasks WHERE queue = q.number AND state < 6)",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(wrong, 0, "the counts of a queue are not those of its rows");
    let orphans: i64 = connection
        .query_row(
            "SELECT count(*) FROM plba_payloads WHERE seq NOT IN (SELECT seq FROM plba_tasks WHERE payload IS NULL)",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(orphans, 0, "payloads without their tasks");
}
