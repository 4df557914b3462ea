//! Probation on the running process: looks at the health registry and counts the supervisor's failed attempts. What counts as
//! worse is `probation`'s; who asks for a trial and acts on its verdict, the transaction's.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use plba_contracts::clock::Clock;
use tokio::time::{Instant, sleep};

use super::probation::{Part, Picture, Probation};
use super::proving::{Proving, Trial, TrialVerdict};
use super::standing::HEALTH_PART;
use crate::health::HealthRegistry;
use crate::supervisor::{SlotState, SupervisorEvent, WorkerSupervisor};

/// The longest and the shortest time between two looks; in between a sixtieth of the window.
const SELDOM: Duration = Duration::from_millis(500);
const OFTEN: Duration = Duration::from_millis(50);
const LOOKS: u32 = 60;

/// By how much the end of a window may differ and still be the same one's.
const SAME: Duration = Duration::from_millis(5);

/// Takes pictures of the process, from memory.
pub(crate) struct HealthProving(Arc<Eyes>);

struct Eyes {
    clock: Arc<dyn Clock>,
    supervisor: WorkerSupervisor,
    health: HealthRegistry,
    failures: Mutex<BTreeMap<String, Failures>>,
}

/// The failed attempts of one worker.
#[derive(Default)]
struct Failures {
    count: u64,
    at: Duration,
    how: String,
}

struct HealthTrial {
    eyes: Arc<Eyes>,
    before: Picture,
    watch: Option<Watch>,
}

/// A window that has begun.
struct Watch {
    began: Instant,
    until: Instant,
    probation: Probation,
}

impl HealthProving {
    /// Counts failed attempts from now on.
    pub(crate) fn new(clock: Arc<dyn Clock>, supervisor: &WorkerSupervisor, health: &HealthRegistry) -> Self {
        let eyes = Arc::new(Eyes {
            clock,
            supervisor: supervisor.clone(),
            health: health.clone(),
            failures: Mutex::default(),
        });
        // The supervisor outlives nobody who could hold these eyes, so it must not hold them itself.
        let counting = Arc::downgrade(&eyes);
        supervisor.events().subscribe(move |recorded| {
            if let Some(eyes) = counting.upgrade() {
                eyes.saw(&recorded.event);
            }
        });
        Self(eyes)
    }
}

impl Proving for HealthProving {
    fn begin(&self) -> Box<dyn Trial> {
        Box::new(HealthTrial {
            before: self.0.picture(),
            eyes: Arc::clone(&self.0),
            watch: None,
        })
    }
}

#[async_trait]
impl Trial for HealthTrial {
    async fn verdict(&mut self, window: Duration) -> TrialVerdict {
        let eyes = Arc::clone(&self.eyes);
        let watch = self.watch(window);
        let between = (window / LOOKS).clamp(OFTEN, SELDOM);
        loop {
            sleep(between.min(watch.until.saturating_duration_since(Instant::now()))).await;
            if let Some(verdict) = watch.probation.look(watch.began.elapsed(), &eyes.picture()) {
                return verdict;
            }
        }
    }
}

impl HealthTrial {
    /// The window that goes on, or one that begins now: with what is left of it, it is the same.
    fn watch(&mut self, window: Duration) -> &mut Watch {
        let now = Instant::now();
        let until = now + window;
        let same = |watch: &Watch| until <= watch.until.max(now) + SAME;
        let (eyes, before) = (&self.eyes, &self.before);
        self.watch = self.watch.take().filter(same);
        self.watch.get_or_insert_with(|| Watch {
            began: now,
            until,
            probation: Probation::begin(before, &eyes.picture(), Duration::ZERO, window),
        })
    }
}

impl Eyes {
    fn saw(&self, event: &SupervisorEvent) {
        match event {
            SupervisorEvent::Ended { worker, end, .. } if end.is_failure() => {
                let mut failures = self.failures();
                let failures = failures.entry(worker.clone()).or_default();
                failures.count += 1;
                failures.at = self.clock.monotonic();
                failures.how = end.to_string();
            }
            SupervisorEvent::Removed { worker } => {
                self.failures().remove(worker);
            }
            _ => {}
        }
    }

    fn picture(&self) -> Picture {
        let paused: Vec<String> = self
            .supervisor
            .snapshot()
            .into_iter()
            .filter(|worker| worker.slots.iter().any(|slot| slot.state == SlotState::Paused))
            .map(|worker| worker.name)
            .collect();
        let now = self.clock.monotonic();
        let report = self.health.report();
        let failures = self.failures();
        let parts = report.parts.into_iter().filter(|part| part.name != HEALTH_PART);
        let part = |entry: crate::health::HealthEntry| {
            let failed = failures.get(&entry.name).filter(|_| entry.kind == "worker");
            let part = Part {
                paused: entry.kind == "worker" && paused.contains(&entry.name),
                health: entry.health,
                failures: failed.map_or(0, |failed| failed.count),
                last_failure: failed.map(|failed| (now.saturating_sub(failed.at), failed.how.clone())),
            };
            ((entry.kind, entry.name), part)
        };
        parts.map(part).collect()
    }

    fn failures(&self) -> MutexGuard<'_, BTreeMap<String, Failures>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
