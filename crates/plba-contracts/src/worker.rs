//! The worker: the centre of plba. Here live the four verbs, what they promise, and the definition by which a module
//! hands a worker to the supervisor. Builders that make workers of plain functions, and the supervisor itself, live in
//! the runtime.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::BoxError;
use crate::clock::Clock;
use crate::health::{Criticality, Health};
use crate::services::{BoxFuture, Build, Services};

/// One instance of a worker: something that starts, works, can be asked to stop, and says how it is.
///
/// The supervisor builds an instance by the definition's factory, calls [`start`](Self::start) once, polls the
/// [`Running`] it gets on a task of its own, and drops the instance when that ends. After a failure it builds a *fresh*
/// instance: no suspect state survives a panic, and `start` never sees a second call.
///
/// Most workers are made by the builders in `plba::worker` from plain asynchronous functions.
///
/// ```
/// use std::sync::Arc;
/// use plba_contracts::health::Health;
/// use plba_contracts::stop::StopHandle;
/// use plba_contracts::worker::{Exit, Running, StartError, Worker, WorkerContext, WorkerStatus};
///
/// struct Waits(StopHandle);
///
/// #[async_trait::async_trait]
/// impl Worker for Waits {
///     async fn start(self: Arc<Self>, _context: WorkerContext) -> Result<Running, StartError> {
///         let stop = self.0.signal();
///         Ok(Running::new(async move {
///             stop.requested().await;
///             Exit::Stopped
///         }))
///     }
///     fn stop(&self, force: bool) {
///         self.0.stop(force);
///     }
///     fn health(&self) -> Health {
///         Health::Ok
///     }
///     fn status(&self) -> WorkerStatus {
///         WorkerStatus::default()
///     }
/// }
/// ```
#[async_trait]
pub trait Worker: Send + Sync + 'static {
    /// Starts the one attempt of this instance; called once, by the supervisor, on the workers' executor.
    ///
    /// - **`Ok`**: the worker is ready to work, and dependents may start. The returned [`Running`] is the attempt
    ///   itself, not yet spawned: the supervisor polls it, and so owns abort, panic and span.
    /// - **`Err`**: the instance could not start. While the process starts, that ends the start-up with this error;
    ///   later it counts as a failed attempt.
    /// - **Panic**: caught, counts as `Err` with the panic's message.
    ///
    /// # Cancel safety
    /// Dropped at the definition's start time-out or when a forced stop arrives; whatever was opened by then must be
    /// released by `Drop`.
    async fn start(self: Arc<Self>, context: WorkerContext) -> Result<Running, StartError>;

    /// A signal, legal at any time (also before, during and after `start`) and any number of times; returns at once.
    ///
    /// Graceful (`force` false): finish what is in hand, take nothing new, then let `Running` resolve to
    /// [`Exit::Stopped`]. Force: let go of what is in hand now. If `Running` has not resolved some time after a forced
    /// stop, the supervisor drops it.
    fn stop(&self, force: bool);

    /// How this instance is. Called often, from any thread; answers from memory.
    fn health(&self) -> Health;

    /// What this instance has done and does. Called often, from any thread; answers from memory.
    fn status(&self) -> WorkerStatus;
}

/// The attempt of one instance: resolves when the instance is done, for whatever reason.
///
/// A panic inside is caught by the supervisor and is a failed attempt. Dropping it ends the attempt at its current
/// await point.
pub struct Running(BoxFuture<'static, Exit>);

impl Running {
    /// Wraps the attempt.
    pub fn new(attempt: impl Future<Output = Exit> + Send + 'static) -> Self {
        Self(Box::pin(attempt))
    }

    /// The attempt, to be polled by whoever supervises it.
    pub fn into_future(self) -> BoxFuture<'static, Exit> {
        self.0
    }
}

/// How an attempt ended.
#[derive(Debug)]
pub enum Exit {
    /// The work is complete; there is no more of it. A permanent worker is started again all the same.
    Finished,
    /// It was asked to stop and did.
    Stopped,
    /// It can't go on.
    Failed(BoxError),
}

/// Why an instance could not start.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct StartError {
    reason: String,
    #[source]
    source: Option<BoxError>,
}

impl StartError {
    /// Could not start, for a reason that tells an operator what to do.
    pub fn new(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            source: None,
        }
    }
}

impl From<BoxError> for StartError {
    fn from(error: BoxError) -> Self {
        Self {
            reason: crate::describe(error.as_ref()),
            source: Some(error),
        }
    }
}

/// What an instance is told when it starts.
#[derive(Clone)]
pub struct WorkerContext {
    /// The definition's name.
    pub name: Arc<str>,
    /// Which of the definition's instances this is, from 0.
    pub slot: u32,
    /// How often this slot has been started in this process, from 1.
    pub incarnation: u64,
    /// Where the instance says what it has in hand.
    pub activity: Activity,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// Where an instance says what it has in hand, so that status, the stall watchdog and the stop report can name it.
///
/// Between [`begin`](Self::begin) and the drop of its guard the instance is *busy*, and a watchdog may call it hung;
/// otherwise it is idle, which is never a stall.
#[derive(Clone)]
pub struct Activity(Arc<Shared>);

struct Shared {
    clock: Arc<dyn Clock>,
    current: Mutex<Current>,
}

/// What is in hand, or was last.
#[derive(Default)]
struct Current {
    what: Arc<str>,
    /// Nothing while it is idle.
    since: Option<Duration>,
    fate: Option<Fate>,
}

/// What became of something that an instance had in hand when it was forced to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It was given back, and is carried out by whoever comes next; no attempt was spent.
    Released,
    /// It could not be given back; it comes again when its lease has run out.
    AfterLease,
    /// Nobody has said: the instance was dropped or left behind, or has nothing to give back to.
    Unknown,
}

/// What an instance has in hand.
#[derive(Clone, Debug)]
pub struct Busy {
    /// What, such as a task's id.
    pub what: Arc<str>,
    /// Since when, on the monotonic clock.
    pub since: Duration,
}

/// While this lives, the instance is busy.
#[must_use = "the activity ends when this is dropped"]
pub struct BusyGuard<'a>(&'a Activity);

impl Activity {
    /// An idle activity on this clock.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let current = Mutex::default();
        Self(Arc::new(Shared { clock, current }))
    }

    /// Busy with `what` from now on; what was named before is replaced.
    pub fn begin(&self, what: Arc<str>) -> BusyGuard<'_> {
        let since = Some(self.0.clock.monotonic());
        let fate = None;
        let former = std::mem::replace(&mut *self.lock(), Current { what, since, fate });
        drop(former);
        BusyGuard(self)
    }

    /// As [`begin`](Self::begin), for what is begun again and again: the name is copied the first time only.
    pub fn begin_again(&self, what: &Arc<str>) -> BusyGuard<'_> {
        let since = self.0.clock.monotonic();
        let mut current = self.lock();
        if !Arc::ptr_eq(&current.what, what) {
            current.what = Arc::clone(what);
        }
        (current.since, current.fate) = (Some(since), None);
        drop(current);
        BusyGuard(self)
    }

    /// Still busy with the same, and making progress: the stall watchdog starts counting anew.
    pub fn progress(&self) {
        let now = self.0.clock.monotonic();
        if let Some(since) = self.lock().since.as_mut() {
            *since = now;
        }
    }

    /// Says what became of what the instance had in hand last, for the stop report. Counts until it begins with
    /// something else.
    pub fn became(&self, fate: Fate) {
        self.lock().fate = Some(fate);
    }

    /// What was said to have become of it.
    pub fn fate(&self) -> Fate {
        self.lock().fate.unwrap_or(Fate::Unknown)
    }

    /// What the instance has in hand, if anything.
    pub fn current(&self) -> Option<Busy> {
        let current = self.lock();
        let since = current.since?;
        let what = Arc::clone(&current.what);
        Some(Busy { what, since })
    }

    // A panic can't leave it half-written, so a poisoned lock is as good as a sound one.
    fn lock(&self) -> std::sync::MutexGuard<'_, Current> {
        self.0.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BusyGuard<'_> {
    /// Busy with something else from `since` on, by the activity's own monotonic clock: for work so small that ending and
    /// beginning would cost as much.
    pub fn turn_to(&self, what: Arc<str>, since: Duration) {
        let (since, fate) = (Some(since), None);
        let former = std::mem::replace(&mut *self.0.lock(), Current { what, since, fate });
        drop(former);
    }
}

impl Drop for BusyGuard<'_> {
    fn drop(&mut self) {
        self.0.lock().since = None;
    }
}

/// What an instance has done since it started.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkerStatus {
    /// Pieces of work that ended well.
    pub succeeded: u64,
    /// Pieces of work that ended in an error.
    pub failed: u64,
    /// When a piece of work last ended well.
    #[schemars(with = "Option<String>")]
    pub last_success: Option<Timestamp>,
    /// The latest error.
    pub last_error: Option<String>,
    /// A sentence on what it is doing, where that says more than the counts.
    pub note: Option<String>,
}

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
    /// Builds one instance.
    pub build: Build<Arc<dyn Worker>>,
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
            build: Build::new(build),
        }
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
