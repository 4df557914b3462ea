//! The task queue on Redis: what its calls share, and the port's verbs, each of which lives in a file of its own.

mod append;
mod consume;
mod dead;
mod effect;
mod end;
mod exchange;
mod extend;
mod ids;
mod listing;
mod native;
mod notes;
mod place;
mod publish;
mod reap;
mod receive;
mod recover;
mod room;
mod stats;

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use plba_contracts::clock::Clock;
use plba_tasks::queue::{
    ConsumerId, Cursor, DeadFilter, DeadPage, DeadTask, Delivery, DeliveryToken, Durability, EndError, Ending,
    Exchange, PublishError, QueueError, QueueRules, QueueStats, Recovery, TaskFilter, TaskPage, TaskQueue,
};
use plba_tasks::task::{NewTask, QueueName, TaskId};

use self::ids::Ids;
use self::place::Holders;
use self::room::Room;
use crate::check::check;
use crate::failure::Failure;
use crate::link::{Link, OpenError, Shared};
use crate::script::Script;
use crate::settings::RedisSettings;
use crate::status::RedisStatus;

/// How many named queues one process may use.
const QUEUES: usize = 10_000;

/// A task queue on Redis, for any number of processes. Clones are the same queue.
///
/// All moves are made by scripts, each of which is one step of the server. Every task that is handed out is an entry of a
/// stream, or a member of one, that is handed out once: who gets it again, because its lease ran out or it was given back,
/// gets another entry. So the entry is the delivery's fence.
///
/// Redis has no transaction that an application could write in: an effect (`Outcome::done_with`) gets `()`. It is run while
/// the lease is held, before the ack; if its process dies in between, it is run again with the task. Where the effect and
/// the ack must be one step, keep the queue in the data's own database (`plba-sql`).
#[derive(Clone)]
pub struct RedisTaskQueue {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    link: Link,
    /// Publishes that wait for replicas hold up what comes after them on their connection.
    confirmed: Option<Link>,
    durability: Durability,
    rooms: Mutex<HashMap<QueueName, Arc<Room>>>,
    holders: Holders,
    ids: Ids,
    fence: AtomicU64,
}

impl RedisTaskQueue {
    /// Opens the queue, and checks that the server is one that it can be kept on.
    ///
    /// # Errors
    /// [`OpenError`]: the server can't be reached, is a replica, is too old, evicts keys, or keeps less on disk than the
    /// settings require; the message says what to do.
    ///
    /// # Cancel safety
    /// A dropped call leaves nothing open.
    pub async fn open(settings: RedisSettings) -> Result<Self, OpenError> {
        Self::open_with(Shared::new(settings, None)?, fastrand::u64(..)).await
    }

    /// Opens a queue whose time is the clock's instead of the server's: for tests. The clock must lie between 2026 and the
    /// present, and never go back.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_with_clock(settings: RedisSettings, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        Self::open_with(Shared::new(settings, Some(clock))?, fastrand::u64(..)).await
    }

    pub(crate) async fn open_with(shared: Arc<Shared>, seed: u64) -> Result<Self, OpenError> {
        let link = Link::new(&shared);
        let durability = check(&link).await?;
        let confirmed = (shared.settings.wait_replicas > 0).then(|| Link::new(&shared));
        Ok(Self {
            inner: Arc::new(Inner {
                link,
                confirmed,
                durability,
                rooms: Mutex::default(),
                holders: Holders::default(),
                ids: Ids::new(seed),
                // Apart from those of other handles in this process.
                fence: AtomicU64::new(fastrand::u64(..) >> 1),
                shared,
            }),
        })
    }

    /// What has happened with Redis since the queue was opened.
    pub fn status(&self) -> RedisStatus {
        self.inner.shared.counters.status()
    }
}

impl Inner {
    /// What this process knows of a queue.
    fn room(&self, queue: &QueueName) -> Result<Arc<Room>, QueueError> {
        let mut rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(room) = rooms.get(queue) {
            return Ok(Arc::clone(room));
        }
        if rooms.len() >= QUEUES {
            return Err(QueueError::new(format!(
                "queue \"{queue}\" can't be used: this process uses {QUEUES} named queues already; use fewer names"
            )));
        }
        let room = Arc::new(Room::new(queue.clone(), &self.shared));
        rooms.insert(queue.clone(), Arc::clone(&room));
        Ok(room)
    }

    /// The names of all queues of the backend, in order.
    async fn names(&self) -> Result<Vec<QueueName>, Failure> {
        let command = redis::cmd("SMEMBERS").arg(self.shared.keys.queues()).to_owned();
        let answer = self.link.ask(&command, self.shared.settings.response_timeout).await?;
        let redis::Value::Array(members) = answer else {
            return Err(Failure::answer("SMEMBERS"));
        };
        let mut names: Vec<QueueName> = members
            .into_iter()
            .filter_map(crate::reply::text)
            .map(QueueName::from)
            .collect();
        names.sort_unstable();
        Ok(names)
    }
}

impl From<Failure> for QueueError {
    fn from(failure: Failure) -> Self {
        Self::new(failure)
    }
}

#[async_trait]
impl TaskQueue for RedisTaskQueue {
    fn durability(&self) -> Durability {
        self.inner.durability
    }

    fn lease(&self) -> Duration {
        self.inner.shared.settings.lease
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
        end::exchange(&self.inner, endings, queue, consumer, max).await
    }

    async fn extend(&self, tokens: &[DeliveryToken]) -> Result<Vec<Result<(), EndError>>, QueueError> {
        extend::extend(&self.inner, tokens).await
    }

    async fn recover(&self, cursor: Option<Cursor>, limit: usize) -> Result<Recovery, QueueError> {
        recover::recover(&self.inner, cursor, limit).await
    }

    async fn stats(&self) -> Result<Vec<QueueStats>, QueueError> {
        stats::stats(&self.inner).await
    }

    fn govern(&self, queue: &QueueName, rules: QueueRules) {
        if let Ok(room) = self.inner.room(queue) {
            room.govern(rules);
        }
    }

    async fn pause(&self, queue: &QueueName, until: Option<Timestamp>) -> Result<(), QueueError> {
        let until = until.map(|until| until.as_microsecond() as f64 / 1000.0);
        let until = until.map_or_else(|| "inf".to_owned(), |until| format!("{until:.3}"));
        pause(&self.inner, queue, &until).await
    }

    async fn resume(&self, queue: &QueueName) -> Result<(), QueueError> {
        pause(&self.inner, queue, "").await
    }

    async fn tasks(&self, filter: &TaskFilter, cursor: Option<Cursor>, limit: usize) -> Result<TaskPage, QueueError> {
        listing::tasks(&self.inner, filter, cursor, limit).await
    }

    async fn dead_letters(
        &self,
        filter: &DeadFilter,
        cursor: Option<Cursor>,
        limit: usize,
    ) -> Result<DeadPage, QueueError> {
        dead::page(&self.inner, filter, cursor, limit).await
    }

    async fn dead_task(&self, queue: &QueueName, id: &TaskId) -> Result<Option<DeadTask>, QueueError> {
        dead::task(&self.inner, queue, id).await
    }

    async fn retry_dead(&self, queue: &QueueName, ids: &[TaskId]) -> Result<usize, QueueError> {
        dead::each(&self.inner, "retry", queue, ids).await
    }

    async fn drop_dead(&self, queue: &QueueName, ids: &[TaskId]) -> Result<usize, QueueError> {
        dead::each(&self.inner, "drop", queue, ids).await
    }
}

async fn pause(inner: &Inner, queue: &QueueName, until: &str) -> Result<(), QueueError> {
    let room = inner.room(queue)?;
    let mut arguments = room.arguments(&inner.shared);
    arguments.push(until);
    inner.link.call(Script::Pause, room.keys(), &arguments).await?;
    Ok(())
}
