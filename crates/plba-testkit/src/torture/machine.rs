//! The machine's own clock, and a process's own end by force.

use std::time::Duration;

use jiff::Timestamp;
use plba_contracts::clock::Clock;
use rustix::process::{Signal, getpid, kill_process};
use rustix::time::{ClockId, clock_gettime};

/// The machine's clocks: the same in all of its processes, which a clock of tokio's or of one's own is not.
#[derive(Clone, Copy, Debug, Default)]
pub struct MachineClock;

impl Clock for MachineClock {
    fn now(&self) -> Timestamp {
        let time = clock_gettime(ClockId::Realtime);
        Timestamp::new(time.tv_sec, time.tv_nsec as i32).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    fn monotonic(&self) -> Duration {
        let time = clock_gettime(ClockId::Monotonic);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    }
}

/// Ends this process by SIGKILL: nothing is flushed, closed or dropped.
pub(crate) fn die() -> ! {
    // A process may always end itself.
    let _sent = kill_process(getpid(), Signal::KILL);
    loop {
        std::thread::park();
    }
}
