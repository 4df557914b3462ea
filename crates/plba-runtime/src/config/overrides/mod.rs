//! Overrides: values that an operator sets while the process runs, above all other layers, kept in the state directory until
//! they are taken back or their time is over. How a change of them is tried and put to work is the business of `change`.
//!
//! ```text
//! set ──► proposed, in memory ──► reload ──► rejected: forgotten; the file was never touched
//!                                    │
//!                                    └─► applied: written as on trial ──► proven: written as kept
//!                                                       │
//!                                                       └─► failed: written as before
//! ```
//!
//! A process that is killed between two of these steps has lost a proposal that nobody was told of, or finds overrides on
//! trial when it starts again: those are not taken, because they may be why it was killed, and the log says so. A process
//! that stops as it was asked to keeps them.

mod expiry;
mod file;
mod keeper;
mod layer;
mod origin;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use plba_contracts::clock::Clock;

pub(crate) use expiry::expire;
pub use file::{FILE, MAXIMUM_OVERRIDES, OverridesError};
pub use keeper::{OverrideChange, OverrideKeeper, OverrideRefusal};
pub(in crate::config) use layer::layer;
pub use origin::Override;

use self::file::Kept;
use crate::clock::SystemClock;

/// The overrides of one state directory, as the configuration is read with them. Clones are the same. The default keeps none.
#[derive(Clone, Default)]
pub struct Overrides(Option<Arc<Shared>>);

struct Shared {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What a change proposes; counts before everything else.
    proposed: Option<Arc<[Override]>>,
    /// What runs on trial; counts before what is kept.
    on_trial: Option<Arc<[Override]>>,
}

impl Overrides {
    /// Those that are kept in the state directory, by the system's clock.
    pub fn kept() -> Self {
        Self::by(Arc::new(SystemClock::new()))
    }

    /// Those that are kept in the state directory; `clock` says when their time is over.
    pub fn by(clock: Arc<dyn Clock>) -> Self {
        Self(Some(Arc::new(Shared {
            clock,
            state: Mutex::default(),
        })))
    }

    /// What a configuration is to be read with: what is proposed, else what is on trial, else what is kept; without those
    /// whose time is over. Does input.
    pub(in crate::config) fn in_effect(&self, directory: &Path) -> Result<Arc<[Override]>, OverridesError> {
        let Some(shared) = &self.0 else {
            return Ok(Arc::default());
        };
        let given = {
            let state = shared.lock();
            state.proposed.clone().or_else(|| state.on_trial.clone())
        };
        let list = match given {
            Some(list) => list,
            None => Kept::read(directory)?.overrides.into(),
        };
        let now = shared.clock.now();
        Ok(list.iter().filter(|one| !one.is_over(now)).cloned().collect())
    }

    /// Whether somebody tries other ones.
    pub(in crate::config) fn is_proposed(&self) -> bool {
        self.0.as_ref().is_some_and(|shared| shared.lock().proposed.is_some())
    }

    /// From now on, configurations are read with these, until the proposal is dropped.
    pub fn propose(&self, list: Vec<Override>) -> Proposed {
        self.set_proposed(Some(list.into()));
        Proposed(self.clone())
    }

    /// The time.
    pub(crate) fn now(&self) -> Option<Timestamp> {
        self.0.as_ref().map(|shared| shared.clock.now())
    }

    fn set_proposed(&self, list: Option<Arc<[Override]>>) {
        if let Some(shared) = &self.0 {
            shared.lock().proposed = list;
        }
    }

    fn set_on_trial(&self, list: Option<Arc<[Override]>>) {
        if let Some(shared) = &self.0 {
            shared.lock().on_trial = list;
        }
    }
}

impl Shared {
    // Each use is whole in itself, so a poisoned lock is as good as a sound one.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A proposal that holds until this is dropped.
#[must_use = "a proposal that is dropped is forgotten"]
pub struct Proposed(Overrides);

impl Drop for Proposed {
    fn drop(&mut self) {
        self.0.set_proposed(None);
    }
}

/// Writes the overrides of a state directory that this process owns, where no process runs on them. What was on trial when
/// the last run was killed is not kept.
///
/// # Errors
/// The file can't be written.
pub fn keep(directory: &Path, overrides: &[Override]) -> Result<(), OverridesError> {
    Kept {
        overrides: overrides.to_vec(),
        trial: None,
    }
    .write(directory)
}

/// The overrides that are kept in a state directory, those whose time is over included.
///
/// # Errors
/// The file can't be read.
pub fn kept_in(directory: &Path) -> Result<Vec<Override>, OverridesError> {
    Ok(Kept::read(directory)?.overrides)
}
