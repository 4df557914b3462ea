//! The log as a part that follows the configuration: its levels. Its outputs are opened at start only.

use async_trait::async_trait;
use tracing::info;

use crate::TARGET;
use crate::blueprint::platform_of;
use crate::config::Configuration;
use crate::config::change::{LivePart, Proposal};
use crate::logging::LoggingHandle;

/// The log.
pub(super) struct LoggingPart<'a>(&'a LoggingHandle);

impl<'a> LoggingPart<'a> {
    pub(super) fn new(logging: &'a LoggingHandle) -> Self {
        Self(logging)
    }

    fn follow(&self, configuration: &Configuration) -> Result<(), String> {
        let platform = platform_of(configuration).map_err(|error| error.to_string())?;
        if self.0.reload(&platform.logging) {
            info!(target: TARGET, "log levels changed");
        }
        Ok(())
    }
}

#[async_trait]
impl LivePart for LoggingPart<'_> {
    fn name(&self) -> &str {
        "logging"
    }

    async fn apply(&mut self, proposal: &Proposal) -> Result<(), String> {
        self.follow(&proposal.next)
    }

    async fn undo(&mut self, proposal: &Proposal) -> Result<(), String> {
        self.follow(&proposal.running)
    }
}
