//! Who holds a lease: a worker in one incarnation of a process.

use std::fmt;
use std::sync::Arc;

use super::presence::Presence;

/// Which process: recovery looks at this, never at a worker's name, which another process may bear as well.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Incarnation {
    /// The machine.
    pub host: Arc<str>,
    /// The process on it.
    pub pid: u32,
    /// Random: tells two processes apart that got the same number one after the other.
    pub epoch: u64,
    /// By what others on the machine can tell that it has ended; `None` where only its leases tell.
    pub presence: Option<Presence>,
}

/// Who holds a lease: a worker in one incarnation of a process. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ConsumerId {
    /// The process.
    pub incarnation: Incarnation,
    /// The worker's name and slot, for people.
    pub worker: Arc<str>,
}

impl Incarnation {
    /// This process, with an epoch from the caller's source of randomness.
    pub fn of_this_process(epoch: u64) -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname")
            .or_else(|_| std::env::var("COMPUTERNAME"))
            .unwrap_or_else(|_| "localhost".into());
        Self {
            host: host.trim().into(),
            pid: std::process::id(),
            epoch,
            presence: Presence::of_this_process(),
        }
    }

    /// A process that runs beside this one: for one that acts in its name, such as a test.
    pub fn of_process(pid: u32, epoch: u64) -> Self {
        Self {
            pid,
            presence: Presence::of(pid),
            ..Self::of_this_process(epoch)
        }
    }
}

impl ConsumerId {
    /// A worker in an incarnation.
    pub fn new(incarnation: Incarnation, worker: impl Into<Arc<str>>) -> Self {
        Self {
            incarnation,
            worker: worker.into(),
        }
    }
}

impl ConsumerId {
    /// How it signs what it publishes, as `worker (host:pid)`: the value of the header
    /// [`PRODUCER`](crate::task::PRODUCER).
    pub fn producer(&self) -> String {
        let Incarnation { host, pid, .. } = &self.incarnation;
        format!("{} ({host}:{pid})", self.worker)
    }
}

impl fmt::Display for ConsumerId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Incarnation { host, pid, epoch, .. } = &self.incarnation;
        write!(out, "{} ({host}:{pid}:{epoch:016x})", self.worker)
    }
}
