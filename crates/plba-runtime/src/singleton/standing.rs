//! How a singleton stands, for health and status: by, acting, or in doubt whether anybody acts. What it does about it is
//! `guard`'s.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use plba_contracts::health::Health;
use plba_contracts::lease::{FencingToken, Holding};
use plba_contracts::worker::{Worker, WorkerStatus};

/// How it stands now, and what its inner workers have done so far.
#[derive(Default)]
pub(super) struct Standing {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    acting: Option<(FencingToken, Arc<dyn Worker>)>,
    held_by: Option<Holding>,
    /// Since when the store does not answer, on the monotonic clock, and what it says; for how long already.
    unanswered: Option<(Duration, String, Duration)>,
    before: WorkerStatus,
}

impl Standing {
    /// This worker acts, under this token.
    pub(super) fn acts(&self, token: FencingToken, worker: &Arc<dyn Worker>) {
        self.lock().acting = Some((token, Arc::clone(worker)));
    }

    /// The worker that acted is done with; what it has done is kept.
    pub(super) fn acts_no_more(&self) {
        let Some((_, worker)) = self.lock().acting.take() else {
            return;
        };
        let status = worker.status();
        let mut inner = self.lock();
        let before = std::mem::take(&mut inner.before);
        inner.before = sum(before, status);
        inner.before.note = None;
    }

    /// Somebody holds the lease, or nobody any more.
    pub(super) fn held_by(&self, holding: Option<Holding>) {
        self.lock().held_by = holding;
    }

    /// The store answered.
    pub(super) fn answered(&self) {
        self.lock().unanswered = None;
    }

    /// The store did not answer what it was asked then.
    pub(super) fn unanswered(&self, asked: Duration, now: Duration, reason: String) {
        let mut inner = self.lock();
        let since = inner.unanswered.as_ref().map_or(asked, |(since, ..)| *since);
        inner.unanswered = Some((since, reason, now.saturating_sub(since)));
    }

    /// The worker that acts.
    pub(super) fn worker(&self) -> Option<Arc<dyn Worker>> {
        self.lock().acting.as_ref().map(|(_, worker)| Arc::clone(worker))
    }

    /// The acting worker's health; of a standby, whether it could take over. A store that has not answered for `ttl` is
    /// one under which nobody acts any more.
    pub(super) fn health(&self, ttl: Duration) -> Health {
        let store = match &self.lock().unanswered {
            None => Health::Ok,
            Some((_, reason, lasting)) if *lasting >= ttl => Health::unhealthy(format!("nobody can act: {reason}")),
            Some((_, reason, _)) => Health::degraded(reason.clone()),
        };
        let worker = self.worker().map_or(Health::Ok, |worker| worker.health());
        worker.worse(store)
    }

    /// The counts of all inner workers, and a note on who acts.
    pub(super) fn status(&self) -> WorkerStatus {
        let (acting, before, standby) = {
            let inner = self.lock();
            (inner.acting.clone(), inner.before.clone(), standby_note(&inner))
        };
        let Some((token, worker)) = acting else {
            return WorkerStatus {
                note: Some(standby),
                ..before
            };
        };
        let status = sum(before, worker.status());
        let acts = format!("acts under token {token}");
        let note = match &status.note {
            Some(note) => format!("{note}; {acts}"),
            None => acts,
        };
        WorkerStatus {
            note: Some(note),
            ..status
        }
    }

    // A panic can't leave these half-changed in a way that matters, so a poisoned lock is as good as a sound one.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn standby_note(inner: &Inner) -> String {
    match (&inner.unanswered, &inner.held_by) {
        (Some(_), _) => "stands by; the store of leases does not answer".into(),
        (None, Some(held)) => format!("stands by; held by {} since {}", held.holder, held.since),
        (None, None) => "stands by; takes over next".into(),
    }
}

fn sum(before: WorkerStatus, now: WorkerStatus) -> WorkerStatus {
    WorkerStatus {
        succeeded: before.succeeded + now.succeeded,
        failed: before.failed + now.failed,
        last_success: now.last_success.or(before.last_success),
        last_error: now.last_error.or(before.last_error),
        note: now.note,
    }
}
