//! What all workers that take tasks from a queue have in common: how they are defined, who they are for the queue, and what
//! they do while no tasks can be had. What they do with tasks is theirs.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use plba_contracts::BoxError;
use plba_contracts::services::Services;
use plba_contracts::stop::StopSignal;
use plba_contracts::trace::TraceFactory;
use plba_contracts::worker::{Worker, WorkerContext, WorkerDefinition};

use super::vitals::Vitals;
use crate::queue::{ConsumerId, Incarnation, QueueError, TaskQueue};
use crate::task::QueueName;

/// For how long an instance may be busy beyond the time-out of its handler before it counts as hung: a handler that takes
/// too long is dropped at its time-out.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the settings of every such worker say.
#[derive(Clone)]
pub(crate) struct Common {
    pub(crate) queue_name: QueueName,
    /// The name of the queue's service; `None` for the only one.
    pub(crate) queue_service: Option<String>,
    /// The handler's.
    pub(crate) timeout: Duration,
    /// All settings and the queue, as a text by which others are told from them.
    pub(crate) settings: String,
    /// What is wrong with the settings, which is told when the worker is built.
    pub(crate) valid: Result<(), String>,
}

/// What an instance is made of, besides its settings.
pub(crate) struct Parts<H: ?Sized> {
    pub(crate) queue: Arc<dyn TaskQueue>,
    pub(crate) queue_name: QueueName,
    pub(crate) handler: Arc<H>,
    /// Without a trace service, follow-ups carry the context that their task came with.
    pub(crate) traces: Option<Arc<dyn TraceFactory>>,
}

/// A definition whose instances are made by `make`, each with a handler of its own.
pub(crate) fn definition<H, F, Fut, M>(name: String, common: Common, handler: F, make: M) -> WorkerDefinition
where
    H: ?Sized + Send + Sync + 'static,
    F: Fn(Services) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<Arc<H>, BoxError>> + Send + 'static,
    M: Fn(Parts<H>) -> Arc<dyn Worker> + Clone + Send + Sync + 'static,
{
    let (stall_after, settings) = (common.timeout + PATIENCE, common.settings.clone());
    let build = move |services: Services| {
        let (common, handler, make) = (common.clone(), handler.clone(), make.clone());
        async move {
            common.valid?;
            let parts = Parts {
                queue: queue_of(&services, common.queue_service.as_deref()).await?,
                queue_name: common.queue_name,
                traces: services.get::<dyn TraceFactory>().await.ok(),
                handler: handler(services).await?,
            };
            Ok(make(parts))
        }
    };
    let mut definition = WorkerDefinition::new(name, build).stall_after(stall_after);
    definition.made_from.detail(settings);
    definition
}

/// The queue that is registered under this name, or the only one.
pub(crate) async fn queue_of(services: &Services, name: Option<&str>) -> Result<Arc<dyn TaskQueue>, BoxError> {
    Ok(match name {
        Some(name) => services.get_named::<dyn TaskQueue>(name).await?,
        None => services.get::<dyn TaskQueue>().await?,
    })
}

/// An instance's own source of randomness, and who it is for the queue.
pub(crate) fn identity(seed: Option<u64>, context: &WorkerContext) -> (fastrand::Rng, ConsumerId) {
    let mut random = seed.map_or_else(fastrand::Rng::new, |seed| {
        fastrand::Rng::with_seed(seed.wrapping_add(u64::from(context.slot)))
    });
    let incarnation = Incarnation::of_this_process(random.u64(..));
    let consumer = ConsumerId::new(incarnation, format!("{}#{}", context.name, context.slot));
    (random, consumer)
}

/// No tasks can be had: says so, and waits.
pub(crate) async fn hindered(
    error: &QueueError,
    queue: &QueueName,
    vitals: &Vitals,
    context: &WorkerContext,
    stop: &StopSignal,
    pause: Duration,
) {
    let reason = plba_contracts::describe(error);
    tracing::warn!(worker = %context.name, %queue, error = %reason, "no tasks can be had");
    vitals.hindered(context.clock.now(), reason);
    tokio::select! {
        () = stop.requested() => {}
        () = tokio::time::sleep(pause) => {}
    }
}
