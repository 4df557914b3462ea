//! Workers through the supervisor, in several forms.

use std::sync::Arc;
use std::sync::atomic::Ordering;
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

use crate::round::{BEAT, BEATS, REST, Round, WATCH, timed};

/// Within which time everything has to stop.
const BUDGET: Duration = Duration::from_secs(60);

/// As many definitions of one small worker each.
pub(crate) async fn definitions(count: u32) -> Round {
    supervised(count, || (0..count).map(small).collect(), REST).await
}

/// Ten definitions with a tenth of the workers as instances each.
pub(crate) async fn pools(count: u32) -> Round {
    supervised(
        count,
        || (0..10).map(|number| small(number).concurrency(count / 10)).collect(),
        REST,
    )
    .await
}

/// As many definitions of a service each.
pub(crate) async fn services(count: u32) -> Round {
    supervised(count, || (0..count).map(service).collect(), REST).await
}

/// As many definitions of a routine each that runs once a second.
pub(crate) async fn beats(count: u32) -> Round {
    supervised(count, || (0..count).map(beat).collect(), WATCH).await
}

/// Starts workers through a supervisor and stops them.
async fn supervised(count: u32, definitions: impl FnOnce() -> Vec<WorkerDefinition>, rest: Duration) -> Round {
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
    timed(start, rest, |()| async move {
        let stops = supervisor.stop(BUDGET, StopSignal::default()).await;
        let drained = stops.iter().filter(|stop| stop.how == StopOutcome::Drained).count();
        assert_eq!(drained, count as usize, "every worker ends by itself");
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

fn beat(number: u32) -> WorkerDefinition {
    worker::every(format!("worker-{number}"), BEAT, || async {
        BEATS.fetch_add(1, Ordering::Relaxed);
        Ok(())
    })
    .into()
}
