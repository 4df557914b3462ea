//! A reload, as SIGHUP asks for it: the new configuration is read and validated whole, every module whose table changed is
//! assembled anew, and only when all of that went well does anything running change. Parts that can't be built then make
//! way for those that ran before, and the configuration that runs stays the one that is shown.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use plba_contracts::application::table_of;
use serde_json::Value;
use tracing::{error, info, warn};

use crate::TARGET;
use crate::blueprint::{AssembledModule, BlueprintError, Launch, assemble, check_workers, platform_of};
use crate::config::{Configuration, ConfigurationManager, Consequence};
use crate::logging::LoggingHandle;
use crate::modules::{ReplaceError, RunningModules};
use crate::platform::PlatformConfig;

/// What a reload is to put to work.
#[derive(Default)]
struct Prepared {
    /// What the modules made of the configuration while it was being validated.
    modules: Vec<AssembledModule>,
    /// Tables of modules that an earlier reload has stopped and could not start again: every reload tries them.
    down: BTreeSet<String>,
}

/// Carries out reloads, one at a time.
pub struct Reloader {
    configuration: Arc<ConfigurationManager>,
    logging: Arc<LoggingHandle>,
    prepared: Arc<Mutex<Prepared>>,
}

impl Reloader {
    /// Makes sure that no configuration is published by which a module can't be assembled.
    pub fn new(configuration: Arc<ConfigurationManager>, logging: Arc<LoggingHandle>, launch: Launch) -> Self {
        let prepared = Arc::new(Mutex::new(Prepared::default()));
        let keep = Arc::clone(&prepared);
        configuration.on_reload("modules", move |old, new| {
            let down = lock(&keep).down.clone();
            let modules = assemble_changed(&launch, old, new, &down)?;
            if let Err(refused) = check_workers_of(&launch, old, new) {
                return Err(match refused {
                    BlueprintError::Misconfigured(report) => report,
                    other => other.into(),
                });
            }
            lock(&keep).modules = modules;
            Ok(())
        });
        Self {
            configuration,
            logging,
            prepared,
        }
    }

    /// Reloads, and logs how it went. On any fault the process goes on as it was.
    ///
    /// # Cancel safety
    /// A dropped call may leave modules between old and new; it is dropped only when the process stops.
    pub async fn reload(&mut self, modules: &mut RunningModules) {
        let before = self.configuration.current();
        let outcome = match self.configuration.reload().await {
            Ok(outcome) => outcome,
            Err(report) => {
                report
                    .to_string()
                    .lines()
                    .for_each(|line| error!(target: TARGET, "{line}"));
                return;
            }
        };
        let changed = std::mem::take(&mut lock(&self.prepared).modules);
        if outcome.changed.is_empty() && changed.is_empty() {
            info!(target: TARGET, "the configuration was read again: nothing has changed");
            return;
        }
        let names: Vec<String> = changed.iter().map(|module| module.module.name().to_owned()).collect();
        let (names, after) = (names.join(", "), self.configuration.current());
        let workers = |configuration| platform_of(configuration).map(|platform| platform.workers.clone());
        let (set_before, set_now) = (
            workers(&before).unwrap_or_default(),
            workers(&after).unwrap_or_default(),
        );
        modules.tune(set_now.clone());
        if let Err(error) = self.replace(modules, changed).await {
            modules.tune(set_before);
            // So that what is shown is what runs, and the next reload sees the difference again.
            let stays = before.generation();
            self.configuration.restore(before);
            error!(target: TARGET,
                "the new configuration of {names} can't be put to work: {error}; configuration {stays} stays"
            );
            return;
        }
        info!(target: TARGET,
            "configuration {} runs; changed: {}",
            outcome.generation,
            outcome.changed.join(", ")
        );
        apply_platform(&before, &after, &self.logging);
        modules.retune(&set_before, &set_now).await;
        if !names.is_empty() {
            info!(target: TARGET, "{names} runs by the new configuration");
        }
    }

    /// Replaces the changed modules, and remembers those that don't run any more.
    async fn replace(&self, modules: &mut RunningModules, changed: Vec<AssembledModule>) -> Result<(), ReplaceError> {
        if changed.is_empty() {
            return Ok(());
        }
        let tables: Vec<String> = changed.iter().map(|module| module.table.clone()).collect();
        let replaced = modules.replace(changed).await;
        let down = &mut lock(&self.prepared).down;
        match &replaced {
            Err(error) if !error.restored => down.extend(tables),
            _ => down.retain(|table| !tables.contains(table)),
        }
        replaced
    }
}

// Each use is whole in itself, so a poisoned lock is as good as a sound one.
fn lock(prepared: &Mutex<Prepared>) -> MutexGuard<'_, Prepared> {
    prepared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn assemble_changed(
    launch: &Launch,
    old: &Configuration,
    new: &Configuration,
    down: &BTreeSet<String>,
) -> Result<Vec<AssembledModule>, BlueprintError> {
    let platform = platform_of(new)?;
    let changed = launch.modules.iter().filter(|module| {
        let table = table_of(module.name());
        new.differs_in(old, &table) || down.contains(&table)
    });
    changed.map(|module| assemble(module, new, &platform)).collect()
}

/// Checks the settings of single workers against all that there will be. Assembling does no input or output, so that doing
/// it once more only costs a moment.
fn check_workers_of(launch: &Launch, old: &Configuration, new: &Configuration) -> Result<(), BlueprintError> {
    let platform = platform_of(new)?;
    if platform.workers.is_empty() {
        return Ok(());
    }
    let modules = launch.modules.iter().map(|module| assemble(module, new, &platform));
    let stays = Consequence::StaysRunning {
        generation: old.generation(),
    };
    check_workers(new, &modules.collect::<Result<Vec<_>, _>>()?, stays)
}

/// What of `[platform]` can change while running does; the rest is named.
fn apply_platform(before: &Configuration, now: &Configuration, logging: &LoggingHandle) {
    let (Ok(before), Ok(now)) = (platform_of(before), platform_of(now)) else {
        return;
    };
    let reloaded = logging.reload(&now.logging);
    if reloaded.levels_changed {
        info!(target: TARGET, "log levels changed");
    }
    let mut waits: Vec<String> = reloaded
        .needs_restart
        .iter()
        .map(|key| format!("logging.{key}"))
        .collect();
    let (before, now) = (parts(&before), parts(&now));
    waits.extend(
        before
            .iter()
            .zip(&now)
            .filter(|(before, now)| before.1 != now.1)
            .map(|(_, now)| now.0.to_owned()),
    );
    if !waits.is_empty() {
        warn!(target: TARGET,
            "these take effect at the next start: platform.{}",
            waits.join(", platform.")
        );
    }
}

/// The parts of `[platform]` that are read at start only. A secret reads the same before and after, so a new token is
/// not noticed here.
fn parts(platform: &PlatformConfig) -> Vec<(&'static str, Value)> {
    let value = |part: serde_json::Result<Value>| part.unwrap_or_default();
    vec![
        ("state_dir", value(serde_json::to_value(&platform.state_dir))),
        ("stop_budget", value(serde_json::to_value(platform.stop_budget))),
        ("core_dumps", Value::Bool(platform.core_dumps)),
        ("executor", value(serde_json::to_value(&platform.executor))),
        ("control", value(serde_json::to_value(&platform.control))),
        ("trace", value(serde_json::to_value(&platform.trace))),
        ("health", value(serde_json::to_value(&platform.health))),
    ]
}
