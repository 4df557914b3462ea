//! A reload, as SIGHUP asks for it: the new configuration is read and validated whole, every module whose table changed is
//! assembled anew, and only when all of that went well does anything running change.

use std::sync::{Arc, Mutex, PoisonError};

use plba_contracts::application::table_of;
use serde_json::Value;
use tracing::{error, info, warn};

use crate::TARGET;
use crate::blueprint::{AssembledModule, BlueprintError, Launch, assemble, platform_of};
use crate::config::{Configuration, ConfigurationManager};
use crate::logging::LoggingHandle;
use crate::modules::RunningModules;
use crate::platform::PlatformConfig;

/// What the modules made of a configuration while it was being validated.
type Assembled = Arc<Mutex<Vec<AssembledModule>>>;

/// Carries out reloads, one at a time.
pub struct Reloader {
    configuration: Arc<ConfigurationManager>,
    logging: Arc<LoggingHandle>,
    assembled: Assembled,
}

impl Reloader {
    /// Makes sure that no configuration is published by which a module can't be assembled.
    pub fn new(configuration: Arc<ConfigurationManager>, logging: Arc<LoggingHandle>, launch: Launch) -> Self {
        let assembled = Assembled::default();
        let keep = Arc::clone(&assembled);
        configuration.on_reload("modules", move |old, new| {
            let modules = assemble_changed(&launch, old, new)?;
            *keep.lock().unwrap_or_else(PoisonError::into_inner) = modules;
            Ok(())
        });
        Self {
            configuration,
            logging,
            assembled,
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
        if outcome.changed.is_empty() {
            info!(target: TARGET, "the configuration was read again: nothing has changed");
            return;
        }
        info!(target: TARGET,
            "configuration {} runs; changed: {}",
            outcome.generation,
            outcome.changed.join(", ")
        );
        apply_platform(&before, &self.configuration.current(), &self.logging);
        let changed = std::mem::take(&mut *self.assembled.lock().unwrap_or_else(PoisonError::into_inner));
        if changed.is_empty() {
            return;
        }
        let names: Vec<String> = changed.iter().map(|module| module.module.name().to_owned()).collect();
        match modules.replace(changed).await {
            Ok(()) => info!(target: TARGET, "{} runs by the new configuration", names.join(", ")),
            Err(message) => error!(target: TARGET,
                "the new configuration of {} can't be put to work: {message}",
                names.join(", ")
            ),
        }
    }
}

fn assemble_changed(
    launch: &Launch,
    old: &Configuration,
    new: &Configuration,
) -> Result<Vec<AssembledModule>, BlueprintError> {
    let platform = platform_of(new)?;
    let changed = launch
        .modules
        .iter()
        .filter(|module| new.differs_in(old, &table_of(module.name())));
    changed.map(|module| assemble(module, new, &platform)).collect()
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
        ("control", value(serde_json::to_value(&platform.control))),
        ("trace", value(serde_json::to_value(&platform.trace))),
        ("health", value(serde_json::to_value(&platform.health))),
    ]
}
