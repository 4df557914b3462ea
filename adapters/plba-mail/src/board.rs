//! What a source shows of itself: written by the running source, read from any thread.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use plba_contracts::clock::Clock;
use plba_contracts::health::Health;
use plba_tasks::source::SourceStatus;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

/// A source's status and the clock that dates it.
pub(crate) struct Board {
    clock: Arc<dyn Clock>,
    status: Mutex<SourceStatus>,
    last_error: Mutex<Option<LastError>>,
    /// Somebody wants a look at once.
    wake: Notify,
}

/// The latest thing that went wrong, also when all has been well since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LastError {
    /// When it happened.
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// What happened, and what to do about it.
    pub error: String,
}

impl Board {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        let status = SourceStatus {
            health: Health::degraded("it has not been looked at yet"),
            ..SourceStatus::default()
        };
        Board {
            clock,
            status: Mutex::new(status),
            last_error: Mutex::default(),
            wake: Notify::new(),
        }
    }

    pub(crate) fn snapshot(&self) -> SourceStatus {
        self.lock().clone()
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Upstream was looked through to the end just now; `note` says how far, and `hampered` what does not work as
    /// configured all the same.
    pub(crate) fn reconciled(&self, note: Option<String>, hampered: Option<String>) {
        let now = self.clock.now();
        let mut status = self.lock();
        status.health = hampered.map_or(Health::Ok, Health::degraded);
        status.last_success = Some(now);
        status.note = note;
    }

    /// Something went wrong; `health` is what that means until the next success.
    pub(crate) fn failed(&self, health: Health) {
        if let Some(error) = health.reason() {
            let last = LastError {
                at: self.clock.now(),
                error: error.to_owned(),
            };
            *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(last);
        }
        let mut status = self.lock();
        status.errors += 1;
        status.health = health;
    }

    pub(crate) fn last_error(&self) -> Option<LastError> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks for a look at once.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Resolves when somebody asks for a look, or has since the last one.
    ///
    /// # Cancel safety
    /// Safe: what was asked meanwhile resolves the next call.
    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }

    pub(crate) fn add_published(&self, count: usize) {
        self.lock().published += count as u64;
    }

    pub(crate) fn add_settled(&self, count: usize) {
        self.lock().settled += count as u64;
    }

    // A panic while the lock is held can't leave a status half-written, so a poisoned lock is as good as a sound one.
    fn lock(&self) -> MutexGuard<'_, SourceStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
