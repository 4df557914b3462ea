//! The worker behind every builder: it calls the routine, counts how that turned out, and waits. Everything beyond one
//! attempt is the supervisor's.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use plba_contracts::health::Health;
use plba_contracts::services::{BoxFuture, Services};
use plba_contracts::stop::{StopHandle, StopSignal};
use plba_contracts::worker::{Exit, Running, StartError, Worker, WorkerContext, WorkerStatus};
use tokio::time::Instant;

use super::outcome::{Outcome, RoutineError, Severity};
use super::pace::{Schedule, failure_pause, interval_pause};
use super::tally::Tally;
use super::thread;

pub(super) type Run = Arc<dyn Fn(Services) -> BoxFuture<'static, Result<Outcome, RoutineError>> + Send + Sync>;
pub(super) type Serve =
    Arc<dyn Fn(Services, StopSignal) -> BoxFuture<'static, Result<Outcome, RoutineError>> + Send + Sync>;
pub(super) type Classify = Arc<dyn Fn(&(dyn std::error::Error + Send + Sync + 'static)) -> Severity + Send + Sync>;

/// What is called, and when.
#[derive(Clone)]
pub(super) enum Kind {
    Once(Run),
    Every(Duration, Run),
    Cron(Box<Schedule>, Run),
    Service(Serve),
    Blocking(thread::Block),
}

/// What the builder's methods set.
#[derive(Clone)]
pub(super) struct Options {
    pub(super) timeout: Option<Duration>,
    pub(super) classify: Option<Classify>,
    pub(super) unhealthy_after: u32,
    pub(super) initial_pause: Duration,
    pub(super) maximum_pause: Duration,
    pub(super) idle_limit: Option<Duration>,
}

/// How far the clock of the day is trusted while waiting for a moment: after this it is read again.
const CLOCK_TRUST: Duration = Duration::from_secs(30);

pub(super) struct RoutineWorker {
    kind: Kind,
    options: Options,
    services: Services,
    stop: StopHandle,
    tally: Tally,
}

impl RoutineWorker {
    pub(super) fn new(kind: Kind, options: Options, services: Services) -> Self {
        Self {
            tally: Tally::new(options.unhealthy_after),
            kind,
            options,
            services,
            stop: StopHandle::new(),
        }
    }

    async fn work(&self, context: &WorkerContext) -> Exit {
        let stop = self.stop.signal();
        // Processes that fail together should not try again together, so the time of day goes in.
        let seed = context.clock.now().as_nanosecond() as u64 ^ u64::from(context.slot).rotate_left(32);
        let mut random = fastrand::Rng::with_seed(seed);
        let mut idle_runs = 0;
        if let Kind::Cron(schedule, _) = &self.kind
            && let Some(exit) = self.until_moment(schedule, &stop, context).await
        {
            return exit;
        }
        loop {
            if stop.is_requested() {
                return Exit::Stopped;
            }
            let began = Instant::now();
            let Some(result) = self.run_once(&stop, context).await else {
                return Exit::Stopped;
            };
            let pause = match result {
                Ok(outcome) => {
                    self.tally.succeeded(context.clock.now());
                    idle_runs = if outcome == Outcome::Idle { idle_runs + 1 } else { 0 };
                    match self.after_success(began.elapsed(), idle_runs, &stop, context).await {
                        Next::Exit(exit) => return exit,
                        Next::Pause(pause) => pause,
                    }
                }
                Err(error) => match self.after_failure(error, &mut random) {
                    Next::Exit(exit) => return exit,
                    Next::Pause(pause) => pause,
                },
            };
            sleep_unless_stopped(pause, &stop).await;
        }
    }

    /// One run; `None` when it was dropped by a forced stop.
    async fn run_once(&self, stop: &StopSignal, context: &WorkerContext) -> Option<Result<Outcome, RoutineError>> {
        let run = match &self.kind {
            Kind::Once(run) | Kind::Every(_, run) | Kind::Cron(_, run) => run(self.services.clone()),
            Kind::Service(serve) => serve(self.services.clone(), stop.clone()),
            // A thread can't be dropped: it is waited for until the supervisor itself lets go.
            Kind::Blocking(block) => return Some(thread::run(Arc::clone(block), stop, context).await),
        };
        // What runs until it is told to stop is not busy with one thing, so it can't be hung.
        let _busy = (!matches!(self.kind, Kind::Service(_))).then(|| context.activity.begin(Arc::clone(&context.name)));
        let limit = self.options.timeout.filter(|_| !matches!(self.kind, Kind::Service(_)));
        tokio::select! {
            biased;
            () = stop.forced() => None,
            result = within(limit, run) => Some(result),
        }
    }

    async fn after_success(&self, took: Duration, idle_runs: u32, stop: &StopSignal, context: &WorkerContext) -> Next {
        match &self.kind {
            Kind::Once(_) => Next::Exit(Exit::Finished),
            Kind::Service(_) | Kind::Blocking(_) if stop.is_requested() => Next::Exit(Exit::Stopped),
            Kind::Service(_) | Kind::Blocking(_) => Next::Exit(Exit::Finished),
            Kind::Every(interval, _) => {
                let limit = self.options.idle_limit.unwrap_or_else(|| default_idle_limit(*interval));
                Next::Pause(interval_pause(*interval, took, idle_runs, limit))
            }
            Kind::Cron(schedule, _) => match self.until_moment(schedule, stop, context).await {
                Some(exit) => Next::Exit(exit),
                None => Next::Pause(Duration::ZERO),
            },
        }
    }

    fn after_failure(&self, error: RoutineError, random: &mut fastrand::Rng) -> Next {
        let classified = self
            .options
            .classify
            .as_ref()
            .map(|classify| classify(error.as_error()));
        let severity = error.severity().or(classified).unwrap_or(Severity::Transient);
        let text = plba_contracts::describe(error.as_error());
        let in_a_row = self.tally.failed(&text, severity == Severity::Fatal);
        if severity == Severity::Fatal {
            return Next::Exit(Exit::Failed(error.into_boxed()));
        }
        let options = &self.options;
        let pause = failure_pause(options.initial_pause, options.maximum_pause, in_a_row, random.f64());
        tracing::warn!("run failed ({in_a_row} in a row), next try in {pause:.1?}: {text}");
        Next::Pause(pause)
    }

    /// Waits for the next moment of the schedule; gives how the attempt ends if it ends instead.
    async fn until_moment(&self, schedule: &Schedule, stop: &StopSignal, context: &WorkerContext) -> Option<Exit> {
        let clock = &context.clock;
        let Some(moment) = schedule.after(clock.now()) else {
            return Some(Exit::Finished);
        };
        self.tally.note(Some(format!("next run at {moment}")));
        loop {
            let left = Duration::try_from(moment.duration_since(clock.now())).unwrap_or_default();
            if left.is_zero() {
                self.tally.note(None);
                return None;
            }
            sleep_unless_stopped(left.min(CLOCK_TRUST), stop).await;
            if stop.is_requested() {
                return Some(Exit::Stopped);
            }
        }
    }
}

enum Next {
    Exit(Exit),
    Pause(Duration),
}

/// 32 intervals, but no more than a minute unless the interval itself is longer.
fn default_idle_limit(interval: Duration) -> Duration {
    interval.saturating_mul(32).min(Duration::from_secs(60)).max(interval)
}

async fn within(
    limit: Option<Duration>,
    run: BoxFuture<'static, Result<Outcome, RoutineError>>,
) -> Result<Outcome, RoutineError> {
    let Some(limit) = limit else { return run.await };
    match tokio::time::timeout(limit, run).await {
        Ok(result) => result,
        Err(_) => Err(RoutineError::new(format!("took longer than {limit:?}"))),
    }
}

async fn sleep_unless_stopped(pause: Duration, stop: &StopSignal) {
    tokio::select! {
        biased;
        () = stop.requested() => {}
        () = tokio::time::sleep(pause) => {}
    }
}

#[async_trait]
impl Worker for RoutineWorker {
    async fn start(self: Arc<Self>, context: WorkerContext) -> Result<Running, StartError> {
        Ok(Running::new(async move { self.work(&context).await }))
    }

    fn stop(&self, force: bool) {
        self.stop.stop(force);
    }

    fn health(&self) -> Health {
        self.tally.health()
    }

    fn status(&self) -> WorkerStatus {
        self.tally.status()
    }
}
