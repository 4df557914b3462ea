//! The place of a server's process: empty or taken. Ends what is in it in each of the ways a server can end, and pauses
//! it. How a process is run is the server's own affair.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::Signal;

use crate::StartError;
use crate::attempt::Failure;
use crate::process::ServerProcess;

/// How long a clean end may take before it is a failure: a server writes what it holds in memory.
const CLEAN_END: Duration = Duration::from_secs(30);

/// Where one process runs or none does. One operation at a time: others wait for it.
#[derive(Debug, Default)]
pub(crate) struct Slot(Mutex<Option<ServerProcess>>);

impl Slot {
    /// Puts a process in, unless one runs. One that has ended by itself is cleared away.
    pub(crate) fn start(&self, run: impl FnOnce() -> Result<ServerProcess, Failure>) -> Result<(), Failure> {
        let mut slot = self.lock();
        if slot.as_mut().is_some_and(|process| process.exited().is_none()) {
            return Ok(());
        }
        *slot = None;
        *slot = Some(run()?);
        Ok(())
    }

    /// Asks for a clean end by `signal` and waits for it. Nothing to do when nothing runs.
    pub(crate) fn stop(&self, what: &'static str, signal: Signal) -> Result<(), StartError> {
        let Some(mut process) = self.lock().take() else {
            return Ok(());
        };
        if process.end(signal, CLEAN_END) {
            Ok(())
        } else {
            Err(StartError::failed(
                what,
                format!(
                    "it did not end within {} s of being asked to, and was killed",
                    CLEAN_END.as_secs()
                ),
            ))
        }
    }

    /// Kills it with all its children, at once, and waits until they are gone.
    pub(crate) fn kill(&self) {
        if let Some(process) = self.lock().take() {
            process.kill();
        }
    }

    /// Kills those of its processes that are called `name`; says how many they were.
    pub(crate) fn kill_members(&self, name: &str) -> usize {
        let slot = self.lock();
        slot.as_ref().map_or(0, |process| process.kill_members(name))
    }

    /// Stops all its processes where they are.
    pub(crate) fn pause(&self) {
        if let Some(process) = self.lock().as_ref() {
            process.pause();
        }
    }

    /// Lets all its processes go on.
    pub(crate) fn resume(&self) {
        if let Some(process) = self.lock().as_ref() {
            process.resume();
        }
    }

    /// Whether a process is there and has not ended by itself.
    pub(crate) fn is_running(&self) -> bool {
        self.lock().as_mut().is_some_and(|process| process.exited().is_none())
    }

    /// Whether it stands still on our order.
    pub(crate) fn is_paused(&self) -> bool {
        self.lock().as_ref().is_some_and(ServerProcess::is_paused)
    }

    /// The id of the server's main process.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.lock().as_ref().map(ServerProcess::pid)
    }

    fn lock(&self) -> MutexGuard<'_, Option<ServerProcess>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
