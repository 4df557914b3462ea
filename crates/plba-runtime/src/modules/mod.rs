//! The modules of a running process: their services, health contributors, workers and endpoints, started together, and what
//! they are once a reload has assembled some of them anew. What they consist of is the blueprint's.
//!
//! | file | what |
//! |---|---|
//! | `plan` | which workers a change touches, and how |
//! | `before` | how workers stood before a change |
//! | `change` | a change carried out, and the way back |

mod before;
mod change;
mod plan;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use plba_contracts::clock::Clock;
use plba_contracts::config::BeforeChange;
use plba_contracts::control::Endpoint;
use plba_contracts::describe;
use plba_contracts::health::HealthContribution;
use plba_contracts::metrics::Metrics;
use plba_contracts::services::ServiceDefinition;
use plba_contracts::trace::TraceFactory;
use plba_contracts::worker::WorkerDefinition;
use tokio::runtime::Handle;

use self::before::{Before, Runs};
use self::change::Watched;
use crate::blueprint::AssembledModule;
use crate::children::ChildProcesses;
use crate::control::ControlPlane;
use crate::health::HealthRegistry;
use crate::services::{Provided, ServiceContainer};
use crate::supervisor::WorkerSupervisor;
use crate::timeline::Timeline;
use crate::trace::TraceService;
use crate::tuning::{Held, Settings, Tuning, retune};

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
    container: Arc<ServiceContainer>,
    /// The workers that there are, by name, by the definitions that their instances are built from.
    workers: BTreeMap<String, Runs>,
    /// Those of them that a change has let rest and not started again.
    rested: BTreeSet<String>,
    /// The health contributors that there are.
    watched: BTreeMap<String, Watched>,
    /// What the latest change has put aside, for the way back.
    aside: Option<Aside>,
}

/// What a change has put aside.
struct Aside {
    modules: Vec<AssembledModule>,
    before: Before,
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
            workers: BTreeMap::new(),
            rested: BTreeSet::new(),
            watched: BTreeMap::new(),
            aside: None,
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

    /// Where they are served.
    pub(crate) fn plane(&self) -> &ControlPlane {
        &self.foundation.plane
    }

    /// Builds the services, asks the health contributors once, and starts the workers in dependency order.
    ///
    /// # Errors
    /// The first thing that did not work. What was built and started by then goes on until it is stopped and
    /// [closed](Self::close).
    pub async fn start(&mut self) -> Result<(), String> {
        let (mut definitions, mut held) = (Vec::new(), Vec::new());
        for own in self.worker_definitions() {
            let set = self.foundation.tuning.of(&own.name);
            set.pace(&own);
            let is_to_rest = set.paused == Some(true);
            let runs = Runs::new(own, set);
            let mut definition = runs.settled();
            if is_to_rest {
                held.push(Held::new(&mut definition, None));
            }
            definitions.push(definition);
            self.workers.insert(runs.own.name.clone(), runs);
        }
        let contributions = self.contributions();
        let (container, supervisor) = (Arc::clone(&self.container), self.foundation.supervisor.clone());
        let timeline = self.foundation.timeline.clone();
        timeline.step("services");
        self.on_workers(async move { container.build_all().await.map_err(|error| describe(&error)) })
            .await?;
        timeline.step("health");
        self.watch(contributions).await?;
        timeline.step("workers");
        let services = self.container.services();
        self.on_workers(async move {
            supervisor
                .start(definitions, services)
                .await
                .map_err(|error| describe(&error))?;
            for held in held {
                held.rest(&supervisor).await.map_err(|error| describe(&error))?;
            }
            Ok(())
        })
        .await
    }

    /// Closes the services, the last built one first.
    pub async fn close(&self) {
        let container = Arc::clone(&self.container);
        let closed = self.on_workers(async move {
            container.close_all().await;
            Ok(())
        });
        // The only error is that the executor is gone, and with it the services.
        let _ = closed.await;
    }

    /// Other settings of single workers count for what starts from now on; gives those that counted before.
    pub fn tune(&self, settings: Settings) -> Settings {
        self.foundation.tuning.set(settings)
    }

    /// Makes running workers as they are set now, in what is set otherwise than before.
    pub async fn retune(&mut self, before: &Settings, now: &Settings) {
        let workers = self.workers.values().map(|runs| runs.own.clone()).collect();
        retune(&self.foundation.supervisor, workers, before, now).await;
        for runs in self.workers.values_mut() {
            runs.set(self.foundation.tuning.of(&runs.own.name));
        }
    }

    fn service_definitions(&self) -> Vec<ServiceDefinition> {
        let modules = self.modules.iter();
        modules
            .flat_map(|module| module.parts.services.iter().cloned())
            .collect()
    }

    fn worker_definitions(&self) -> Vec<WorkerDefinition> {
        let modules = self.modules.iter();
        modules
            .flat_map(|module| module.parts.workers.iter().cloned())
            .collect()
    }

    fn contributions(&self) -> Vec<HealthContribution> {
        let modules = self.modules.iter();
        modules.flat_map(|module| module.parts.health.iter().cloned()).collect()
    }

    fn endpoints(&self) -> Vec<Endpoint> {
        let modules = self.modules.iter();
        modules
            .flat_map(|module| module.parts.endpoints.iter().cloned())
            .collect()
    }

    fn contribute(&self) -> Result<(), String> {
        let (services, workers) = (self.container.services(), self.foundation.workers.clone());
        self.foundation
            .plane
            .contribute(self.endpoints(), services, workers)
            .map_err(|error| error.to_string())
    }

    /// Runs something on the workers' executor, where what is built may spawn. Dropped, it is aborted there.
    async fn on_workers<T, F>(&self, work: F) -> Result<T, String>
    where
        F: Future<Output = Result<T, String>> + Send + 'static,
        T: Send + 'static,
    {
        let mut running = Aborted(self.foundation.workers.spawn(work));
        let done = (&mut running.0).await;
        done.unwrap_or_else(|broken| Err(format!("it was cut short: {broken}")))
    }
}

/// Aborts its task when it is dropped before the task's end: a start that a stop interrupts builds nothing more.
struct Aborted<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for Aborted<T> {
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
