//! The stop signal: how a running piece of work is asked to finish, and then told to drop what it holds. Who asks, and
//! within which budget, is the supervisor's business.

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

    /// Whether a stop of either kind has been asked for.
    pub fn is_requested(&self) -> bool {
        self.shared.phase() >= StopPhase::Graceful
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
            place: None,
        }
    }
}

/// The wait for a phase of a [`StopSignal`].
#[derive(Debug)]
pub struct Waiting {
    shared: Arc<Shared>,
    phase: StopPhase,
    place: Option<u32>,
}

#[derive(Debug, Default)]
struct Shared {
    phase: AtomicU8,
    waiting: Mutex<Wakers>,
}

/// Those who wait, each at a place of its own until it is dropped. Nearly every signal has one, so the first is kept
/// without an allocation.
#[derive(Debug, Default)]
pub(crate) struct Wakers {
    first: Place,
    more: Option<Box<More>>,
}

#[derive(Debug, Default)]
struct More {
    places: Vec<Place>,
    free: Vec<u32>,
}

#[derive(Debug, Default)]
enum Place {
    #[default]
    Free,
    /// Whose waiter has been woken and not polled since.
    Woken,
    Waits(Waker),
}

impl Place {
    fn wake(&mut self) -> Option<Waker> {
        match self {
            Self::Waits(_) => match std::mem::replace(self, Self::Woken) {
                Self::Waits(waker) => Some(waker),
                _ => None,
            },
            _ => None,
        }
    }
}

impl Wakers {
    pub(crate) fn wait(&mut self, place: Option<u32>, waker: &Waker) -> u32 {
        let place = place.unwrap_or_else(|| self.take_place());
        match self.at(place) {
            Some(Place::Waits(known)) => known.clone_from(waker),
            Some(free) => *free = Place::Waits(waker.clone()),
            None => {}
        }
        place
    }

    fn take_place(&mut self) -> u32 {
        if matches!(self.first, Place::Free) {
            return 0;
        }
        let more = self.more.get_or_insert_default();
        more.free.pop().unwrap_or_else(|| {
            more.places.push(Place::Free);
            more.places.len() as u32
        })
    }

    pub(crate) fn leave(&mut self, place: u32) {
        if let Some(left) = self.at(place) {
            *left = Place::Free;
        }
        if let (1.., Some(more)) = (place, &mut self.more) {
            more.free.push(place);
        }
    }

    /// Those who wait now, to be woken without the lock.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = Waker> + use<> {
        let first = self.first.wake();
        let more = self.more.as_mut();
        let more: Vec<Waker> = more.map_or_else(Vec::new, |more| {
            more.places.iter_mut().filter_map(Place::wake).collect()
        });
        first.into_iter().chain(more)
    }

    fn at(&mut self, place: u32) -> Option<&mut Place> {
        match place.checked_sub(1) {
            None => Some(&mut self.first),
            Some(index) => self.more.as_mut()?.places.get_mut(index as usize),
        }
    }
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
        let waiting = self.wakers().take();
        waiting.for_each(Waker::wake);
    }

    // A panic while the lock is held can't leave the places half-changed, so a poisoned lock is as good as a sound one.
    fn wakers(&self) -> std::sync::MutexGuard<'_, Wakers> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Future for Waiting {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if this.shared.phase() >= this.phase {
            return Poll::Ready(());
        }
        let mut wakers = this.shared.wakers();
        // Asked again under the lock: `raise` stores the phase before it takes the lock, so one of the two sees the other.
        if this.shared.phase() >= this.phase {
            return Poll::Ready(());
        }
        this.place = Some(wakers.wait(this.place, context.waker()));
        Poll::Pending
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.shared.wakers().leave(place);
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
    fn dropped_waits_leave_nothing_behind_and_places_are_used_again() {
        let handle = StopHandle::new();
        let mut context = Context::from_waker(noop_waker_ref());
        for _ in 0..3 {
            let mut waits: Vec<Waiting> = (0..3).map(|_| handle.signal().forced()).collect();
            for wait in &mut waits {
                assert!(wait.poll_unpin(&mut context).is_pending());
            }
            // What was woken for another phase and not polled since keeps its place.
            handle.stop(false);
        }
        let wakers = handle.shared.wakers();
        assert!(matches!(wakers.first, Place::Free));
        let more = wakers.more.as_ref().unwrap();
        assert_eq!((more.places.len(), more.free.len()), (2, 2));
        assert!(more.places.iter().all(|place| matches!(place, Place::Free)));
    }
}
