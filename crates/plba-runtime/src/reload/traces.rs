//! Traces as a part that follows the configuration: which share is sampled and how many spans are kept.

use async_trait::async_trait;

use crate::blueprint::platform_of;
use crate::config::Configuration;
use crate::config::change::{LivePart, Proposal};
use crate::trace::TraceService;

/// Traces.
pub(super) struct TracesPart<'a>(&'a TraceService);

impl<'a> TracesPart<'a> {
    pub(super) fn new(traces: &'a TraceService) -> Self {
        Self(traces)
    }

    fn follow(&self, configuration: &Configuration) -> Result<(), String> {
        let platform = platform_of(configuration).map_err(|error| error.to_string())?;
        self.0.tune(&platform.trace);
        Ok(())
    }
}

#[async_trait]
impl LivePart for TracesPart<'_> {
    fn name(&self) -> &str {
        "traces"
    }

    async fn apply(&mut self, proposal: &Proposal) -> Result<(), String> {
        self.follow(&proposal.next)
    }

    async fn undo(&mut self, proposal: &Proposal) -> Result<(), String> {
        self.follow(&proposal.running)
    }
}
