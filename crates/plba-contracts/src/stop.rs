//! The stop signal: how a running piece of work is asked to finish, and then told to drop what it holds. Who asks, and
//! within which budget, is the supervisor's business.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

/// How far a stop has gone. It only ever moves forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StopPhase {
    /// Nobody has asked.
    Running,
    /// Finish what is in hand, take nothing new.
    Graceful,
    /// Drop what is in hand now.
    Force,
}

/// The asking side. Clones ask the same signal.
///
/// ```
/// use plba_contracts::stop::{StopHandle, StopPhase};
///
/// let handle = StopHandle::new();
/// let signal = handle.signal();
/// assert_eq!(signal.phase(), StopPhase::Running);
/// handle.stop(false);
/// handle.stop(true);
/// handle.stop(false); // never goes back
/// assert_eq!(signal.phase(), StopPhase::Force);
/// ```
#[derive(Clone, Debug, Default)]
pub struct StopHandle {
    shared: Arc<Shared>,
}

/// The asked side: cheap to clone, and every clone hears the same.
#[derive(Clone, Debug, Default)]
pub struct StopSignal {
    shared: Arc<Shared>,
}

impl StopHandle {
    /// A signal that nobody has raised yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for a graceful stop, or with `force` for an immediate one. Legal at any time and any number of times; a
    /// later, weaker request changes nothing.
    pub fn stop(&self, force: bool) {
        let phase = if force { StopPhase::Force } else { StopPhase::Graceful };
        self.shared.raise(phase);
    }

    /// The side that hears.
    pub fn signal(&self) -> StopSignal {
        StopSignal {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl StopSignal {
    /// How far the stop has gone.
    pub fn phase(&self) -> StopPhase {
        self.shared.phase()
    }

    /// Whether a stop of either kind has been asked for.
    pub fn is_requested(&self) -> bool {
        self.phase() >= StopPhase::Graceful
    }

    /// Resolves once a stop of either kind has been asked for; at once if it already was.
    ///
    /// # Cancel safety
    /// Safe: dropping it forgets the wait and nothing else.
    pub fn requested(&self) -> Waiting {
        self.reached(StopPhase::Graceful)
    }

    /// Resolves once an immediate stop has been asked for; at once if it already was.
    ///
    /// # Cancel safety
    /// Safe: dropping it forgets the wait and nothing else.
    pub fn forced(&self) -> Waiting {
        self.reached(StopPhase::Force)
    }

    fn reached(&self, phase: StopPhase) -> Waiting {
        Waiting {
            shared: Arc::clone(&self.shared),
            phase,
            key: None,
        }
    }
}

/// The wait for a phase of a [`StopSignal`].
#[derive(Debug)]
pub struct Waiting {
    shared: Arc<Shared>,
    phase: StopPhase,
    key: Option<u64>,
}

#[derive(Debug, Default)]
struct Shared {
    phase: AtomicU8,
    waiting: Mutex<Wakers>,
}

#[derive(Debug, Default)]
struct Wakers {
    next: u64,
    by_key: HashMap<u64, Waker>,
}

impl Shared {
    fn phase(&self) -> StopPhase {
        match self.phase.load(Ordering::Acquire) {
            0 => StopPhase::Running,
            1 => StopPhase::Graceful,
            _ => StopPhase::Force,
        }
    }

    fn raise(&self, phase: StopPhase) {
        if self.phase.fetch_max(phase as u8, Ordering::AcqRel) >= phase as u8 {
            return;
        }
        let woken = std::mem::take(&mut self.wakers().by_key);
        woken.into_values().for_each(Waker::wake);
    }

    // A panic while the lock is held can't leave the map half-changed, so a poisoned lock is as good as a sound one.
    fn wakers(&self) -> std::sync::MutexGuard<'_, Wakers> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Future for Waiting {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.shared.phase() >= self.phase {
            return Poll::Ready(());
        }
        let shared = Arc::clone(&self.shared);
        let mut wakers = shared.wakers();
        // Asked again under the lock: `raise` stores the phase before it takes the lock, so one of the two sees the other.
        if shared.phase() >= self.phase {
            return Poll::Ready(());
        }
        let key = self.key.unwrap_or_else(|| {
            wakers.next += 1;
            wakers.next
        });
        wakers.by_key.insert(key, context.waker().clone());
        self.key = Some(key);
        Poll::Pending
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.shared.wakers().by_key.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use futures_util::task::noop_waker_ref;

    use super::*;

    #[test]
    fn a_graceful_stop_wakes_those_who_wait_for_either_kind_only() {
        let handle = StopHandle::new();
        let (mut requested, mut forced) = (handle.signal().requested(), handle.signal().forced());
        let mut context = Context::from_waker(noop_waker_ref());
        assert!(requested.poll_unpin(&mut context).is_pending());
        handle.stop(false);
        assert!(requested.poll_unpin(&mut context).is_ready());
        assert!(forced.poll_unpin(&mut context).is_pending());
        handle.stop(true);
        assert!(forced.poll_unpin(&mut context).is_ready());
    }

    #[test]
    fn a_dropped_wait_leaves_nothing_behind() {
        let handle = StopHandle::new();
        let mut wait = handle.signal().requested();
        assert!(wait.poll_unpin(&mut Context::from_waker(noop_waker_ref())).is_pending());
        assert_eq!(handle.shared.wakers().by_key.len(), 1);
        drop(wait);
        assert!(handle.shared.wakers().by_key.is_empty());
    }
}
