//! How workers stood before a change, beyond their definitions: what operators have made of them since they started. A
//! change that starts a worker anew gives it that back, and so does the way back.

use std::collections::HashMap;

use jiff::Timestamp;
use plba_contracts::worker::WorkerDefinition;

use super::plan::Wanted;
use crate::supervisor::{SlotState, WorkerView};
use crate::tuning::{WorkerSettings, apply};

/// How one worker stood.
#[derive(Clone, Debug)]
struct Stood {
    /// As its module said.
    own: Wanted,
    set: WorkerSettings,
    /// With what was set of it in the configuration.
    settled: WorkerDefinition,
    slots: u32,
    rest: Option<Rest>,
}

/// How the workers stood.
#[derive(Clone, Debug, Default)]
pub(super) struct Before(HashMap<String, Stood>);

/// A worker that runs.
#[derive(Clone, Debug)]
pub(super) struct Runs {
    /// As its module says.
    pub(super) own: WorkerDefinition,
    /// What is set of it in the configuration, where something is.
    set: Option<Box<WorkerSettings>>,
}

impl Runs {
    pub(super) fn new(own: WorkerDefinition, set: WorkerSettings) -> Self {
        let mut runs = Self { own, set: None };
        runs.set(set);
        runs
    }

    /// Something else is set of it.
    pub(super) fn set(&mut self, set: WorkerSettings) {
        self.set = (set != WorkerSettings::default()).then(|| Box::new(set));
    }

    /// As it is, with what is set of it.
    pub(super) fn settled(&self) -> WorkerDefinition {
        let mut settled = self.own.clone();
        if let Some(set) = &self.set {
            apply(set, &mut settled);
        }
        settled
    }
}

/// A rest, and when it ends by itself.
pub(super) type Rest = Option<Timestamp>;

/// How a worker is started.
#[derive(Clone, Debug)]
pub(super) struct Started {
    pub(super) definition: WorkerDefinition,
    pub(super) rest: Option<Rest>,
}

impl Before {
    pub(super) fn new<'a>(running: impl Iterator<Item = &'a Runs>, views: &[WorkerView]) -> Self {
        let views: HashMap<&str, &WorkerView> = views.iter().map(|view| (view.name.as_str(), view)).collect();
        let stood = running.filter_map(|runs| {
            let view = views.get(runs.own.name.as_str())?;
            let paused = view.slots.iter().find(|slot| slot.state == SlotState::Paused);
            let stood = Stood {
                own: Wanted::from(runs.own.clone()),
                set: runs.set.as_deref().cloned().unwrap_or_default(),
                settled: runs.settled(),
                slots: u32::try_from(view.slots.len()).unwrap_or(u32::MAX).max(1),
                rest: paused.map(|slot| slot.until),
            };
            Some((runs.own.name.clone(), stood))
        });
        Self(stood.collect())
    }

    /// How to start a worker that is to be as it is `settled` now. While it is to have as many instances as before, an
    /// operator's number counts; and one that rested goes on resting.
    pub(super) fn follow(&self, mut settled: WorkerDefinition) -> Started {
        let stood = self.0.get(&settled.name);
        if let Some(stood) = stood.filter(|stood| stood.settled.concurrency == settled.concurrency) {
            settled.concurrency = stood.slots;
        }
        Started {
            definition: settled,
            rest: stood.and_then(|stood| stood.rest),
        }
    }

    /// What a worker was as its module said, if it was there.
    pub(super) fn own(&self, name: &str) -> Option<&Wanted> {
        Some(&self.0.get(name)?.own)
    }

    /// What was set of a worker in the configuration.
    pub(super) fn set(&self, name: &str) -> Option<&WorkerSettings> {
        Some(&self.0.get(name)?.set)
    }
}
