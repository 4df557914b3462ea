//! The task queue in PostgreSQL: what it consists of, and how it is opened. The verbs are in the files of their names, what
//! they do to the tables in `sql/`.

mod combine;
mod consume;
mod decode;
mod effects;
mod end;
mod ending;
mod ends;
mod exchange;
mod extend;
mod gone;
mod ids;
mod people;
mod publish;
mod record;
mod room;
mod texts;
mod token;
mod upkeep;
mod wake;

use std::collections::HashMap;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use plba_contracts::BoxError;
use plba_contracts::clock::Clock;
use plba_tasks::queue::presence::Watch;
use plba_tasks::queue::{
    ConsumerId, Cursor, DeadFilter, DeadPage, DeadTask, Delivery, DeliveryToken, Durability, EndError, Ending,
    Exchange, Presence, PublishError, QueueError, QueueRules, QueueStats, Recovery, TaskFilter, TaskPage, TaskQueue,
};
use plba_tasks::task::{NewTask, QueueName, TaskId};
use tokio::task::AbortHandle;
use tokio_postgres::types::Type;

use self::combine::Combiner;
use self::ids::Ids;
use self::room::Room;
use self::texts::Texts;
use super::fault::{Fault, Kind};
use super::link::Target;
use super::pool::Pool;
use super::settings::PostgresSettings;
use super::{check, schema};

/// How many named queues there may be.
const QUEUES: usize = 10_000;
/// How many consumers one process may have had.
const HOLDERS: usize = 10_000;

/// Tasks in PostgreSQL, shared by any number of processes. Cheap to clone; the connections end with the last clone.
///
/// - Tasks survive what the server's settings let them survive; they are checked when it is opened. Leases need not: a server
///   that loses its power, or is killed, may forget those of the last 0.6 s (three times `wal_writer_delay`), with their count
///   of deliveries. Then the task is ready again, and the token that was forgotten ends nothing.
/// - Every verb is one statement and one round trip, so that a dropped call leaves no transaction and no lock behind; what
///   several callers do at once goes together.
/// - An effect gets a [`PostgresTransaction`](super::PostgresTransaction): see [`done_with`](super::done_with).
/// - The time is the server's.
#[derive(Clone)]
pub struct PostgresTaskQueue {
    inner: Arc<Inner>,
}

struct Inner {
    settings: PostgresSettings,
    target: Arc<Target>,
    texts: Texts,
    /// The notification channel, if consumers are told by the server.
    channel: Option<String>,
    /// Publishes, takes and ends.
    verbs: Pool,
    /// Extends leases, and nothing else.
    leases: Pool,
    /// Shows people what there is.
    looks: Pool,
    /// Runs effects.
    handlers: Pool,
    publishes: Combiner<publish::Request>,
    ends: Combiner<end::Request>,
    /// For tests: a time that is not the server's.
    clock: Option<Arc<dyn Clock>>,
    ids: Mutex<Ids>,
    known: Mutex<Known>,
    /// When to look for holders that are gone.
    watch: Watch,
    /// How many more publishes ask first whether their ids are known: one has lately met some that were.
    careful: AtomicU32,
    /// Held while a consumer is recorded: of many that begin at once one does it.
    recording: tokio::sync::Mutex<()>,
    background: Mutex<Vec<AbortHandle>>,
}

/// What this process knows of the tables. It grows with the names that are used, which are bounded.
#[derive(Default)]
struct Known {
    rooms: HashMap<QueueName, Arc<Room>>,
    numbers: HashMap<i32, Arc<Room>>,
    holders: HashMap<ConsumerId, i32>,
    rules: HashMap<QueueName, QueueRules>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        let background = self.background.get_mut().unwrap_or_else(PoisonError::into_inner);
        background.iter().for_each(AbortHandle::abort);
    }
}

impl PostgresTaskQueue {
    /// Connects, brings the tables up to date, and checks the server. Must be called within a runtime, on which its
    /// connections run from then on.
    ///
    /// # Errors
    /// What is wrong with the settings, the server or the schema, and what to do.
    ///
    /// # Cancel safety
    /// A dropped call leaves nothing open; the tables may have been made.
    pub async fn open(settings: PostgresSettings) -> Result<Self, BoxError> {
        Self::open_at(settings, None).await
    }

    /// As [`open`](Self::open), for tests: with a time of their own instead of the server's. Consumers that wait learn by
    /// [`look_again`](Self::look_again) that it has been moved.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_with_clock(settings: PostgresSettings, clock: Arc<dyn Clock>) -> Result<Self, BoxError> {
        Self::open_at(settings, Some(clock)).await
    }

    /// Consumers of this process that wait look now whether there is something for them.
    pub fn look_again(&self) {
        self.inner.all_rooms().iter().for_each(|room| room.ready.notify_one());
    }

    async fn open_at(settings: PostgresSettings, clock: Option<Arc<dyn Clock>>) -> Result<Self, BoxError> {
        settings.validate()?;
        let target = Arc::new(Target::new(settings.clone())?);
        schema::migrate(&target).await?;
        let pool = |purpose, size| Pool::new(Arc::clone(&target), purpose, size);
        let verbs = pool("the queue's verbs (`pool`)", settings.pool);
        check::check(&verbs, settings.durability).await?;
        let flights = settings.pool.div_ceil(2);
        let channel = settings.listen.then(|| format!("{}_tasks", settings.schema));
        let inner = Arc::new(Inner {
            texts: Texts::new(&settings.schema),
            leases: pool("extending leases", 1),
            looks: pool("views", 1),
            handlers: pool("effects (`handlers`)", settings.handlers),
            verbs,
            target: Arc::clone(&target),
            publishes: Combiner::new(flights),
            ends: Combiner::new(flights),
            clock,
            ids: Mutex::new(Ids::new()),
            known: Mutex::default(),
            watch: Watch::default(),
            careful: AtomicU32::new(0),
            recording: tokio::sync::Mutex::default(),
            background: Mutex::default(),
            channel: channel.clone(),
            settings,
        });
        let weak = Arc::downgrade(&inner);
        if let Some(channel) = channel {
            inner.spawn(wake::listen(Weak::clone(&weak), target, channel));
        }
        inner.spawn(upkeep::upkeep(weak));
        Ok(Self { inner })
    }
}

impl Inner {
    fn spawn(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) {
        let handle = self.target.executor().spawn(task).abort_handle();
        self.background
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(handle);
    }

    fn memory(&self) -> MutexGuard<'_, Known> {
        // Entries are whole; a panic leaves at most one out.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time, if it is not the server's.
    fn now(&self) -> Option<i64> {
        self.clock.as_ref().map(|clock| clock.now().as_microsecond())
    }

    fn make_id(&self) -> TaskId {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).next()
    }

    fn known(&self, number: i32) -> Option<Arc<Room>> {
        self.memory().numbers.get(&number).cloned()
    }

    fn all_rooms(&self) -> Vec<Arc<Room>> {
        self.memory().numbers.values().cloned().collect()
    }

    fn rules(&self, queue: &QueueName) -> QueueRules {
        let rules = self.memory().rules.get(queue).cloned();
        rules.unwrap_or_else(|| QueueRules {
            dead_limit: self.settings.dead_capacity,
            ..QueueRules::default()
        })
    }

    /// The named queue; its row is made when it is first used.
    async fn room(&self, name: &QueueName) -> Result<Arc<Room>, Fault> {
        if let Some(room) = self.memory().rooms.get(name) {
            return Ok(Arc::clone(room));
        }
        if self.memory().rooms.len() >= QUEUES {
            let text =
                format!("queue \"{name}\" can't be used: this process uses {QUEUES} others already; use fewer names");
            return Err(Fault::new(Kind::Statement, text));
        }
        // Made by somebody else at the same time, it is seen only by the next statement.
        let mut number = None;
        for _ in 0..3 {
            let values = [(&name.as_str() as _, Type::TEXT)];
            let rows = self.verbs.query(&self.texts.queue, &values).await?;
            if let Some(row) = rows.first() {
                number = Some(row.try_get::<_, i32>(0)?);
                break;
            }
        }
        let number = number.ok_or_else(|| Fault::new(Kind::Later, "the queue could not be made; try again"))?;
        let mut known = self.memory();
        let made = || Arc::new(Room::new(name.clone(), number));
        let room = Arc::clone(known.rooms.entry(name.clone()).or_insert_with(made));
        known.numbers.insert(number, Arc::clone(&room));
        Ok(room)
    }

    /// The number of a consumer.
    async fn holder(&self, consumer: &ConsumerId) -> Result<i32, Fault> {
        if let Some(number) = self.memory().holders.get(consumer) {
            return Ok(*number);
        }
        let _recording = self.recording.lock().await;
        if let Some(number) = self.memory().holders.get(consumer) {
            return Ok(*number);
        }
        let name = consumer.to_string().replace('\0', "\u{fffd}");
        let (now, presence) = (self.now(), consumer.incarnation.presence.as_ref());
        let (place, process) = (presence.map(Presence::place), presence.map(Presence::to_string));
        let values = [
            (&name as _, Type::TEXT),
            (&now as _, Type::INT8),
            (&place as _, Type::TEXT),
            (&process as _, Type::TEXT),
        ];
        let rows = self.verbs.query(&self.texts.holder, &values).await?;
        let Some(row) = rows.first() else {
            return Err(Fault::new(Kind::Later, "the consumer could not be recorded; try again"));
        };
        let number = row.try_get(0)?;
        let mut known = self.memory();
        if known.holders.len() >= HOLDERS {
            known.holders.clear();
        }
        known.holders.insert(consumer.clone(), number);
        Ok(number)
    }

    /// What is wrong with a task, for this backend.
    fn check(&self, task: &NewTask) -> Result<(), String> {
        task.check()?;
        let (size, limit) = (task.size(), self.settings.task_bytes);
        if size > limit {
            return Err(format!(
                "it takes {size} bytes and a task may take {limit}; publish where the data is, not the data"
            ));
        }
        Ok(())
    }
}

impl From<Fault> for QueueError {
    fn from(fault: Fault) -> Self {
        Self::new(fault)
    }
}

impl From<Fault> for PublishError {
    fn from(fault: Fault) -> Self {
        Self::Unknown { source: fault.into() }
    }
}

#[async_trait]
impl TaskQueue for PostgresTaskQueue {
    fn durability(&self) -> Durability {
        self.inner.settings.durability
    }

    fn lease(&self) -> Duration {
        self.inner.settings.lease
    }

    async fn publish(&self, tasks: Vec<NewTask>) -> Result<Vec<TaskId>, PublishError> {
        publish::publish(&self.inner, tasks).await
    }

    async fn consume(&self, queue: &QueueName, consumer: &ConsumerId, max: usize) -> Result<Vec<Delivery>, QueueError> {
        consume::consume(&self.inner, queue, consumer, max).await
    }

    async fn end(&self, endings: Vec<Ending>) -> Result<Vec<Result<(), EndError>>, QueueError> {
        end::end(&self.inner, endings).await
    }

    async fn exchange(&self, endings: Vec<Ending>, queue: &QueueName, consumer: &ConsumerId, max: usize) -> Exchange {
        exchange::exchange(&self.inner, endings, queue, consumer, max).await
    }

    async fn extend(&self, tokens: &[DeliveryToken]) -> Result<Vec<Result<(), EndError>>, QueueError> {
        extend::extend(&self.inner, tokens).await
    }

    async fn recover(&self, cursor: Option<Cursor>, limit: usize) -> Result<Recovery, QueueError> {
        upkeep::recover(&self.inner, cursor, limit).await
    }

    async fn stats(&self) -> Result<Vec<QueueStats>, QueueError> {
        people::stats(&self.inner).await
    }

    fn govern(&self, queue: &QueueName, rules: QueueRules) {
        let mut known = self.inner.memory();
        known.rules.insert(queue.clone(), rules);
        if let Some(room) = known.rooms.get(queue) {
            room.ready.notify_one();
        }
    }

    async fn pause(&self, queue: &QueueName, until: Option<Timestamp>) -> Result<(), QueueError> {
        let until = until.map_or(i64::MAX, Timestamp::as_microsecond);
        upkeep::pause(&self.inner, queue, Some(until)).await
    }

    async fn resume(&self, queue: &QueueName) -> Result<(), QueueError> {
        upkeep::pause(&self.inner, queue, None).await
    }

    async fn tasks(&self, filter: &TaskFilter, cursor: Option<Cursor>, limit: usize) -> Result<TaskPage, QueueError> {
        people::tasks(&self.inner, filter, cursor, limit).await
    }

    async fn dead_letters(
        &self,
        filter: &DeadFilter,
        cursor: Option<Cursor>,
        limit: usize,
    ) -> Result<DeadPage, QueueError> {
        people::dead_letters(&self.inner, filter, cursor, limit).await
    }

    async fn dead_task(&self, queue: &QueueName, id: &TaskId) -> Result<Option<DeadTask>, QueueError> {
        people::dead_task(&self.inner, queue, id).await
    }

    async fn retry_dead(&self, queue: &QueueName, ids: &[TaskId]) -> Result<usize, QueueError> {
        people::retry_dead(&self.inner, queue, ids).await
    }

    async fn drop_dead(&self, queue: &QueueName, ids: &[TaskId]) -> Result<usize, QueueError> {
        people::drop_dead(&self.inner, queue, ids).await
    }
}
