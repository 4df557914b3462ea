//! One attempt of one instance, from its factory to its end, on a task of its own. It reports twice: when it is ready
//! and when nothing of it is left. When it is started and stopped is decided elsewhere.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt;
use plba_contracts::health::Health;
use plba_contracts::services::Services;
use plba_contracts::stop::{StopHandle, StopPhase};
use plba_contracts::worker::{Activity, Exit, Worker, WorkerContext, WorkerDefinition, WorkerStatus};
use tokio::sync::mpsc::UnboundedSender;

use super::board::Record;
use super::machine::protocol::{Attempt, Event};
use super::view::AttemptEnd;

/// What is shared between the attempt's task, the driver, the watchdog and status.
pub(super) struct Instance {
    pub(super) activity: Activity,
    /// The span around the attempt, below which the instance's own are.
    pub(super) span: Option<tracing::Id>,
    stop: StopHandle,
    worker: Mutex<Option<Arc<dyn Worker>>>,
}

impl Instance {
    pub(super) fn new(activity: Activity, span: Option<tracing::Id>) -> Self {
        Self {
            activity,
            span,
            stop: StopHandle::new(),
            worker: Mutex::default(),
        }
    }

    /// Passes a stop on, also to an instance that is still being built.
    pub(super) fn signal(&self, force: bool) {
        self.stop.stop(force);
        if let Some(worker) = self.worker() {
            stop(&worker, force);
        }
    }

    /// How the instance says it is; `None` while it is being built.
    pub(super) fn health(&self) -> Option<Health> {
        let worker = self.worker()?;
        let health = guarded(|| worker.health());
        Some(health.unwrap_or_else(|message| Health::unhealthy(format!("its health check panicked: {message}"))))
    }

    /// What the instance has done; nothing while it is being built.
    pub(super) fn status(&self) -> WorkerStatus {
        let status = self.worker().map(|worker| guarded(|| worker.status()));
        status.and_then(Result::ok).unwrap_or_default()
    }

    fn install(&self, worker: &Arc<dyn Worker>) {
        *self.lock() = Some(Arc::clone(worker));
        // A stop that came before the line above found nobody; one that comes now finds the worker itself.
        match self.stop.signal().phase() {
            StopPhase::Running => {}
            phase => stop(worker, phase == StopPhase::Force),
        }
    }

    fn worker(&self) -> Option<Arc<dyn Worker>> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Arc<dyn Worker>>> {
        self.worker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stop(worker: &Arc<dyn Worker>, force: bool) {
    if let Err(message) = guarded(|| worker.stop(force)) {
        tracing::warn!("a worker's `stop` panicked: {message}");
    }
}

/// Reports the end of an attempt when it is dropped, however that comes about: by returning, by a panic, by abort or
/// with the executor.
pub(super) struct Obituary {
    pub(super) attempt: Attempt,
    pub(super) instance: Arc<Instance>,
    pub(super) record: Arc<Record>,
    pub(super) reports: UnboundedSender<Event>,
    pub(super) end: Option<AttemptEnd>,
}

impl Drop for Obituary {
    fn drop(&mut self) {
        self.record.absorb(self.attempt.key.slot, self.instance.status());
        let worker = self.instance.lock().take();
        if let Err(message) = guarded(|| drop(worker)) {
            tracing::warn!("a worker panicked while it was dropped: {message}");
        }
        let end = self.end.take().unwrap_or(AttemptEnd::Dropped);
        // Nobody listens any more when the supervisor itself is gone.
        let _ = self.reports.send(Event::Ended(self.attempt, end));
    }
}

/// What an attempt is begun with. Boxed, or the attempt's task would keep the space for it until the end.
pub(super) struct Seed {
    pub(super) definition: Arc<WorkerDefinition>,
    pub(super) services: Services,
    pub(super) context: WorkerContext,
}

impl Seed {
    fn into_context(self) -> WorkerContext {
        self.context
    }
}

/// Runs the attempt to its end.
///
/// # Cancel safety
/// A dropped attempt is reported as dropped.
pub(super) async fn run(mut obituary: Obituary, seed: Box<Seed>) {
    let caught = AssertUnwindSafe(live(&obituary, seed)).catch_unwind().await;
    obituary.end = Some(match caught {
        Ok(end) => end,
        Err(payload) => AttemptEnd::Panicked(panic_message(payload)),
    });
}

async fn live(obituary: &Obituary, seed: Box<Seed>) -> AttemptEnd {
    let instance = &obituary.instance;
    let stop = instance.stop.signal();
    // There is nobody yet who could finish anything, so a graceful stop is enough to leave off.
    if stop.is_requested() {
        return AttemptEnd::Stopped;
    }
    // In this order what is ready at once, as most workers are, never waits for a stop, which would cost memory for as
    // long as the attempt lasts.
    let built = tokio::select! {
        biased;
        built = seed.definition.build.call(seed.services.clone()) => built,
        () = stop.requested() => return AttemptEnd::Stopped,
    };
    let worker = match built {
        Ok(worker) => worker,
        Err(error) => return AttemptEnd::NotBuilt(plba_contracts::describe(error.as_ref())),
    };
    instance.install(&worker);
    if stop.phase() == StopPhase::Force {
        return AttemptEnd::Dropped;
    }
    let started = tokio::select! {
        biased;
        started = worker.start(seed.into_context()) => started,
        () = stop.forced() => return AttemptEnd::Dropped,
    };
    let running = match started {
        Ok(running) => running,
        Err(error) => return AttemptEnd::NotStarted(plba_contracts::describe(&error)),
    };
    let _ = obituary.reports.send(Event::Ready(obituary.attempt));
    match running.into_future().await {
        Exit::Finished => AttemptEnd::Finished,
        Exit::Stopped => AttemptEnd::Stopped,
        Exit::Failed(error) => AttemptEnd::Failed(plba_contracts::describe(error.as_ref())),
    }
}

/// Calls foreign code that must not take the supervisor with it.
fn guarded<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    std::panic::catch_unwind(AssertUnwindSafe(call)).map_err(panic_message)
}

/// The message of a panic, for whatever it was raised with.
pub(crate) fn panic_message(payload: Box<dyn Any + Send>) -> String {
    let message = if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic with a payload that is no text".to_owned()
    };
    // A payload may panic in its own drop.
    let _ = std::panic::catch_unwind(AssertUnwindSafe(|| drop(payload)));
    message
}
