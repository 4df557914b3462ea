//! Reloads of a running process: who follows its configuration, in which order, and what is said of it. The stages of a
//! change live in `config::change`.

mod logging;
mod modules;
mod token;
mod traces;
mod watchers;

#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::sync::Arc;

use plba_contracts::clock::Clock;
use tokio::runtime::Handle;
use tracing::{error, info, warn};

use self::logging::LoggingPart;
use self::modules::ModulesPart;
use self::token::TokenPart;
use self::traces::TracesPart;
pub(crate) use self::watchers::watchers;
use crate::TARGET;
use crate::blueprint::{Launch, platform_of};
use crate::config::change::{Conclusion, Due, LivePart, ReloadOutcome, Transactions, Trigger};
use crate::config::{ConfigDiff, Configuration, ConfigurationManager};
use crate::logging::LoggingHandle;
use crate::modules::RunningModules;
use crate::notify::ServiceManager;
use crate::trace::TraceService;

/// What follows the configuration besides the modules.
pub struct Followers {
    /// The configuration.
    pub configuration: Arc<ConfigurationManager>,
    /// The log.
    pub logging: Arc<LoggingHandle>,
    /// Traces.
    pub traces: TraceService,
    /// What the program has brought, to be assembled anew.
    pub launch: Launch,
}

/// Carries out the reloads of a process, one at a time.
pub struct Reloader<'a> {
    transactions: Transactions<'a>,
    service_manager: ServiceManager,
}

impl Followers {
    /// All of them with these modules, the quick ones first: what fails, fails before much has been moved.
    pub fn with<'a>(&'a self, modules: &'a mut RunningModules, workers: Handle) -> Vec<Box<dyn LivePart + 'a>> {
        let configuration = Arc::clone(&self.configuration);
        let mut parts: Vec<Box<dyn LivePart + 'a>> = vec![
            Box::new(LoggingPart::new(&self.logging)),
            Box::new(TracesPart::new(&self.traces)),
        ];
        // It is always there: nothing is loaded without it.
        if let Ok(platform) = platform_of(&configuration.current()) {
            parts.push(Box::new(TokenPart::new(modules.plane().clone(), &platform)));
        }
        let modules = ModulesPart::new(modules, self.launch.clone(), configuration, workers);
        parts.push(Box::new(modules));
        parts
    }
}

impl<'a> Reloader<'a> {
    /// Reloads this configuration, which these parts follow.
    pub fn new(
        configuration: Arc<ConfigurationManager>,
        clock: Arc<dyn Clock>,
        parts: Vec<Box<dyn LivePart + 'a>>,
        service_manager: ServiceManager,
    ) -> Self {
        Self {
            transactions: Transactions::new(configuration, clock, parts),
            service_manager,
        }
    }

    /// Carries out whatever is asked for, and watches over what was changed. Logs how each went. On any fault the process goes
    /// on as it was.
    ///
    /// # Cancel safety
    /// A dropped call may leave parts between old and new; it is dropped only when the process stops.
    pub async fn run(&mut self) -> Infallible {
        self.transactions.prove().await;
        loop {
            match self.transactions.next().await {
                Due::Reload(request) => {
                    self.service_manager.reloading();
                    let conclusion = self.transactions.reload(request.triggers.clone()).await;
                    tell(&conclusion);
                    request.answer(&conclusion.outcome);
                    self.service_manager.ready();
                }
                Due::Proof => {
                    let proven = self.transactions.prove().await;
                    info!(target: TARGET, "configuration {} has passed its probation", proven.generation());
                }
                Due::Return(reason) => {
                    error!(target: TARGET, "the new configuration has failed its probation: {reason}");
                    self.service_manager.reloading();
                    tell(&self.transactions.take_back(reason).await);
                    self.service_manager.ready();
                }
            }
        }
    }
}

fn tell(conclusion: &Conclusion) {
    match &conclusion.outcome {
        ReloadOutcome::Unchanged { .. } => {
            info!(target: TARGET, "the configuration was read again: nothing has changed{}", asked_by(&conclusion.triggers));
        }
        ReloadOutcome::Applied {
            generation,
            changed,
            diff,
        } => {
            info!(target: TARGET,
                "configuration {generation} runs; changed: {}{}",
                changed.join(", "),
                asked_by(&conclusion.triggers)
            );
            tell_waiting(diff);
            conclusion.tried.iter().for_each(|tried| tell_warnings(tried));
        }
        ReloadOutcome::TakenBack {
            generation,
            failed,
            reason,
            diff,
        } => {
            error!(target: TARGET, "configuration {generation} runs again, because {failed} has failed: {reason}");
            tell_waiting(diff);
        }
        ReloadOutcome::Rejected { reason, .. } => {
            tell_report(reason);
        }
    }
}

/// Tells a report, a line of it a line of the log.
pub(crate) fn tell_report(report: &str) {
    let lines = report.lines().filter(|line| !line.is_empty());
    lines.for_each(|line| error!(target: TARGET, "{line}"));
}

/// Tells what was accepted, but should be written otherwise.
pub(crate) fn tell_warnings(configuration: &Configuration) {
    for warning in configuration.warnings() {
        warning
            .to_string()
            .lines()
            .for_each(|line| warn!(target: TARGET, "{line}"));
    }
}

fn tell_waiting(diff: &ConfigDiff) {
    let waiting: Vec<&str> = diff.needs_restart().collect();
    if !waiting.is_empty() {
        warn!(target: TARGET, "these take effect at the next start: {}", waiting.join(", "));
    }
}

fn asked_by(triggers: &[Trigger]) -> String {
    let triggers: Vec<String> = triggers.iter().map(Trigger::to_string).collect();
    format!(" ({})", triggers.join(", "))
}
