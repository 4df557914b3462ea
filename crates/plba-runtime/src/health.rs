//! The health registry: runs the contributors' checks on their schedules, keeps what they last said, and sums up.
//! Answering reads memory, so it is never as slow as the slowest check. What health is lives in the contracts.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use jiff::Timestamp;
use plba_contracts::clock::Clock;
use plba_contracts::health::{Criticality, Health, HealthContribution, HealthContributor};
use plba_contracts::services::Services;
use plba_contracts::{BoxError, describe};
use schemars::JsonSchema;
use serde::Serialize;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use crate::panic::panic_message;

/// How one part is.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct HealthEntry {
    /// The contributor's or worker's name.
    pub name: String,
    /// `worker` or `contributor`.
    pub kind: &'static str,
    /// How it is.
    #[serde(flatten)]
    pub health: Health,
    /// What its being unhealthy means for the whole.
    pub criticality: Criticality,
    /// Since when it has been in this state.
    #[schemars(with = "String")]
    pub since: Timestamp,
}

/// How the whole is.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct HealthReport {
    /// The whole: unhealthy when a critical part is, degraded when any part is not ok.
    #[serde(flatten)]
    pub health: Health,
    /// Every part, the worst first.
    pub parts: Vec<HealthEntry>,
}

impl HealthReport {
    /// Sums up the parts.
    pub fn of(mut parts: Vec<HealthEntry>) -> Self {
        parts.sort_by(|a, b| b.health.cmp(&a.health).then_with(|| a.name.cmp(&b.name)));
        let counted = |entry: &HealthEntry| {
            let named = |reason: &str| format!("{}: {reason}", entry.name);
            match (&entry.health, entry.criticality) {
                (Health::Ok, _) => Health::Ok,
                (Health::Unhealthy { reason }, Criticality::Critical) => Health::unhealthy(named(reason)),
                (Health::Unhealthy { reason } | Health::Degraded { reason }, _) => Health::degraded(named(reason)),
            }
        };
        let health = parts.iter().map(counted).fold(Health::Ok, Health::worse);
        Self { health, parts }
    }
}

/// How a part of the platform is, from memory: a worker, as its supervisor says, or something of the platform's own.
pub struct PartHealth {
    /// Its name.
    pub name: String,
    /// `worker` or `contributor`.
    pub kind: &'static str,
    /// How it is.
    pub health: Health,
    /// What its being unhealthy means for the whole.
    pub criticality: Criticality,
}

/// How often the workers are looked at when nobody asks, so that `since` is right to within this.
const LOOK: Duration = Duration::from_secs(1);

type AskWorkers = dyn Fn() -> Vec<PartHealth> + Send + Sync;

/// Collects health. Cheap to clone.
#[derive(Clone)]
pub struct HealthRegistry {
    shared: Arc<Shared>,
}

struct Shared {
    clock: Arc<dyn Clock>,
    ask_workers: Box<AskWorkers>,
    workers: Mutex<BTreeMap<String, HealthEntry>>,
    contributors: Mutex<BTreeMap<String, HealthEntry>>,
    /// The running checks by contributor; the look at the workers goes by the empty name.
    checks: Mutex<BTreeMap<String, JoinHandle<()>>>,
}

impl HealthRegistry {
    /// A registry without contributors; `workers` tells how the workers are, from memory.
    pub fn new(clock: Arc<dyn Clock>, workers: impl Fn() -> Vec<PartHealth> + Send + Sync + 'static) -> Self {
        let (ask_workers, workers) = (Box::new(workers), Mutex::default());
        let (contributors, checks) = (Mutex::default(), Mutex::default());
        Self {
            shared: Arc::new(Shared {
                clock,
                ask_workers,
                workers,
                contributors,
                checks,
            }),
        }
    }

    /// Builds these contributors, asks each once, and from then on each on its own schedule.
    ///
    /// # Errors
    /// A contributor that can't be built.
    pub async fn watch(&self, contributions: Vec<HealthContribution>, services: &Services) -> Result<(), BoxError> {
        let mut first = Vec::new();
        for contribution in contributions {
            let contributor = contribution.build.call(services.clone()).await.map_err(|error| {
                format!(
                    "health contributor \"{}\" could not be built: {}",
                    contribution.name,
                    describe(error.as_ref())
                )
            })?;
            first.push(Watched {
                contribution,
                contributor,
            });
        }
        let asked = first.iter().map(|watched| watched.check());
        let answers = futures_util::future::join_all(asked).await;
        for (watched, health) in first.into_iter().zip(answers) {
            self.shared.record(&watched.contribution, health);
            let name = watched.contribution.name.clone();
            let check = tokio::spawn(watched.run(Arc::clone(&self.shared)));
            if let Some(other) = lock(&self.shared.checks).insert(name, check) {
                other.abort();
            }
        }
        let shared = Arc::clone(&self.shared);
        lock(&self.shared.checks).entry(String::new()).or_insert_with(|| {
            tokio::spawn(async move {
                loop {
                    shared.look_at_workers();
                    tokio::time::sleep(LOOK).await;
                }
            })
        });
        Ok(())
    }

    /// Stops these checks for now; what they last said stays until they are watched again, or forgotten.
    pub fn hold(&self, names: &[String]) {
        for name in names {
            if let Some(check) = lock(&self.shared.checks).remove(name) {
                check.abort();
            }
        }
    }

    /// Stops these checks and forgets what they said.
    pub fn forget(&self, names: &[String]) {
        self.hold(names);
        for name in names {
            lock(&self.shared.contributors).remove(name);
        }
    }

    /// Stops all checks; what was last said stays.
    pub fn stop(&self) {
        for check in std::mem::take(&mut *lock(&self.shared.checks)).into_values() {
            check.abort();
        }
    }

    /// How the whole is, from memory.
    pub fn report(&self) -> HealthReport {
        let mut parts = self.shared.look_at_workers();
        parts.extend(lock(&self.shared.contributors).values().cloned());
        HealthReport::of(parts)
    }
}

impl Shared {
    /// Asks how the workers are, and remembers since when they have been so.
    fn look_at_workers(&self) -> Vec<HealthEntry> {
        let now = self.clock.now();
        let asked = (self.ask_workers)();
        let mut workers = lock(&self.workers);
        let entry = |worker: PartHealth| {
            let before = workers
                .get(&worker.name)
                .filter(|before| before.health.word() == worker.health.word());
            let since = before.map_or(now, |before| before.since);
            let PartHealth {
                name,
                kind,
                health,
                criticality,
            } = worker;
            (
                name.clone(),
                HealthEntry {
                    name,
                    kind,
                    health,
                    criticality,
                    since,
                },
            )
        };
        *workers = asked.into_iter().map(entry).collect();
        workers.values().cloned().collect()
    }

    fn record(&self, contribution: &HealthContribution, health: Health) {
        let mut contributors = lock(&self.contributors);
        let before = contributors.get(&contribution.name);
        let changed = before.is_none_or(|before| before.health.word() != health.word());
        if changed && (before.is_some() || health != Health::Ok) {
            match health.reason() {
                Some(reason) => warn!(contributor = contribution.name, reason, "{}", health.word()),
                None => info!(contributor = contribution.name, "ok again"),
            }
        }
        let since = before
            .filter(|_| !changed)
            .map_or_else(|| self.clock.now(), |before| before.since);
        let (name, criticality) = (contribution.name.clone(), contribution.criticality);
        contributors.insert(
            name.clone(),
            HealthEntry {
                name,
                kind: "contributor",
                health,
                criticality,
                since,
            },
        );
    }
}

struct Watched {
    contribution: HealthContribution,
    contributor: Arc<dyn HealthContributor>,
}

impl Watched {
    async fn check(&self) -> Health {
        let limit = self.contribution.timeout;
        let check = AssertUnwindSafe(async { self.contributor.check().await }).catch_unwind();
        match tokio::time::timeout(limit, check).await {
            Ok(Ok(health)) => health,
            Ok(Err(panic)) => Health::unhealthy(panic_message(panic.as_ref())),
            Err(_) => Health::unhealthy(format!("its check gave no answer within {} s", limit.as_secs_f64())),
        }
    }

    async fn run(self, shared: Arc<Shared>) {
        loop {
            tokio::time::sleep(self.contribution.interval).await;
            let health = self.check().await;
            shared.record(&self.contribution, health);
        }
    }
}

// What these locks guard is whole between any two statements, so a poisoned lock is as good as a sound one.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use async_trait::async_trait;

    use super::*;
    use crate::clock::SystemClock;
    use crate::services::{Provided, ServiceContainer};

    /// Well at first, then hangs, then panics.
    struct Sinking(AtomicU32);

    #[async_trait]
    impl HealthContributor for Sinking {
        async fn check(&self) -> Health {
            match self.0.fetch_add(1, Ordering::Relaxed) {
                0 => Health::Ok,
                1 => std::future::pending().await,
                _ => panic!("leaking"),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_that_hangs_or_panics_is_unhealthy_and_delays_nobody() {
        let services = Arc::new(ServiceContainer::new(Vec::new(), Provided::default()).unwrap()).services();
        let registry = HealthRegistry::new(Arc::new(SystemClock::new()), Vec::new);
        let build = |_| async { Ok(Arc::new(Sinking(AtomicU32::new(0))) as Arc<dyn HealthContributor>) };
        registry
            .watch(vec![HealthContribution::new("hull", build)], &services)
            .await
            .unwrap();
        assert_eq!(registry.report().health, Health::Ok);
        tokio::time::sleep(Duration::from_millis(15_001)).await;
        assert_eq!(
            registry.report().health,
            Health::unhealthy("hull: its check gave no answer within 5 s")
        );
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(registry.report().health, Health::unhealthy("hull: panic: leaking"));
        registry.stop();
    }

    #[test]
    fn an_optional_part_only_degrades_the_whole() {
        let entry = |name: &str, health, criticality| HealthEntry {
            name: name.into(),
            kind: "worker",
            health,
            criticality,
            since: Timestamp::UNIX_EPOCH,
        };
        let optional = entry("reports", Health::unhealthy("given up"), Criticality::Optional);
        assert_eq!(
            HealthReport::of(vec![optional.clone()]).health,
            Health::degraded("reports: given up")
        );
        let critical = entry("orders", Health::unhealthy("hung"), Criticality::Critical);
        let report = HealthReport::of(vec![optional, critical]);
        assert_eq!(report.health, Health::unhealthy("orders: hung"));
    }
}
