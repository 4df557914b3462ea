//! The task queue in SQLite: the port's verbs, each a job for the writer. What the jobs do is told in the files beside
//! this one, which transaction they share in [`super::writer`].

mod consume;
pub(super) mod dead;
mod effects;
mod end;
mod endings;
mod gone;
mod limits;
mod lines;
mod publish;
mod publisher;
mod retention;
mod row;
mod sweep;
mod take;
mod unique;
mod views;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use plba_contracts::clock::Clock;
use plba_tasks::queue::{
    ConsumerId, Cursor, DeadFilter, DeadPage, DeadTask, Delivery, DeliveryToken, Durability, EndError, Ending,
    Exchange, PublishError, QueueError, QueueRules, QueueStats, Recovery, TaskFilter, TaskPage, TaskQueue,
};
use plba_tasks::task::{NewTask, QueueName, TaskId};

use super::database::Database;
use super::failure::OpenDatabaseError;
use super::inbox::Needs;
use super::ledger::SqliteLedger;
use super::session::Session;
use super::settings::SqliteSettings;
use super::writer::answered;

const MAXIMUM_PAGE: usize = 1_000;

/// A task queue in an SQLite file, for any number of processes on one machine. Clones share it.
///
/// Effects of completions get a [`SqliteTransaction`](super::SqliteTransaction): see
/// [`done_with`](super::done_with).
#[derive(Clone)]
pub struct SqliteTaskQueue {
    database: Arc<Database>,
}

impl SqliteTaskQueue {
    /// Opens the file and its tables, or makes them, on a blocking thread. `clock` is the time of day that leases and
    /// delays go by: give every process of the machine its system clock.
    ///
    /// # Errors
    /// See [`OpenDatabaseError`].
    ///
    /// # Cancel safety
    /// A dropped call may go on opening for a moment, and then closes the file.
    pub async fn open(settings: SqliteSettings, clock: Arc<dyn Clock>) -> Result<Self, OpenDatabaseError> {
        Ok(Self {
            database: Arc::new(open_database(settings, clock).await?),
        })
    }

    pub(super) fn of(database: Arc<Database>) -> Self {
        Self { database }
    }

    /// The ledger of sources in the same file. From now on the queue keeps it in step: a task with an origin is taken in,
    /// done or dead in both at once.
    ///
    /// # Errors
    /// See [`OpenDatabaseError`].
    ///
    /// # Cancel safety
    /// Safe: call it again.
    pub async fn ledger(&self) -> Result<SqliteLedger, OpenDatabaseError> {
        SqliteLedger::of(Arc::clone(&self.database)).await
    }

    /// Makes everybody in this process who waits for something look again: for tests that move the clock by hand, which
    /// no timer notices.
    pub fn look_again(&self) {
        self.database.shared.signals.wake_all();
    }

    /// Does something with the row of a queue.
    async fn with_room(
        &self,
        queue: &QueueName,
        change: impl Fn(&mut Session<'_>, usize) + Send + 'static,
    ) -> Result<(), QueueError> {
        let name = queue.clone();
        let made = self.database.write(move |session| {
            let room = session.room(&name)?;
            Ok(room.map(|room| change(session, room)).is_some())
        });
        if made.await? { Ok(()) } else { Err(crowded(queue)) }
    }

    /// Does what is due in every queue that has something due, so that counts and lists are of now.
    async fn advance(&self, due: Vec<QueueName>) -> Result<(), QueueError> {
        let advanced = self.database.write(move |session| {
            for name in &due {
                if let Some(room) = session.known_room(name)? {
                    sweep::advance(session, room, sweep::PASS)?;
                }
            }
            Ok(())
        });
        Ok(advanced.await?)
    }

    async fn counts(&self) -> Result<(Vec<QueueStats>, Vec<QueueName>), QueueError> {
        let now = self.database.shared.clock.now().as_microsecond();
        Ok(self
            .database
            .read(move |connection| views::stats(connection, now))
            .await?)
    }
}

pub(super) async fn open_database(
    settings: SqliteSettings,
    clock: Arc<dyn Clock>,
) -> Result<Database, OpenDatabaseError> {
    let path = settings.path.clone();
    let opening = tokio::task::spawn_blocking(move || Database::open(settings, clock));
    opening.await.unwrap_or_else(|error| {
        Err(OpenDatabaseError::Thread {
            path,
            source: std::io::Error::other(error),
        })
    })
}

fn crowded(queue: &QueueName) -> QueueError {
    QueueError::new(format!(
        "queue \"{queue}\" can't be made: there are as many named queues as `queues` allows"
    ))
}

#[async_trait]
impl TaskQueue for SqliteTaskQueue {
    fn durability(&self) -> Durability {
        self.database.shared.settings.synchronous.durability()
    }

    fn lease(&self) -> Duration {
        self.database.shared.settings.lease
    }

    async fn publish(&self, tasks: Vec<NewTask>) -> Result<Vec<TaskId>, PublishError> {
        publisher::publish(&self.database, tasks).await
    }

    async fn consume(&self, queue: &QueueName, consumer: &ConsumerId, max: usize) -> Result<Vec<Delivery>, QueueError> {
        consume::consume(&self.database.shared, queue, consumer, max).await
    }

    async fn end(&self, endings: Vec<Ending>) -> Result<Vec<Result<(), EndError>>, QueueError> {
        endings::end(&self.database, endings).await
    }

    async fn exchange(&self, endings: Vec<Ending>, queue: &QueueName, consumer: &ConsumerId, max: usize) -> Exchange {
        endings::exchange(&self.database, endings, queue, consumer, max).await
    }

    async fn extend(&self, tokens: &[DeliveryToken]) -> Result<Vec<Result<(), EndError>>, QueueError> {
        let tokens = tokens.to_vec();
        let extend = move |session: &mut Session<'_>| {
            let extend = |token: &DeliveryToken| end::extend(session, token);
            tokens.iter().map(extend).collect::<rusqlite::Result<Vec<bool>>>()
        };
        let extended = self.database.shared.inbox.ask_then(Needs::Nothing, extend, |held| held);
        let outcome = |held: bool| held.then_some(()).ok_or(EndError::LeaseLost);
        Ok(answered(extended).await?.into_iter().map(outcome).collect())
    }

    async fn recover(&self, cursor: Option<Cursor>, limit: usize) -> Result<Recovery, QueueError> {
        let from = cursor.map(|cursor| cursor.0).unwrap_or_default();
        let shared = &self.database.shared;
        let taken = match shared.watch.is_due() {
            true => gone::look(shared).await?,
            false => 0,
        };
        let recovered = self.database.write(move |session| {
            let mut recovery = Recovery::default();
            for (_, name) in dead::queues(session.connection, None, &from)? {
                if recovery.recovered >= limit {
                    recovery.next = Some(Cursor(name));
                    break;
                }
                let Some(room) = session.known_room(&QueueName::from(name.as_str()))? else {
                    continue;
                };
                let pass = (limit - recovery.recovered).min(sweep::PASS);
                let lost = sweep::advance(session, room, pass)?;
                recovery.recovered += lost;
                if lost == pass {
                    // There may be more of this queue than one pass takes.
                    recovery.next = Some(Cursor(name));
                    break;
                }
                retention::forget_old(session, room)?;
            }
            Ok(recovery)
        });
        let mut recovery = recovered.await?;
        recovery.recovered += taken;
        Ok(recovery)
    }

    async fn stats(&self) -> Result<Vec<QueueStats>, QueueError> {
        let (mut stats, due) = self.counts().await?;
        if !due.is_empty() {
            self.advance(due).await?;
            stats = self.counts().await?.0;
        }
        for queue in &mut stats {
            let tally = self.database.shared.tally(&QueueName::from(queue.queue.as_str()));
            queue.published = tally.published;
            queue.acked = tally.acked;
            queue.failed = tally.failed;
            queue.lost = tally.lost;
            queue.expired = tally.expired;
            queue.dropped = tally.dropped;
        }
        Ok(stats)
    }

    fn govern(&self, queue: &QueueName, rules: QueueRules) {
        let now = self.database.shared.clock.now().as_microsecond();
        self.database.shared.signals.of(queue).govern(rules, now);
    }

    async fn pause(&self, queue: &QueueName, until: Option<Timestamp>) -> Result<(), QueueError> {
        let until = until.map_or(i64::MAX, Timestamp::as_microsecond);
        self.with_room(queue, move |session, room| {
            session.rooms[room].paused = until;
            session.rooms[room].changed = true;
            // Those who wait set their alarm anew.
            session.rooms[room].wake = true;
        })
        .await
    }

    async fn resume(&self, queue: &QueueName) -> Result<(), QueueError> {
        self.with_room(queue, |session, room| {
            session.rooms[room].paused = 0;
            session.rooms[room].changed = true;
            session.rooms[room].wake = true;
        })
        .await
    }

    async fn tasks(&self, filter: &TaskFilter, cursor: Option<Cursor>, limit: usize) -> Result<TaskPage, QueueError> {
        let due = self.counts().await?.1;
        if !due.is_empty() {
            self.advance(due).await?;
        }
        let (filter, limit) = (filter.clone(), limit.clamp(1, MAXIMUM_PAGE));
        let page = self
            .database
            .read(move |connection| views::tasks(connection, &filter, cursor.as_ref(), limit));
        Ok(page.await?)
    }

    async fn dead_letters(
        &self,
        filter: &DeadFilter,
        cursor: Option<Cursor>,
        limit: usize,
    ) -> Result<DeadPage, QueueError> {
        let due = self.counts().await?.1;
        if !due.is_empty() {
            self.advance(due).await?;
        }
        let (filter, limit, ledger) = (filter.clone(), limit.clamp(1, MAXIMUM_PAGE), self.has_ledger());
        let page = self
            .database
            .read(move |connection| dead::page(connection, &filter, cursor.as_ref(), limit, ledger));
        Ok(page.await?)
    }

    async fn dead_task(&self, queue: &QueueName, id: &TaskId) -> Result<Option<DeadTask>, QueueError> {
        let (queue, id, ledger) = (queue.clone(), id.clone(), self.has_ledger());
        let task = self
            .database
            .read(move |connection| dead::task(connection, &queue, &id, ledger));
        Ok(task.await?)
    }

    async fn retry_dead(&self, queue: &QueueName, ids: &[TaskId]) -> Result<usize, QueueError> {
        let (queue, ids) = (queue.clone(), ids.to_vec());
        let retried = self.database.write(move |session| dead::retry(session, &queue, &ids));
        Ok(retried.await?)
    }

    async fn drop_dead(&self, queue: &QueueName, ids: &[TaskId]) -> Result<usize, QueueError> {
        let (queue, ids) = (queue.clone(), ids.to_vec());
        let dropped = self
            .database
            .write(move |session| dead::drop_all(session, &queue, &ids));
        Ok(dropped.await?)
    }

    fn has_letters_of_ledger(&self) -> bool {
        self.has_ledger()
    }
}

impl SqliteTaskQueue {
    fn has_ledger(&self) -> bool {
        self.database.shared.ledger.load(std::sync::atomic::Ordering::Acquire)
    }
}
