//! A change carried out: services, health contributors and workers become what their modules have registered, and only what
//! has to is touched. What is there is written down step by step, so that the way back is a change like any other, from
//! wherever the first one got to.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures_util::future::join_all;
use plba_contracts::describe;
use plba_contracts::health::{HealthContribution, HealthContributor};
use plba_contracts::services::{Build, ErasedService, ServiceError, ServiceKey, ServiceSource};
use plba_contracts::worker::WorkerDefinition;
use tracing::info;

use super::before::{Before, Rest, Runs, Started};
use super::plan::{Facts, Wanted, WorkerPlan};
use super::{Aside, ReplaceError, RunningModules};
use crate::TARGET;
use crate::blueprint::AssembledModule;
use crate::supervisor::{DefinitionChange, SlotState, SupervisionError, WorkerSupervisor, check_order};
use crate::tuning::{Held, PATIENCE, WorkerSettings};

/// A health contributor that is asked again and again.
pub(super) struct Watched {
    build: Build<Arc<dyn HealthContributor>>,
    asked_for: Arc<Mutex<HashSet<ServiceKey>>>,
}

/// Which way a change goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    There,
    Back,
}

impl RunningModules {
    /// Puts modules that were assembled anew in the place of what they were. Compared are their definitions, and those of
    /// all modules by the services that they have asked for:
    ///
    /// - A **service** stays that is [made from](plba_contracts::services::ServiceDefinition::made_from) the same and whose
    ///   own services stay. The others are closed, once the workers rest that hold them, and built anew.
    /// - A **worker** goes on that is [made from](WorkerDefinition::made_from) the same and whose services stay; in the number
    ///   of its instances, its restart policy, `stall_after` and interval it is adjusted meanwhile. The others drain and start
    ///   anew, new ones start, those that are registered no more drain and go.
    /// - **Endpoints** are replaced, and health contributors of modules that were assembled anew.
    ///
    /// What an operator has made of a worker stays: its number of instances, unless another one is configured, and its rest.
    ///
    /// # Errors
    /// The new parts don't fit together, or could not be built or started. Then what ran before runs again, as it was; what
    /// the change had not touched by then is not touched on the way back either.
    ///
    /// # Cancel safety
    /// A dropped call may leave modules between old and new; it is dropped only when the process stops.
    pub async fn replace(&mut self, changed: Vec<AssembledModule>) -> Result<(), ReplaceError> {
        self.aside = None;
        if changed.is_empty() {
            return Ok(());
        }
        let views = self.foundation.supervisor.snapshot();
        let before = Before::new(self.workers.values(), &views);
        let tables: Vec<String> = changed.iter().map(|module| module.table.clone()).collect();
        let old = self.exchange(changed);
        if let Err(message) = self.fits() {
            self.exchange(old);
            let message = format!("{message}; nothing was touched");
            return Err(ReplaceError {
                message,
                restored: self.rested.is_empty(),
            });
        }
        let Err(message) = self.become_wanted(&before, Way::There).await else {
            self.aside = Some(Aside { modules: old, before });
            self.try_again(&tables);
            return Ok(());
        };
        self.exchange(old);
        let again = self.become_wanted(&before, Way::Back).await;
        let message = match &again {
            Ok(()) => format!("{message}; the parts that ran before run again"),
            Err(again) => format!("{message}; the parts that ran before could not be started again: {again}"),
        };
        let restored = again.is_ok();
        Err(ReplaceError { message, restored })
    }

    /// Goes back to what there was before the latest [`replace`](Self::replace), because something else could not follow.
    /// Nothing happens when that has replaced nothing, or was taken back before.
    ///
    /// # Errors
    /// What ran before could not be started again.
    pub async fn take_back(&mut self) -> Result<(), ReplaceError> {
        let Some(Aside { modules, before }) = self.aside.take() else {
            return Ok(());
        };
        self.exchange(modules);
        let back = self.become_wanted(&before, Way::Back).await;
        back.map_err(|message| ReplaceError {
            message,
            restored: false,
        })
    }

    /// Puts modules in the place of those with the same tables, and gives those.
    fn exchange(&mut self, changed: Vec<AssembledModule>) -> Vec<AssembledModule> {
        let mut old = Vec::with_capacity(changed.len());
        for module in changed {
            match self.modules.iter_mut().find(|other| other.table == module.table) {
                Some(place) => old.push(std::mem::replace(place, module)),
                None => self.modules.push(module),
            }
        }
        old
    }

    /// Whether all that is registered fits together, as far as that can be told without touching anything.
    fn fits(&self) -> Result<(), String> {
        let differ = self.container.differences(&self.service_definitions());
        differ.map_err(|error| error.to_string())?;
        check_order(&self.worker_definitions()).map_err(|error| error.to_string())?;
        let endpoints = self.foundation.plane.fits(&self.endpoints());
        endpoints.map_err(|error| error.to_string())
    }

    async fn become_wanted(&mut self, before: &Before, way: Way) -> Result<(), String> {
        let services = self.service_definitions();
        let differ = self
            .container
            .differences(&services)
            .map_err(|error| error.to_string())?;
        let plan = self.plan(before, way, &differ);
        let told = told(&plan, differ.len());
        let contributions = self.health_to_build(&differ);
        self.rest(&plan.resting).await?;
        let container = Arc::clone(&self.container);
        self.on_workers(async move {
            container.put(services, &differ).await;
            container.build_all().await.map_err(|error| describe(&error))
        })
        .await?;
        self.watch(contributions).await?;
        let WorkerPlan {
            added,
            changed,
            removed,
            adjusted,
            ..
        } = plan;
        self.apply(before, way, added, changed, removed).await?;
        self.adjust(before, way, adjusted).await?;
        self.contribute()?;
        if way == Way::There {
            info!(target: TARGET, "{told}");
        }
        Ok(())
    }

    fn plan(&self, before: &Before, way: Way, differ: &HashSet<ServiceKey>) -> WorkerPlan {
        let wanted = self.worker_definitions().into_iter().map(|definition| match way {
            Way::There => Wanted::from(definition),
            // The same interval is shared by who has it; only what was written down then is as it was.
            Way::Back => before
                .own(&definition.name)
                .cloned()
                .unwrap_or_else(|| definition.into()),
        });
        let asked = self.foundation.supervisor.asked_for();
        let holds = asked
            .iter()
            .filter(|(_, keys)| keys.iter().any(|key| differ.contains(key)));
        let holds: HashSet<&str> = holds.map(|(name, _)| &**name).collect();
        let views = self.foundation.supervisor.snapshot();
        let finished = views.iter().filter(|view| view.state == SlotState::Finished);
        let finished: HashSet<&str> = finished.map(|view| view.name.as_str()).collect();
        let facts = |name: &str| Facts {
            holds: holds.contains(name),
            rested: self.rested.contains(name),
            finished: finished.contains(name),
        };
        let running = self.workers.iter().map(|(name, runs)| (name.clone(), runs.own.clone()));
        WorkerPlan::new(&running.collect(), wanted.collect(), facts)
    }

    /// Lets workers drain that hold what goes. One that can't be told to is no longer there, or has stopped with the process.
    async fn rest(&mut self, layers: &[Vec<String>]) -> Result<(), String> {
        for layer in layers {
            self.rested.extend(layer.iter().cloned());
            let (supervisor, names) = (self.foundation.supervisor.clone(), layer.clone());
            self.on_workers(async move {
                let rests = join_all(names.iter().map(|name| supervisor.pause(name))).await;
                match rests.into_iter().find(|rest| *rest == Err(SupervisionError::Stopped)) {
                    Some(Err(stopped)) => Err(describe(&stopped)),
                    _ => Ok(()),
                }
            })
            .await?;
        }
        Ok(())
    }

    async fn apply(
        &mut self,
        before: &Before,
        way: Way,
        added: Vec<Wanted>,
        changed: Vec<Wanted>,
        removed: Vec<String>,
    ) -> Result<(), String> {
        if added.is_empty() && changed.is_empty() && removed.is_empty() {
            return Ok(());
        }
        let (mut starting, mut held) = (Vec::new(), Vec::new());
        let mut start = |wanted: Vec<Wanted>| -> Vec<WorkerDefinition> {
            let definitions = wanted.into_iter().map(|wanted| {
                let (runs, mut definition, rest) = self.settled(before, way, wanted);
                if let Some(until) = rest {
                    held.push(Held::new(&mut definition, until));
                }
                starting.push((runs.own.name.clone(), runs));
                definition
            });
            definitions.collect()
        };
        let change = DefinitionChange {
            added: start(added),
            removed: removed.clone(),
            changed: start(changed),
        };
        let (supervisor, services) = (self.foundation.supervisor.clone(), self.container.services());
        let applying = self.on_workers(async move {
            let applied = supervisor.apply(change, services).await;
            for held in held {
                // Whether it rests matters only where it has started at all.
                let _ = held.rest(&supervisor).await;
            }
            Ok(applied)
        });
        let (stands, applied) = match applying.await? {
            // An operator wanted something else of one of them meanwhile, and has got it.
            Ok(()) | Err(SupervisionError::Overtaken) => (true, Ok(())),
            Err(error @ SupervisionError::NotStarted { .. }) => (true, Err(describe(&error))),
            Err(error) => (false, Err(describe(&error))),
        };
        if stands {
            self.workers.retain(|name, _| !removed.contains(name));
            self.workers.extend(starting);
            self.rested.clear();
        }
        applied
    }

    /// As what a worker that starts is written down, as what it starts, and whether it is to rest.
    fn settled(&self, before: &Before, way: Way, wanted: Wanted) -> (Runs, WorkerDefinition, Option<Rest>) {
        let Wanted {
            definition: mut own,
            live,
        } = wanted;
        live.put_into(&mut own);
        let set = self.set_of(before, way, &own.name);
        let running = self.workers.get(&own.name);
        if !running.is_some_and(|runs| runs.own.build.is_same(&own.build)) {
            set.pace(&own);
        }
        let is_to_rest = set.paused == Some(true);
        let runs = Runs::new(own, set);
        let Started { definition, rest } = before.follow(runs.settled());
        (runs, definition, rest.or(is_to_rest.then_some(None)))
    }

    /// What is set of a worker in the configuration; on the way back, what was.
    fn set_of(&self, before: &Before, way: Way, name: &str) -> WorkerSettings {
        let was = before.set(name).filter(|_| way == Way::Back);
        was.cloned().unwrap_or_else(|| self.foundation.tuning.of(name))
    }

    /// Makes workers that go on as they are wanted.
    async fn adjust(&mut self, before: &Before, way: Way, adjusted: Vec<Wanted>) -> Result<(), String> {
        for Wanted { definition, live } in adjusted {
            let set = self.set_of(before, way, &definition.name);
            let Some(runs) = self.workers.get_mut(&definition.name) else {
                continue;
            };
            let was = runs.settled();
            live.put_into(&mut runs.own);
            runs.set(set);
            let settled = runs.settled();
            let slots = before.follow(settled.clone()).definition.concurrency;
            let supervisor = self.foundation.supervisor.clone();
            self.on_workers(adjust_one(supervisor, was, settled, slots)).await?;
        }
        Ok(())
    }

    /// Which contributors have to be built anew; they and those that go are not asked any more.
    fn health_to_build(&mut self, differ: &HashSet<ServiceKey>) -> Vec<HealthContribution> {
        let mut wanted = self.contributions();
        let names: HashSet<String> = wanted.iter().map(|contribution| contribution.name.clone()).collect();
        wanted.retain(|contribution| {
            let stays = |watched: &Watched| {
                watched.build.is_same(&contribution.build) && watched.asked_for().is_disjoint(differ)
            };
            !self.watched.get(&contribution.name).is_some_and(stays)
        });
        let anew: Vec<String> = wanted.iter().map(|contribution| contribution.name.clone()).collect();
        self.foundation.health.hold(&anew);
        let gone = self.watched.keys().filter(|name| !names.contains(*name)).cloned();
        let gone: Vec<String> = gone.collect();
        self.foundation.health.forget(&gone);
        for name in anew.iter().chain(&gone) {
            self.watched.remove(name);
        }
        wanted
    }

    /// Builds these contributors, and asks them from now on.
    pub(super) async fn watch(&mut self, contributions: Vec<HealthContribution>) -> Result<(), String> {
        if contributions.is_empty() && !self.watched.is_empty() {
            return Ok(());
        }
        let (mut watched, mut noting) = (Vec::new(), Vec::new());
        for contribution in contributions {
            let asked_for = Arc::<Mutex<HashSet<ServiceKey>>>::default();
            let (build, note) = (contribution.build.clone(), Arc::clone(&asked_for));
            let name = contribution.name.clone();
            noting.push(HealthContribution {
                build: Build::new(move |services| {
                    let note = Arc::clone(&note);
                    build.call(services.behind(|others| Arc::new(Noting { others, note })))
                }),
                ..contribution.clone()
            });
            let build = contribution.build;
            watched.push((name, Watched { build, asked_for }));
        }
        let (health, services) = (self.foundation.health.clone(), self.container.services());
        self.on_workers(async move {
            let watching = health.watch(noting, &services).await;
            watching.map_err(|error| describe(error.as_ref()))
        })
        .await?;
        self.watched.extend(watched);
        Ok(())
    }

    /// Whom it was given up to start is tried once more, which is what a reload is for as well; how that ends is its own affair.
    fn try_again(&self, tables: &[String]) {
        let modules = self.modules.iter().filter(|module| tables.contains(&module.table));
        let names: HashSet<&str> = modules
            .flat_map(|module| module.parts.workers.iter().map(|worker| worker.name.as_str()))
            .collect();
        for view in self.foundation.supervisor.snapshot() {
            if view.state == SlotState::GivenUp && names.contains(view.name.as_str()) {
                let supervisor = self.foundation.supervisor.clone();
                self.foundation
                    .workers
                    .spawn(async move { supervisor.restart(&view.name).await });
            }
        }
    }
}

/// Makes one worker as it is `settled` now, in what differs from how it was. What takes long goes on meanwhile.
async fn adjust_one(
    supervisor: WorkerSupervisor,
    was: WorkerDefinition,
    settled: WorkerDefinition,
    slots: u32,
) -> Result<(), String> {
    let name = settled.name.as_str();
    if was.stall_after != settled.stall_after {
        supervisor.set_stall_after(name, settled.stall_after);
    }
    if was.restart != settled.restart {
        let set = supervisor.set_restart(name, settled.restart.clone()).await;
        set.map_err(|error| describe(&error))?;
    }
    if was.concurrency != settled.concurrency {
        let scaled = tokio::time::timeout(PATIENCE, supervisor.scale(name, slots)).await;
        match scaled {
            Ok(Err(error)) if error != SupervisionError::Overtaken => return Err(describe(&error)),
            Ok(_) => {}
            Err(_) => {
                info!(target: TARGET, "{name} has as many instances as it is to have once what is in hand is finished")
            }
        }
    }
    Ok(())
}

impl Watched {
    fn asked_for(&self) -> MutexGuard<'_, HashSet<ServiceKey>> {
        self.asked_for.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Notes what is asked for.
struct Noting {
    others: Arc<dyn ServiceSource>,
    note: Arc<Mutex<HashSet<ServiceKey>>>,
}

#[async_trait]
impl ServiceSource for Noting {
    async fn resolve(&self, key: &ServiceKey, path: &[ServiceKey]) -> Result<ErasedService, ServiceError> {
        self.note
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key.clone());
        self.others.resolve(key, path).await
    }
}

/// What a change does, for the log.
fn told(plan: &WorkerPlan, services: usize) -> String {
    let names =
        |wanted: &[Wanted]| -> Vec<String> { wanted.iter().map(|wanted| wanted.definition.name.clone()).collect() };
    let groups = [
        ("start", names(&plan.added)),
        ("start anew", names(&plan.changed)),
        ("go on, adjusted", names(&plan.adjusted)),
        ("go", plan.removed.clone()),
    ];
    let groups = groups.iter().filter(|(_, names)| !names.is_empty());
    let mut parts: Vec<String> = groups
        .map(|(what, names)| format!("{} {what}", names.join(", ")))
        .collect();
    parts.push(format!("{} go on untouched", plan.kept));
    format!("workers: {}; services made anew: {services}", parts.join("; "))
}
