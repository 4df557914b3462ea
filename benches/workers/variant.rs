//! The variants of a round: workers through the supervisor in three forms, and the peer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use plba_contracts::health::Health;
use plba_contracts::services::Services;
use plba_contracts::stop::{StopHandle, StopSignal};
use plba_contracts::worker::{Exit, Running, StartError, Worker, WorkerContext, WorkerDefinition, WorkerStatus};
use plba_runtime::clock::SystemClock;
use plba_runtime::services::{Provided, ServiceContainer};
use plba_runtime::supervisor::{StopOutcome, WorkerSupervisor};
use plba_runtime::worker;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::WORKERS;
use crate::round::{Round, timed};

/// Within which time everything has to stop.
const BUDGET: Duration = Duration::from_secs(60);

/// What a round runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variant {
    /// As many definitions, of one small worker each.
    Definitions,
    /// Ten definitions with a tenth of them as instances each.
    Pools,
    /// As many definitions that the builder of services made of an asynchronous function.
    Services,
    /// The peer: bare tasks.
    Bare,
}

impl Variant {
    /// For people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Definitions => "workers, each of its own definition",
            Self::Pools => "workers, instances of ten definitions",
            Self::Services => "workers, each built by `worker::service`",
            Self::Bare => "bare tasks with a child token each",
        }
    }

    /// For the child process.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Definitions => "definitions",
            Self::Pools => "pools",
            Self::Services => "services",
            Self::Bare => "bare",
        }
    }

    /// The variant with this key.
    pub(crate) fn by_key(key: &str) -> Option<Self> {
        let all = [Self::Definitions, Self::Pools, Self::Services, Self::Bare];
        all.into_iter().find(|variant| variant.key() == key)
    }

    /// Runs a round.
    pub(crate) async fn run(self) -> Round {
        match self {
            Self::Definitions => supervised(|| (0..WORKERS).map(small).collect()).await,
            Self::Pools => supervised(|| (0..10).map(|number| small(number).concurrency(WORKERS / 10)).collect()).await,
            Self::Services => supervised(|| (0..WORKERS).map(service).collect()).await,
            Self::Bare => bare().await,
        }
    }
}

/// Starts workers through a supervisor and stops them.
async fn supervised(definitions: impl FnOnce() -> Vec<WorkerDefinition>) -> Round {
    let supervisor = WorkerSupervisor::new(Arc::new(SystemClock::new()), 1);
    let container = ServiceContainer::new(Vec::new(), Provided::default()).expect("nothing is registered twice");
    let services = Arc::new(container).services();
    let handle = supervisor.clone();
    let start = async move {
        handle
            .start(definitions(), services)
            .await
            .expect("every worker starts");
    };
    timed(start, |()| async move {
        let stops = supervisor.stop(BUDGET, StopSignal::default()).await;
        let drained = stops.iter().filter(|stop| stop.how == StopOutcome::Drained).count();
        assert_eq!(drained, WORKERS as usize, "every worker ends by itself");
    })
    .await
}

/// A worker written by hand that waits for its stop.
struct Waits(StopHandle);

#[async_trait]
impl Worker for Waits {
    async fn start(self: Arc<Self>, _context: WorkerContext) -> Result<Running, StartError> {
        let stop = self.0.signal();
        Ok(Running::new(async move {
            stop.requested().await;
            Exit::Stopped
        }))
    }

    fn stop(&self, force: bool) {
        self.0.stop(force);
    }

    fn health(&self) -> Health {
        Health::Ok
    }

    fn status(&self) -> WorkerStatus {
        WorkerStatus::default()
    }
}

fn small(number: u32) -> WorkerDefinition {
    let build = |_: Services| async { Ok(Arc::new(Waits(StopHandle::new())) as Arc<dyn Worker>) };
    WorkerDefinition::new(format!("worker-{number}"), build)
}

fn service(number: u32) -> WorkerDefinition {
    let wait = |stop: StopSignal| async move {
        stop.requested().await;
        Ok(())
    };
    worker::service(format!("worker-{number}"), wait).into()
}

/// Starts bare tasks with a child token each, and cancels them.
async fn bare() -> Round {
    let parent = CancellationToken::new();
    let (running, ended) = (Countdown::new(), Countdown::new());
    let (child_of, all_ended) = (parent.clone(), Arc::clone(&ended));
    let start = async move {
        for _ in 0..WORKERS {
            let (token, running, ended) = (child_of.child_token(), Arc::clone(&running), Arc::clone(&ended));
            tokio::spawn(async move {
                running.down();
                token.cancelled().await;
                ended.down();
            });
        }
        running.finished.notified().await;
    };
    timed(start, |()| async move {
        parent.cancel();
        all_ended.finished.notified().await;
    })
    .await
}

/// Counts all workers down and tells of the last.
struct Countdown {
    left: AtomicU32,
    finished: Notify,
}

impl Countdown {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            left: AtomicU32::new(WORKERS),
            finished: Notify::new(),
        })
    }

    fn down(&self) {
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.finished.notify_one();
        }
    }
}
