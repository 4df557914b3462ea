//! What a task worker or a source worker says of itself: counts, the latest error, and the health that follows from failures
//! in a row.

use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use plba_contracts::health::Health;
use plba_contracts::worker::WorkerStatus;

/// The state of health of one instance.
#[derive(Default)]
pub(crate) struct Vitals(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    status: WorkerStatus,
    in_a_row: u32,
    since: Option<Timestamp>,
    latest: Option<Timestamp>,
    reason: String,
    unhealthy_after: u32,
    /// What keeps the worker from working at all, such as a queue that can't be reached.
    hindrance: Option<(Timestamp, String)>,
}

impl Vitals {
    /// Healthy; so many failures in a row make it unhealthy.
    pub(crate) fn new(unhealthy_after: u32) -> Self {
        Self(Mutex::new(Inner {
            unhealthy_after: unhealthy_after.max(1),
            ..Inner::default()
        }))
    }

    pub(crate) fn succeeded(&self, count: u64, at: Timestamp) {
        if count == 0 {
            return;
        }
        let mut inner = self.lock();
        inner.status.succeeded += count;
        inner.status.last_success = Some(at);
        inner.in_a_row = 0;
        inner.since = None;
    }

    /// A piece of work failed in a way that speaks against the worker.
    pub(crate) fn failed(&self, at: Timestamp, reason: &str) {
        let mut inner = self.lock();
        inner.status.failed += 1;
        inner.status.last_error = Some(reason.to_owned());
        inner.in_a_row = inner.in_a_row.saturating_add(1);
        inner.since.get_or_insert(at);
        inner.latest = Some(at);
        reason.clone_into(&mut inner.reason);
    }

    /// A piece of work was refused for good: the work's fault, not the worker's.
    pub(crate) fn refused(&self, reason: &str) {
        let mut inner = self.lock();
        inner.status.failed += 1;
        inner.status.last_error = Some(reason.to_owned());
    }

    /// Earlier failures are over.
    pub(crate) fn recovered(&self) {
        let mut inner = self.lock();
        inner.in_a_row = 0;
        inner.since = None;
    }

    /// The health, with failures that were followed by a success elsewhere left out.
    pub(crate) fn health_unless_since(&self, success: Option<Timestamp>) -> Health {
        let over = success > self.lock().latest;
        if over { Health::Ok } else { self.health() }
    }

    /// Something keeps it from working.
    pub(crate) fn hindered(&self, at: Timestamp, reason: String) {
        let mut inner = self.lock();
        let since = inner.hindrance.as_ref().map_or(at, |(since, _)| *since);
        inner.status.last_error = Some(reason.clone());
        inner.hindrance = Some((since, reason));
    }

    /// Nothing keeps it from working any more. Cheap when nothing did.
    pub(crate) fn unhindered(&self) {
        let mut inner = self.lock();
        if inner.hindrance.is_some() {
            inner.hindrance = None;
        }
    }

    pub(crate) fn health(&self) -> Health {
        let inner = self.lock();
        if let Some((since, reason)) = &inner.hindrance {
            return Health::unhealthy(format!("since {since}: {reason}"));
        }
        let (count, reason) = (inner.in_a_row, &inner.reason);
        let Some(since) = inner.since else { return Health::Ok };
        let text = format!("{count} in a row failed since {since}, the latest: {reason}");
        if count >= inner.unhealthy_after {
            Health::unhealthy(text)
        } else {
            Health::degraded(text)
        }
    }

    pub(crate) fn status(&self) -> WorkerStatus {
        self.lock().status.clone()
    }

    // Counters can't be left half-written: a poisoned lock is as good as a sound one.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
