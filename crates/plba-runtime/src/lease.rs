//! Leases within one process: for a process that is alone, and for tests. What holds between processes is an adapter's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use plba_contracts::clock::Clock;
use plba_contracts::lease::{FencingToken, Grant, Holding, Lease, LeaseError, check_request};

/// How many names one store keeps; each stays for good, because its token must never go back.
const MAXIMUM_LEASES: usize = 10_000;

/// A store of leases in memory, on the monotonic clock of its process. Clones share it.
///
/// It ends with the process, and so do all who hold a lease of it: tokens start at 1 again, and fence nothing that
/// outlives the process.
#[derive(Clone)]
pub struct InProcessLease {
    clock: Arc<dyn Clock>,
    slots: Arc<Mutex<HashMap<String, Slot>>>,
}

#[derive(Default)]
struct Slot {
    token: u64,
    held: Option<Held>,
}

struct Held {
    holder: String,
    since: Timestamp,
    until: Duration,
}

impl InProcessLease {
    /// An empty store on this clock.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            slots: Arc::default(),
        }
    }

    // A panic can't leave a slot half-changed, so a poisoned lock is as good as a sound one.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A moment of the monotonic clock as the time of day has it now.
    fn shown(&self, moment: Duration) -> Timestamp {
        let left = moment.saturating_sub(self.clock.monotonic());
        let left = SignedDuration::try_from(left).unwrap_or(SignedDuration::MAX);
        self.clock.now().checked_add(left).unwrap_or(Timestamp::MAX)
    }

    fn grant(&self, token: u64, until: Duration) -> Grant {
        Grant {
            token: FencingToken(token),
            deadline: self.shown(until),
        }
    }
}

impl Slot {
    /// The grant in force.
    fn held(&mut self, now: Duration) -> Option<&mut Held> {
        self.held.as_mut().filter(|held| now < held.until)
    }
}

#[async_trait]
impl Lease for InProcessLease {
    async fn acquire(&self, name: &str, holder: &str, ttl: Duration) -> Result<Option<Grant>, LeaseError> {
        check_request(name, holder, ttl)?;
        let mut slots = self.lock();
        if slots.len() >= MAXIMUM_LEASES && !slots.contains_key(name) {
            return Err(LeaseError::Invalid {
                name: name.to_owned(),
                problem: format!("there are {MAXIMUM_LEASES} leases already; use fewer names"),
            });
        }
        let slot = slots.entry(name.to_owned()).or_default();
        let now = self.clock.monotonic();
        if slot.held(now).is_some() {
            return Ok(None);
        }
        let until = now + ttl;
        slot.token += 1;
        slot.held = Some(Held {
            holder: holder.to_owned(),
            since: self.clock.now(),
            until,
        });
        Ok(Some(self.grant(slot.token, until)))
    }

    async fn renew(&self, name: &str, token: FencingToken, ttl: Duration) -> Result<Option<Grant>, LeaseError> {
        check_request(name, "renews", ttl)?;
        let mut slots = self.lock();
        let now = self.clock.monotonic();
        let current = slots.get_mut(name).filter(|slot| slot.token == token.0);
        let Some(held) = current.and_then(|slot| slot.held(now)) else {
            return Ok(None);
        };
        held.until = now + ttl;
        Ok(Some(self.grant(token.0, now + ttl)))
    }

    async fn release(&self, name: &str, token: FencingToken) -> Result<(), LeaseError> {
        if let Some(slot) = self.lock().get_mut(name).filter(|slot| slot.token == token.0) {
            slot.held = None;
        }
        Ok(())
    }

    async fn holding(&self, name: &str) -> Result<Option<Holding>, LeaseError> {
        let mut slots = self.lock();
        let Some(slot) = slots.get_mut(name) else {
            return Ok(None);
        };
        let token = FencingToken(slot.token);
        let held = slot.held(self.clock.monotonic());
        Ok(held.map(|held| Holding {
            holder: held.holder.clone(),
            token,
            since: held.since,
            deadline: self.shown(held.until),
        }))
    }
}
