//! What an instance has in hand, and what became of it. Who looks at that, and when it is too long, is the runtime's
//! business.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::Clock;

/// Where an instance says what it has in hand, so that status, the stall watchdog and the stop report can name it.
///
/// Between [`begin`](Self::begin) and the drop of its guard the instance is *busy*, and a watchdog may call it hung;
/// otherwise it is idle, which is never a stall.
#[derive(Clone)]
pub struct Activity(Arc<Shared>);

struct Shared {
    clock: Arc<dyn Clock>,
    current: Mutex<Current>,
}

/// What is in hand, or was last.
#[derive(Default)]
struct Current {
    what: Arc<str>,
    /// Nothing while it is idle.
    since: Option<Duration>,
    fate: Option<Fate>,
}

/// What became of something that an instance had in hand when it was forced to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It was given back, and is carried out by whoever comes next; no attempt was spent.
    Released,
    /// It could not be given back; it comes again when its lease has run out.
    AfterLease,
    /// Nobody has said: the instance was dropped or left behind, or has nothing to give back to.
    Unknown,
}

/// What an instance has in hand.
#[derive(Clone, Debug)]
pub struct Busy {
    /// What, such as a task's id.
    pub what: Arc<str>,
    /// Since when, on the monotonic clock.
    pub since: Duration,
}

/// While this lives, the instance is busy.
#[must_use = "the activity ends when this is dropped"]
pub struct BusyGuard<'a>(&'a Activity);

impl Activity {
    /// An idle activity on this clock.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let current = Mutex::default();
        Self(Arc::new(Shared { clock, current }))
    }

    /// Busy with `what` from now on; what was named before is replaced.
    pub fn begin(&self, what: Arc<str>) -> BusyGuard<'_> {
        let since = Some(self.0.clock.monotonic());
        let fate = None;
        let former = std::mem::replace(&mut *self.lock(), Current { what, since, fate });
        drop(former);
        BusyGuard(self)
    }

    /// As [`begin`](Self::begin), for what is begun again and again: the name is copied the first time only.
    pub fn begin_again(&self, what: &Arc<str>) -> BusyGuard<'_> {
        let since = self.0.clock.monotonic();
        let mut current = self.lock();
        if !Arc::ptr_eq(&current.what, what) {
            current.what = Arc::clone(what);
        }
        (current.since, current.fate) = (Some(since), None);
        drop(current);
        BusyGuard(self)
    }

    /// Still busy with the same, and making progress: the stall watchdog starts counting anew.
    pub fn progress(&self) {
        let now = self.0.clock.monotonic();
        if let Some(since) = self.lock().since.as_mut() {
            *since = now;
        }
    }

    /// Says what became of what the instance had in hand last, for the stop report. Counts until it begins with
    /// something else.
    pub fn became(&self, fate: Fate) {
        self.lock().fate = Some(fate);
    }

    /// What was said to have become of it.
    pub fn fate(&self) -> Fate {
        self.lock().fate.unwrap_or(Fate::Unknown)
    }

    /// What the instance has in hand, if anything.
    pub fn current(&self) -> Option<Busy> {
        let current = self.lock();
        let since = current.since?;
        let what = Arc::clone(&current.what);
        Some(Busy { what, since })
    }

    // A panic can't leave it half-written, so a poisoned lock is as good as a sound one.
    fn lock(&self) -> std::sync::MutexGuard<'_, Current> {
        self.0.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BusyGuard<'_> {
    /// Busy with something else from `since` on, by the activity's own monotonic clock: for work so small that ending and
    /// beginning would cost as much.
    pub fn turn_to(&self, what: Arc<str>, since: Duration) {
        let (since, fate) = (Some(since), None);
        let former = std::mem::replace(&mut *self.0.lock(), Current { what, since, fate });
        drop(former);
    }
}

impl Drop for BusyGuard<'_> {
    fn drop(&mut self) {
        self.0.lock().since = None;
    }
}
