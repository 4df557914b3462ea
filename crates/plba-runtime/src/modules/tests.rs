//! Modules replaced in a process without a configuration: what is touched, what is not, and that whatever does not get
//! through leaves everything as it was.

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

use super::*;
use crate::audit::AuditLog;
use crate::clock::SystemClock;
use crate::control::{ControlParts, Lifecycle};
use crate::supervisor::SlotState;
use crate::trace::TraceConfig;
use crate::tuning::WorkerSettings;

/// A service that knows what it was made from.
struct Thing {
    from: String,
    log: Log,
    name: &'static str,
}

type Log = Arc<Mutex<Vec<String>>>;

/// A worker that waits for its stop, with the things that it has asked for in its hands.
struct Waits {
    stop: StopHandle,
    name: String,
    log: Log,
    fails: bool,
    held: Mutex<Vec<Arc<Thing>>>,
}

#[async_trait]
impl Worker for Waits {
    async fn start(self: Arc<Self>, _context: WorkerContext) -> Result<Running, StartError> {
        if self.fails {
            return Err(StartError::new("the port is in use"));
        }
        Ok(Running::new(async move {
            self.stop.signal().requested().await;
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

struct Nobody;

impl ApplicationModule for Nobody {
    fn name(&self) -> &str {
        "nobody"
    }

    fn assemble(&self, _: &mut Assembly) -> Result<(), BoxError> {
        Ok(())
    }
}

struct Well;

#[async_trait]
impl HealthContributor for Well {
    async fn check(&self) -> Health {
        Health::Ok
    }
}

/// A module as a configuration describes it: what each of its parts is made from.
#[derive(Clone, Default)]
struct Plan {
    services: Vec<(&'static str, String, &'static [&'static str])>,
    workers: Vec<Post>,
    health: Vec<&'static str>,
    endpoints: Vec<&'static str>,
    /// What can't be built or started.
    broken: Option<&'static str>,
}

#[derive(Clone)]
struct Post {
    name: &'static str,
    /// Without it, it can't be compared.
    from: Option<String>,
    asks: &'static [&'static str],
    concurrency: u32,
    after: Vec<&'static str>,
    interval: Option<u64>,
    policy: RestartPolicy,
}

fn post(name: &'static str, from: &str, asks: &'static [&'static str]) -> Post {
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
    fn assembled(&self, table: &str, log: &Log) -> AssembledModule {
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

fn thing(name: &'static str, from: &str, asks: &'static [&'static str], fails: bool, log: &Log) -> ServiceDefinition {
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
    fn definition(&self, fails: bool, log: &Log) -> WorkerDefinition {
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

fn contribution(name: &'static str, fails: bool) -> HealthContribution {
    HealthContribution::new(name, move |services| async move {
        let _ = services.get_named::<Thing>("store").await;
        match fails {
            true => Err("there is nobody to ask".into()),
            false => Ok(Arc::new(Well) as Arc<dyn HealthContributor>),
        }
    })
}

fn endpoint(name: &'static str) -> Endpoint {
    Endpoint::view::<Value, _, _>(name, "what the store was made from", |services, _| async move {
        let store = services.get_named::<Thing>("store").await;
        Ok(json!(store.map_err(|error| ControlError::Failed(error.into()))?.from))
    })
}

struct Process {
    modules: RunningModules,
    foundation: Foundation,
    log: Log,
}

impl Process {
    async fn start(plans: &[(&str, Plan)]) -> Self {
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

    async fn replace(&mut self, table: &str, plan: &Plan) -> Result<(), ReplaceError> {
        let assembled = plan.assembled(table, &self.log);
        self.modules.replace(vec![assembled]).await
    }

    /// Name, instances, and the latest attempt's number and start of each.
    fn workers(&self) -> BTreeMap<String, Vec<(SlotState, u64, jiff::Timestamp)>> {
        let views = self.foundation.supervisor.snapshot().into_iter();
        let slots = views.map(|view| {
            let slots = view.slots.iter().map(|slot| (slot.state, slot.incarnation, slot.since));
            (view.name, slots.collect())
        });
        slots.collect()
    }

    fn incarnations(&self) -> BTreeMap<String, Vec<u64>> {
        let of = |slots: Vec<(SlotState, u64, jiff::Timestamp)>| slots.into_iter().map(|slot| slot.1).collect();
        self.workers()
            .into_iter()
            .map(|(name, slots)| (name, of(slots)))
            .collect()
    }

    async fn made_from(&self, name: &str) -> Option<String> {
        let thing = self.modules.container.services().get_named::<Thing>(name).await;
        thing.ok().map(|thing| thing.from.clone())
    }

    async fn ask(&self, view: &str) -> Option<Value> {
        let caller = Caller {
            name: "test".into(),
            role: Role::Admin,
        };
        let answer = self.foundation.plane.call(&caller, view, false, Parameters::default());
        answer.await.ok()
    }

    /// All that must be as it was when a change has not got through.
    async fn state(&self, names: &[&str], views: &[&str]) -> Vec<String> {
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

fn shop() -> Plan {
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

#[tokio::test(start_paused = true)]
async fn what_would_be_the_same_again_is_not_touched() {
    let mut process = Process::start(&[("shop", shop())]).await;
    let before = process.workers();
    tokio::time::sleep(Duration::from_secs(60)).await;

    // A second mailbox.
    let mut plan = shop();
    plan.services.push(("other", "second".into(), &[]));
    plan.workers.push(Post {
        after: vec!["orders"],
        ..post("mail-other", "second", &["other"])
    });
    process.replace("shop", &plan).await.unwrap();
    let mut now = process.workers();
    assert_eq!(now.remove("mail-other").unwrap()[0].1, 1);
    assert_eq!(now, before, "the same attempts, since the same time");
    assert!(process.log.lock().unwrap().is_empty(), "nothing has rested or closed");

    // More hands, another interval and other restarts, all while they go on.
    plan.workers[0].concurrency = 3;
    plan.workers[2].interval = Some(5);
    plan.workers[1].policy = RestartPolicy::Transient;
    process.replace("shop", &plan).await.unwrap();
    let now = process.workers();
    assert_eq!((&now["orders"][0], now["orders"].len()), (&before["orders"][0], 3));
    assert_eq!(
        (&now["mail"], &now["retention"]),
        (&before["mail"], &before["retention"])
    );
    let runs = &process.modules.workers;
    assert_eq!(
        runs["retention"].own.pace.as_ref().unwrap().interval(),
        Duration::from_secs(5)
    );
    assert_eq!(runs["mail"].settled().restart.policy, RestartPolicy::Transient);

    // Other profiles: who has asked for the desk starts anew, and rests before the desk closes.
    plan.services[1].1 = "other profiles".into();
    plan.workers.pop();
    process.replace("shop", &plan).await.unwrap();
    let incarnations = process.incarnations();
    assert_eq!(incarnations["orders"], [2, 2, 2]);
    assert_eq!(
        (&incarnations["mail"], &incarnations["retention"]),
        (&vec![1], &vec![1])
    );
    assert!(!incarnations.contains_key("mail-other"));
    let log = process.log.lock().unwrap().join(", ");
    assert_eq!(
        log,
        "orders rests, orders rests, orders rests, desk closes, mail-other rests"
    );
    assert_eq!(process.foundation.health.report().health, Health::Ok);
}

#[tokio::test(start_paused = true)]
async fn who_uses_a_service_of_another_module_goes_with_it() {
    let other = Plan {
        services: vec![("report", "".into(), &["desk"])],
        workers: vec![post("reports", "", &["report"]), post("alone", "", &[])],
        ..Plan::default()
    };
    let mut process = Process::start(&[("shop", shop()), ("other", other)]).await;
    let mut plan = shop();
    plan.services[0].1 = "new.db".into();
    process.replace("shop", &plan).await.unwrap();
    let incarnations = process.incarnations();
    for (name, incarnation) in [
        ("orders", 2),
        ("retention", 2),
        ("reports", 2),
        ("mail", 1),
        ("alone", 1),
    ] {
        assert_eq!(incarnations[name], [incarnation], "{name}");
    }
    assert_eq!(process.ask("shop").await, Some(json!("new.db")));
}

#[tokio::test(start_paused = true)]
async fn what_an_operator_has_made_of_a_worker_stays() {
    let mut process = Process::start(&[("shop", shop())]).await;
    let supervisor = process.foundation.supervisor.clone();
    supervisor.scale("orders", 4).await.unwrap();
    supervisor.pause("retention").await.unwrap();
    let until = process.foundation.clock.now() + Duration::from_secs(3600);
    supervisor.pause_until("mail", until).await.unwrap();
    let mut plan = shop();
    plan.services[0].1 = "new.db".into();
    plan.services[2].1 = "elsewhere".into();
    process.replace("shop", &plan).await.unwrap();
    let workers = process.workers();
    assert_eq!(workers["orders"].len(), 4);
    let views = supervisor.snapshot();
    let mail = views.iter().find(|view| view.name == "mail").unwrap();
    assert_eq!(workers["retention"][0].0, SlotState::Paused);
    assert_eq!(mail.slots[0].state, SlotState::Paused);
    assert!(mail.slots[0].until.is_some(), "{mail:?}");
    supervisor.resume("retention").await.unwrap();
    assert_eq!(process.workers()["retention"][0].0, SlotState::Running);
    // Another number is configured, which takes the place of the operator's.
    plan.workers[0].concurrency = 2;
    process.replace("shop", &plan).await.unwrap();
    assert_eq!(process.workers()["orders"].len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_together_is_refused_before_anything_is_touched() {
    let mut process = Process::start(&[("shop", shop())]).await;
    let before = process.workers();
    let plan = |change: &dyn Fn(&mut Plan)| {
        let mut plan = shop();
        plan.services[0].1 = "new.db".into();
        change(&mut plan);
        plan
    };
    type Case = (fn(&mut Plan), &'static str);
    let cases: [Case; 4] = [
        (
            |plan| plan.workers.push(post("mail", "", &[])),
            "two workers are named \"mail\"",
        ),
        (|plan| plan.workers[0].after = vec!["mial"], "no such worker"),
        (|plan| plan.services.push(("store", "".into(), &[])), "registered twice"),
        (|plan| plan.endpoints.push("workers"), "\"workers\" is registered twice"),
    ];
    for (change, says) in cases {
        let error = process.replace("shop", &plan(&change)).await.unwrap_err();
        assert!(error.message.contains(says) && error.restored, "{error}");
    }
    assert_eq!(process.workers(), before);
    assert!(process.log.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_way_back_touches_only_what_the_way_there_has_touched() {
    let mut plan = shop();
    plan.workers[1].from = None;
    let mut process = Process::start(&[("shop", plan.clone())]).await;
    let (names, views) = (["store", "desk", "box", "new"], ["shop", "more"]);
    let before = process.state(&names, &views).await;
    // Built after what it asks for, so that by then the store is another one.
    plan.services[0].1 = "new.db".into();
    plan.services.push(("new", "".into(), &["store"]));
    plan.broken = Some("new");
    let error = process.replace("shop", &plan).await.unwrap_err();
    assert!(error.restored && error.message.contains("the disk is full"), "{error}");
    assert_eq!(process.state(&names, &views).await, before);
    let incarnations = process.incarnations();
    assert_eq!(
        incarnations["mail"],
        [1],
        "it can't be compared, but was not reached either"
    );
    assert_eq!(incarnations["orders"], [2], "it held what had to be closed");

    // A worker that does not start, among others that do and one that is gone by then.
    plan.services.pop();
    plan.workers.push(post("new", "", &["store"]));
    plan.workers.remove(2);
    plan.workers[0].concurrency = 5;
    plan.endpoints.push("more");
    plan.health = vec!["memory"];
    let error = process.replace("shop", &plan).await.unwrap_err();
    assert!(
        error.restored && error.message.contains("the port is in use"),
        "{error}"
    );
    assert_eq!(process.state(&names, &views).await, before);

    // And what got through is taken back when something else could not follow.
    plan.broken = None;
    process.replace("shop", &plan).await.unwrap();
    assert_eq!(process.ask("more").await, Some(json!("new.db")));
    process.modules.take_back().await.unwrap();
    assert_eq!(process.state(&names, &views).await, before);
}

#[tokio::test(start_paused = true)]
async fn who_was_given_up_is_tried_once_more_and_stands_in_no_changes_way() {
    let mut plan = shop();
    plan.workers.push(post("new", "", &[]));
    let mut process = Process::start(&[("shop", plan.clone())]).await;
    // It fails from now on; after a few attempts it is given up.
    plan.workers[3].policy = RestartPolicy::Never;
    plan.broken = Some("new");
    process.replace("shop", &plan).await.unwrap_err();
    assert_eq!(process.workers()["new"][0].0, SlotState::Running);
    process
        .foundation
        .supervisor
        .set_restart("new", RestartPolicy::Never.into())
        .await
        .unwrap();
    let definition = plan.workers[3].definition(true, &process.log);
    let change = crate::supervisor::DefinitionChange {
        changed: vec![definition],
        ..Default::default()
    };
    let services = process.modules.container.services();
    process.foundation.supervisor.apply(change, services).await.unwrap_err();
    assert_eq!(process.workers()["new"][0].0, SlotState::GivenUp);
    let incarnation = process.incarnations()["new"][0];
    (plan.broken, plan.workers[3].policy) = (None, RestartPolicy::Permanent);
    plan.workers[0].concurrency = 2;
    process.replace("shop", &plan).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(process.incarnations()["new"], [incarnation + 1]);
}

#[tokio::test(start_paused = true)]
async fn settings_of_single_workers_stand_in_place_of_what_modules_say() {
    let mut process = Process::start(&[("shop", shop())]).await;
    let settings = |concurrency, interval: Option<u64>| {
        let mut set = WorkerSettings {
            concurrency,
            interval: interval.map(plba_contracts::config::TimeSpan::seconds),
            ..WorkerSettings::default()
        };
        set.restart.policy = Some(RestartPolicy::Transient);
        Settings::from([("orders".to_owned(), set.clone()), ("retention".to_owned(), set)])
    };
    let (none, set) = (Settings::new(), settings(Some(2), Some(3)));
    process.modules.tune(set.clone());
    process.modules.retune(&none, &set).await;
    let interval = |process: &Process| {
        process.modules.workers["retention"]
            .own
            .pace
            .as_ref()
            .unwrap()
            .interval()
    };
    assert_eq!(
        (process.workers()["orders"].len(), interval(&process)),
        (2, Duration::from_secs(3))
    );
    assert_eq!(
        process.modules.workers["orders"].settled().restart.policy,
        RestartPolicy::Transient
    );
    let mut plan = shop();
    plan.workers[0].concurrency = 5;
    plan.workers[2].interval = Some(9);
    process.replace("shop", &plan).await.unwrap();
    assert_eq!(
        (process.workers()["orders"].len(), interval(&process)),
        (2, Duration::from_secs(3))
    );
    process.modules.tune(none.clone());
    process.modules.retune(&set, &none).await;
    assert_eq!(
        (process.workers()["orders"].len(), interval(&process)),
        (5, Duration::from_secs(9))
    );
    assert!(
        process
            .incarnations()
            .values()
            .flatten()
            .all(|&incarnation| incarnation == 1)
    );
}

/// A plan that differs from others in what each of its parts is made from, and in which there are.
fn random_plan(random: &mut fastrand::Rng) -> Plan {
    let mut plan = shop();
    let mut version = || format!("version {}", random.u8(0..2));
    for service in &mut plan.services {
        service.1 = version();
    }
    for worker in &mut plan.workers {
        worker.from = Some(version());
    }
    for worker in &mut plan.workers {
        if random.u8(0..4) == 0 {
            worker.from = None;
        }
        worker.concurrency = random.u32(1..4);
        worker.interval = worker.interval.map(|_| random.u64(1..4));
        worker.policy = [RestartPolicy::Permanent, RestartPolicy::Transient][random.usize(0..2)];
    }
    if random.bool() {
        plan.services.push(("new", "".into(), &["store"]));
        plan.workers.push(post("extra", "", &["new"]));
    }
    if random.bool() {
        plan.endpoints.push("more");
    }
    if random.bool() {
        plan.health.push("memory");
    }
    plan
}

#[tokio::test(start_paused = true)]
async fn changes_that_fail_anywhere_leave_what_there_was() {
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut process = Process::start(&[("shop", shop())]).await;
    let (names, views) = (["store", "desk", "box", "new", "broken"], ["shop", "more"]);
    let mut failed = 0;
    for round in 0..300 {
        let mut plan = random_plan(&mut random);
        if random.bool() {
            process.replace("shop", &plan).await.unwrap();
            continue;
        }
        // Something of it can't be: any part that it has, or one that is new.
        let mut parts: Vec<&'static str> = plan.services.iter().map(|service| service.0).collect();
        parts.extend(plan.workers.iter().map(|worker| worker.name));
        parts.extend(&plan.health);
        plan.broken = Some(parts[random.usize(0..parts.len())]);
        if random.u8(0..3) == 0 {
            process
                .foundation
                .supervisor
                .scale("orders", random.u32(1..6))
                .await
                .unwrap();
        }
        let before = process.state(&names, &views).await;
        let error = process.replace("shop", &plan).await.unwrap_err();
        failed += 1;
        assert!(error.restored, "seed {seed}, round {round}: {error}");
        let broken = plan.broken;
        assert_eq!(
            process.state(&names, &views).await,
            before,
            "seed {seed}, round {round}: {broken:?}, {error}"
        );
    }
    assert!(failed > 50, "{failed}");
}
