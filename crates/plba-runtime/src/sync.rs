//! What supervision is built on: locks, atomics, channels, tasks and time. Here they are the standard library's and
//! tokio's. The crate `plba-schedules` compiles the same supervision with another file in this one's place, in which a
//! scheduler of its own decides at each of them who goes on.

use std::future::Future;
use std::io;

pub(crate) use futures_util::task::AtomicWaker;
pub(crate) use std::sync::{Mutex, MutexGuard, RwLock};
pub(crate) use tokio::runtime::Handle;
pub(crate) use tokio::spawn;
pub(crate) use tokio::task::AbortHandle;

use crate::supervisor::Race;

pub(crate) mod atomic {
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
}

pub(crate) mod channel {
    pub(crate) use tokio::sync::mpsc::{
        Receiver, Sender, UnboundedReceiver, UnboundedSender, channel as bounded, unbounded_channel as unbounded,
    };
    pub(crate) use tokio::sync::oneshot;
}

pub(crate) mod time {
    pub(crate) use tokio::time::{Instant, sleep_until};
}

/// Runs something beside the executors, with signs of life from the workers' one: a thread, and a task. In a world whose
/// scheduler decides everything there are neither.
pub(crate) fn watch(
    workers: &Handle,
    name: &str,
    watch: impl FnOnce() + Send + 'static,
    life: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    workers.spawn(life);
    std::thread::Builder::new().name(name.into()).spawn(watch).map(drop)
}

/// Whether this race is planted, to see whether schedules find it.
pub(crate) const fn planted(_: Race) -> bool {
    false
}
