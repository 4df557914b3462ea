//! What an instance has done and how it therefore is: outcomes become health here.

use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use plba_contracts::health::Health;
use plba_contracts::worker::WorkerStatus;

/// The counts of one instance.
pub(super) struct Tally {
    unhealthy_after: u32,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    succeeded: u64,
    last_success: Option<Timestamp>,
    in_a_row: u32,
    fatal: bool,
    /// What most instances have nothing to say of.
    seldom: Option<Box<Seldom>>,
}

#[derive(Clone, Default)]
struct Seldom {
    failed: u64,
    last_error: Option<String>,
    note: Option<String>,
}

impl Tally {
    pub(super) fn new(unhealthy_after: u32) -> Self {
        Self {
            unhealthy_after,
            inner: Mutex::default(),
        }
    }

    pub(super) fn succeeded(&self, now: Timestamp) {
        let mut inner = self.lock();
        inner.succeeded += 1;
        inner.last_success = Some(now);
        (inner.in_a_row, inner.fatal) = (0, false);
    }

    /// Counts an error; gives how many there were in a row.
    pub(super) fn failed(&self, error: &str, fatal: bool) -> u32 {
        let mut inner = self.lock();
        let seldom = inner.seldom.get_or_insert_default();
        seldom.failed += 1;
        seldom.last_error = Some(error.to_owned());
        inner.in_a_row = inner.in_a_row.saturating_add(1);
        inner.fatal = fatal;
        inner.in_a_row
    }

    pub(super) fn note(&self, note: Option<String>) {
        self.lock().seldom.get_or_insert_default().note = note;
    }

    pub(super) fn health(&self) -> Health {
        let inner = self.lock();
        let error = inner.seldom.as_ref().and_then(|seldom| seldom.last_error.as_deref());
        let error = error.unwrap_or_default();
        match inner.in_a_row {
            0 => Health::Ok,
            _ if inner.fatal => Health::unhealthy(format!("can't go on: {error}")),
            times if times >= self.unhealthy_after => {
                Health::unhealthy(format!("failed {times} times in a row: {error}"))
            }
            1 => Health::degraded(format!("the latest run failed: {error}")),
            times => Health::degraded(format!("the latest {times} runs failed: {error}")),
        }
    }

    pub(super) fn status(&self) -> WorkerStatus {
        let inner = self.lock();
        let seldom = inner.seldom.as_deref().cloned().unwrap_or_default();
        WorkerStatus {
            succeeded: inner.succeeded,
            failed: seldom.failed,
            last_success: inner.last_success,
            last_error: seldom.last_error,
            note: seldom.note,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_follows_the_outcomes() {
        let tally = Tally::new(3);
        assert_eq!(tally.health(), Health::Ok);
        tally.failed("no disk", false);
        assert_eq!(tally.health(), Health::degraded("the latest run failed: no disk"));
        tally.failed("no disk", false);
        assert_eq!(tally.failed("no net", false), 3);
        assert_eq!(tally.health(), Health::unhealthy("failed 3 times in a row: no net"));
        tally.succeeded(Timestamp::UNIX_EPOCH);
        assert_eq!(tally.health(), Health::Ok);
        tally.failed("bad key", true);
        assert_eq!(tally.health(), Health::unhealthy("can't go on: bad key"));
        assert_eq!((tally.status().succeeded, tally.status().failed), (1, 4));
    }
}
