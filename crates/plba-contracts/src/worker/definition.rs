//! A worker as a module hands it to the supervisor: a name, a factory, and how its instances are to be treated.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Group, GroupPolicy, Pace, Restart, Worker};
use crate::BoxError;
use crate::health::Criticality;
use crate::made_from::MadeFrom;
use crate::services::{Build, Services};

/// A worker as a module registers it: a name, a factory, and how the supervisor is to treat its instances.
///
/// The definition outlives its instances, and so does what the supervisor counts for it.
#[derive(Clone)]
pub struct WorkerDefinition {
    /// Its name, unique in the process: lower-case letters, digits, `-`, `_`, `.` and `/`.
    pub name: String,
    /// How many instances run side by side, each restarted on its own. At least 1; default 1.
    pub concurrency: u32,
    /// What its being unhealthy means for the whole. Default: critical.
    pub criticality: Criticality,
    /// Whether a hung instance makes the process not live. Default: false.
    pub liveness: bool,
    /// How ended attempts are followed by new ones.
    pub restart: Restart,
    /// With whom it restarts. Default: with nobody.
    pub group: Option<Group>,
    /// The exit code with which the process ends when this worker is given up. Default: none, the process goes on.
    pub exit_when_given_up: Option<u8>,
    /// What follows when an instance hangs. Default: it is told.
    pub on_hang: HangPolicy,
    /// Names of workers that must be ready before this one starts; it stops before they do.
    pub after: Vec<String>,
    /// How long `start` may take. Default: 30 s.
    pub start_timeout: Duration,
    /// How long an instance may be busy with one thing before it counts as hung. Default: 5 min.
    pub stall_after: Duration,
    /// How often it runs, for one that runs at an interval.
    pub pace: Option<Pace>,
    /// Builds one instance.
    pub build: Build<Arc<dyn Worker>>,
    /// What its instances are made from, by which a reload knows whether they would be the same again.
    pub made_from: MadeFrom,
}

impl WorkerDefinition {
    /// A definition with every default, whose instances are built by `build`.
    pub fn new<F, Fut>(name: impl Into<String>, build: F) -> Self
    where
        F: Fn(Services) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Arc<dyn Worker>, BoxError>> + Send + 'static,
    {
        Self {
            name: name.into(),
            concurrency: 1,
            criticality: Criticality::Critical,
            liveness: false,
            restart: Restart::default(),
            group: None,
            exit_when_given_up: None,
            on_hang: HangPolicy::default(),
            after: Vec::new(),
            start_timeout: Duration::from_secs(30),
            stall_after: Duration::from_secs(300),
            pace: None,
            build: Build::new(build),
            made_from: MadeFrom::default(),
        }
    }

    /// Everything that its factory holds, as far as it may differ from one configuration to another. A reload that makes it
    /// from the same lets what runs go on, as long as the services stay that it has asked for; what its builder was given
    /// besides, such as a time-out, counts by itself. Another number of instances, restart policy, `stall_after` or interval is
    /// put to work without a restart.
    ///
    /// Without this it is started anew whenever its module is assembled anew. May be said in parts.
    #[must_use]
    pub fn made_from(mut self, value: &(impl Serialize + ?Sized)) -> Self {
        self.made_from.value(value);
        self
    }

    /// How many instances run side by side; 0 counts as 1.
    #[must_use]
    pub fn concurrency(mut self, instances: u32) -> Self {
        self.concurrency = instances.max(1);
        self
    }

    /// Starts after the named worker is ready, and stops before it.
    #[must_use]
    pub fn after(mut self, name: impl Into<String>) -> Self {
        self.after.push(name.into());
        self
    }

    /// How ended attempts are followed by new ones.
    #[must_use]
    pub fn restart(mut self, restart: impl Into<Restart>) -> Self {
        self.restart = restart.into();
        self
    }

    /// A member of the named group; `policy` says who of the group restarts when this worker does.
    #[must_use]
    pub fn group(mut self, name: impl Into<String>, policy: GroupPolicy) -> Self {
        let name = name.into();
        self.group = Some(Group { name, policy });
        self
    }

    /// What follows when an instance hangs. Default: it is told, in health and events.
    #[must_use]
    pub fn on_hang(mut self, policy: HangPolicy) -> Self {
        self.on_hang = policy;
        self
    }

    /// The process ends with this exit code when the worker is given up. Default: the process goes on.
    #[must_use]
    pub fn exit_when_given_up(mut self, exit_code: u8) -> Self {
        self.exit_when_given_up = Some(exit_code);
        self
    }

    /// The application goes on when this worker is unhealthy.
    #[must_use]
    pub fn optional(mut self) -> Self {
        self.criticality = Criticality::Optional;
        self
    }

    /// How long `start` may take; one that takes longer is dropped and counts as failed.
    #[must_use]
    pub fn start_timeout(mut self, start_timeout: Duration) -> Self {
        self.start_timeout = start_timeout;
        self
    }

    /// How long an instance may be busy with one thing before it counts as hung.
    #[must_use]
    pub fn stall_after(mut self, stall_after: Duration) -> Self {
        self.stall_after = stall_after;
        self
    }
}

impl fmt::Debug for WorkerDefinition {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("WorkerDefinition")
            .field("name", &self.name)
            .field("concurrency", &self.concurrency)
            .field("restart", &self.restart)
            .field("after", &self.after)
            .finish_non_exhaustive()
    }
}

/// What follows when an instance has been busy with one thing for longer than its worker's `stall_after`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HangPolicy {
    /// It is told, in health and events.
    #[default]
    Report,
    /// The instance is told to let go, dropped 5 s later, and counts as failed, so that the restart policy replaces it.
    /// One that blocks its thread can't be dropped: it is left behind, and its slot stays taken until it ends.
    Replace,
    /// The process stops and ends with this exit code.
    EndProcess {
        /// The exit code.
        exit_code: u8,
    },
}
