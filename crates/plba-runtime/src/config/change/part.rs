//! The port of what follows the configuration while it runs: modules, single workers, log levels, the control plane's token.
//! In which order parts follow, and go back when one can't, lives in `transaction`.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use plba_contracts::config::TimeSpan;
use tokio::time::Instant;

use crate::config::check::report::ConfigFault;
use crate::config::snapshot::Configuration;

/// What runs, and what is to run in its place.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// The configuration that runs.
    pub running: Arc<Configuration>,
    /// The one that is to run; valid in itself.
    pub next: Arc<Configuration>,
    /// Whether `next` ran before and is to come back. Then nobody is asked whether they like it.
    pub back: bool,
    /// By when all must have answered who are asked.
    pub deadline: Instant,
    timeout: Duration,
}

impl Proposal {
    pub(super) fn forward(running: &Arc<Configuration>, next: &Arc<Configuration>, timeout: Duration) -> Self {
        Self {
            running: Arc::clone(running),
            next: Arc::clone(next),
            back: false,
            deadline: Instant::now() + timeout,
            timeout,
        }
    }

    pub(super) fn back(running: &Arc<Configuration>, next: &Arc<Configuration>, timeout: Duration) -> Self {
        Self {
            back: true,
            ..Self::forward(running, next, timeout)
        }
    }

    /// What is said of who has not answered by the deadline.
    pub(crate) fn too_late(&self) -> String {
        format!(
            "no answer within {} (platform.config.prepare_timeout)",
            TimeSpan(self.timeout)
        )
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
