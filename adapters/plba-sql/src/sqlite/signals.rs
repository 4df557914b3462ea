//! Who waits for a named queue in this process, and the rules that this process gave it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use plba_tasks::queue::QueueRules;
use plba_tasks::task::QueueName;
use tokio::sync::Notify;

/// The signals of every queue that was ever used here.
#[derive(Default)]
pub(super) struct Signals {
    queues: Mutex<HashMap<QueueName, Arc<Signal>>>,
}

/// The signals of one queue.
#[derive(Default)]
pub(super) struct Signal {
    /// There may be something to take.
    pub(super) ready: Notify,
    /// There may be space.
    pub(super) space: Notify,
    /// Publishers that wait for space stand in line here.
    pub(super) gate: Arc<tokio::sync::Mutex<()>>,
    waiting: AtomicUsize,
    rules: Mutex<Option<Arc<QueueRules>>>,
    /// When the rules were given, in microseconds since 1970, until somebody takes by them; 0 afterwards.
    revised: AtomicI64,
    /// When somebody last looked after what is buried in the ledger, in microseconds since 1970.
    looked: AtomicI64,
}

/// How often it is looked after what is buried in the ledger.
const LOOKS: i64 = 60_000_000;

impl Signals {
    // Every step under the lock is complete in itself.
    fn lock(&self) -> MutexGuard<'_, HashMap<QueueName, Arc<Signal>>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn of(&self, queue: &QueueName) -> Arc<Signal> {
        let mut queues = self.lock();
        if let Some(signal) = queues.get(queue) {
            return Arc::clone(signal);
        }
        Arc::clone(queues.entry(queue.clone()).or_default())
    }

    /// Something has changed, nobody knows what: another process has written.
    pub(super) fn wake_all(&self) {
        for signal in self.lock().values() {
            signal.ready.notify_one();
            signal.space.notify_one();
        }
    }
}

impl Signal {
    /// Whether it is time to look after what is buried in the ledger; then it is not for a while.
    pub(super) fn may_look(&self, now: i64) -> bool {
        let due = |looked: i64| now.abs_diff(looked) >= LOOKS.unsigned_abs();
        let claim = |looked| due(looked).then_some(now);
        self.looked
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, claim)
            .is_ok()
    }

    pub(super) fn govern(&self, rules: QueueRules, now: i64) {
        *self.rules.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(rules));
        self.revised.store(now, Ordering::Release);
        // All that wait have alarms by the old rules.
        self.ready.notify_waiters();
        self.ready.notify_one();
    }

    /// When the rules were given, if nobody has taken by them yet.
    pub(super) fn revised(&self) -> Option<i64> {
        Some(self.revised.load(Ordering::Acquire)).filter(|at| *at != 0)
    }

    /// What waited by the old rules has been seen to.
    pub(super) fn applied(&self) {
        self.revised.store(0, Ordering::Release);
    }

    pub(super) fn rules(&self) -> Option<Arc<QueueRules>> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether publishers wait for space.
    pub(super) fn is_crowded(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > 0
    }

    /// One more publisher waits, until the guard is dropped.
    pub(super) fn wait(self: &Arc<Self>) -> Waiting {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        Waiting(Arc::clone(self))
    }
}

pub(super) struct Waiting(Arc<Signal>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
        // Space that this publisher was told of, and did not use, is the next one's.
        self.0.space.notify_one();
    }
}
