//! The modules of a running process: their services, health contributors, workers and endpoints, started together and
//! replaced module by module when a reload has assembled one anew. What they consist of is the blueprint's.

use std::sync::Arc;

use plba_contracts::clock::Clock;
use plba_contracts::config::BeforeChange;
use plba_contracts::control::Endpoint;
use plba_contracts::describe;
use plba_contracts::metrics::Metrics;
use plba_contracts::services::ServiceKey;
use plba_contracts::trace::TraceFactory;
use plba_contracts::worker::WorkerDefinition;
use tokio::runtime::Handle;

use crate::blueprint::AssembledModule;
use crate::children::ChildProcesses;
use crate::control::ControlPlane;
use crate::health::HealthRegistry;
use crate::services::{Provided, ServiceContainer};
use crate::supervisor::{DefinitionChange, WorkerSupervisor};
use crate::timeline::Timeline;
use crate::trace::TraceService;
use crate::tuning::{Settings, Tuning, retune};

/// What modules stand on.
#[derive(Clone)]
pub struct Foundation {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The workers' executor, on which services are built and contributed endpoints answer.
    pub workers: Handle,
    /// Supervises workers.
    pub supervisor: WorkerSupervisor,
    /// Collects health.
    pub health: HealthRegistry,
    /// Serves endpoints.
    pub plane: ControlPlane,
    /// Gives trace contexts.
    pub traces: TraceService,
    /// What there is to measure.
    pub metrics: Metrics,
    /// What operators have set of single workers.
    pub tuning: Tuning,
    /// Keeps how long each step of the start takes.
    pub timeline: Timeline,
}

/// The modules of this process.
pub struct RunningModules {
    foundation: Foundation,
    modules: Vec<AssembledModule>,
    /// Where services are asked for.
    container: Arc<ServiceContainer>,
    /// Containers from before reloads that still hold services of modules which were not touched, oldest first.
    earlier: Vec<Arc<ServiceContainer>>,
}

/// Modules could not be replaced.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ReplaceError {
    /// What happened.
    pub message: String,
    /// Whether what ran before runs again.
    pub restored: bool,
}

impl RunningModules {
    /// Puts the modules together: services sealed, endpoints served. Nothing is built yet.
    ///
    /// # Errors
    /// Two modules register the same service or the same endpoint.
    pub fn new(modules: Vec<AssembledModule>, foundation: Foundation) -> Result<Self, String> {
        let definitions = modules
            .iter()
            .flat_map(|module| module.parts.services.iter().cloned())
            .collect();
        let container = ServiceContainer::new(definitions, foundation.provided()).map_err(|error| error.to_string())?;
        let running = Self {
            foundation,
            modules,
            container: Arc::new(container),
            earlier: Vec::new(),
        };
        running.contribute()?;
        Ok(running)
    }

    /// Sentences for a person who watches the start.
    pub fn greetings(&self) -> impl Iterator<Item = &str> {
        self.modules
            .iter()
            .flat_map(|module| module.parts.greetings.iter().map(String::as_str))
    }

    /// Those of the running modules who are asked before their section changes.
    pub fn before_change(&self) -> impl Iterator<Item = &BeforeChange> {
        self.modules.iter().flat_map(|module| &module.parts.before_change)
    }

    /// Builds the services, asks the health contributors once, and starts the workers in dependency order.
    ///
    /// # Errors
    /// The first thing that did not work. What was built and started by then goes on until it is stopped and
    /// [closed](Self::close).
    pub async fn start(&self) -> Result<(), String> {
        let workers = self
            .modules
            .iter()
            .flat_map(|module| module.parts.workers.iter().cloned())
            .map(|worker| self.foundation.tuning.settled(worker))
            .collect();
        let tuning = self.foundation.tuning.clone();
        let container = Arc::clone(&self.container);
        let supervisor = self.foundation.supervisor.clone();
        let watch = self.watch(self.modules.iter().collect());
        let timeline = self.foundation.timeline.clone();
        self.on_workers(async move {
            timeline.step("services");
            container.build_all().await.map_err(|error| describe(&error))?;
            timeline.step("health");
            watch.await?;
            timeline.step("workers");
            supervisor
                .start(workers, container.services())
                .await
                .map_err(|error| describe(&error))?;
            tuning.rest(&supervisor).await.map_err(|error| describe(&error))
        })
        .await
    }

    /// Closes the services, the last built one first.
    pub async fn close(&self) {
        let newest_first: Vec<_> = std::iter::once(&self.container)
            .chain(self.earlier.iter().rev())
            .map(Arc::clone)
            .collect();
        let closed = self.on_workers(async move {
            for container in newest_first {
                container.close_all().await;
            }
            Ok(())
        });
        // The only error is that the executor is gone, and with it the services.
        let _ = closed.await;
    }

    /// Puts modules that were assembled anew in the place of what they were: their workers drain, their services close,
    /// the new services are built and the new workers start. Modules that are not named are not touched.
    ///
    /// # Errors
    /// The new parts could not be built or started; then the old ones run again, built anew, if they can.
    pub async fn replace(&mut self, changed: Vec<AssembledModule>) -> Result<(), ReplaceError> {
        let Err((message, old)) = self.swap(changed).await else {
            return Ok(());
        };
        let again = self.swap(old).await.map_err(|(again, _)| again);
        let message = match &again {
            Ok(()) => format!("{message}; the parts that ran before run again"),
            Err(again) => format!("{message}; the parts that ran before could not be started again: {again}"),
        };
        let restored = again.is_ok();
        Err(ReplaceError { message, restored })
    }

    /// Other settings of single workers count for what starts from now on; gives those that counted before.
    pub fn tune(&self, settings: Settings) -> Settings {
        self.foundation.tuning.set(settings)
    }

    /// Makes running workers as they are set now, in what is set otherwise than before.
    pub async fn retune(&self, before: &Settings, now: &Settings) {
        let workers = self
            .modules
            .iter()
            .flat_map(|module| module.parts.workers.iter().cloned());
        retune(&self.foundation.supervisor, workers.collect(), before, now).await;
    }

    /// On error gives what stood there before.
    async fn swap(&mut self, changed: Vec<AssembledModule>) -> Result<(), (String, Vec<AssembledModule>)> {
        let tables: Vec<String> = changed.iter().map(|module| module.table.clone()).collect();
        let touched = |module: &AssembledModule| tables.contains(&module.table);
        let (old, kept): (Vec<_>, Vec<_>) = self.modules.drain(..).partition(touched);
        self.modules = kept;
        self.remove(&old).await;

        let kept_keys: Vec<ServiceKey> = keys(&self.modules).collect();
        let provided = self.foundation.provided().carried_over(&self.container, kept_keys);
        let definitions = changed
            .iter()
            .flat_map(|module| module.parts.services.iter().cloned())
            .collect();
        let workers: Vec<WorkerDefinition> = changed
            .iter()
            .flat_map(|module| module.parts.workers.iter().cloned())
            .map(|worker| self.foundation.tuning.settled(worker))
            .collect();
        let tuning = self.foundation.tuning.clone();
        let container = match ServiceContainer::new(definitions, provided) {
            Ok(container) => Arc::new(container),
            Err(error) => return Err((error.to_string(), old)),
        };
        self.earlier
            .push(std::mem::replace(&mut self.container, Arc::clone(&container)));
        self.earlier.retain(|earlier| earlier.holds_any());
        let watch = self.watch(changed.iter().collect());
        self.modules.extend(changed);
        let supervisor = self.foundation.supervisor.clone();
        let started = self.on_workers(async move {
            container.build_all().await.map_err(|error| describe(&error))?;
            watch.await?;
            let change = DefinitionChange {
                added: workers,
                ..DefinitionChange::default()
            };
            supervisor
                .apply(change, container.services())
                .await
                .map_err(|error| describe(&error))?;
            tuning.rest(&supervisor).await.map_err(|error| describe(&error))
        });
        match started.await.and_then(|()| self.contribute()) {
            Ok(()) => Ok(()),
            Err(message) => Err((message, old)),
        }
    }

    async fn remove(&self, old: &[AssembledModule]) {
        let removed = old
            .iter()
            .flat_map(|module| module.parts.workers.iter().map(|worker| worker.name.clone()));
        let change = DefinitionChange {
            removed: removed.collect(),
            ..DefinitionChange::default()
        };
        let checks: Vec<String> = old
            .iter()
            .flat_map(|module| module.parts.health.iter().map(|check| check.name.clone()))
            .collect();
        self.foundation.health.forget(&checks);
        let closing: Vec<ServiceKey> = keys(old).collect();
        let supervisor = self.foundation.supervisor.clone();
        let containers: Vec<_> = std::iter::once(&self.container)
            .chain(&self.earlier)
            .map(Arc::clone)
            .collect();
        let services = self.container.services();
        let removed = self.on_workers(async move {
            // Workers that never came to be (a start that failed half-way) are not there to be removed.
            let _ = supervisor.apply(change, services).await;
            for container in containers {
                container.close(|key| closing.contains(key)).await;
            }
            Ok(())
        });
        let _ = removed.await;
    }

    fn watch(
        &self,
        modules: Vec<&AssembledModule>,
    ) -> impl Future<Output = Result<(), String>> + Send + 'static + use<> {
        let contributions = modules
            .iter()
            .flat_map(|module| module.parts.health.iter().cloned())
            .collect();
        let (health, services) = (self.foundation.health.clone(), self.container.services());
        async move {
            health
                .watch(contributions, &services)
                .await
                .map_err(|error| describe(error.as_ref()))
        }
    }

    fn contribute(&self) -> Result<(), String> {
        let endpoints: Vec<Endpoint> = self
            .modules
            .iter()
            .flat_map(|module| module.parts.endpoints.iter().cloned())
            .collect();
        let (services, workers) = (self.container.services(), self.foundation.workers.clone());
        self.foundation
            .plane
            .contribute(endpoints, services, workers)
            .map_err(|error| error.to_string())
    }

    /// Runs something on the workers' executor, where what is built may spawn. Dropped, it is aborted there.
    async fn on_workers<F>(&self, work: F) -> Result<(), String>
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        let mut running = Aborted(self.foundation.workers.spawn(work));
        let done = (&mut running.0).await;
        done.unwrap_or_else(|broken| Err(format!("it was cut short: {broken}")))
    }
}

/// Aborts its task when it is dropped before the task's end: a start that a stop interrupts builds nothing more.
struct Aborted(tokio::task::JoinHandle<Result<(), String>>);

impl Drop for Aborted {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Foundation {
    /// For what services start themselves: it is ended with the process.
    fn children(&self) -> ChildProcesses {
        ChildProcesses::new(Arc::clone(self.supervisor.children()), ("services".into(), 0, 1), None)
    }

    fn provided(&self) -> Provided {
        Provided::default()
            .with::<dyn Clock>(Arc::clone(&self.clock))
            .with::<dyn TraceFactory>(Arc::new(self.traces.clone()))
            .with::<Metrics>(Arc::new(self.metrics.clone()))
            .with::<ChildProcesses>(Arc::new(self.children()))
    }
}

fn keys(modules: &[AssembledModule]) -> impl Iterator<Item = ServiceKey> {
    modules
        .iter()
        .flat_map(|module| module.parts.services.iter().map(|service| service.key.clone()))
}
