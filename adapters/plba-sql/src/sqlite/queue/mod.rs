//! The task queue in SQLite: the port's verbs, each a job for the writer. What the jobs do is told in the files beside
//! this one, which transaction they share in [`super::writer`].

mod consume;
pub(super) mod dead;
mod effects;
mod end;
mod gone;
mod limits;
mod lines;
mod publish;
mod retention;
mod row;
mod sweep;
mod take;
mod unique;
mod views;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use plba_contracts::clock::Clock;
use plba_tasks::queue::{
    ConsumerId, Cursor, DeadFilter, DeadPage, DeadTask, Delivery, DeliveryToken, Durability, EndError, Ending,
    Exchange, How, PublishError, QueueError, QueueRules, QueueStats, Recovery, TaskFilter, TaskPage, TaskQueue,
};
use plba_tasks::task::{NewTask, QueueName, TaskId};

use self::end::Finish;
use self::publish::{Attempt, Batch, Draft};
use self::take::Wish;
use super::database::Database;
use super::failure::OpenDatabaseError;
use super::ledger::SqliteLedger;
use super::session::Session;
use super::settings::SqliteSettings;

const MAXIMUM_PAGE: usize = 1_000;

/// How long a publisher waits for space before it looks again by itself: at first, and at most.
const FIRST_WAIT: Duration = Duration::from_millis(10);
const LAST_WAIT: Duration = Duration::from_millis(500);

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

    /// Ends what needs no effect, together with whatever else is to be done in the same transaction.
    fn prepare(&self, endings: Vec<Ending>) -> Prepared {
        let now = self.database.shared.clock.now();
        let mut prepared = Prepared::default();
        for (place, ending) in endings.into_iter().enumerate() {
            prepared.outcomes.push(Ok(()));
            match ending {
                Ending {
                    token,
                    how:
                        How::Ack {
                            effect: Some(effect),
                            then,
                        },
                } => {
                    prepared.places.push(place);
                    prepared.completions.push(effects::Completion { token, effect, then });
                }
                ending => match Finish::new(ending, &self.database.shared.settings, now) {
                    Ok(finish) => prepared.finishes.push((place, finish)),
                    Err(error) => prepared.outcomes[place] = Err(error),
                },
            }
        }
        prepared
    }

    async fn publish_batch(&self, batch: Batch) -> Result<Vec<TaskId>, PublishError> {
        let shared = &self.database.shared;
        let queues: Vec<QueueName> = batch.queues().cloned().collect();
        let batch = Arc::new(Mutex::new(batch));
        match self.attempt(&batch, true).await? {
            Attempt::Published(ids) => return Ok(ids),
            Attempt::Crowded => return Err(refused_for_crowd(&lock(&batch))),
            Attempt::Full(_) => {}
        }
        // A queue is full, or others wait already: stand in line, always in the order of names, so that two publishers
        // never wait for each other.
        let signals: Vec<_> = queues.iter().map(|queue| shared.signals.of(queue)).collect();
        let _waiting: Vec<_> = signals.iter().map(super::signals::Signal::wait).collect();
        let mut gates = Vec::with_capacity(signals.len());
        for signal in &signals {
            gates.push(Arc::clone(&signal.gate).lock_owned().await);
        }
        let mut wait = FIRST_WAIT;
        loop {
            lock(&batch).restamp(shared.clock.now());
            match self.attempt(&batch, false).await? {
                Attempt::Published(ids) => return Ok(ids),
                Attempt::Crowded => return Err(refused_for_crowd(&lock(&batch))),
                Attempt::Full(signal) => {
                    // Space that another process makes is not told of here.
                    let told = tokio::time::timeout(wait, signal.space.notified()).await;
                    wait = if told.is_ok() {
                        FIRST_WAIT
                    } else {
                        (wait * 2).min(LAST_WAIT)
                    };
                }
            }
        }
    }

    async fn attempt(&self, batch: &Arc<Mutex<Batch>>, polite: bool) -> Result<Attempt, PublishError> {
        let batch = Arc::clone(batch);
        let attempt = self
            .database
            .write(move |session| publish::publish(session, &lock(&batch), polite));
        Ok(attempt.await?)
    }
}

/// A batch that waits is its publisher's and, now and then, the writer's; nobody panics with it half changed.
fn lock(batch: &Mutex<Batch>) -> MutexGuard<'_, Batch> {
    batch.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Endings, sorted by what they need.
#[derive(Default)]
struct Prepared {
    outcomes: Vec<Result<(), EndError>>,
    finishes: Vec<(usize, Finish)>,
    completions: Vec<effects::Completion>,
    /// Where the completions stand.
    places: Vec<usize>,
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

fn refused_for_crowd(batch: &Batch) -> PublishError {
    let reason = "there are as many named queues as `queues` allows; use fewer names".to_owned();
    match batch.first() {
        Some(task) => refused(task, reason),
        None => PublishError::Unknown { source: reason.into() },
    }
}

fn refused(task: &NewTask, reason: String) -> PublishError {
    PublishError::Refused {
        queue: task.queue.clone(),
        kind: task.kind.clone().into_owned(),
        reason,
    }
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
        let shared = &self.database.shared;
        for task in &tasks {
            publish::check(&shared.settings, task).map_err(|reason| refused(task, reason))?;
        }
        let now = shared.clock.now();
        let drafts = tasks.into_iter().map(|task| Draft::new(task, now)).collect();
        self.publish_batch(Batch::new(drafts)).await
    }

    async fn consume(&self, queue: &QueueName, consumer: &ConsumerId, max: usize) -> Result<Vec<Delivery>, QueueError> {
        consume::consume(&self.database.shared, queue, consumer, max).await
    }

    async fn end(&self, endings: Vec<Ending>) -> Result<Vec<Result<(), EndError>>, QueueError> {
        let Prepared {
            mut outcomes,
            mut finishes,
            completions,
            places,
        } = self.prepare(endings);
        if !finishes.is_empty() {
            let ended = self.database.write(move |session| {
                let end = |(place, finish): &mut (usize, Finish)| Ok((*place, end::end(session, finish)?));
                finishes.iter_mut().map(end).collect::<rusqlite::Result<Vec<_>>>()
            });
            for (place, outcome) in ended.await? {
                outcomes[place] = outcome;
            }
        }
        if !completions.is_empty() {
            let ended = effects::complete(&self.database.shared, completions).await;
            for (place, outcome) in places.into_iter().zip(ended) {
                outcomes[place] = outcome;
            }
        }
        Ok(outcomes)
    }

    async fn exchange(&self, endings: Vec<Ending>, queue: &QueueName, consumer: &ConsumerId, max: usize) -> Exchange {
        let shared = &self.database.shared;
        let wish = (max > 0).then(|| Wish {
            queue: queue.clone(),
            holder: consumer.to_string().into(),
            presence: consumer.incarnation.presence.clone(),
            max,
        });
        let Prepared {
            mut outcomes,
            finishes,
            completions,
            places,
        } = self.prepare(endings);
        if !completions.is_empty() {
            let ended = effects::complete(shared, completions).await;
            for (place, outcome) in places.into_iter().zip(ended) {
                outcomes[place] = outcome;
            }
        }
        if finishes.is_empty() && wish.is_none() {
            return Exchange {
                ended: Ok(outcomes),
                taken: Ok(Vec::new()),
            };
        }
        match consume::exchange(shared, finishes, wish).await {
            Ok((ended, taken)) => {
                for (place, outcome) in ended {
                    outcomes[place] = outcome;
                }
                Exchange {
                    ended: Ok(outcomes),
                    taken,
                }
            }
            Err(failure) => Exchange {
                ended: Err(failure.clone().into()),
                taken: Err(failure.into()),
            },
        }
    }

    async fn extend(&self, tokens: &[DeliveryToken]) -> Result<Vec<Result<(), EndError>>, QueueError> {
        let tokens = tokens.to_vec();
        let extended = self.database.write(move |session| {
            let extend = |token: &DeliveryToken| end::extend(session, token);
            tokens.iter().map(extend).collect::<rusqlite::Result<Vec<bool>>>()
        });
        let outcome = |held: bool| held.then_some(()).ok_or(EndError::LeaseLost);
        Ok(extended.await?.into_iter().map(outcome).collect())
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

    async fn retry_dead(&self, ids: &[TaskId]) -> Result<usize, QueueError> {
        let ids = ids.to_vec();
        Ok(self.database.write(move |session| dead::retry(session, &ids)).await?)
    }

    async fn drop_dead(&self, ids: &[TaskId]) -> Result<usize, QueueError> {
        let ids = ids.to_vec();
        Ok(self
            .database
            .write(move |session| dead::drop_all(session, &ids))
            .await?)
    }
}

impl SqliteTaskQueue {
    fn has_ledger(&self) -> bool {
        self.database.shared.ledger.load(std::sync::atomic::Ordering::Acquire)
    }
}
