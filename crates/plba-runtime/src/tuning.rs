//! What an operator has set of single workers, in `[platform.workers.NAME]`: put over what modules say when their workers
//! start, and applied to those that run when it changes. Nothing is restarted for it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use jiff::Timestamp;
use plba_contracts::config::{Faults, TimeSpan};
use plba_contracts::health::Health;
use plba_contracts::services::Build;
use plba_contracts::stop::StopHandle;
use plba_contracts::worker::{
    Exit, Restart, RestartPolicy, Running, StartError, Worker, WorkerContext, WorkerDefinition, WorkerStatus,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::TARGET;
use crate::config::suggestion;
use crate::supervisor::{SupervisionError, WorkerSupervisor};
use crate::worker::MINIMUM_INTERVAL;

/// How long a reload waits for a worker to be as it is set; it goes on with it afterwards.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// The most instances that can be set.
const MAXIMUM_INSTANCES: u32 = 4_096;

/// The section `[platform.workers.NAME]`: what stands in place of what the worker's module says. What is left out is as the
/// module says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct WorkerSettings {
    /// How many instances run side by side. An operator's `worker scale` counts until this changes the next time.
    pub concurrency: Option<u32>,
    /// Whether the worker rests. An operator's `worker pause` and `worker resume` count until this changes the next time.
    pub paused: Option<bool>,
    /// How long an instance may be busy with one thing before it counts as hung.
    pub stall_after: Option<TimeSpan>,
    /// How often it runs, for a worker that runs at an interval; 1 ms or more. Counts at once, also for the run that it waits
    /// for.
    pub interval: Option<TimeSpan>,
    /// How ended attempts are followed by new ones. Counts for ends to come: a worker that was given up stays so until
    /// somebody restarts it.
    pub restart: RestartSettings,
}

/// The section `[platform.workers.NAME.restart]`. What is left out is as the worker's module says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RestartSettings {
    /// When an attempt that ended is followed by another: `permanent` for always, `transient` for when it failed, or `never`.
    pub policy: Option<RestartPolicy>,
    /// The pause before the first restart; it doubles with each one.
    pub initial_delay: Option<TimeSpan>,
    /// The longest pause.
    pub maximum_delay: Option<TimeSpan>,
    /// How many ended attempts are put up with: one more, and the worker is given up.
    pub intensity: Option<u32>,
    /// In what time half of the ended attempts is forgotten.
    pub within: Option<TimeSpan>,
    /// After what time a worker that was given up is tried again. Without it that takes a person.
    pub cool_down: Option<TimeSpan>,
}

impl RestartSettings {
    fn put_into(&self, restart: &mut Restart) {
        let put = |span: Option<TimeSpan>, place: &mut Duration| {
            if let Some(span) = span {
                *place = span.into();
            }
        };
        restart.policy = self.policy.unwrap_or(restart.policy);
        restart.intensity = self.intensity.unwrap_or(restart.intensity);
        put(self.initial_delay, &mut restart.initial_delay);
        put(self.maximum_delay, &mut restart.maximum_delay);
        put(self.within, &mut restart.within);
        restart.cool_down = self.cool_down.map(Duration::from).or(restart.cool_down);
    }
}

/// The settings by the workers' names.
pub type Settings = BTreeMap<String, WorkerSettings>;

impl WorkerSettings {
    /// Puts the interval that is set in place of the worker's own, also while it runs.
    pub(crate) fn pace(&self, definition: &WorkerDefinition) {
        if let Some(pace) = &definition.pace {
            pace.set(self.interval.map(Duration::from));
        }
    }

    pub(crate) fn validate(&self, name: &str, faults: &mut Faults) {
        let possible = self
            .concurrency
            .is_none_or(|count| (1..=MAXIMUM_INSTANCES).contains(&count));
        let message = "1 to 4096 instances are possible; set `paused = true` to have none";
        faults.require(possible, &format!("workers.{name}.concurrency"), message);
        let positive = self.stall_after.is_none_or(|span| !span.0.is_zero());
        let message = "a span longer than 0 is needed";
        faults.require(positive, &format!("workers.{name}.stall_after"), message);
        let possible = self.interval.is_none_or(|span| span.0 >= MINIMUM_INTERVAL);
        faults.require(
            possible,
            &format!("workers.{name}.interval"),
            "a span of 1ms or more is needed",
        );
        let RestartSettings {
            initial_delay,
            maximum_delay,
            ..
        } = self.restart;
        let ordered = initial_delay
            .zip(maximum_delay)
            .is_none_or(|(first, most)| first <= most);
        let message = "the longest pause can't be shorter than the first, `initial_delay`";
        faults.require(ordered, &format!("workers.{name}.restart.maximum_delay"), message);
    }
}

/// The names that are no workers', each with what may have been meant.
pub(crate) fn unknown<'a>(settings: &Settings, workers: impl Iterator<Item = &'a str>) -> Vec<(&str, String)> {
    let known: Vec<String> = workers.map(str::to_owned).collect();
    let names = settings.keys().filter(|name| !known.contains(name));
    names
        .map(|name| (name.as_str(), suggestion(name, &known, "workers")))
        .collect()
}

/// The settings that count now. Clones are handles on the same.
#[derive(Clone, Default)]
pub struct Tuning(Arc<Mutex<Settings>>);

impl Tuning {
    /// With these settings.
    pub fn new(settings: Settings) -> Self {
        Self(Arc::new(Mutex::new(settings)))
    }

    /// Others count from now on; gives those that counted before. Nothing that runs is changed by it.
    pub fn set(&self, settings: Settings) -> Settings {
        std::mem::replace(&mut self.lock(), settings)
    }

    /// What is set of one worker.
    pub(crate) fn of(&self, name: &str) -> WorkerSettings {
        self.lock().get(name).cloned().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, Settings> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A worker that starts only to rest: it does nothing until [`rest`](Self::rest) has paused it, so that those that start
/// after it don't wait.
pub(crate) struct Held {
    name: String,
    until: Option<Timestamp>,
    held: Arc<AtomicBool>,
}

impl Held {
    /// Makes of the definition one that does nothing for now.
    pub(crate) fn new(definition: &mut WorkerDefinition, until: Option<Timestamp>) -> Self {
        let held = Arc::new(AtomicBool::new(true));
        let (build, is_held) = (definition.build.clone(), Arc::clone(&held));
        definition.build = Build::new(move |services| {
            let (held, build) = (is_held.load(Ordering::Acquire), build.clone());
            async move {
                match held {
                    true => Ok(Arc::new(AtRest::default()) as Arc<dyn Worker>),
                    false => build.call(services).await,
                }
            }
        });
        let name = definition.name.clone();
        Self { name, until, held }
    }

    /// Pauses it, now that it has started.
    ///
    /// # Errors
    /// It could not be paused.
    pub(crate) async fn rest(self, supervisor: &WorkerSupervisor) -> Result<(), SupervisionError> {
        let paused = match self.until {
            None => supervisor.pause(&self.name).await,
            Some(until) => supervisor.pause_until(&self.name, until).await,
        };
        self.held.store(false, Ordering::Release);
        match paused {
            // Its time was up meanwhile.
            Err(SupervisionError::PastPause(_)) => supervisor.restart(&self.name).await,
            other => other,
        }
    }
}

/// The definition as it is to be with these settings. Its interval is none of it: who runs at it hears of another one by
/// [`WorkerSettings::pace`].
pub(crate) fn apply(settings: &WorkerSettings, definition: &mut WorkerDefinition) {
    if let Some(concurrency) = settings.concurrency {
        definition.concurrency = concurrency;
    }
    if let Some(stall_after) = settings.stall_after {
        definition.stall_after = stall_after.into();
    }
    settings.restart.put_into(&mut definition.restart);
}

/// Makes running workers as they are set now, in what is set otherwise than before. What goes wrong is logged, and what
/// takes long goes on.
pub(crate) async fn retune(
    supervisor: &WorkerSupervisor,
    definitions: Vec<WorkerDefinition>,
    before: &Settings,
    now: &Settings,
) {
    let none = WorkerSettings::default();
    let changes = definitions.into_iter().filter_map(|definition| {
        let (before, now) = (before.get(&definition.name), now.get(&definition.name));
        let (before, now) = (before.unwrap_or(&none), now.unwrap_or(&none));
        (before != now).then(|| change(supervisor, definition, before.clone(), now.clone()))
    });
    join_all(changes).await;
}

async fn change(
    supervisor: &WorkerSupervisor,
    mut definition: WorkerDefinition,
    before: WorkerSettings,
    now: WorkerSettings,
) {
    apply(&now, &mut definition);
    let name = definition.name.as_str();
    if before.stall_after != now.stall_after {
        supervisor.set_stall_after(name, definition.stall_after);
        told(name, "stall_after", Ok(Ok(())));
    }
    if before.restart != now.restart {
        let set = supervisor.set_restart(name, definition.restart.clone()).await;
        told(name, "restart", Ok(set));
    }
    if before.interval != now.interval {
        now.pace(&definition);
        told(name, "interval", Ok(Ok(())));
    }
    if before.concurrency != now.concurrency {
        let scaled = supervisor.scale(name, definition.concurrency);
        told(name, "concurrency", tokio::time::timeout(PATIENCE, scaled).await);
    }
    match (before.paused.unwrap_or(false), now.paused.unwrap_or(false)) {
        (false, true) => told(
            name,
            "paused",
            tokio::time::timeout(PATIENCE, supervisor.pause(name)).await,
        ),
        (true, false) => told(
            name,
            "paused",
            tokio::time::timeout(PATIENCE, supervisor.resume(name)).await,
        ),
        _ => {}
    }
}

type Changed = Result<Result<(), SupervisionError>, tokio::time::error::Elapsed>;

fn told(worker: &str, key: &str, changed: Changed) {
    match changed {
        Ok(Ok(())) => info!(target: TARGET, worker, "{key} is as it is configured"),
        Ok(Err(error)) => warn!(target: TARGET, worker, "{key} can't be as it is configured: {error}"),
        Err(_) => info!(target: TARGET, worker, "{key} will be as it is configured once what is in hand is finished"),
    }
}

/// Stands in for a worker that is to rest from the start, so that those that start after it don't wait.
#[derive(Default)]
struct AtRest(StopHandle);

#[async_trait]
impl Worker for AtRest {
    async fn start(self: Arc<Self>, _context: WorkerContext) -> Result<Running, StartError> {
        let stop = self.0.signal();
        Ok(Running::new(async move {
            stop.requested().await;
            Exit::Stopped
        }))
    }

    fn stop(&self, force: bool) {
        self.0.stop(force);
    }

    fn health(&self) -> Health {
        Health::Ok
    }

    fn status(&self) -> WorkerStatus {
        WorkerStatus::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_no_workers_is_told_with_the_nearest() {
        let settings = |name: &str| Settings::from([(name.to_owned(), WorkerSettings::default())]);
        let workers = || ["orders", "replies"].into_iter();
        assert_eq!(unknown(&settings("orders"), workers()), []);
        assert_eq!(
            unknown(&settings("oders"), workers()),
            [("oders", "did you mean `orders`?".to_owned())]
        );
    }

    #[test]
    fn what_is_set_stands_in_place_of_what_the_module_says() {
        let settings = WorkerSettings {
            concurrency: Some(7),
            restart: RestartSettings {
                policy: Some(RestartPolicy::Transient),
                ..RestartSettings::default()
            },
            ..WorkerSettings::default()
        };
        let tuning = Tuning::new(Settings::from([("orders".to_owned(), settings)]));
        let settled = |name: &str| {
            let never = |_| async { Err("is never built".into()) };
            let mut definition = WorkerDefinition::new(name, never).concurrency(2);
            apply(&tuning.of(name), &mut definition);
            definition
        };
        assert_eq!((settled("orders").concurrency, settled("replies").concurrency), (7, 2));
        assert_eq!(settled("orders").stall_after, settled("replies").stall_after);
        assert_eq!(settled("orders").restart.policy, RestartPolicy::Transient);
        assert_eq!(settled("orders").restart.intensity, Restart::default().intensity);
    }
}
