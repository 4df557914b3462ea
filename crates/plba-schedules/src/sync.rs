//! In place of the runtime's file of the same name: what supervision is built on, each of which lets the scheduler decide
//! who goes on. Channels are tokio's, which are as good in any executor; a step of theirs is indivisible here and comes
//! after such a decision. Time stands still until somebody lets it pass.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::task::Waker;

use crate::supervisor::Race;

pub(crate) use shuttle::future::{AbortHandle, JoinHandle, spawn};
pub(crate) use shuttle::sync::{Mutex, MutexGuard, RwLock};

pub(crate) mod atomic {
    pub(crate) use shuttle::sync::atomic::{AtomicBool, AtomicU8, Ordering};
}

/// Lets the scheduler decide who goes on.
fn point() {
    atomic::AtomicBool::new(false).load(atomic::Ordering::SeqCst);
}

/// The one executor there is.
#[derive(Clone, Debug)]
pub struct Handle(());

impl Handle {
    /// The executor of whoever asks.
    pub fn current() -> Self {
        Self(())
    }

    pub(crate) fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        spawn(future)
    }
}

/// The waker of the one task that waits.
pub(crate) struct AtomicWaker(Mutex<Option<Waker>>);

impl AtomicWaker {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(None))
    }

    pub(crate) fn register(&self, waker: &Waker) {
        *self.lock() = Some(waker.clone());
    }

    pub(crate) fn wake(&self) {
        let waker = self.lock().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Waker>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

pub(crate) mod channel {
    use tokio::sync::mpsc;

    use super::point;

    pub(crate) struct Sender<T>(mpsc::Sender<T>);
    pub(crate) struct Receiver<T>(mpsc::Receiver<T>);
    pub(crate) struct UnboundedSender<T>(mpsc::UnboundedSender<T>);
    pub(crate) struct UnboundedReceiver<T>(mpsc::UnboundedReceiver<T>);

    pub(crate) fn bounded<T>(size: usize) -> (Sender<T>, Receiver<T>) {
        let (sender, receiver) = mpsc::channel(size);
        (Sender(sender), Receiver(receiver))
    }

    pub(crate) fn unbounded<T>() -> (UnboundedSender<T>, UnboundedReceiver<T>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (UnboundedSender(sender), UnboundedReceiver(receiver))
    }

    impl<T> Sender<T> {
        pub(crate) async fn send(&self, value: T) -> Result<(), mpsc::error::SendError<T>> {
            point();
            self.0.send(value).await
        }
    }

    impl<T> Receiver<T> {
        pub(crate) async fn recv(&mut self) -> Option<T> {
            point();
            self.0.recv().await
        }
    }

    impl<T> Clone for UnboundedSender<T> {
        fn clone(&self) -> Self {
            Self(self.0.clone())
        }
    }

    impl<T> UnboundedSender<T> {
        pub(crate) fn send(&self, value: T) -> Result<(), mpsc::error::SendError<T>> {
            point();
            self.0.send(value)
        }
    }

    impl<T> UnboundedReceiver<T> {
        pub(crate) async fn recv_many(&mut self, values: &mut Vec<T>, limit: usize) -> usize {
            point();
            self.0.recv_many(values, limit).await
        }
    }

    pub(crate) mod oneshot {
        use std::future::Future;
        use std::pin::Pin;
        use std::task::{Context, Poll};

        use tokio::sync::oneshot;

        use super::point;

        pub(crate) struct Sender<T>(oneshot::Sender<T>);
        pub(crate) struct Receiver<T>(oneshot::Receiver<T>);

        pub(crate) fn channel<T>() -> (Sender<T>, Receiver<T>) {
            let (sender, receiver) = oneshot::channel();
            (Sender(sender), Receiver(receiver))
        }

        impl<T> Sender<T> {
            pub(crate) fn send(self, value: T) -> Result<(), T> {
                point();
                self.0.send(value)
            }
        }

        impl<T> Future for Receiver<T> {
            type Output = Result<T, oneshot::error::RecvError>;

            fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
                point();
                Pin::new(&mut self.0).poll(context)
            }
        }
    }
}

pub(crate) mod time {
    use std::collections::BTreeMap;
    use std::future::Future;
    use std::ops::{Add, Sub};
    use std::pin::Pin;
    use std::sync::{Mutex, MutexGuard, PoisonError};
    use std::task::{Context, Poll, Waker};
    use std::time::Duration;

    shuttle::lazy_static! {
        static ref TIME: Mutex<Time> = Mutex::new(Time::default());
    }

    #[derive(Default)]
    struct Time {
        now: Duration,
        next: u64,
        waiting: BTreeMap<(Duration, u64), Waker>,
    }

    fn time() -> MutexGuard<'static, Time> {
        TIME.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets time pass until the first of those who wait for it is due; false if nobody waits.
    pub(crate) fn pass() -> bool {
        let mut time = time();
        let Some(((due, _), waker)) = time.waiting.pop_first() else {
            return false;
        };
        time.now = time.now.max(due);
        drop(time);
        waker.wake();
        true
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    pub(crate) struct Instant(Duration);

    impl Instant {
        pub(crate) const BEGINNING: Self = Self(Duration::ZERO);

        pub(crate) fn now() -> Self {
            Self(time().now)
        }

        pub(crate) fn elapsed(self) -> Duration {
            Self::now() - self
        }

        pub(crate) fn checked_add(self, span: Duration) -> Option<Self> {
            self.0.checked_add(span).map(Self)
        }
    }

    impl Add<Duration> for Instant {
        type Output = Self;

        fn add(self, span: Duration) -> Self {
            Self(self.0.saturating_add(span))
        }
    }

    impl Sub for Instant {
        type Output = Duration;

        fn sub(self, earlier: Self) -> Duration {
            self.0.saturating_sub(earlier.0)
        }
    }

    pub(crate) fn sleep_until(moment: Instant) -> Sleep {
        Sleep { moment, place: None }
    }

    pub(crate) struct Sleep {
        moment: Instant,
        place: Option<(Duration, u64)>,
    }

    impl Future for Sleep {
        type Output = ();

        fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
            let mut time = time();
            if time.now >= self.moment.0 {
                return Poll::Ready(());
            }
            time.next += 1;
            let place = self.place.unwrap_or((self.moment.0, time.next));
            time.waiting.insert(place, context.waker().clone());
            drop(time);
            self.place = Some(place);
            Poll::Pending
        }
    }

    impl Drop for Sleep {
        fn drop(&mut self) {
            if let Some(place) = self.place {
                time().waiting.remove(&place);
            }
        }
    }
}

/// There is nothing beside the one executor: nobody watches it, so that no schedule is spent on that.
pub(crate) fn watch(
    _: &Handle,
    _: &str,
    _: impl FnOnce() + Send + 'static,
    _: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    Ok(())
}

thread_local! {
    static PLANTED: Cell<Option<Race>> = const { Cell::new(None) };
}

/// Has this race, and no other, on this thread from now on.
pub(crate) fn plant(race: Option<Race>) {
    PLANTED.set(race);
}

pub(crate) fn planted(race: Race) -> bool {
    PLANTED.get() == Some(race)
}
