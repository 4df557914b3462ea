//! Changing overrides while the process runs: a change is proposed in memory, tried by a reload, and only then kept. What is
//! on trial is kept as such, so that a process that it kills comes back without it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::Value;
use tracing::warn;

use super::Overrides;
use super::file::{Kept, MAXIMUM_OVERRIDES, OverridesError};
use super::origin::Override;
use crate::TARGET;
use crate::config::change::{ChangeObserver, Conclusion, ReloadOutcome, ReloadRequests, RequestError, Trigger};
use crate::config::manager::ConfigurationManager;
use crate::config::snapshot::Configuration;

/// How many characters what an override is for may have.
const MAXIMUM_WHY: usize = 500;

/// A change of overrides.
#[derive(Clone)]
pub enum OverrideChange {
    /// Sets values, all at once; one that was set before is replaced.
    Set {
        /// Dotted keys with their values.
        values: Vec<(String, Value)>,
        /// Until when they hold.
        until: Option<Timestamp>,
        /// What for.
        why: Option<String>,
    },
    /// Takes overrides of these dotted keys back, all at once.
    Unset {
        /// The keys.
        keys: Vec<String>,
    },
}

/// Why a change of overrides did not happen. Everything is as it was.
#[derive(Debug, thiserror::Error)]
pub enum OverrideRefusal {
    /// There is nothing to change.
    #[error("name at least one key")]
    Nothing,
    /// The moment has passed.
    #[error("{0:.0} has passed; name a later moment")]
    Past(Timestamp),
    /// What it is for is too long.
    #[error("what it is for takes {MAXIMUM_WHY} characters")]
    Why,
    /// There are as many as there may be.
    #[error("there may be {MAXIMUM_OVERRIDES} overrides; take some back, or write the values into a file")]
    TooMany,
    /// The key has no override.
    #[error("{0}")]
    NotThere(String),
    /// The configuration would be wrong, or could not be put to work.
    #[error("{0}")]
    Rejected(String),
    /// The process stops.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The file can't be read or written.
    #[error(transparent)]
    File(#[from] OverridesError),
}

impl OverrideChange {
    /// The overrides as they would be.
    ///
    /// # Errors
    /// There is nothing to change, or too much.
    pub fn apply(&self, before: &[Override], by: &str, now: Timestamp) -> Result<Vec<Override>, OverrideRefusal> {
        let mut list = before.to_vec();
        match self {
            Self::Set { values, until, why } => {
                if let Some(until) = until.filter(|until| *until <= now) {
                    return Err(OverrideRefusal::Past(until));
                }
                if why.as_ref().is_some_and(|why| why.chars().count() > MAXIMUM_WHY) {
                    return Err(OverrideRefusal::Why);
                }
                for (key, value) in values {
                    list.retain(|one| one.key != *key);
                    list.push(Override {
                        key: key.clone(),
                        value: value.clone(),
                        by: by.to_owned(),
                        at: now,
                        until: *until,
                        why: why.clone(),
                    });
                }
            }
            Self::Unset { keys } => {
                if let Some(absent) = keys.iter().find(|key| !before.iter().any(|one| one.key == **key)) {
                    return Err(OverrideRefusal::NotThere(absence(absent, before)));
                }
                list.retain(|one| !keys.contains(&one.key));
            }
        }
        match self {
            Self::Set { values, .. } if values.is_empty() => Err(OverrideRefusal::Nothing),
            Self::Unset { keys } if keys.is_empty() => Err(OverrideRefusal::Nothing),
            Self::Set { .. } if list.len() > MAXIMUM_OVERRIDES => Err(OverrideRefusal::TooMany),
            _ => Ok(list),
        }
    }
}

fn absence(key: &str, before: &[Override]) -> String {
    let keys: Vec<String> = before.iter().map(|one| one.key.clone()).collect();
    let hint = match keys.is_empty() {
        true => "there are no overrides".to_owned(),
        false => crate::config::suggestion(key, &keys, "overrides"),
    };
    format!("there is no override of `{key}`; {hint}")
}

/// Keeps the overrides of the running process: its file follows what runs.
pub struct OverrideKeeper {
    /// It has this one among its observers.
    manager: Weak<ConfigurationManager>,
    overrides: Overrides,
    directory: PathBuf,
    requests: ReloadRequests,
    state: Arc<Mutex<State>>,
    /// Held during a change, so that there is one at a time.
    changing: tokio::sync::Mutex<()>,
}

struct State {
    /// What the file has.
    written: Kept,
    /// What runs.
    running: Vec<Override>,
    /// Whether what runs is on trial.
    on_trial: bool,
    /// Why the file is not as it should be.
    fault: Option<OverridesError>,
}

impl OverrideKeeper {
    /// Begins to keep the overrides of a state directory that this process owns; gives those that were on trial when the
    /// last run was killed, which are not taken.
    ///
    /// # Errors
    /// The file can't be read or written.
    pub fn begin(
        manager: &Arc<ConfigurationManager>,
        directory: &Path,
    ) -> Result<(Self, Vec<Override>), OverridesError> {
        let mut written = Kept::read(directory)?;
        let trial = written.trial.take();
        if trial.is_some() {
            written.write(directory)?;
        }
        let left = trial
            .into_iter()
            .flatten()
            .filter(|one| !written.overrides.contains(one));
        let left = left.collect();
        let state = State {
            written,
            running: manager.current().overrides().to_vec(),
            on_trial: false,
            fault: None,
        };
        let keeper = Self {
            manager: Arc::downgrade(manager),
            overrides: manager.overrides().clone(),
            directory: directory.to_owned(),
            requests: manager.requests().clone(),
            state: Arc::new(Mutex::new(state)),
            changing: tokio::sync::Mutex::default(),
        };
        Ok((keeper, left))
    }

    /// Tries a change, and keeps it when it was put to work. What becomes of it on probation decides whether it stays.
    ///
    /// # Errors
    /// It was refused; everything is as it was.
    ///
    /// # Cancel safety
    /// A dropped call may have changed all or nothing. Run it on a task of its own.
    pub async fn change(&self, change: &OverrideChange, by: &str) -> Result<ReloadOutcome, OverrideRefusal> {
        let _one_at_a_time = self.changing.lock().await;
        let now = self.overrides.now().unwrap_or(Timestamp::UNIX_EPOCH);
        let before = lock(&self.state).running.clone();
        let after = change.apply(&before, by, now)?;
        let trigger = Trigger::Action { by: by.to_owned() };
        let proposed = self.overrides.propose(after);
        let outcome = self.requests.ask_and_wait(trigger.clone()).await?;
        if let ReloadOutcome::Rejected { reason, .. } | ReloadOutcome::TakenBack { reason, .. } = outcome {
            return Err(OverrideRefusal::Rejected(reason));
        }
        drop(proposed);
        let Some(fault) = lock(&self.state).fault.take() else {
            return Ok(outcome);
        };
        // What can't be kept must not run either: at the next start nobody would know of it.
        let _before = self.overrides.propose(before);
        self.requests.ask_and_wait(trigger).await?;
        Err(fault.into())
    }

    /// Keeps what runs, whether its trial is over or not: the process stops because it was asked to.
    pub async fn settle(&self) {
        lock(&self.state).on_trial = false;
        self.follow(None).await;
    }

    /// Writes what runs now.
    async fn follow(&self, running: Option<&[Override]>) {
        let kept = {
            let mut state = lock(&self.state);
            if let Some(running) = running {
                state.running = running.to_vec();
            }
            let on_trial = state.on_trial && state.running != state.written.overrides;
            let trial = on_trial.then(|| state.running.clone());
            self.overrides.set_on_trial(trial.clone().map(Into::into));
            let kept = match on_trial || state.running == state.written.overrides {
                true => Kept {
                    overrides: state.written.overrides.clone(),
                    trial,
                },
                false => Kept {
                    overrides: state.running.clone(),
                    trial,
                },
            };
            if kept == state.written && state.fault.is_none() {
                return;
            }
            kept
        };
        let (directory, writing) = (self.directory.clone(), kept.clone());
        let written = tokio::task::spawn_blocking(move || writing.write(&directory)).await;
        let mut state = lock(&self.state);
        match written.unwrap_or(Ok(())) {
            Ok(()) => {
                state.written = kept;
                state.fault = None;
            }
            Err(error) => {
                warn!(target: TARGET, "{error}");
                state.fault = Some(error);
            }
        }
    }
}

#[async_trait]
impl ChangeObserver for OverrideKeeper {
    async fn concluded(&self, conclusion: &Conclusion) {
        match conclusion.outcome {
            ReloadOutcome::Applied { .. } => lock(&self.state).on_trial = true,
            // What comes back has been proven before.
            ReloadOutcome::TakenBack { .. } => lock(&self.state).on_trial = false,
            ReloadOutcome::Unchanged { .. } => {}
            ReloadOutcome::Rejected { .. } => return,
        }
        if let Some(manager) = self.manager.upgrade() {
            self.follow(Some(manager.current().overrides())).await;
        }
    }

    async fn proven(&self, _: &Arc<Configuration>) {
        lock(&self.state).on_trial = false;
        self.follow(None).await;
    }
}

// Each use is whole in itself, so a poisoned lock is as good as a sound one.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
