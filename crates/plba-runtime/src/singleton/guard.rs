//! The worker that stands by, acts while its lease holds, and lets go. Deadlines are counted on the process's monotonic
//! clock, from before the store was asked; what the store's clock says is never compared with it.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use plba_contracts::clock::Clock;
use plba_contracts::describe;
use plba_contracts::health::Health;
use plba_contracts::lease::{Fence, FencingToken, Lease};
use plba_contracts::services::{BoxFuture, Services};
use plba_contracts::stop::{StopHandle, StopPhase};
use plba_contracts::worker::{Exit, Running, StartError, Worker, WorkerContext, WorkerStatus};
use tokio::time::{sleep, timeout};

use super::Terms;
use super::standing::Standing;

/// How often a standby asks at most.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// How long a release may take; after that the grant ends by itself.
const RELEASE_LIMIT: Duration = Duration::from_secs(2);

pub(super) struct SingletonWorker {
    terms: Arc<Terms>,
    lease: Arc<dyn Lease>,
    services: Services,
    stop: StopHandle,
    standing: Standing,
}

/// A grant as its holder sees it: how long it may act, on its own clock.
struct Held {
    token: FencingToken,
    clock: Arc<dyn Clock>,
    ttl: Duration,
    /// When the newest confirmed grant ends, counted from when it was asked for, in microseconds of the monotonic clock.
    end: AtomicU64,
}

impl Held {
    fn new(token: FencingToken, clock: Arc<dyn Clock>, ttl: Duration, asked: Duration) -> Self {
        let end = AtomicU64::new(micros(asked + ttl));
        Self { token, clock, ttl, end }
    }

    fn confirmed(&self, asked: Duration) {
        self.end.store(micros(asked + self.ttl), Ordering::Release);
    }

    fn lost(&self) {
        self.end.store(0, Ordering::Release);
    }

    /// How long until so many sixths of the time to live have passed since the grant was asked for; zero if they have.
    fn until(&self, sixths: u32) -> Duration {
        let end = Duration::from_micros(self.end.load(Ordering::Acquire));
        let moment = end.saturating_sub(self.ttl * (6 - sixths) / 6);
        moment.saturating_sub(self.clock.monotonic())
    }

    fn is_over(&self) -> bool {
        self.until(6).is_zero()
    }
}

/// Rounded down, so that a deadline comes early rather than late.
fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// How acting ended.
enum Acted {
    /// The inner worker's attempt ended.
    Ended(Exit),
    /// It panicked.
    Panicked(Box<dyn Any + Send>),
    /// The lease was lost, for this reason.
    Lost(String),
}

impl SingletonWorker {
    pub(super) fn new(terms: Arc<Terms>, lease: Arc<dyn Lease>, services: Services) -> Self {
        Self {
            terms,
            lease,
            services,
            stop: StopHandle::new(),
            standing: Standing::default(),
        }
    }

    async fn run(&self, context: WorkerContext) -> Exit {
        loop {
            let Some(held) = self.stand_by(&context).await else {
                return Exit::Stopped;
            };
            tracing::info!("took over lease {:?} with token {}", self.terms.name, held.token);
            let acted = self.act(&held, &context).await;
            // What is lost is not given back: if something of the inner worker goes on, such as a thread, then at least the
            // grant runs out before somebody else begins.
            if !matches!(acted, Acted::Lost(_)) {
                self.release(held.token).await;
            }
            self.standing.acts_no_more();
            match acted {
                Acted::Ended(exit) => return exit,
                Acted::Panicked(payload) => resume_unwind(payload),
                Acted::Lost(reason) => tracing::warn!("lost lease {:?}, stands by: {reason}", self.terms.name),
            }
        }
    }

    /// Asks until the lease is given; `None` when a stop was asked for meanwhile.
    async fn stand_by(&self, context: &WorkerContext) -> Option<Held> {
        let stop = self.stop.signal();
        while !stop.is_requested() {
            // A graceful stop lets the question end, so that what it got is given back and not left to run out.
            let held = tokio::select! {
                biased;
                () = stop.forced() => return None,
                held = self.ask(context) => held,
            };
            if let Some(held) = held {
                // An answer that took too long is no use, and neither is one for a worker that is to stop.
                if !stop.is_requested() && !held.until(5).is_zero() {
                    return Some(held);
                }
                self.release(held.token).await;
            }
            tokio::select! {
                biased;
                () = stop.requested() => {}
                () = sleep(ASK_EVERY.min(self.terms.ttl / 3)) => {}
            }
        }
        None
    }

    /// Asks the store once, within the time to live.
    async fn ask(&self, context: &WorkerContext) -> Option<Held> {
        let terms = &self.terms;
        let asked = context.clock.monotonic();
        let question = async {
            let grant = self.lease.acquire(&terms.name, &terms.holder, terms.ttl).await?;
            let holding = match grant {
                Some(_) => None,
                None => self.lease.holding(&terms.name).await?,
            };
            Ok::<_, plba_contracts::lease::LeaseError>((grant, holding))
        };
        let answer = match timeout(terms.ttl, question).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(describe(&error)),
            Err(_) => Err(format!("lease {:?}: no answer within {:?}", terms.name, terms.ttl)),
        };
        match answer {
            Ok((grant, holding)) => {
                self.standing.answered();
                self.standing.held_by(holding);
                grant.map(|grant| Held::new(grant.token, Arc::clone(&context.clock), terms.ttl, asked))
            }
            Err(reason) => {
                self.standing.unanswered(asked, context.clock.monotonic(), reason);
                None
            }
        }
    }

    /// Runs a fresh inner worker while the grant holds.
    async fn act(&self, held: &Held, context: &WorkerContext) -> Acted {
        let mut work = Box::pin(AssertUnwindSafe(self.work(held, context.clone())).catch_unwind());
        let mut work = while_held(held, &mut work);
        let reason = tokio::select! {
            biased;
            ended = &mut work => return ended,
            reason = self.keep(held) => reason,
        };
        self.force();
        // What is told to let go may do so in the rest of its time, of which none is left if somebody else holds the lease.
        tokio::select! {
            biased;
            ended = &mut work => match ended {
                Acted::Panicked(payload) => Acted::Panicked(payload),
                Acted::Ended(exit) if self.stop.signal().is_requested() => Acted::Ended(exit),
                _ => Acted::Lost(reason),
            },
            () = sleep(held.until(6)) => Acted::Lost(reason),
        }
    }

    /// From the inner worker's factory to its end.
    async fn work(&self, held: &Held, context: WorkerContext) -> Exit {
        let stop = self.stop.signal();
        let fence = Fence {
            name: self.terms.name.clone(),
            token: held.token,
        };
        let services = self.services.with(Arc::new(fence));
        let built = tokio::select! {
            biased;
            built = self.terms.build.call(services) => built,
            () = stop.requested() => return Exit::Stopped,
        };
        let worker = match built {
            Ok(worker) => worker,
            Err(error) => return Exit::Failed(error),
        };
        self.standing.acts(held.token, &worker);
        // A stop that came before the line above found nobody; one that comes now finds the worker itself.
        match stop.phase() {
            StopPhase::Running => {}
            phase => worker.stop(phase == StopPhase::Force),
        }
        let limit = self.terms.start_timeout;
        let started = tokio::select! {
            biased;
            started = timeout(limit, worker.start(context)) => started,
            () = stop.forced() => return Exit::Stopped,
        };
        match started {
            Ok(Ok(running)) => running.into_future().await,
            Ok(Err(error)) => Exit::Failed(error.into()),
            Err(_) => Exit::Failed(format!("was not ready within {limit:?} of taking over").into()),
        }
    }

    /// Renews the grant; gives why it is lost, at once or when five sixths of its time have passed unconfirmed.
    async fn keep(&self, held: &Held) -> String {
        let terms = &self.terms;
        loop {
            sleep(held.until(2)).await;
            let asked = held.clock.monotonic();
            let limit = held.until(5);
            if limit.is_zero() {
                return "its renewal was not confirmed in time".into();
            }
            match timeout(limit, self.lease.renew(&terms.name, held.token, terms.ttl)).await {
                Ok(Ok(Some(_))) => {
                    self.standing.answered();
                    held.confirmed(asked);
                }
                Ok(Ok(None)) => {
                    held.lost();
                    return "its grant is not in force any more".into();
                }
                Ok(Err(error)) => {
                    self.standing
                        .unanswered(asked, held.clock.monotonic(), describe(&error));
                    sleep((terms.ttl / 12).min(held.until(5))).await;
                }
                Err(_) => {
                    let reason = format!("lease {:?}: no answer within {limit:?}", terms.name);
                    self.standing.unanswered(asked, held.clock.monotonic(), reason);
                    return "its renewal was not confirmed in time".into();
                }
            }
        }
    }

    async fn release(&self, token: FencingToken) {
        let terms = &self.terms;
        let limit = RELEASE_LIMIT.min(terms.ttl);
        let error = match timeout(limit, self.lease.release(&terms.name, token)).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => describe(&error),
            Err(_) => format!("no answer within {limit:?}"),
        };
        tracing::warn!(
            "lease {:?} is left to run out within {:?}: {error}",
            terms.name,
            terms.ttl
        );
    }

    /// Tells the acting worker to let go, without stopping the singleton.
    fn force(&self) {
        if let Some(worker) = self.standing.worker() {
            worker.stop(true);
        }
    }
}

/// Polls work only while the grant holds. A process that was paused in its middle wakes up inside a poll or before one:
/// before one, this sees that time has passed; inside one, the fence has to.
fn while_held<'a, F>(held: &'a Held, work: &'a mut F) -> BoxFuture<'a, Acted>
where
    F: Future<Output = Result<Exit, Box<dyn Any + Send>>> + Unpin + Send,
{
    Box::pin(std::future::poll_fn(move |context| {
        if held.is_over() {
            return Poll::Ready(Acted::Lost(
                "its time ran out unnoticed, as when a process is paused".into(),
            ));
        }
        work.poll_unpin(context).map(|ended| match ended {
            Ok(exit) => Acted::Ended(exit),
            Err(payload) => Acted::Panicked(payload),
        })
    }))
}

#[async_trait]
impl Worker for SingletonWorker {
    async fn start(self: Arc<Self>, context: WorkerContext) -> Result<Running, StartError> {
        Ok(Running::new(async move { self.run(context).await }))
    }

    fn stop(&self, force: bool) {
        self.stop.stop(force);
        if let Some(worker) = self.standing.worker() {
            worker.stop(force);
        }
    }

    fn health(&self) -> Health {
        self.standing.health(self.terms.ttl)
    }

    fn status(&self) -> WorkerStatus {
        self.standing.status()
    }
}
