//! Builders that make workers of plain asynchronous functions, so that almost nobody implements `Worker` by hand. How a
//! routine is run lives in `routine`; restarting, order and stopping are the supervisor's.
//!
//! | builder | runs the routine |
//! |---|---|
//! | [`once`] | until it succeeds, then never again |
//! | [`every`] | at an interval |
//! | [`cron`] | at the moments of a cron expression |
//! | [`service`] | until it is told to stop |
//! | [`blocking`] | on a thread of its own, until it is told to stop |
//!
//! A routine's error does not end the worker: it waits, longer each time, and tries again; health is degraded
//! meanwhile and unhealthy after several failures in a row. An error classified as fatal, a panic, or a service that ends
//! though nobody asked ends the attempt, and the restart policy decides.
//!
//! ```
//! use plba_runtime::worker::{self, secs};
//!
//! let beat = worker::every("beat", secs(1), || async {
//!     tracing::info!("beat");
//!     Ok(())
//! });
//! let definition: plba_contracts::worker::WorkerDefinition = beat.timeout(secs(5)).optional().into();
//! assert_eq!(definition.name, "beat");
//! ```

mod outcome;
mod pace;
mod routine;
mod tally;
#[cfg(test)]
mod tests;
mod thread;

use std::error::Error;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use plba_contracts::health::Criticality;
use plba_contracts::made_from::MadeFrom;
use plba_contracts::services::Services;
use plba_contracts::stop::StopSignal;
use plba_contracts::worker::{Group, GroupPolicy, HangPolicy, Pace, Restart, RestartPolicy, Worker, WorkerDefinition};
use serde::Serialize;

use self::routine::{Options, Plan, Recipe, RoutineWorker, Run, Serve};
use self::thread::Block;

pub use self::outcome::{Idle, IntoOutcome, Outcome, RoutineError, Severity};

/// The shortest interval; a shorter one counts as this.
pub(crate) const MINIMUM_INTERVAL: Duration = Duration::from_millis(1);

/// So many milliseconds.
pub const fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// So many seconds.
pub const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// So many minutes.
pub const fn minutes(count: u64) -> Duration {
    Duration::from_secs(count.saturating_mul(60))
}

/// Runs the routine until it succeeds, once per process. Its restart policy is transient.
pub fn once<F, Fut, O>(name: impl Into<String>, routine: F) -> Routine
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<O, RoutineError>> + Send + 'static,
    O: IntoOutcome,
{
    let run = erased(move |_| routine());
    Routine::new(name, Plan::Once(run)).restart(RestartPolicy::Transient)
}

/// As [`once`], for a routine that needs services.
pub fn once_with<F, Fut, O>(name: impl Into<String>, routine: F) -> Routine
where
    F: Fn(Services) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<O, RoutineError>> + Send + 'static,
    O: IntoOutcome,
{
    let run = erased(move |services| routine(services.clone()));
    Routine::asking(name, Plan::Once(run)).restart(RestartPolicy::Transient)
}

/// Runs the routine at once and then at an interval, from start to start. A run that takes longer is followed by the
/// next one at once; runs never overlap, and none are made up for. After [`Idle`] the interval doubles, up to
/// [`idle_limit`](Routine::idle_limit), until there is work again. A failed run is tried again after a pause of its own,
/// which may be shorter than the interval.
///
/// The interval can be set otherwise while it runs, as `platform.workers.NAME.interval` does: what is waited for already
/// comes as soon as the new one says.
pub fn every<F, Fut, O>(name: impl Into<String>, interval: Duration, routine: F) -> Routine
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<O, RoutineError>> + Send + 'static,
    O: IntoOutcome,
{
    let run = erased(move |_| routine());
    Routine::new(name, Plan::Every(Pace::every(interval.max(MINIMUM_INTERVAL)), run))
}

/// As [`every`], for a routine that needs services.
pub fn every_with<F, Fut, O>(name: impl Into<String>, interval: Duration, routine: F) -> Routine
where
    F: Fn(Services) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<O, RoutineError>> + Send + 'static,
    O: IntoOutcome,
{
    let run = erased(move |services| routine(services.clone()));
    Routine::asking(name, Plan::Every(Pace::every(interval.max(MINIMUM_INTERVAL)), run))
}

/// Runs the routine at the moments of a cron expression (five fields, or six with seconds first) in the system's time
/// zone, or in [`time_zone`](Routine::time_zone). An expression that can't be read fails the start.
///
/// Moments that pass while the process is down, the machine sleeps or a run takes long are not made up for: the next one
/// after now counts, so each moment leads to one run at most. A failed run is tried again after a pause of its own. A
/// fixed time that a change to summer time skips runs when the clock has moved on; one that exists twice runs once.
pub fn cron<F, Fut, O>(name: impl Into<String>, expression: impl Into<String>, routine: F) -> Routine
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<O, RoutineError>> + Send + 'static,
    O: IntoOutcome,
{
    let run = erased(move |_| routine());
    Routine::new(name, Plan::Cron(expression.into(), run))
}

/// As [`cron`], for a routine that needs services.
pub fn cron_with<F, Fut, O>(name: impl Into<String>, expression: impl Into<String>, routine: F) -> Routine
where
    F: Fn(Services) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<O, RoutineError>> + Send + 'static,
    O: IntoOutcome,
{
    let run = erased(move |services| routine(services.clone()));
    Routine::asking(name, Plan::Cron(expression.into(), run))
}

/// Runs the routine until it is told to stop by its signal; a forced stop drops it. One that returns `Ok` before has
/// finished, and is started again unless the restart policy says otherwise. It is not busy with one thing, so the stall
/// watchdog never calls it hung.
pub fn service<F, Fut, O>(name: impl Into<String>, routine: F) -> Routine
where
    F: Fn(StopSignal) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<O, RoutineError>> + Send + 'static,
    O: IntoOutcome,
{
    Routine {
        asks: false,
        ..service_with(name, move |_, stop| routine(stop))
    }
}

/// As [`service`], for a routine that needs services.
pub fn service_with<F, Fut, O>(name: impl Into<String>, routine: F) -> Routine
where
    F: Fn(Services, StopSignal) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<O, RoutineError>> + Send + 'static,
    O: IntoOutcome,
{
    let serve: Serve = Arc::new(move |services, stop| {
        let run = routine(services, stop);
        Box::pin(async move { run.await.map(IntoOutcome::into_outcome) })
    });
    Routine::asking(name, Plan::Service(serve))
}

/// Runs the routine on a thread of its own until it is told to stop. A thread can't be ended from outside: one that
/// ignores its signal is left behind, and named in the log and the stop report. As with [`service`], the stall watchdog
/// never calls it hung.
pub fn blocking<F, O>(name: impl Into<String>, routine: F) -> Routine
where
    F: Fn(StopSignal) -> Result<O, RoutineError> + Send + Sync + 'static,
    O: IntoOutcome,
{
    let block: Block = Arc::new(move |stop| routine(stop).map(IntoOutcome::into_outcome));
    Routine::new(name, Plan::Blocking(block))
}

/// A routine that needs no services is called without a copy of them.
fn erased<F, Fut, O>(routine: F) -> Run
where
    F: Fn(&Services) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<O, RoutineError>> + Send + 'static,
    O: IntoOutcome,
{
    Arc::new(move |services| {
        let run = routine(services);
        Box::pin(async move { run.await.map(IntoOutcome::into_outcome) })
    })
}

/// A worker made of a function, on its way to being a [`WorkerDefinition`].
pub struct Routine {
    name: String,
    plan: Plan,
    asks: bool,
    options: Option<Box<Options>>,
    concurrency: u32,
    criticality: Criticality,
    liveness: bool,
    restart: Restart,
    group: Option<Group>,
    exit_when_given_up: Option<u8>,
    on_hang: HangPolicy,
    after: Vec<String>,
    start_timeout: Option<Duration>,
    stall_after: Option<Duration>,
    made_from: MadeFrom,
}

impl Routine {
    fn new(name: impl Into<String>, plan: Plan) -> Self {
        Self {
            name: name.into(),
            plan,
            asks: false,
            options: None,
            concurrency: 1,
            criticality: Criticality::Critical,
            liveness: false,
            restart: Restart::default(),
            group: None,
            exit_when_given_up: None,
            on_hang: HangPolicy::default(),
            after: Vec::new(),
            start_timeout: None,
            stall_after: None,
            made_from: MadeFrom::default(),
        }
    }

    /// A routine that asks for services.
    fn asking(name: impl Into<String>, plan: Plan) -> Self {
        Self {
            asks: true,
            ..Self::new(name, plan)
        }
    }

    fn options(&mut self) -> &mut Options {
        self.options.get_or_insert_with(|| Box::new(Options::DEFAULT.clone()))
    }

    /// Everything that the routine, and what classifies its errors, hold of the configuration: see
    /// [`WorkerDefinition::made_from`].
    #[must_use]
    pub fn made_from(mut self, value: &(impl Serialize + ?Sized)) -> Self {
        self.made_from.value(value);
        self
    }

    /// How many instances run side by side, each restarted on its own. Default: 1.
    #[must_use]
    pub fn concurrency(mut self, instances: u32) -> Self {
        self.concurrency = instances.max(1);
        self
    }

    /// How long one run may take; one that takes longer is dropped and counts as a transient error. Default: no limit.
    /// Has no meaning for [`service`] and [`blocking`].
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.options().timeout = Some(limit);
        self
    }

    /// How long building and starting an instance may take. Default: 30 s.
    #[must_use]
    pub fn start_timeout(mut self, limit: Duration) -> Self {
        self.start_timeout = Some(limit);
        self
    }

    /// How long one run may take before the instance counts as hung. Default: 5 min.
    #[must_use]
    pub fn stall_after(mut self, limit: Duration) -> Self {
        self.stall_after = Some(limit);
        self
    }

    /// When an attempt that ended is followed by another. Default: permanent; for [`once`] transient.
    #[must_use]
    pub fn restart(mut self, restart: impl Into<Restart>) -> Self {
        self.restart = restart.into();
        self
    }

    /// Starts after the named worker is ready, and stops before it.
    #[must_use]
    pub fn after(mut self, name: impl Into<String>) -> Self {
        self.after.push(name.into());
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

    /// A hung instance makes the process not live.
    #[must_use]
    pub fn liveness(mut self) -> Self {
        self.liveness = true;
        self
    }

    /// Says which errors are worth another try. Default: all, unless the routine itself says otherwise with
    /// [`RoutineError::fatal`].
    #[must_use]
    pub fn classify<C>(mut self, classify: C) -> Self
    where
        C: Fn(&(dyn Error + Send + Sync + 'static)) -> Severity + Send + Sync + 'static,
    {
        self.options().classify = Some(Arc::new(classify));
        self
    }

    /// After how many failures in a row the worker is unhealthy, at least 1. Default: 5.
    #[must_use]
    pub fn unhealthy_after(mut self, failures: u32) -> Self {
        self.options().unhealthy_after = failures.max(1);
        self
    }

    /// The pause after the first failure, and the longest: it doubles with each failure in a row. Default: 0.5 s, 30 s.
    #[must_use]
    pub fn back_off(mut self, initial: Duration, maximum: Duration) -> Self {
        let options = self.options();
        (options.initial_pause, options.maximum_pause) = (initial.max(MINIMUM_INTERVAL), maximum);
        self
    }

    /// How far the interval of [`every`] may stretch while there is nothing to do. Default: 32 intervals, at most 60 s.
    #[must_use]
    pub fn idle_limit(mut self, limit: Duration) -> Self {
        self.options().idle_limit = Some(limit);
        self
    }

    /// The time zone of [`cron`], by its IANA name. Default: the system's.
    #[must_use]
    pub fn time_zone(mut self, name: impl Into<String>) -> Self {
        self.options().time_zone = Some(name.into());
        self
    }
}

impl From<Routine> for WorkerDefinition {
    fn from(routine: Routine) -> Self {
        let (pace, made_from) = (routine.plan.pace(), details(&routine));
        let recipe = Arc::new(Recipe {
            plan: routine.plan,
            asks: routine.asks,
            options: routine.options,
        });
        let mut definition = Self::new(routine.name, move |services| {
            let worker = RoutineWorker::new(Arc::clone(&recipe), services);
            async move { Ok(Arc::new(worker?) as Arc<dyn Worker>) }
        });
        (definition.pace, definition.made_from) = (pace, made_from);
        definition.concurrency = routine.concurrency;
        definition.criticality = routine.criticality;
        definition.liveness = routine.liveness;
        definition.restart = routine.restart;
        definition.group = routine.group;
        definition.exit_when_given_up = routine.exit_when_given_up;
        definition.on_hang = routine.on_hang;
        definition.after = routine.after;
        if let Some(limit) = routine.start_timeout {
            definition.start_timeout = limit;
        }
        if let Some(limit) = routine.stall_after {
            definition.stall_after = limit;
        }
        definition
    }
}

/// What it was made from, with what the builder knows of it. An interval is none of it: it can change while the worker runs.
fn details(routine: &Routine) -> MadeFrom {
    let mut made_from = routine.made_from;
    made_from.detail((routine.plan.kind(), routine.asks));
    if let Some(options) = &routine.options {
        options.tell(&mut made_from);
    }
    made_from
}
