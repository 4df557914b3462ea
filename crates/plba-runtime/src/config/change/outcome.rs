//! What became of one attempt to change the configuration: the answer to whoever asked, and what observers are told. How
//! it is kept and shown over time is the history's.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::diff::ConfigDiff;
use super::trigger::Trigger;
use crate::config::check::report::ConfigFault;
use crate::config::snapshot::Configuration;

/// Where a change was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Reading, merging, parsing and validating.
    Check,
    /// Asking those concerned.
    Prepare,
    /// Putting it to work.
    Apply,
    /// After it was put to work, within its window.
    Probation,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum ReloadOutcome {
    /// Every value is as it was; what is told of origins is new.
    Unchanged {
        /// The configuration that runs.
        generation: u64,
    },
    /// Another configuration runs.
    Applied {
        /// Its number.
        generation: u64,
        /// The tables whose values have changed, in the order of their declaration.
        changed: Vec<String>,
        /// What changed in them; the keys that need a restart say so.
        diff: ConfigDiff,
    },
    /// A configuration failed its probation: the one that was proven last runs again.
    TakenBack {
        /// The number of the one that runs again.
        generation: u64,
        /// The number of the one that failed.
        failed: u64,
        /// Why: which worker fares worse by it, and what it says.
        reason: String,
        /// What is different now.
        diff: ConfigDiff,
    },
    /// The configuration that ran goes on running.
    Rejected {
        /// Its number.
        generation: u64,
        /// Where it was refused.
        stage: Stage,
        /// Why, for a person; may have many lines.
        reason: String,
        /// The faults, where that is why.
        faults: Vec<ConfigFault>,
    },
}

impl ReloadOutcome {
    /// Whether the configuration as it is written now is refused.
    pub fn is_rejected(&self) -> bool {
        matches!(self, Self::Rejected { .. })
    }
}

/// An attempt and its end.
#[derive(Clone, Debug)]
pub struct Conclusion {
    /// What asked for it.
    pub triggers: Vec<Trigger>,
    /// What ran when it began.
    pub before: Arc<Configuration>,
    /// What was to run instead; where nothing has changed, the same with its origins of now. Missing where it could not be read.
    pub tried: Option<Arc<Configuration>>,
    /// How it ended. With [`Trigger::Probation`], `before` is what failed and `tried` what is to run again.
    pub outcome: ReloadOutcome,
    /// From its beginning to its end.
    pub took: Duration,
}

/// Is told of every attempt and its end, and of every probation that was passed. It can't refuse anything; what it does is
/// waited for, so it takes its time elsewhere.
///
/// # Cancel safety
/// Calls are dropped when the process stops.
#[async_trait]
pub trait ChangeObserver: Send + Sync + 'static {
    /// An attempt is over. What was `Applied` with a probation isn't proven yet.
    async fn concluded(&self, conclusion: &Conclusion);

    /// This configuration has passed its probation, or needs none: it is the last good one from now on. Called once for each
    /// that was applied, the one of the start included.
    async fn proven(&self, configuration: &Arc<Configuration>);
}
