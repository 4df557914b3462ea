//! How often a worker runs that runs at an interval, and that this changes while it runs. Keeping to it is the worker's
//! business.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::stop::Wakers;

/// The interval of a worker. Clones share it, so that whoever has the worker's definition can change it while the worker runs.
///
/// ```
/// use std::time::Duration;
/// use plba_contracts::worker::Pace;
///
/// let pace = Pace::every(Duration::from_secs(60));
/// pace.set(Some(Duration::from_secs(5)));
/// assert_eq!(pace.interval(), Duration::from_secs(5));
/// pace.set(None);
/// assert_eq!(pace.interval(), Duration::from_secs(60));
/// ```
#[derive(Clone, Debug)]
pub struct Pace {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// In nanoseconds.
    own: AtomicU64,
    /// In nanoseconds, in place of its own; 0 for none.
    set: AtomicU64,
    waiting: Mutex<Wakers>,
}

impl Pace {
    /// One run in each such interval, at most about 584 years.
    pub fn every(interval: Duration) -> Self {
        Self {
            shared: Arc::new(Shared {
                own: AtomicU64::new(nanoseconds(interval)),
                set: AtomicU64::new(0),
                waiting: Mutex::default(),
            }),
        }
    }

    /// From one run to the next, as it is now.
    pub fn interval(&self) -> Duration {
        self.shared.interval()
    }

    /// What the worker's module says, whatever is set in its place.
    pub fn own(&self) -> Duration {
        Duration::from_nanos(self.shared.own.load(Ordering::Acquire))
    }

    /// The worker's module says otherwise from now on.
    pub fn set_own(&self, interval: Duration) {
        self.change(|shared| shared.own.store(nanoseconds(interval), Ordering::Release));
    }

    /// Something else stands in place of what the module says, or nothing does any more. Whoever waits by the old interval
    /// hears of it.
    pub fn set(&self, interval: Option<Duration>) {
        let set = interval.map_or(0, nanoseconds);
        self.change(|shared| shared.set.store(set, Ordering::Release));
    }

    /// Resolves once the interval is another one than `known`; at once if it is.
    ///
    /// # Cancel safety
    /// Safe: dropping it forgets the wait and nothing else.
    pub fn changed(&self, known: Duration) -> Changed<'_> {
        Changed {
            shared: &self.shared,
            known,
            place: None,
        }
    }

    fn change(&self, change: impl FnOnce(&Shared)) {
        let before = self.interval();
        change(&self.shared);
        if self.interval() != before {
            let waiting = self.shared.waiting().take();
            waiting.for_each(Waker::wake);
        }
    }
}

/// The wait for another interval.
#[derive(Debug)]
pub struct Changed<'a> {
    shared: &'a Shared,
    known: Duration,
    place: Option<u32>,
}

impl Shared {
    fn interval(&self) -> Duration {
        let set = self.set.load(Ordering::Acquire);
        let own = || self.own.load(Ordering::Acquire);
        Duration::from_nanos(if set == 0 { own() } else { set })
    }

    // A panic while the lock is held can't leave the places half-changed, so a poisoned lock is as good as a sound one.
    fn waiting(&self) -> MutexGuard<'_, Wakers> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Future for Changed<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let mut waiting = this.shared.waiting();
        // Asked under the lock: a change stores the interval before it takes the lock, so one of the two sees the other.
        if this.shared.interval() != this.known {
            return Poll::Ready(());
        }
        this.place = Some(waiting.wait(this.place, context.waker()));
        Poll::Pending
    }
}

impl Drop for Changed<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.shared.waiting().leave(place);
        }
    }
}

fn nanoseconds(interval: Duration) -> u64 {
    u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use futures_util::task::noop_waker_ref;

    use super::*;

    #[test]
    fn who_waits_by_the_old_interval_hears_of_the_new_one() {
        let pace = Pace::every(Duration::from_secs(60));
        let known = pace.interval();
        let (mut one, mut other) = (pace.changed(known), pace.changed(known));
        let mut context = Context::from_waker(noop_waker_ref());
        assert!(one.poll_unpin(&mut context).is_pending() && other.poll_unpin(&mut context).is_pending());
        pace.set(Some(known));
        assert!(one.poll_unpin(&mut context).is_pending(), "the same is no change");
        pace.set_own(Duration::from_secs(1));
        assert!(
            one.poll_unpin(&mut context).is_pending(),
            "what is set stands in its place"
        );
        pace.set(None);
        assert!(one.poll_unpin(&mut context).is_ready() && other.poll_unpin(&mut context).is_ready());
        assert_eq!(pace.interval(), Duration::from_secs(1));
    }
}
