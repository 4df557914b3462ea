//! When an attempt that ended is followed by another, how such restarts are spaced and bounded, and who restarts together.
//! Carrying it out is the supervisor's business.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When a worker whose attempt ended is started again. A worker that was asked to stop never is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RestartPolicy {
    /// Always, however the attempt ended.
    #[default]
    Permanent,
    /// Only when the attempt failed; a finished one stays finished.
    Transient,
    /// Never.
    Never,
}

/// How restarts are spaced and bounded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Restart {
    /// When to start again. Default: permanent.
    pub policy: RestartPolicy,
    /// Pause before the first restart. Default: 0.5 s.
    pub initial_delay: Duration,
    /// The pause doubles with each restart, up to this. Default: 30 s.
    pub maximum_delay: Duration,
    /// How many ended attempts are put up with: one more and the worker is given up. The count decays, so that it is
    /// [`within`](Self::within) which says how soon they may follow each other. Default: 5.
    pub intensity: u32,
    /// In what time half of the count of ended attempts is forgotten. An attempt that ran this long also starts a new
    /// series of pauses. Default: 60 s.
    pub within: Duration,
    /// After what time a worker that was given up is tried again, its failures forgiven. Default: never, it waits for an
    /// operator or a reload. Has no meaning with [`RestartPolicy::Never`].
    #[serde(default)]
    pub cool_down: Option<Duration>,
}

impl Default for Restart {
    fn default() -> Self {
        Self {
            policy: RestartPolicy::Permanent,
            initial_delay: Duration::from_millis(500),
            maximum_delay: Duration::from_secs(30),
            intensity: 5,
            within: Duration::from_secs(60),
            cool_down: None,
        }
    }
}

impl From<RestartPolicy> for Restart {
    fn from(policy: RestartPolicy) -> Self {
        Self {
            policy,
            ..Self::default()
        }
    }
}

/// Workers that restart together, and what the failing of one of them means for the others.
///
/// Each member says it for itself, so that a group may have one whose end takes all along and others whose ends don't. It
/// takes effect when the member is about to be restarted, not when it is given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Group {
    /// Its name, for which there are no rules.
    pub name: String,
    /// Who restarts when this member does.
    pub policy: GroupPolicy,
}

/// Who of a group restarts together with a member whose attempt ended.
///
/// Instances that are taken along drain first, which costs them no attempt, and start again in dependency order: each
/// once those it starts after are ready *again*. Instances that rest, finished or were given up are left as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GroupPolicy {
    /// The instance alone.
    #[default]
    OneForOne,
    /// All instances of the group.
    OneForAll,
    /// The member's instances, and those of all in the group that start after it, directly or through others of the group.
    RestForOne,
}
