//! The port of what follows the configuration while it runs: modules, single workers, log levels, the control plane's token.
//! In which order parts follow, and go back when one can't, lives in `transaction`.

use std::sync::Arc;

use async_trait::async_trait;

use crate::config::check::report::ConfigFault;
use crate::config::snapshot::Configuration;

/// What runs, and what is to run in its place.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// The configuration that runs.
    pub running: Arc<Configuration>,
    /// The one that is to run; valid in itself.
    pub next: Arc<Configuration>,
}

impl Proposal {
    /// The way back.
    #[must_use]
    pub fn reversed(&self) -> Self {
        Self {
            running: Arc::clone(&self.next),
            next: Arc::clone(&self.running),
        }
    }
}

/// Why something can't follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Faults of single values, with their places.
    Faults(Vec<ConfigFault>),
    /// Something else, for a person.
    Reason(String),
}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Self::Reason(reason)
    }
}

/// A part of the process that follows the configuration while it runs. One change at a time; for each the calls are
/// `prepare`, and then, when nobody refused, `apply`, and then, when a later part could not, `undo`.
#[async_trait]
pub trait LivePart: Send {
    /// Its name in messages.
    fn name(&self) -> &str;

    /// Whether it has something left to do even if no value has changed, such as starting what couldn't be started.
    fn unfinished(&self) -> bool {
        false
    }

    /// Looks whether it can follow, and changes nothing.
    ///
    /// # Cancel safety
    /// Dropped at the deadline of preparing: then nothing has changed.
    async fn prepare(&mut self, proposal: &Proposal) -> Result<(), Refusal> {
        let _ = proposal;
        Ok(())
    }

    /// Follows. On `Err` it is as it was before the call, or says that it isn't.
    ///
    /// # Cancel safety
    /// Dropped only when the process stops.
    async fn apply(&mut self, proposal: &Proposal) -> Result<(), String>;

    /// Goes back to `proposal.running`. Called after `apply` said `Ok`, with the same proposal.
    ///
    /// # Errors
    /// It isn't as it was before; the message says how it is.
    async fn undo(&mut self, proposal: &Proposal) -> Result<(), String>;
}
