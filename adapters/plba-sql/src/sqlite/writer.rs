//! The writer: one thread with one connection, which carries out all jobs that wait in one transaction and answers them
//! after its commit. While the disk is busy with one commit, jobs gather for the next: batches grow with the load, and
//! cost no time where there is none. What the jobs do is told in their own files.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use plba_contracts::clock::Clock;
use plba_tasks::queue::presence::Watch;
use plba_tasks::task::QueueName;
use rusqlite::Connection;

use super::failure::Failure;
use super::inbox::{Inbox, Job, Needs, Next};
use super::place::Place;
use super::session::{Memory, Session, Tally};
use super::settings::{SqliteSettings, Synchronous};
use super::signals::Signals;
use super::upkeep::Upkeep;

/// How often it looks whether another process has written, while somebody waits for that.
const LOOK: Duration = Duration::from_millis(100);

/// After how long without jobs it tidies up.
const IDLE: Duration = Duration::from_secs(2);

/// How often it says that it still fails.
const REMIND: Duration = Duration::from_secs(60);

/// What the writer shares with the queue and the ledger.
pub(super) struct Shared {
    pub(super) inbox: Inbox,
    pub(super) signals: Signals,
    pub(super) settings: SqliteSettings,
    pub(super) clock: Arc<dyn Clock>,
    /// Whether the ledger of sources is kept in this database, and in step with its queues.
    pub(super) ledger: AtomicBool,
    /// When to look for holders that are gone.
    pub(super) watch: Watch,
    tallies: Mutex<HashMap<QueueName, Tally>>,
}

impl Shared {
    pub(super) fn new(settings: SqliteSettings, clock: Arc<dyn Clock>) -> Self {
        Self {
            inbox: Inbox::default(),
            signals: Signals::default(),
            settings,
            clock,
            ledger: AtomicBool::new(false),
            watch: Watch::default(),
            tallies: Mutex::default(),
        }
    }

    /// What happened in a queue, in this process.
    pub(super) fn tally(&self, queue: &QueueName) -> Tally {
        let tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        tallies.get(queue).copied().unwrap_or_default()
    }

    fn count(&self, told: impl Iterator<Item = (QueueName, Tally)>) {
        let mut tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        for (queue, tally) in told {
            tallies.entry(queue).or_default().add(tally);
        }
    }
}

/// The thread's own.
pub(super) struct Writer {
    shared: Arc<Shared>,
    connection: Connection,
    place: Place,
    memory: Memory,
    upkeep: Upkeep,
    /// How the connection commits now.
    synchronous: Synchronous,
    version: i64,
    looked: Instant,
    failing: Option<Instant>,
}

/// Why a transaction came to nothing.
struct Broken {
    failure: Failure,
    /// Whether a job was the cause, so that the others may succeed without it.
    by_job: bool,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, connection: Connection, place: Place, hurry: Arc<AtomicBool>) -> Self {
        let memory = Memory::new(&shared.settings);
        let upkeep = Upkeep::new(shared.settings.log_bytes, hurry);
        let synchronous = shared.settings.synchronous;
        Self {
            shared,
            connection,
            place,
            memory,
            upkeep,
            synchronous,
            version: 0,
            looked: Instant::now(),
            failing: None,
        }
    }

    /// Works until the inbox is closed and empty.
    pub(super) fn run(mut self) {
        loop {
            let dirty = self.upkeep.is_due();
            let pause = |listeners: usize| match (listeners, dirty) {
                (0, false) => None,
                (0, true) => Some(IDLE),
                _ => Some(LOOK),
            };
            match self.shared.inbox.next(pause) {
                Next::Jobs(jobs) => self.carry_out(jobs),
                Next::Nothing => self.upkeep.tidy(&self.connection, self.place.path(), IDLE),
                Next::Closed => return,
            }
            if self.looked.elapsed() >= LOOK && self.shared.inbox.listeners() > 0 {
                self.look();
            }
        }
    }

    /// Wakes everybody if another connection has written.
    fn look(&mut self) {
        self.looked = Instant::now();
        let read = self.connection.prepare_cached("PRAGMA data_version");
        let version = read.and_then(|mut read| read.query_row([], |row| row.get::<_, i64>(0)));
        if let Ok(version) = version
            && std::mem::replace(&mut self.version, version) != version
        {
            self.shared.signals.wake_all();
        }
    }

    /// Runs of jobs that can share a transaction do; the others have one each. Those that need not wait for the disk go
    /// first: what comes of the others is told when they are committed.
    fn carry_out(&mut self, jobs: Vec<Box<dyn Job>>) {
        let (quick, slow): (Vec<_>, Vec<_>) = jobs.into_iter().partition(|job| job.needs() == Needs::Nothing);
        self.commit(quick);
        let mut group: Vec<Box<dyn Job>> = Vec::with_capacity(slow.len());
        for job in slow {
            if job.needs() == Needs::Solitude {
                self.commit(std::mem::take(&mut group));
                self.commit(vec![job]);
            } else {
                group.push(job);
            }
        }
        self.commit(group);
    }

    fn commit(&mut self, mut jobs: Vec<Box<dyn Job>>) {
        if jobs.is_empty() {
            return;
        }
        match self.attempt(&mut jobs) {
            Ok(()) => {
                self.recovered();
                jobs.into_iter().for_each(|job| job.answer(None));
            }
            Err(Broken { by_job: true, .. }) if jobs.len() > 1 => {
                for job in jobs {
                    self.commit(vec![job]);
                }
            }
            Err(Broken { failure, .. }) => {
                self.failed(&failure);
                jobs.into_iter().for_each(|job| job.answer(Some(&failure)));
            }
        }
    }

    fn attempt(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<(), Broken> {
        let log_bytes = self.place.check().map_err(|text| Broken {
            failure: Failure::new(text),
            by_job: false,
        })?;
        let worked = self.work(jobs);
        if worked.is_err() {
            if !self.connection.is_autocommit() {
                // Nothing more can be done about an error here: the connection is asked to begin again anyway.
                drop(self.connection.execute_batch("ROLLBACK"));
            }
            self.memory.forget();
            if worked.as_ref().is_err_and(|broken| broken.failure.is_for_space()) {
                self.upkeep.refused(&self.connection, self.place.path());
            }
        } else {
            self.upkeep.committed(&self.connection, self.place.path(), log_bytes);
        }
        worked
    }

    fn work(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<(), Broken> {
        let path = self.place.path();
        let broken = |error: rusqlite::Error| Broken {
            failure: Failure::of(path, &error),
            by_job: false,
        };
        let execute = |sql: &str| {
            let mut statement = self.connection.prepare_cached(sql)?;
            statement.execute([])
        };
        let quick = jobs.iter().all(|job| job.needs() == Needs::Nothing);
        let synchronous = match quick {
            true => Synchronous::Normal,
            false => self.shared.settings.synchronous,
        };
        if self.synchronous != synchronous {
            // Takes effect when it is prepared, so it can't stay so. A commit that waits for the disk waits for all that was
            // committed before.
            self.connection.execute_batch(synchronous.pragma()).map_err(broken)?;
            self.synchronous = synchronous;
        }
        execute("BEGIN IMMEDIATE").map_err(broken)?;
        let now = self.shared.clock.now().as_microsecond();
        let shared = &self.shared;
        let opened = Session::open(
            &self.connection,
            &shared.settings,
            &shared.signals,
            &mut self.memory,
            (now, shared.ledger.load(Ordering::Acquire)),
        );
        let mut session = opened.map_err(broken)?;
        for job in jobs {
            let run = catch_unwind(AssertUnwindSafe(|| job.run(&mut session)));
            let failure = match run {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => Failure::of(path, &error),
                Err(panic) => Failure::new(format!(
                    "a fault of the program, which its log tells of: {}",
                    super::panic_message(panic.as_ref())
                )),
            };
            return Err(Broken { failure, by_job: true });
        }
        let aftermath = session.close().map_err(broken)?;
        execute("COMMIT").map_err(broken)?;
        self.shared.count(aftermath.tell());
        Ok(())
    }

    fn failed(&mut self, failure: &Failure) {
        if self.failing.is_none_or(|since| since.elapsed() >= REMIND) {
            self.failing = Some(Instant::now());
            tracing::error!(error = %failure, "tasks can't be written");
        }
    }

    fn recovered(&mut self) {
        if self.failing.take().is_some() {
            tracing::info!(file = %self.place.path().display(), "tasks can be written again");
        }
    }
}

/// Waits for an answer of the writer.
pub(super) async fn answered<T>(answer: tokio::sync::oneshot::Receiver<Result<T, Failure>>) -> Result<T, Failure> {
    answer.await.unwrap_or_else(|_| Err(Failure::closed()))
}
