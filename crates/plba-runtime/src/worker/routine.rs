//! The worker behind every builder: it calls the routine, counts how that turned out, and waits. Everything beyond one
//! attempt is the supervisor's.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use plba_contracts::BoxError;
use plba_contracts::cron::Expression;
use plba_contracts::health::Health;
use plba_contracts::made_from::MadeFrom;
use plba_contracts::services::{BoxFuture, Services};
use plba_contracts::stop::{StopHandle, StopSignal};
use plba_contracts::worker::{Exit, Pace, Running, StartError, Worker, WorkerContext, WorkerStatus};
use tokio::time::Instant;

use super::outcome::{Outcome, RoutineError, Severity};
use super::pace::{cron, failure_pause, stretched};
use super::tally::Tally;
use super::thread;

type Turnout = Result<Outcome, RoutineError>;

pub(super) type Run = Arc<dyn Fn(&Services) -> BoxFuture<'static, Turnout> + Send + Sync>;
pub(super) type Serve = Arc<dyn Fn(Services, StopSignal) -> BoxFuture<'static, Turnout> + Send + Sync>;
pub(super) type Classify = Arc<dyn Fn(&(dyn std::error::Error + Send + Sync + 'static)) -> Severity + Send + Sync>;

/// What is run when, as written down.
pub(super) enum Plan {
    Once(Run),
    Every(Pace, Run),
    Cron(String, Run),
    Service(Serve),
    Blocking(thread::Block),
}

impl Plan {
    pub(super) fn pace(&self) -> Option<Pace> {
        match self {
            Self::Every(pace, _) => Some(pace.clone()),
            _ => None,
        }
    }

    /// Which it is, with what of it can be compared and does not change while it runs.
    pub(super) fn kind(&self) -> (&'static str, Option<&str>) {
        match self {
            Self::Once(_) => ("once", None),
            Self::Every(..) => ("every", None),
            Self::Cron(expression, _) => ("cron", Some(expression)),
            Self::Service(_) => ("service", None),
            Self::Blocking(_) => ("blocking", None),
        }
    }
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
    pub(super) time_zone: Option<String>,
}

impl Options {
    /// What most routines have.
    pub(super) const DEFAULT: &Self = &Self {
        timeout: None,
        classify: None,
        unhealthy_after: 5,
        initial_pause: Duration::from_millis(500),
        maximum_pause: Duration::from_secs(30),
        idle_limit: None,
        time_zone: None,
    };
}

impl Options {
    pub(super) fn tell(&self, made_from: &mut MadeFrom) {
        let Self {
            timeout,
            classify,
            unhealthy_after,
            initial_pause,
            maximum_pause,
            idle_limit,
            time_zone,
        } = self;
        made_from.detail((timeout, classify.is_some(), unhealthy_after));
        made_from.detail((initial_pause, maximum_pause, idle_limit, time_zone));
    }
}

/// What all instances of a definition share.
pub(super) struct Recipe {
    pub(super) plan: Plan,
    /// Whether the routine asks for services.
    pub(super) asks: bool,
    /// Nothing for the default ones.
    pub(super) options: Option<Box<Options>>,
}

impl Recipe {
    fn options(&self) -> &Options {
        self.options.as_deref().unwrap_or(Options::DEFAULT)
    }
}

/// How far the clock of the day is trusted while waiting for a moment: after this it is read again.
const CLOCK_TRUST: Duration = Duration::from_secs(30);

/// What stands for "never" where a moment can't be represented.
const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

pub(super) struct RoutineWorker {
    recipe: Arc<Recipe>,
    schedule: Option<Box<Expression>>,
    /// Nothing if the routine asks for none: each instance has services of its own, and there are very many routines.
    services: Option<Box<Services>>,
    stop: StopHandle,
    tally: Tally,
}

/// When the next run follows. It is kept while nothing runs, so how the attempt ends is no part of it.
#[derive(Clone, Copy)]
enum Next {
    /// The next one, at once.
    Now,
    /// The next one, at this moment.
    At(Instant),
    /// The next one, by the interval since this one began, after so many that found nothing to do.
    Due(Instant, u32),
    /// The next one, at the next moment of the schedule.
    Moment,
}

impl RoutineWorker {
    /// # Errors
    /// The cron expression or its time zone can't be read.
    pub(super) fn new(recipe: Arc<Recipe>, services: Services) -> Result<Self, BoxError> {
        let schedule = match &recipe.plan {
            Plan::Cron(expression, _) => Some(cron(expression, recipe.options().time_zone.as_deref())?),
            _ => None,
        };
        Ok(Self {
            tally: Tally::new(recipe.options().unhealthy_after),
            schedule: schedule.map(Box::new),
            services: recipe.asks.then(|| Box::new(services)),
            recipe,
            stop: StopHandle::new(),
        })
    }

    /// One attempt. There are very many of these futures, so that what it keeps while it waits is little: one wait for
    /// the stop, one timer, and a boxed run while there is one.
    async fn work(&self, context: &WorkerContext) -> Exit {
        let mut asked = self.stop.signal().requested();
        let mut idle_runs = 0;
        let mut next = match &self.schedule {
            None => Next::Now,
            Some(_) => Next::Moment,
        };
        loop {
            match next {
                Next::Now => {}
                Next::At(moment) => tokio::select! {
                    biased;
                    () = &mut asked => {}
                    () = tokio::time::sleep_until(moment) => {}
                },
                Next::Due(began, idle_runs) => tokio::select! {
                    biased;
                    () = &mut asked => {}
                    () = self.due(began, idle_runs) => {}
                },
                Next::Moment => {
                    if let Some(exit) = Box::pin(self.until_moment(context)).await {
                        return exit;
                    }
                }
            }
            if self.stop.is_requested() {
                return Exit::Stopped;
            }
            let began = Instant::now();
            let following = match self.run_once(context).await {
                None => Err(Exit::Stopped),
                Some(Ok(outcome)) => {
                    self.tally.succeeded(context.clock.now());
                    idle_runs = if outcome == Outcome::Idle { idle_runs + 1 } else { 0 };
                    self.after_success(began, idle_runs)
                }
                Some(Err(error)) => self.after_failure(error, context),
            };
            match following {
                Ok(following) => next = following,
                Err(exit) => return exit,
            }
        }
    }

    /// One run; `None` when it was dropped by a forced stop.
    async fn run_once(&self, context: &WorkerContext) -> Option<Turnout> {
        // What runs until it is told to stop is not busy with one thing, so it can't be hung.
        let others = matches!(self.recipe.plan, Plan::Service(_) | Plan::Blocking(_));
        let _busy = (!others).then(|| context.activity.begin_again(&context.name));
        let mut run = self.call(context);
        // A thread can't be dropped: it is waited for until the supervisor itself lets go.
        let droppable = !matches!(self.recipe.plan, Plan::Blocking(_));
        let mut forced = None;
        // In this order what is over at once, as many runs are, never waits for a stop.
        poll_fn(|task| {
            if let Poll::Ready(result) = run.as_mut().poll(task) {
                return Poll::Ready(Some(result));
            }
            if !droppable {
                return Poll::Pending;
            }
            let forced = forced.get_or_insert_with(|| self.stop.signal().forced());
            Pin::new(forced).poll(task).map(|()| None)
        })
        .await
    }

    fn call<'a>(&'a self, context: &'a WorkerContext) -> BoxFuture<'a, Turnout> {
        let services = self.services.as_deref().unwrap_or(Services::none());
        let run = match &self.recipe.plan {
            Plan::Once(run) | Plan::Every(_, run) | Plan::Cron(_, run) => run(services),
            Plan::Service(serve) => return serve(services.clone(), self.stop.signal()),
            Plan::Blocking(block) => return Box::pin(thread::run(Arc::clone(block), self.stop.signal(), context)),
        };
        match self.recipe.options().timeout {
            None => run,
            Some(limit) => Box::pin(within(limit, run)),
        }
    }

    fn after_success(&self, began: Instant, idle_runs: u32) -> Result<Next, Exit> {
        match &self.recipe.plan {
            Plan::Once(_) => Err(Exit::Finished),
            Plan::Service(_) | Plan::Blocking(_) if self.stop.is_requested() => Err(Exit::Stopped),
            Plan::Service(_) | Plan::Blocking(_) => Err(Exit::Finished),
            Plan::Every(..) => Ok(Next::Due(began, idle_runs)),
            Plan::Cron(..) => Ok(Next::Moment),
        }
    }

    /// Waits until the interval is over, also if it becomes another one meanwhile.
    async fn due(&self, began: Instant, idle_runs: u32) {
        let Plan::Every(pace, _) = &self.recipe.plan else {
            return;
        };
        loop {
            let interval = pace.interval();
            let limit = self.recipe.options().idle_limit;
            let limit = limit.unwrap_or_else(|| default_idle_limit(interval));
            let moment = after(began, stretched(interval, idle_runs, limit));
            tokio::select! {
                biased;
                () = pace.changed(interval) => {}
                () = tokio::time::sleep_until(moment) => return,
            }
        }
    }

    fn after_failure(&self, error: RoutineError, context: &WorkerContext) -> Result<Next, Exit> {
        let options = self.recipe.options();
        let classified = options.classify.as_ref().map(|classify| classify(error.as_error()));
        let severity = error.severity().or(classified).unwrap_or(Severity::Transient);
        let text = plba_contracts::describe(error.as_error());
        let in_a_row = self.tally.failed(&text, severity == Severity::Fatal);
        if severity == Severity::Fatal {
            return Err(Exit::Failed(error.into_boxed()));
        }
        // Processes that fail together should not try again together, so the time of day goes in.
        let seed = context.clock.now().as_nanosecond() as u64 ^ u64::from(context.slot).rotate_left(32);
        let random = fastrand::Rng::with_seed(seed).f64();
        let pause = failure_pause(options.initial_pause, options.maximum_pause, in_a_row, random);
        tracing::warn!("run failed ({in_a_row} in a row), next try in {pause:.1?}: {text}");
        Ok(Next::At(after(Instant::now(), pause)))
    }

    /// Waits for the next moment of the schedule; gives how the attempt ends if it ends instead.
    async fn until_moment(&self, context: &WorkerContext) -> Option<Exit> {
        let (clock, stop) = (&context.clock, self.stop.signal());
        let moment = self.schedule.as_ref().and_then(|schedule| schedule.after(clock.now()));
        let Some(moment) = moment else {
            return Some(Exit::Finished);
        };
        self.tally.note(Some(format!("next run at {moment}")));
        loop {
            let left = Duration::try_from(moment.duration_since(clock.now())).unwrap_or_default();
            if left.is_zero() {
                self.tally.note(None);
                return None;
            }
            tokio::select! {
                biased;
                () = stop.requested() => return Some(Exit::Stopped),
                () = tokio::time::sleep(left.min(CLOCK_TRUST)) => {}
            }
        }
    }
}

fn after(moment: Instant, span: Duration) -> Instant {
    moment.checked_add(span).unwrap_or_else(|| moment + FAR)
}

/// 32 intervals, but no more than a minute unless the interval itself is longer.
fn default_idle_limit(interval: Duration) -> Duration {
    interval.saturating_mul(32).min(Duration::from_secs(60)).max(interval)
}

async fn within(limit: Duration, run: BoxFuture<'static, Turnout>) -> Turnout {
    match tokio::time::timeout(limit, run).await {
        Ok(result) => result,
        Err(_) => Err(RoutineError::new(format!("took longer than {limit:?}"))),
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
