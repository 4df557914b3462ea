//! The worker that runs a source: it gives the source its intake, backs off after transient errors, and tells the platform
//! how the source is.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use plba_contracts::BoxError;
use plba_contracts::health::Health;
use plba_contracts::services::Services;
use plba_contracts::stop::StopHandle;
use plba_contracts::trace::TraceFactory;
use plba_contracts::worker::{Exit, Running, StartError, Worker, WorkerContext, WorkerDefinition, WorkerStatus};

use crate::intake::Intake;
use crate::ledger::SourceLedger;
use crate::queue::{ConsumerId, Incarnation};
use crate::retry::BackOff;
use crate::source::{SourceError, TaskSource};
use crate::worker::common::queue_of;
use crate::worker::vitals::Vitals;

/// How a source worker works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceWorkerSettings {
    /// The source's name in the ledger, in task ids and in the name of its completion queue; it must stay the same for
    /// ever. `None` takes the worker's name.
    pub source: Option<String>,
    /// The pause after the first transient error; it doubles with each one in a row. Default: 1 s.
    pub initial_pause: Duration,
    /// The longest pause. Default: 60 s.
    pub maximum_pause: Duration,
    /// After how many transient errors in a row the worker calls itself unhealthy. Default: 5.
    pub unhealthy_after: u32,
    /// The name under which the queue is registered as a service; `None` for the only one.
    pub queue_service: Option<String>,
    /// Seed of jitter and of the consumer's identity; `None` takes one from the system.
    pub seed: Option<u64>,
}

impl Default for SourceWorkerSettings {
    fn default() -> Self {
        Self {
            source: None,
            initial_pause: Duration::from_secs(1),
            maximum_pause: Duration::from_secs(60),
            unhealthy_after: 5,
            queue_service: None,
            seed: None,
        }
    }
}

/// A worker that runs the source that `source` builds. Its queue and its ledger are the services `dyn TaskQueue` and
/// `dyn SourceLedger`.
///
/// Let it start after the workers that take its tasks: `.after("orders")`. Then it also stops before them.
pub fn source_worker<F, Fut>(name: impl Into<String>, settings: SourceWorkerSettings, source: F) -> WorkerDefinition
where
    F: Fn(Services) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<Arc<dyn TaskSource>, BoxError>> + Send + 'static,
{
    let name = name.into();
    let told = format!("{settings:?}");
    let source_name: Arc<str> = settings.source.clone().unwrap_or_else(|| name.clone()).into();
    let build = move |services: Services| {
        let (source, settings, source_name) = (source.clone(), settings.clone(), Arc::clone(&source_name));
        async move {
            let queue = queue_of(&services, settings.queue_service.as_deref()).await?;
            let ledger = services.get::<dyn SourceLedger>().await?;
            let traces = services.get::<dyn TraceFactory>().await.ok();
            let mut random = settings.seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed);
            let incarnation = Incarnation::of_this_process(random.u64(..));
            let consumer = ConsumerId::new(incarnation, Arc::clone(&source_name));
            let intake = Intake::new(source_name, queue, ledger, consumer).with_traces(traces);
            let worker = SourceWorker::new(source(services).await?, intake, settings);
            Ok(Arc::new(worker) as Arc<dyn Worker>)
        }
    };
    let mut definition = WorkerDefinition::new(name, build);
    definition.made_from.detail(told);
    definition
}

/// One instance of a source worker. [`source_worker`] makes them; tests may do so by hand.
pub struct SourceWorker {
    source: Arc<dyn TaskSource>,
    intake: Intake,
    settings: SourceWorkerSettings,
    stop: StopHandle,
    vitals: Vitals,
}

impl SourceWorker {
    /// An instance that runs `source` with `intake`.
    pub fn new(source: Arc<dyn TaskSource>, intake: Intake, settings: SourceWorkerSettings) -> Self {
        Self {
            source,
            intake,
            stop: StopHandle::new(),
            vitals: Vitals::new(settings.unhealthy_after),
            settings,
        }
    }

    async fn run(&self, context: WorkerContext) -> Exit {
        let mut random = self
            .settings
            .seed
            .map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed);
        let mut back_off = BackOff::new(self.settings.initial_pause, self.settings.maximum_pause);
        let stop = self.stop.signal();
        while !stop.is_requested() {
            let began = context.clock.monotonic();
            let before = self.source.status().last_success;
            let ended = tokio::select! {
                biased;
                ended = self.source.run(self.intake.clone(), stop.clone()) => ended,
                () = stop.forced() => return Exit::Stopped,
            };
            let error = match ended {
                Ok(()) if stop.is_requested() => return Exit::Stopped,
                Ok(()) => return Exit::Finished,
                Err(SourceError::Fatal(error)) => return Exit::Failed(error),
                Err(error @ SourceError::Transient(_)) => error,
            };
            let now = context.clock.now();
            // A run that got through to upstream, or lasted, was no failure in a row.
            let lasted = context.clock.monotonic().saturating_sub(began) > self.settings.maximum_pause;
            if lasted || self.source.status().last_success > before {
                back_off.reset();
                self.vitals.recovered();
            }
            let reason = error.to_string();
            let pause = back_off.next(&mut random);
            tracing::warn!(worker = %context.name, error = reason, pause_ms = pause.as_millis() as u64, "the source pauses");
            self.vitals.failed(now, &reason);
            tokio::select! {
                () = stop.requested() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        Exit::Stopped
    }
}

#[async_trait]
impl Worker for SourceWorker {
    async fn start(self: Arc<Self>, context: WorkerContext) -> Result<Running, StartError> {
        Ok(Running::new(async move { self.run(context).await }))
    }

    fn stop(&self, force: bool) {
        self.stop.stop(force);
    }

    fn health(&self) -> Health {
        let source = self.source.status();
        // While a run goes on and has got through since the latest error, that error is over.
        let own = self.vitals.health_unless_since(source.last_success);
        own.worse(source.health)
    }

    fn status(&self) -> WorkerStatus {
        let (own, source) = (self.vitals.status(), self.source.status());
        WorkerStatus {
            succeeded: source.settled,
            failed: own.failed + source.errors,
            last_success: source.last_success,
            last_error: own.last_error,
            note: source.note,
        }
    }
}
