//! A change of the configuration from its beginning to its end: the stages in their order, and the way back from each. What
//! the parts of the process do in them is theirs; when a change is due is decided by who asks `next`.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use plba_contracts::clock::Clock;
use tokio::time::{Instant, timeout_at};

use super::diff::ConfigDiff;
use super::outcome::{Conclusion, ReloadOutcome, Stage};
use super::part::{LivePart, Proposal, Refusal};
use super::proving::{Trial, TrialVerdict};
use super::requests::Request;
use super::trigger::Trigger;
use crate::config::check::report::{ConfigFault, ConfigFaultKind, ConfigReport, Consequence, bare, vetoed};
use crate::config::manager::ConfigurationManager;
use crate::config::settings::ConfigSettings;
use crate::config::snapshot::Configuration;
use crate::config::start::lost_since;

/// Carries out changes of a configuration, one at a time.
pub struct Transactions<'a> {
    manager: Arc<ConfigurationManager>,
    clock: Arc<dyn Clock>,
    /// In the order in which they follow.
    parts: Vec<Box<dyn LivePart + 'a>>,
    /// What comes back when a probation fails: the one that was proven last.
    proven: Arc<Configuration>,
    on_trial: Option<OnTrial>,
    /// The one that was taken back last. It isn't tried again by itself.
    taken_back: Option<TakenBack>,
}

struct OnTrial {
    trial: Box<dyn Trial>,
    until: Instant,
}

struct TakenBack {
    configuration: Arc<Configuration>,
    reason: String,
}

/// What is to be done next.
#[derive(Debug)]
pub enum Due {
    /// Somebody asked for a [reload](Transactions::reload).
    Reload(Request),
    /// The probation was [passed](Transactions::prove).
    Proof,
    /// The probation failed with this reason, so the configuration is to be [taken back](Transactions::take_back).
    Return(String),
}

impl<'a> Transactions<'a> {
    /// Changes of this configuration, which these parts follow in their order. The one that runs counts as proven.
    pub fn new(manager: Arc<ConfigurationManager>, clock: Arc<dyn Clock>, parts: Vec<Box<dyn LivePart + 'a>>) -> Self {
        Self {
            proven: manager.current(),
            manager,
            clock,
            parts,
            on_trial: None,
            taken_back: None,
        }
    }

    /// Waits until there is something to do.
    ///
    /// # Cancel safety
    /// A dropped call loses nothing; a probation goes on with what is left of its window.
    pub async fn next(&mut self) -> Due {
        let verdict = async {
            match &mut self.on_trial {
                Some(on_trial) => on_trial.verdict().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            request = self.manager.requests().next() => Due::Reload(request),
            verdict = verdict => match verdict {
                TrialVerdict::Passed => Due::Proof,
                TrialVerdict::Failed(reason) => Due::Return(reason),
            },
        }
    }

    /// Reads everything again, and puts it to work if it is something else and nothing speaks against it.
    ///
    /// # Cancel safety
    /// Dropped only when the process stops: parts may be between old and new then.
    pub async fn reload(&mut self, triggers: Vec<Trigger>) -> Conclusion {
        let began = self.clock.monotonic();
        let before = self.manager.current();
        let (tried, outcome) = self.stages(&triggers, &before).await;
        let took = self.clock.monotonic().saturating_sub(began);
        let needs_no_trial = matches!(outcome, ReloadOutcome::Applied { .. }) && self.on_trial.is_none();
        let conclusion = Conclusion {
            triggers,
            before,
            tried,
            outcome,
            took,
        };
        let conclusion = self.conclude(conclusion).await;
        if needs_no_trial {
            self.prove().await;
        }
        conclusion
    }

    async fn stages(
        &mut self,
        triggers: &[Trigger],
        before: &Arc<Configuration>,
    ) -> (Option<Arc<Configuration>>, ReloadOutcome) {
        // Check.
        let next = match self.manager.read_after(before).await {
            Ok(next) => next,
            Err(faults) => return (None, rejected(before, Stage::Check, faults)),
        };
        let unfinished = self.parts.iter().any(|part| part.unfinished());
        if !unfinished && next.has_values_of(before) {
            let generation = before.generation;
            let next = Arc::new(next.numbered(generation));
            self.manager.publish(Arc::clone(&next));
            return (Some(next), ReloadOutcome::Unchanged { generation });
        }
        let next = Arc::new(next);
        let tried = Some(Arc::clone(&next));
        if !triggers.iter().any(Trigger::is_deliberate) {
            let lost = lost_since(before, &next).await;
            if !lost.is_empty() {
                return (tried, rejected(before, Stage::Check, lost));
            }
        }
        if let Some(reason) = self.is_taken_back(&next, triggers) {
            return (
                tried,
                rejected(before, Stage::Probation, vec![bare(ConfigFaultKind::Vetoed, reason)]),
            );
        }

        // Prepare.
        let proposal = Proposal::forward(before, &next, self.prepare_timeout(before, &next));
        let refused = self.prepare(&proposal).await;
        if !refused.is_empty() {
            return (tried, rejected(before, Stage::Prepare, refused));
        }

        // Apply.
        self.manager.count(&next);
        let trial = self.manager.begin_trial();
        if let Err(reason) = self.apply(&proposal).await {
            let generation = before.generation;
            let reason =
                format!("the new configuration can't be put to work: {reason}; configuration {generation} stays");
            let (stage, faults) = (Stage::Apply, Vec::new());
            return (
                tried,
                ReloadOutcome::Rejected {
                    generation,
                    stage,
                    reason,
                    faults,
                },
            );
        }

        // Commit.
        self.manager.publish(Arc::clone(&next));
        self.taken_back = None;

        // Probation.
        self.put_on_trial(trial, &next);
        let applied = ReloadOutcome::Applied {
            generation: next.generation,
            changed: next.tables_unlike(before),
            diff: ConfigDiff::between(before, &next),
        };
        (tried, applied)
    }

    /// Puts the configuration that was proven last back to work, because the one that runs has failed its probation.
    ///
    /// # Cancel safety
    /// As [`reload`](Self::reload).
    pub async fn take_back(&mut self, reason: String) -> Conclusion {
        let began = self.clock.monotonic();
        let (before, proven) = (self.manager.current(), Arc::clone(&self.proven));
        self.on_trial = None;
        let proposal = Proposal::back(&before, &proven, self.prepare_timeout(&before, &proven));
        let refused = self.prepare(&proposal).await;
        let went = match refused.is_empty() {
            true => self.apply(&proposal).await,
            false => Err(joined(&refused)),
        };
        let outcome = match went {
            Ok(()) => {
                self.manager.publish(Arc::clone(&proven));
                self.taken_back = Some(TakenBack {
                    configuration: Arc::clone(&before),
                    reason: reason.clone(),
                });
                ReloadOutcome::TakenBack {
                    generation: proven.generation,
                    failed: before.generation,
                    reason,
                    diff: ConfigDiff::between(&before, &proven),
                }
            }
            Err(error) => ReloadOutcome::Rejected {
                generation: before.generation,
                stage: Stage::Probation,
                reason: format!(
                    "configuration {} does not work ({reason}), but configuration {} can't be put back to work: {error}",
                    before.generation, proven.generation
                ),
                faults: refused,
            },
        };
        let took = self.clock.monotonic().saturating_sub(began);
        let (triggers, tried) = (vec![Trigger::Probation], Some(proven));
        self.conclude(Conclusion {
            triggers,
            before,
            tried,
            outcome,
            took,
        })
        .await
    }

    /// The configuration that runs is proven from now on: it is what comes back when a later one fails.
    pub async fn prove(&mut self) -> Arc<Configuration> {
        self.on_trial = None;
        self.proven = self.manager.current();
        for observer in self.manager.observers() {
            observer.proven(&self.proven).await;
        }
        Arc::clone(&self.proven)
    }

    /// Asks all parts at once. Gives what they have against it.
    async fn prepare(&mut self, proposal: &Proposal) -> Vec<ConfigFault> {
        let asked = self.parts.iter_mut().map(|part| async {
            let name = part.name().to_owned();
            match timeout_at(proposal.deadline, part.prepare(proposal)).await {
                Ok(Ok(())) => Vec::new(),
                Ok(Err(Refusal::Faults(faults))) => faults,
                Ok(Err(Refusal::Reason(reason))) => vec![vetoed(&name, &reason)],
                Err(_) => vec![vetoed(&name, &proposal.too_late())],
            }
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    /// Lets the parts follow one after the other. When one can't, those before it have gone back.
    async fn apply(&mut self, proposal: &Proposal) -> Result<(), String> {
        let mut failed = None;
        for (at, part) in self.parts.iter_mut().enumerate() {
            if let Err(reason) = part.apply(proposal).await {
                failed = Some((at, reason));
                break;
            }
        }
        let Some((at, mut reason)) = failed else { return Ok(()) };
        for part in self.parts[..at].iter_mut().rev() {
            if let Err(stuck) = part.undo(proposal).await {
                reason.push_str(&format!("; {} could not go back: {stuck}", part.name()));
            }
        }
        Err(reason)
    }

    fn put_on_trial(&mut self, trial: Option<Box<dyn Trial>>, next: &Configuration) {
        let window = settings_of(next).probation.0;
        // Another change takes over the probation of the one before, so that what comes back is one that worked.
        let trial = self.on_trial.take().map(|on_trial| on_trial.trial).or(trial);
        self.on_trial = trial.filter(|_| !window.is_zero()).map(|trial| OnTrial {
            trial,
            until: Instant::now() + window,
        });
    }

    /// Why a configuration isn't tried that was taken back before.
    fn is_taken_back(&self, next: &Configuration, triggers: &[Trigger]) -> Option<String> {
        if triggers.iter().any(Trigger::is_deliberate) {
            return None;
        }
        let taken_back = self.taken_back.as_ref();
        let taken_back = taken_back.filter(|taken_back| next.has_values_of(&taken_back.configuration));
        let said = taken_back.map(|taken_back| {
            let generation = taken_back.configuration.generation;
            format!(
                "this is what was taken back as configuration {generation}: {}",
                taken_back.reason
            )
        });
        let earlier = || {
            let when = self.manager.took_back(next)?;
            Some(format!("this configuration has failed before: {when}"))
        };
        let said = said.or_else(earlier)?;
        Some(format!("{said}. Change it, or send SIGHUP to try it once more"))
    }

    /// The longer of both, so that neither shuts the way to the other.
    fn prepare_timeout(&self, before: &Configuration, next: &Configuration) -> Duration {
        let span = |configuration| settings_of(configuration).prepare_timeout.0;
        span(before).max(span(next))
    }

    async fn conclude(&self, conclusion: Conclusion) -> Conclusion {
        for observer in self.manager.observers() {
            observer.concluded(&conclusion).await;
        }
        conclusion
    }
}

impl OnTrial {
    async fn verdict(&mut self) -> TrialVerdict {
        let left = self.until.saturating_duration_since(Instant::now());
        self.trial.verdict(left).await
    }
}

fn settings_of(configuration: &Configuration) -> ConfigSettings {
    let platform = crate::blueprint::platform_of(configuration);
    platform.map(|platform| platform.config.clone()).unwrap_or_default()
}

fn joined(faults: &[ConfigFault]) -> String {
    let messages: Vec<&str> = faults.iter().map(|fault| fault.message.as_str()).collect();
    messages.join("; ")
}

fn rejected(before: &Configuration, stage: Stage, faults: Vec<ConfigFault>) -> ReloadOutcome {
    let generation = before.generation;
    let report = ConfigReport::new(faults, Consequence::StaysRunning { generation });
    ReloadOutcome::Rejected {
        generation,
        stage,
        reason: report.to_string(),
        faults: report.faults,
    }
}
