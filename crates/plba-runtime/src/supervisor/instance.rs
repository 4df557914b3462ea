//! One attempt of one instance, from its factory to its end, on a task of its own. It reports twice: when it is ready
//! and when nothing of it is left. When it is started and stopped is decided elsewhere.

use std::any::Any;
use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock, PoisonError, Weak};
use std::task::Poll;

use futures_util::FutureExt;
use plba_contracts::health::Health;
use plba_contracts::services::{Build, ServiceKey, Services};
use plba_contracts::stop::StopPhase;
use plba_contracts::worker::{Activity, Exit, Running, Worker, WorkerContext, WorkerStatus};

use super::board::Record;
use super::machine::protocol::{Attempt, Event};
use super::race::Race;
use super::view::AttemptEnd;
use crate::children::{Host, InstanceServices, Registry};
use crate::sync::atomic::{AtomicU8, Ordering};
use crate::sync::channel::UnboundedSender;
use crate::sync::{AbortHandle, AtomicWaker, Mutex, MutexGuard, planted};

/// What is shared between the attempt's task, the driver, the watchdog and status.
pub(super) struct Instance {
    pub(super) attempt: Attempt,
    pub(super) activity: Activity,
    /// The span around the attempt, below which the instance's own are.
    pub(super) span: Option<tracing::Id>,
    record: Arc<Record>,
    reports: UnboundedSender<Event>,
    children: Arc<Registry>,
    /// How far its stop has gone, for as long as there is no worker to tell.
    stop: AtomicU8,
    /// The attempt's task, while it waits for the worker to be built or started.
    beginning: AtomicWaker,
    worker: Mutex<Option<Arc<dyn Worker>>>,
    task: OnceLock<AbortHandle>,
}

impl Instance {
    pub(super) fn new(
        attempt: Attempt,
        activity: Activity,
        span: Option<tracing::Id>,
        record: Arc<Record>,
        reports: UnboundedSender<Event>,
        children: Arc<Registry>,
    ) -> Self {
        Self {
            attempt,
            activity,
            span,
            record,
            reports,
            children,
            stop: AtomicU8::new(StopPhase::Running as u8),
            beginning: AtomicWaker::new(),
            worker: Mutex::new(None),
            task: OnceLock::new(),
        }
    }

    /// Says by what the attempt can be dropped.
    pub(super) fn runs_as(&self, task: AbortHandle) {
        // There is one task for each attempt.
        let _ = self.task.set(task);
    }

    /// Drops the attempt wherever it is.
    pub(super) fn abort(&self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }

    /// Passes a stop on, also to an instance that is still being built.
    pub(super) fn signal(&self, force: bool) {
        let phase = if force { StopPhase::Force } else { StopPhase::Graceful };
        self.stop.fetch_max(phase as u8, Ordering::AcqRel);
        self.beginning.wake();
        if let Some(worker) = self.worker() {
            stop(&worker, force);
        }
        if force {
            self.end_children();
        }
    }

    /// Whatever became of the handles on them: nothing that it started outlives an instance, and it starts no more.
    fn end_children(&self) {
        self.stop.fetch_max(StopPhase::Force as u8, Ordering::AcqRel);
        let Attempt { key, number } = self.attempt;
        self.children.end_of(&self.record.name, key.slot, number);
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
        if planted(Race::StopUnseenAtInstall) {
            return;
        }
        for (phase, force) in [(StopPhase::Force, true), (StopPhase::Graceful, false)] {
            if self.is_stopping(phase) {
                return stop(worker, force);
            }
        }
    }

    fn is_stopping(&self, phase: StopPhase) -> bool {
        self.stop.load(Ordering::Acquire) >= phase as u8
    }

    /// Resolves once a stop has gone this far. Only the attempt's own task may wait.
    async fn stopping(&self, phase: StopPhase) {
        poll_fn(|context| {
            let seen_before = planted(Race::WakerLeftTooLate).then(|| self.is_stopping(phase));
            self.beginning.register(context.waker());
            match seen_before.unwrap_or_else(|| self.is_stopping(phase)) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }

    fn worker(&self) -> Option<Arc<dyn Worker>> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<dyn Worker>>> {
        self.worker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Host for Instance {
    fn owner(&self) -> (Arc<str>, u32, u64) {
        let Attempt { key, number } = self.attempt;
        (Arc::clone(&self.record.name), key.slot, number)
    }

    fn may_start(&self) -> bool {
        !self.is_stopping(StopPhase::Force)
    }

    fn asked_for(&self, key: &ServiceKey) {
        self.record.asked_for(key);
    }
}

fn stop(worker: &Arc<dyn Worker>, force: bool) {
    if let Err(message) = guarded(|| worker.stop(force)) {
        tracing::warn!("a worker's `stop` panicked: {message}");
    }
}

/// Reports the end of an attempt, at the latest when it is dropped, however that comes about: by returning, by a panic,
/// by abort or with the executor.
pub(super) struct Obituary(Option<Arc<Instance>>);

impl Obituary {
    pub(super) fn new(instance: Arc<Instance>) -> Self {
        Self(Some(instance))
    }

    fn report(&mut self, end: AttemptEnd) {
        let Some(instance) = self.0.take() else { return };
        let slot = instance.attempt.key.slot;
        instance.record.absorb(slot, instance.attempt.number, instance.status());
        let (attempt, reports) = (instance.attempt, &instance.reports);
        if planted(Race::EndToldTooEarly) {
            let _ = reports.send(Event::Ended(attempt, end));
            return;
        }
        let worker = instance.lock().take();
        if let Err(message) = guarded(|| drop(worker)) {
            tracing::warn!("a worker panicked while it was dropped: {message}");
        }
        instance.end_children();
        // Nobody listens any more when the supervisor itself is gone.
        let _ = reports.send(Event::Ended(attempt, end));
    }
}

impl Drop for Obituary {
    fn drop(&mut self) {
        self.report(AttemptEnd::Dropped);
    }
}

/// What an attempt is begun with.
pub(super) struct Seed {
    pub(super) build: Build<Arc<dyn Worker>>,
    pub(super) services: Arc<Services>,
    pub(super) context: WorkerContext,
}

/// Runs the attempt to its end.
///
/// # Cancel safety
/// A dropped attempt is reported as dropped.
pub(super) async fn run(mut obituary: Obituary, seed: Box<Seed>) {
    let Some(instance) = &obituary.0 else { return };
    let end = match AssertUnwindSafe(live(instance, seed)).catch_unwind().await {
        Ok(end) => end,
        Err(payload) => AttemptEnd::Panicked(panic_message(payload)),
    };
    obituary.report(end);
}

async fn live(instance: &Arc<Instance>, seed: Box<Seed>) -> AttemptEnd {
    // Boxed, or the attempt's task would keep the space for it until the end.
    let running = match Box::pin(begin(instance, seed)).await {
        Ok(running) => running,
        Err(end) => return end,
    };
    let _ = instance.reports.send(Event::Ready(instance.attempt));
    match running.into_future().await {
        Exit::Finished => AttemptEnd::Finished,
        Exit::Stopped => AttemptEnd::Stopped,
        Exit::Failed(error) => AttemptEnd::Failed(plba_contracts::describe(error.as_ref())),
    }
}

async fn begin(instance: &Arc<Instance>, seed: Box<Seed>) -> Result<Running, AttemptEnd> {
    let seed = *seed;
    // There is nobody yet who could finish anything, so a graceful stop is enough to leave off.
    if instance.is_stopping(StopPhase::Graceful) {
        return Err(AttemptEnd::Stopped);
    }
    let built = tokio::select! {
        biased;
        built = seed.build.call(own_services(instance, &seed.services)) => built,
        () = instance.stopping(StopPhase::Graceful) => return Err(AttemptEnd::Stopped),
    };
    let worker = built.map_err(|error| AttemptEnd::NotBuilt(plba_contracts::describe(error.as_ref())))?;
    instance.install(&worker);
    if instance.is_stopping(StopPhase::Force) {
        return Err(AttemptEnd::Dropped);
    }
    let started = tokio::select! {
        biased;
        started = worker.start(seed.context) => started,
        () = instance.stopping(StopPhase::Force) => return Err(AttemptEnd::Dropped),
    };
    started.map_err(|error| AttemptEnd::NotStarted(plba_contracts::describe(&error)))
}

/// All services, and before them those of this instance alone. Whoever asks for none keeps none of it.
fn own_services(instance: &Arc<Instance>, services: &Services) -> Services {
    services.behind(|others| {
        Arc::new(InstanceServices {
            others,
            registry: Arc::clone(&instance.children),
            host: Arc::downgrade(instance) as Weak<dyn Host>,
        })
    })
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
