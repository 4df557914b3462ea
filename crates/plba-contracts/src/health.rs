//! Health: the three states, who contributes to them, and what a contribution counts for. Scheduling of checks and the
//! aggregation into liveness and readiness live in the runtime.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::BoxError;
use crate::services::{Build, Services};

/// How something is. Ordered from best to worst, so that the worse of two is their maximum.
///
/// ```
/// use plba_contracts::health::Health;
///
/// let slow = Health::degraded("the mailbox answers slowly");
/// assert_eq!(Health::Ok.worse(slow.clone()), slow);
/// assert!(slow.is_usable());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Health {
    /// Works as intended.
    #[default]
    Ok,
    /// Works, but worse than intended; `reason` says how.
    Degraded {
        /// What is worse than intended, in a sentence for an operator.
        reason: String,
    },
    /// Does not do its work; `reason` says why.
    Unhealthy {
        /// Why not, in a sentence for an operator.
        reason: String,
    },
}

impl Health {
    /// Works, but worse than intended.
    pub fn degraded(reason: impl Into<String>) -> Self {
        Self::Degraded { reason: reason.into() }
    }

    /// Does not do its work.
    pub fn unhealthy(reason: impl Into<String>) -> Self {
        Self::Unhealthy { reason: reason.into() }
    }

    /// The worse of the two; of two equally bad ones, the first.
    #[must_use]
    pub fn worse(self, other: Self) -> Self {
        if other.rank() > self.rank() { other } else { self }
    }

    /// Whether work gets done: true unless [`Health::Unhealthy`].
    pub fn is_usable(&self) -> bool {
        !matches!(self, Self::Unhealthy { .. })
    }

    /// One word: `ok`, `degraded` or `unhealthy`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded { .. } => "degraded",
            Self::Unhealthy { .. } => "unhealthy",
        }
    }

    /// Why it isn't ok.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Ok => None,
            Self::Degraded { reason } | Self::Unhealthy { reason } => Some(reason),
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Degraded { .. } => 1,
            Self::Unhealthy { .. } => 2,
        }
    }
}

/// What it means for the whole when a part is unhealthy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Criticality {
    /// The application can't do its work without it: unhealthy makes the process not ready.
    #[default]
    Critical,
    /// The application goes on without it: unhealthy makes the whole degraded, readiness stays.
    Optional,
}

/// Tells how some part of an application, or something outside that it needs, is.
///
/// The registry calls [`check`](Self::check) on the contribution's interval, one call at a time for one contributor, on
/// the workers' executor, and drops the call at the contribution's time-out. Answers to readers come from memory, so a
/// slow check delays nobody.
///
/// - **Returning** gives the health until the next check.
/// - **A panic** is caught and counts as unhealthy, with the panic's message as reason.
///
/// # Cancel safety
/// `check` is dropped at its time-out; it must leave nothing half-done behind.
///
/// ```
/// use plba_contracts::health::{Health, HealthContributor};
///
/// struct DiskSpace;
///
/// #[async_trait::async_trait]
/// impl HealthContributor for DiskSpace {
///     async fn check(&self) -> Health {
///         Health::degraded("only 5 % of the disk is free")
///     }
/// }
/// ```
#[async_trait]
pub trait HealthContributor: Send + Sync + 'static {
    /// Looks, and answers within the contribution's time-out.
    async fn check(&self) -> Health;
}

/// A contributor as a module registers it.
#[derive(Clone)]
pub struct HealthContribution {
    /// Its name in the health view, unique in the process, such as `order_store`.
    pub name: String,
    /// What its being unhealthy means for the whole. Default: critical.
    pub criticality: Criticality,
    /// From the end of one check to the start of the next. Default: 10 s.
    pub interval: Duration,
    /// How long one check may take before it is dropped and counts as unhealthy. Default: 5 s.
    pub timeout: Duration,
    /// Builds the contributor once the services stand.
    pub build: Build<Arc<dyn HealthContributor>>,
}

impl HealthContribution {
    /// A critical contributor, checked every 10 s with a time-out of 5 s, built from the application's services.
    pub fn new<F, Fut>(name: impl Into<String>, build: F) -> Self
    where
        F: Fn(Services) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Arc<dyn HealthContributor>, BoxError>> + Send + 'static,
    {
        Self {
            name: name.into(),
            criticality: Criticality::Critical,
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(5),
            build: Build::new(build),
        }
    }

    /// The application goes on when this is unhealthy.
    #[must_use]
    pub fn optional(mut self) -> Self {
        self.criticality = Criticality::Optional;
        self
    }
}
