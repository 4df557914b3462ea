//! The task queue in memory: the reference implementation of the port. Tasks end with the process; those of sources are
//! kept by their ledger, which this queue feeds with deliveries and endings, and are published again after a restart.

mod consume;
mod dead;
mod end;
mod entry;
mod gate;
mod holders;
mod keys;
mod leases;
mod publish;
mod retention;
mod room;
mod settings;
mod signals;
mod tasks;
mod uniques;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use plba_contracts::clock::Clock;
use tokio::time::Instant;

pub use self::settings::MemorySettings;
use crate::ledger::{LedgerError, SourceLedger};
use crate::queue::{
    ConsumerId, Cursor, DeadFilter, DeadPage, DeadTask, Delivery, DeliveryToken, Durability, EndError, Ending,
    Exchange, PublishError, QueueError, QueueRules, QueueStats, Recovery, TaskFilter, TaskPage, TaskQueue,
};
use crate::task::{NewTask, QueueName, TaskId};
use room::{Bounds, Now, Room};

/// How many leases that ran out are dealt with in one go; the lock is never held for longer.
const EXPIRED_AT_ONCE: usize = 1_000;

/// A task queue in memory.
///
/// Its timers are tokio's, so that paused tests rule them; the clock stamps histories only. It spawns no task and no
/// timer of its own: consumers do on their way what is due.
#[derive(Clone)]
pub struct InMemoryTaskQueue {
    inner: Arc<Inner>,
}

struct Inner {
    settings: MemorySettings,
    clock: Arc<dyn Clock>,
    ledger: Option<Arc<dyn SourceLedger>>,
    opened: Instant,
    /// Where ids come from. Not part of the state: they are made before that is locked.
    ids: Mutex<fastrand::Rng>,
    state: Mutex<State>,
}

struct State {
    rooms: BTreeMap<QueueName, Room>,
    /// Rules of queues that may not be there yet.
    rules: BTreeMap<QueueName, QueueRules>,
    /// When the ledger's dead letters were looked after; never yet, if `None`.
    retained: Option<Duration>,
}

impl InMemoryTaskQueue {
    /// A queue without a ledger: for tasks that don't come from sources, and for tests.
    ///
    /// # Errors
    /// The settings' faults.
    pub fn new(settings: MemorySettings, clock: Arc<dyn Clock>) -> Result<Self, String> {
        Self::build(settings, clock, None)
    }

    /// A queue that keeps a ledger in step: for tasks with an origin, deliveries are counted there before they are handed
    /// out, and endings recorded before they take effect; their dead letters are the ledger's.
    ///
    /// # Errors
    /// The settings' faults.
    pub fn with_ledger(
        settings: MemorySettings,
        clock: Arc<dyn Clock>,
        ledger: Arc<dyn SourceLedger>,
    ) -> Result<Self, String> {
        Self::build(settings, clock, Some(ledger))
    }

    fn build(
        settings: MemorySettings,
        clock: Arc<dyn Clock>,
        ledger: Option<Arc<dyn SourceLedger>>,
    ) -> Result<Self, String> {
        settings.validate()?;
        let ids = settings.seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed);
        let (rooms, rules) = (BTreeMap::new(), BTreeMap::new());
        let retained = None;
        let state = Mutex::new(State { rooms, rules, retained });
        let opened = Instant::now();
        let inner = Inner {
            settings,
            clock,
            ledger,
            opened,
            ids: Mutex::new(ids),
            state,
        };
        Ok(Self { inner: Arc::new(inner) })
    }
}

impl Inner {
    // A panic while the lock is held would be a fault of this module; the state's steps are each complete in themselves,
    // so going on beats stopping every worker.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A source of ids of its own for a batch.
    fn ids(&self) -> fastrand::Rng {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).fork()
    }

    fn span(&self) -> Duration {
        self.opened.elapsed()
    }

    fn now(&self) -> Now {
        Now {
            span: self.span(),
            stamp: self.clock.now(),
        }
    }

    fn bounds(&self) -> Bounds {
        Bounds {
            capacity: self.settings.capacity,
            bytes: self.settings.bytes,
            dead: self.settings.dead_capacity,
            crashes: self.settings.maximum_crashes,
            lease: self.settings.lease,
            ledger: self.ledger.is_some(),
        }
    }
}

impl State {
    /// The queue with this name, made if need be. Callers have checked that there may be one more.
    fn room(&mut self, name: &QueueName, inner: &Inner) -> &mut Room {
        let rules = &self.rules;
        self.rooms.entry(name.clone()).or_insert_with(|| {
            let rules = rules.get(name).cloned().unwrap_or_default();
            Room::new(inner.bounds(), rules)
        })
    }

    /// The same, unless there are too many already.
    fn room_for(&mut self, name: &QueueName, inner: &Inner) -> Result<&mut Room, QueueError> {
        if self.rooms.len() >= inner.settings.queues && !self.rooms.contains_key(name) {
            return Err(QueueError::new(format!(
                "queue \"{name}\" can't be made: there are {} named queues, as many as `queues` allows",
                self.rooms.len()
            )));
        }
        Ok(self.room(name, inner))
    }
}

impl From<LedgerError> for QueueError {
    fn from(error: LedgerError) -> Self {
        Self::new(error)
    }
}

#[async_trait]
impl TaskQueue for InMemoryTaskQueue {
    fn durability(&self) -> Durability {
        Durability::Volatile
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
        Ok(end::end(&self.inner, endings).await)
    }

    async fn exchange(&self, endings: Vec<Ending>, queue: &QueueName, consumer: &ConsumerId, max: usize) -> Exchange {
        end::exchange(&self.inner, endings, queue, consumer, max).await
    }

    async fn extend(&self, tokens: &[DeliveryToken]) -> Result<Vec<Result<(), EndError>>, QueueError> {
        let at = self.inner.now();
        let mut state = self.inner.lock();
        let extend = |token: &DeliveryToken| {
            let room = state.rooms.get_mut(&token.queue).ok_or(EndError::LeaseLost)?;
            room.advance(at, EXPIRED_AT_ONCE);
            room.extend(token.fence, at.span)
                .then_some(())
                .ok_or(EndError::LeaseLost)
        };
        Ok(tokens.iter().map(extend).collect())
    }

    async fn recover(&self, cursor: Option<Cursor>, limit: usize) -> Result<Recovery, QueueError> {
        consume::recover(&self.inner, cursor, limit).await
    }

    async fn stats(&self) -> Result<Vec<QueueStats>, QueueError> {
        let now = self.inner.now();
        let mut state = self.inner.lock();
        let stats = state.rooms.iter_mut().map(|(name, room)| {
            room.advance(now, EXPIRED_AT_ONCE);
            room.offer_space();
            if room.calls(now.span) {
                room.signals.ready.notify_one();
            }
            room.stats(name.as_str(), now.span)
        });
        Ok(stats.collect())
    }

    fn govern(&self, queue: &QueueName, rules: QueueRules) {
        let now = self.inner.now();
        let mut state = self.inner.lock();
        state.rules.insert(queue.clone(), rules.clone());
        if let Some(room) = state.rooms.get_mut(queue) {
            room.govern(rules, now);
            // All that wait have timers by the old rules.
            room.signals.ready.notify_waiters();
        }
    }

    async fn pause(&self, queue: &QueueName, until: Option<Timestamp>) -> Result<(), QueueError> {
        let now = self.inner.now();
        let mut state = self.inner.lock();
        let room = state.room_for(queue, &self.inner)?;
        room.pause(until, now);
        // They wait until the end of the pause.
        room.signals.ready.notify_waiters();
        Ok(())
    }

    async fn resume(&self, queue: &QueueName) -> Result<(), QueueError> {
        let mut state = self.inner.lock();
        if let Some(room) = state.rooms.get_mut(queue) {
            room.resume();
            room.signals.ready.notify_one();
        }
        Ok(())
    }

    async fn tasks(&self, filter: &TaskFilter, cursor: Option<Cursor>, limit: usize) -> Result<TaskPage, QueueError> {
        Ok(tasks::page(&self.inner, filter, cursor, limit))
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
        dead::retry(&self.inner, queue, ids).await
    }

    async fn drop_dead(&self, queue: &QueueName, ids: &[TaskId]) -> Result<usize, QueueError> {
        dead::drop(&self.inner, queue, ids).await
    }

    fn has_letters_of_ledger(&self) -> bool {
        self.inner.ledger.is_some()
    }
}
