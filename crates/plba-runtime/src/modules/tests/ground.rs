//! What the tests stand on: plans of modules that are easily written down, and a process that runs them.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use plba_contracts::BoxError;
use plba_contracts::application::{ApplicationModule, Assembly, Parts};
use plba_contracts::control::{Caller, ControlError, ControlSurface, Parameters, Role};
use plba_contracts::health::{Health, HealthContributor};
use plba_contracts::secret::Secret;
use plba_contracts::stop::StopHandle;
use plba_contracts::worker::{Exit, Pace, RestartPolicy, Running, StartError, Worker, WorkerContext, WorkerStatus};
use serde_json::{Value, json};

use super::super::*;
use crate::audit::AuditLog;
use crate::clock::SystemClock;
use crate::control::{ControlParts, Lifecycle};
use crate::supervisor::SlotState;
use crate::trace::TraceConfig;

/// A service that knows what it was made from.
pub(super) struct Thing {
    pub(super) from: String,
    pub(super) log: Log,
    pub(super) name: &'static str,
}

pub(super) type Log = Arc<Mutex<Vec<String>>>;

/// A worker that waits for its stop, with the things that it has asked for in its hands.
pub(super) struct Waits {
    pub(super) stop: StopHandle,
    pub(super) name: String,
    pub(super) log: Log,
    pub(super) fails: bool,
    pub(super) held: Mutex<Vec<Arc<Thing>>>,
}

#[async_trait]
impl Worker for Waits {
    async fn start(self: Arc<Self>, _context: WorkerContext) -> Result<Running, StartError> {
        if self.fails {
            return Err(StartError::new("the port is in use"));
        }
        Ok(Running::new(async move {
            let fails = format!("{} is to fail", self.name);
            let stop = self.stop.signal();
            while tokio::time::timeout(Duration::from_secs(1), stop.requested())
                .await
                .is_err()
            {
                let mut log = self.log.lock().unwrap();
                if let Some(place) = log.iter().position(|line| *line == fails) {
                    log.remove(place);
                    return Exit::Failed("it was told to".into());
                }
            }
            self.log.lock().unwrap().push(format!("{} rests", self.name));
            self.held.lock().unwrap().clear();
            Exit::Stopped
        }))
    }

    fn stop(&self, force: bool) {
        self.stop.stop(force);
    }

    fn health(&self) -> Health {
        Health::Ok
    }

    fn status(&self) -> WorkerStatus {
        WorkerStatus::default()
    }
}

pub(super) struct Nobody;

impl ApplicationModule for Nobody {
    fn name(&self) -> &str {
        "nobody"
    }

    fn assemble(&self, _: &mut Assembly) -> Result<(), BoxError> {
        Ok(())
    }
}

pub(super) struct Well;

#[async_trait]
impl HealthContributor for Well {
    async fn check(&self) -> Health {
        Health::Ok
    }
}

/// A module as a configuration describes it: what each of its parts is made from.
#[derive(Clone, Default)]
pub(super) struct Plan {
    pub(super) services: Vec<(&'static str, String, &'static [&'static str])>,
    pub(super) workers: Vec<Post>,
    pub(super) health: Vec<&'static str>,
    pub(super) endpoints: Vec<&'static str>,
    /// What can't be built or started.
    pub(super) broken: Option<&'static str>,
}

#[derive(Clone)]
pub(super) struct Post {
    pub(super) name: &'static str,
    /// Without it, it can't be compared.
    pub(super) from: Option<String>,
    pub(super) asks: &'static [&'static str],
    pub(super) concurrency: u32,
    pub(super) after: Vec<&'static str>,
    pub(super) interval: Option<u64>,
    pub(super) policy: RestartPolicy,
}

pub(super) fn post(name: &'static str, from: &str, asks: &'static [&'static str]) -> Post {
    Post {
        name,
        from: Some(from.to_owned()),
        asks,
        concurrency: 1,
        after: Vec::new(),
        interval: None,
        policy: RestartPolicy::Permanent,
    }
}

impl Plan {
    pub(super) fn assembled(&self, table: &str, log: &Log) -> AssembledModule {
        let breaks = |name| self.broken == Some(name);
        let parts = Parts {
            services: self
                .services
                .iter()
                .map(|(name, from, asks)| thing(name, from, asks, breaks(name), log))
                .collect(),
            workers: self
                .workers
                .iter()
                .map(|post| post.definition(breaks(post.name), log))
                .collect(),
            health: self
                .health
                .iter()
                .map(|name| contribution(name, breaks(name)))
                .collect(),
            endpoints: self.endpoints.iter().map(|name| endpoint(name)).collect(),
            ..Parts::default()
        };
        AssembledModule {
            module: Arc::new(Nobody),
            table: table.to_owned(),
            parts,
        }
    }
}

pub(super) fn thing(
    name: &'static str,
    from: &str,
    asks: &'static [&'static str],
    fails: bool,
    log: &Log,
) -> ServiceDefinition {
    let (text, log) = (from.to_owned(), Arc::clone(log));
    let thing = ServiceDefinition::new::<Thing, _, _>(move |services| {
        let (from, log) = (text.clone(), Arc::clone(&log));
        async move {
            for asked in asks {
                services.get_named::<Thing>(asked).await?;
            }
            match fails {
                true => Err("the disk is full".into()),
                false => Ok(Arc::new(Thing { from, log, name })),
            }
        }
    });
    let thing = thing.on_close::<Thing, _, _>(|thing| async move {
        thing.log.lock().unwrap().push(format!("{} closes", thing.name));
    });
    thing.named(name).made_from(&(from, fails))
}

impl Post {
    pub(super) fn definition(&self, fails: bool, log: &Log) -> WorkerDefinition {
        let (name, asks, log) = (self.name.to_owned(), self.asks, Arc::clone(log));
        let mut definition = WorkerDefinition::new(self.name, move |services| {
            let (name, log) = (name.clone(), Arc::clone(&log));
            async move {
                let mut held = Vec::new();
                for asked in asks {
                    held.push(services.get_named::<Thing>(asked).await?);
                }
                let (stop, held) = (StopHandle::new(), Mutex::new(held));
                Ok(Arc::new(Waits {
                    stop,
                    name,
                    log,
                    fails,
                    held,
                }) as Arc<dyn Worker>)
            }
        })
        .concurrency(self.concurrency)
        .restart(self.policy);
        definition.after = self.after.iter().map(|&name| name.to_owned()).collect();
        definition.pace = self.interval.map(|seconds| Pace::every(Duration::from_secs(seconds)));
        match &self.from {
            Some(from) => definition.made_from(&(from, fails)),
            None => definition,
        }
    }
}

pub(super) fn contribution(name: &'static str, fails: bool) -> HealthContribution {
    HealthContribution::new(name, move |services| async move {
        let _ = services.get_named::<Thing>("store").await;
        match fails {
            true => Err("there is nobody to ask".into()),
            false => Ok(Arc::new(Well) as Arc<dyn HealthContributor>),
        }
    })
}

pub(super) fn endpoint(name: &'static str) -> Endpoint {
    Endpoint::view::<Value, _, _>(name, "what the store was made from", |services, _| async move {
        let store = services.get_named::<Thing>("store").await;
        Ok(json!(store.map_err(|error| ControlError::Failed(error.into()))?.from))
    })
}

pub(super) struct Process {
    pub(super) modules: RunningModules,
    pub(super) foundation: Foundation,
    pub(super) log: Log,
}

impl Process {
    pub(super) async fn start(plans: &[(&str, Plan)]) -> Self {
        let (clock, log) = (Arc::new(SystemClock::new()), Log::default());
        let supervisor = WorkerSupervisor::new(clock.clone(), 7);
        let health = HealthRegistry::new(clock.clone(), Vec::new);
        let directory = std::env::temp_dir().join(format!("plba-modules-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let plane = ControlPlane::new(ControlParts {
            lifecycle: Lifecycle::default(),
            clock: clock.clone(),
            token: Secret::from("right"),
            audit: AuditLog::open(&directory).unwrap(),
            live: Box::new(|| true),
            usable: Box::new(|| true),
            metrics: Metrics::default(),
            own: vec![endpoint("workers")],
        });
        let foundation = Foundation {
            clock: clock.clone(),
            workers: Handle::current(),
            supervisor,
            health,
            plane,
            traces: TraceService::new(&TraceConfig::default(), clock.clone(), 7, Vec::new()).0,
            metrics: Metrics::default(),
            tuning: Tuning::default(),
            timeline: Timeline::new(clock),
        };
        let assembled = plans.iter().map(|(table, plan)| plan.assembled(table, &log));
        let mut modules = RunningModules::new(assembled.collect(), foundation.clone()).unwrap();
        modules.start().await.unwrap();
        Self {
            modules,
            foundation,
            log,
        }
    }

    pub(super) async fn replace(&mut self, table: &str, plan: &Plan) -> Result<(), ReplaceError> {
        let assembled = plan.assembled(table, &self.log);
        self.modules.replace(vec![assembled]).await
    }

    /// Name, instances, and the latest attempt's number and start of each.
    pub(super) fn workers(&self) -> BTreeMap<String, Vec<(SlotState, u64, jiff::Timestamp)>> {
        let views = self.foundation.supervisor.snapshot().into_iter();
        let slots = views.map(|view| {
            let slots = view.slots.iter().map(|slot| (slot.state, slot.incarnation, slot.since));
            (view.name, slots.collect())
        });
        slots.collect()
    }

    pub(super) fn incarnations(&self) -> BTreeMap<String, Vec<u64>> {
        let of = |slots: Vec<(SlotState, u64, jiff::Timestamp)>| slots.into_iter().map(|slot| slot.1).collect();
        self.workers()
            .into_iter()
            .map(|(name, slots)| (name, of(slots)))
            .collect()
    }

    pub(super) async fn made_from(&self, name: &str) -> Option<String> {
        let thing = self.modules.container.services().get_named::<Thing>(name).await;
        thing.ok().map(|thing| thing.from.clone())
    }

    pub(super) async fn ask(&self, view: &str) -> Option<Value> {
        let caller = Caller {
            name: "test".into(),
            role: Role::Admin,
        };
        let answer = self.foundation.plane.call(&caller, view, false, Parameters::default());
        answer.await.ok()
    }

    /// All that must be as it was when a change has not got through.
    pub(super) async fn state(&self, names: &[&str], views: &[&str]) -> Vec<String> {
        let mut state: Vec<String> = Vec::new();
        for (name, slots) in self.workers() {
            let states: Vec<SlotState> = slots.iter().map(|slot| slot.0).collect();
            let runs = &self.modules.workers[&name];
            let (own, settled) = (&runs.own, runs.settled());
            state.push(format!(
                "{name} {states:?} {} {:?} {:?} {:?} {:?}",
                own.concurrency,
                settled.concurrency,
                settled.restart.policy,
                own.pace.as_ref().map(Pace::interval),
                own.made_from
            ));
        }
        for name in names {
            state.push(format!("{name} {:?}", self.made_from(name).await));
        }
        for view in views {
            state.push(format!("{view} {:?}", self.ask(view).await));
        }
        let parts = self.foundation.health.report().parts;
        state.extend(parts.into_iter().map(|part| format!("{} {:?}", part.name, part.health)));
        state
    }
}

pub(super) fn shop() -> Plan {
    Plan {
        services: vec![
            ("store", "orders.db".into(), &[]),
            ("desk", "profiles".into(), &["store"]),
            ("box", "first".into(), &[]),
        ],
        workers: vec![
            post("orders", "", &["desk"]),
            Post {
                after: vec!["orders"],
                ..post("mail", "first", &["box"])
            },
            Post {
                interval: Some(60),
                ..post("retention", "", &["store"])
            },
        ],
        health: vec!["disk"],
        endpoints: vec!["shop"],
        broken: None,
    }
}
