//! The supervisor as a whole, on paused time: instances that start, fail, panic, hang and stop on real tasks.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use plba_contracts::BoxError;
use plba_contracts::clock::Clock;
use plba_contracts::health::Health;
use plba_contracts::services::{ErasedService, ServiceError, ServiceKey, ServiceSource, Services};
use plba_contracts::stop::{StopHandle, StopSignal};
use plba_contracts::worker::{
    Exit, Restart, RestartPolicy, Running, StartError, Worker, WorkerContext, WorkerDefinition, WorkerStatus,
};
use tokio::time::Instant;

use super::*;
use crate::clock::SystemClock;

/// Time as tokio has it, which tests pause.
pub(crate) struct TokioClock(pub(crate) Instant);

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        "2026-01-10T12:00:00Z".parse::<Timestamp>().unwrap() + self.0.elapsed()
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

struct NoServices;

#[async_trait]
impl ServiceSource for NoServices {
    async fn resolve(&self, key: &ServiceKey, _: &[ServiceKey]) -> Result<ErasedService, ServiceError> {
        Err(ServiceError::Missing {
            key: key.clone(),
            asked_by: "a test".into(),
        })
    }
}

pub(crate) fn services() -> Services {
    Services::new(Arc::new(NoServices), Vec::new())
}

pub(crate) fn supervisor() -> WorkerSupervisor {
    WorkerSupervisor::new(Arc::new(TokioClock(Instant::now())), 7)
}

fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn never_forced() -> StopSignal {
    StopHandle::new().signal()
}

/// What an instance does once it runs.
#[derive(Clone, Copy, PartialEq)]
enum Does {
    Waits,
    IgnoresGraceful,
    IgnoresAll,
    Panics,
    PanicsWithANumber,
    Fails,
    NeverStarts,
    CantStart,
}

struct Acts {
    does: Does,
    stop: StopHandle,
    log: Log,
    name: &'static str,
}

type Log = Arc<Mutex<Vec<String>>>;

#[async_trait]
impl Worker for Acts {
    async fn start(self: Arc<Self>, context: WorkerContext) -> Result<Running, StartError> {
        match self.does {
            Does::NeverStarts => std::future::pending().await,
            Does::CantStart => return Err(StartError::new("port 8080 is in use; stop what uses it")),
            _ => tokio::time::sleep(Duration::from_millis(10)).await,
        }
        self.log.lock().unwrap().push(format!("+{}", self.name));
        Ok(Running::new(async move {
            let stop = self.stop.signal();
            let _busy = (self.does == Does::IgnoresGraceful).then(|| context.activity.begin("order 17".into()));
            match self.does {
                Does::Panics => panic!("no such {}", "shelf"),
                Does::PanicsWithANumber => std::panic::panic_any(42),
                Does::Fails => return Exit::Failed("disk full".into()),
                Does::IgnoresGraceful => stop.forced().await,
                Does::IgnoresAll => std::future::pending().await,
                _ => stop.requested().await,
            }
            self.log.lock().unwrap().push(format!("-{}", self.name));
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
        WorkerStatus {
            succeeded: 1,
            ..WorkerStatus::default()
        }
    }
}

fn acts(name: &'static str, does: Does, log: &Log) -> WorkerDefinition {
    let log = Arc::clone(log);
    WorkerDefinition::new(name, move |_| {
        let worker = Acts {
            does,
            stop: StopHandle::new(),
            log: Arc::clone(&log),
            name,
        };
        async move { Ok(Arc::new(worker) as Arc<dyn Worker>) }
    })
}

fn view(supervisor: &WorkerSupervisor, name: &str) -> WorkerView {
    let views = supervisor.snapshot();
    views.into_iter().find(|view| view.name == name).unwrap()
}

fn outcomes(report: &[WorkerStop]) -> Vec<(&str, StopOutcome, Option<&str>)> {
    report
        .iter()
        .map(|stop| (stop.worker.as_str(), stop.how, stop.held.as_deref()))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn workers_start_in_dependency_order_and_stop_in_reverse() {
    let (supervisor, log) = (supervisor(), Log::default());
    let definitions = vec![
        acts("source", Does::Waits, &log).after("consumer"),
        acts("consumer", Does::Waits, &log).after("outbox"),
        acts("outbox", Does::Waits, &log),
    ];
    supervisor.start(definitions, services()).await.unwrap();
    assert!(
        supervisor
            .snapshot()
            .iter()
            .all(|view| view.state == SlotState::Running && view.health == Health::Ok)
    );
    let report = supervisor.stop(secs(25), never_forced()).await;
    let order = ["+outbox", "+consumer", "+source", "-source", "-consumer", "-outbox"];
    assert_eq!(*log.lock().unwrap(), order);
    assert_eq!(report.len(), 3);
    assert!(report.iter().all(|stop| stop.how == StopOutcome::Drained));
    assert_eq!(supervisor.restart("outbox").await, Err(SupervisionError::Stopped));
}

#[tokio::test(start_paused = true)]
async fn a_stop_forces_what_does_not_finish_and_names_what_it_held() {
    let (supervisor, log) = (supervisor(), Log::default());
    let definitions = vec![
        acts("good", Does::Waits, &log),
        acts("slow", Does::IgnoresGraceful, &log),
        acts("deaf", Does::IgnoresAll, &log),
    ];
    supervisor.start(definitions, services()).await.unwrap();
    let began = Instant::now();
    let mut report = supervisor.stop(secs(10), never_forced()).await;
    report.sort_by(|one, other| one.worker.cmp(&other.worker));
    let expected = [
        ("deaf", StopOutcome::Forced, None),
        ("good", StopOutcome::Drained, None),
        ("slow", StopOutcome::Forced, Some("order 17")),
    ];
    assert_eq!(outcomes(&report), expected);
    assert_eq!((report[0].took.as_secs(), report[2].took.as_secs()), (9, 8));
    assert!(began.elapsed() <= secs(10));
    let json = serde_json::to_value(&report[2]).unwrap();
    assert_eq!(json["how"], "forced");
}

#[tokio::test(start_paused = true)]
async fn a_raised_force_cuts_the_stop_short() {
    let (supervisor, log) = (supervisor(), Log::default());
    let definitions = vec![
        acts("slow", Does::IgnoresGraceful, &log).after("under"),
        acts("under", Does::Waits, &log),
    ];
    supervisor.start(definitions, services()).await.unwrap();
    let force = StopHandle::new();
    let began = Instant::now();
    let (report, ()) = tokio::join!(supervisor.stop(secs(25), force.signal()), async {
        tokio::time::sleep(secs(1)).await;
        force.stop(true);
    });
    assert_eq!(began.elapsed().as_secs(), 1);
    assert_eq!(outcomes(&report)[0], ("slow", StopOutcome::Forced, Some("order 17")));
}

#[tokio::test(start_paused = true)]
async fn a_stop_during_start_ends_both() {
    let (supervisor, log) = (supervisor(), Log::default());
    let definitions = vec![acts("a", Does::NeverStarts, &log), acts("b", Does::Waits, &log)];
    let (started, report) = tokio::join!(supervisor.start(definitions, services()), async {
        tokio::time::sleep(secs(1)).await;
        supervisor.stop(secs(10), never_forced()).await
    });
    assert_eq!(started, Err(SupervisionError::Stopped));
    assert_eq!(report.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_does_not_start_ends_the_start_up_with_its_cause() {
    for (does, cause) in [
        (
            Does::CantStart,
            "could not start: port 8080 is in use; stop what uses it",
        ),
        (Does::NeverStarts, "its start took longer than 30s"),
    ] {
        let (supervisor, log) = (supervisor(), Log::default());
        let definitions = vec![acts("a", does, &log), acts("b", Does::Waits, &log).after("a")];
        let error = supervisor.start(definitions, services()).await.unwrap_err();
        let expected = SupervisionError::NotStarted {
            worker: "a".into(),
            cause: cause.into(),
            more: 0,
        };
        assert_eq!(error, expected);
        supervisor.stop(secs(5), never_forced()).await;
        assert!(log.lock().unwrap().is_empty(), "b starts after a only");
    }
}

#[tokio::test(start_paused = true)]
async fn a_factory_that_fails_or_panics_fails_the_start() {
    let failing = WorkerDefinition::new("a", |_| async {
        Err::<Arc<dyn Worker>, BoxError>("no database".into())
    });
    let error = supervisor().start(vec![failing], services()).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("worker \"a\" did not start: it could not be built: no database"),
        "{error}"
    );
    let panicking = WorkerDefinition::new("a", |_| async { panic!("boom") });
    let error = supervisor().start(vec![panicking], services()).await.unwrap_err();
    assert!(error.to_string().contains("it panicked: boom"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_keeps_failing_is_given_up_and_the_others_go_on() {
    for (does, reason) in [
        (Does::Panics, "panicked: no such shelf"),
        (
            Does::PanicsWithANumber,
            "panicked: a panic with a payload that is no text",
        ),
        (Does::Fails, "failed: disk full"),
    ] {
        let (supervisor, log) = (supervisor(), Log::default());
        let definitions = vec![acts("bad", does, &log), acts("good", Does::Waits, &log)];
        supervisor.start(definitions, services()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        let bad = view(&supervisor, "bad");
        assert_eq!((bad.state, bad.health.word()), (SlotState::BackingOff, "degraded"));
        tokio::time::sleep(secs(60)).await;
        let bad = view(&supervisor, "bad");
        assert_eq!(
            (bad.state, bad.restarts, bad.status.succeeded),
            (SlotState::GivenUp, 5, 6)
        );
        let why = bad.health.reason().unwrap();
        assert!(
            why.starts_with("given up since 2026-01-10T12:00:") && why.contains(reason),
            "{why}"
        );
        assert_eq!(view(&supervisor, "good").health, Health::Ok);
        tokio::time::sleep(secs(600)).await;
        assert_eq!(view(&supervisor, "bad").state, SlotState::GivenUp);
        supervisor.stop(secs(5), never_forced()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn policies_decide_what_follows_an_end() {
    let (supervisor, log) = (supervisor(), Log::default());
    let definitions = vec![
        acts("never", Does::Fails, &log).restart(RestartPolicy::Never),
        acts("transient", Does::Fails, &log).restart(Restart {
            intensity: 1,
            ..RestartPolicy::Transient.into()
        }),
    ];
    supervisor.start(definitions, services()).await.unwrap();
    tokio::time::sleep(secs(10)).await;
    assert_eq!(
        (view(&supervisor, "never").state, view(&supervisor, "never").restarts),
        (SlotState::GivenUp, 0)
    );
    assert_eq!(view(&supervisor, "transient").restarts, 1);
    let history = supervisor.events().history();
    let ends = history
        .iter()
        .filter(|recorded| matches!(recorded.event, SupervisorEvent::Ended { .. }))
        .count();
    assert_eq!(ends, 3);
}

#[tokio::test(start_paused = true)]
async fn a_reload_touches_only_what_changed() {
    let (supervisor, log) = (supervisor(), Log::default());
    let definitions = ["stays", "goes", "changes"].map(|name| acts(name, Does::Waits, &log));
    supervisor.start(definitions.into(), services()).await.unwrap();
    let change = DefinitionChange {
        added: vec![acts("comes", Does::Waits, &log).after("changes")],
        removed: vec!["goes".into()],
        changed: vec![acts("changes", Does::Waits, &log)],
    };
    supervisor.apply(change, services()).await.unwrap();
    let views = supervisor.snapshot();
    let names: Vec<_> = views
        .iter()
        .map(|view| (view.name.as_str(), view.slots[0].incarnation))
        .collect();
    assert_eq!(names, [("changes", 2), ("comes", 1), ("stays", 1)]);
    assert_eq!(
        view(&supervisor, "changes").status.succeeded,
        2,
        "totals outlive instances"
    );
    let unknown = DefinitionChange {
        removed: vec!["nobody".into()],
        ..DefinitionChange::default()
    };
    assert_eq!(
        supervisor.apply(unknown, services()).await,
        Err(SupervisionError::Unknown("nobody".into()))
    );
}

#[tokio::test(start_paused = true)]
async fn pools_grow_shrink_and_rest() {
    let (supervisor, log) = (supervisor(), Log::default());
    supervisor
        .start(vec![acts("pool", Does::Waits, &log).concurrency(2)], services())
        .await
        .unwrap();
    supervisor.scale("pool", 4).await.unwrap();
    assert_eq!(view(&supervisor, "pool").slots.len(), 4);
    supervisor.scale("pool", 1).await.unwrap();
    assert_eq!(view(&supervisor, "pool").slots.len(), 1);
    assert_eq!(supervisor.scale("pool", 0).await, Err(SupervisionError::Instances));
    supervisor.pause("pool").await.unwrap();
    assert_eq!(view(&supervisor, "pool").state, SlotState::Paused);
    supervisor.resume("pool").await.unwrap();
    assert_eq!(view(&supervisor, "pool").state, SlotState::Running);
    supervisor.restart("pool").await.unwrap();
    let pool = view(&supervisor, "pool");
    assert_eq!((pool.state, pool.slots[0].incarnation), (SlotState::Running, 3));
}

#[test]
fn a_thread_that_is_blocked_for_good_is_abandoned_and_seen_by_the_watchdog() {
    let workers = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let driver = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let release = Arc::new(std::sync::Barrier::new(2));
    let held = Arc::clone(&release);
    let definition = WorkerDefinition::new("blocks", move |_| {
        let held = Arc::clone(&held);
        async move { Ok(Arc::new(Blocks(held)) as Arc<dyn Worker>) }
    });
    driver.block_on(async {
        let millis = Duration::from_millis;
        let options = WatchdogOptions {
            look_every: millis(20),
            heartbeat: millis(10),
            stalled_after: millis(100),
        };
        let clock = Arc::new(SystemClock::new());
        let supervisor = WorkerSupervisor::with_workers_on(workers.handle(), clock, 1, options);
        let definition = definition.stall_after(millis(100));
        supervisor.start(vec![definition], services()).await.unwrap();
        let deadline = Instant::now() + secs(20);
        while supervisor.executor_stalled_for().is_none() || !view(&supervisor, "blocks").is_hung() {
            assert!(Instant::now() < deadline, "no verdict");
            tokio::time::sleep(millis(5)).await;
        }
        let health = view(&supervisor, "blocks").health;
        assert!(
            health.reason().unwrap().starts_with("hung: busy with a lock for"),
            "{health:?}"
        );
        let report = supervisor.stop(millis(200), never_forced()).await;
        assert_eq!(outcomes(&report), [("blocks", StopOutcome::Abandoned, Some("a lock"))]);
    });
    release.wait();
}

struct Blocks(Arc<std::sync::Barrier>);

#[async_trait]
impl Worker for Blocks {
    async fn start(self: Arc<Self>, context: WorkerContext) -> Result<Running, StartError> {
        Ok(Running::new(async move {
            let _busy = context.activity.begin("a lock".into());
            self.0.wait();
            Exit::Finished
        }))
    }

    fn stop(&self, _: bool) {}

    fn health(&self) -> Health {
        Health::Ok
    }

    fn status(&self) -> WorkerStatus {
        WorkerStatus::default()
    }
}

static STARTED: AtomicU64 = AtomicU64::new(0);

struct Trivial(StopHandle);

#[async_trait]
impl Worker for Trivial {
    async fn start(self: Arc<Self>, _: WorkerContext) -> Result<Running, StartError> {
        STARTED.fetch_add(1, Ordering::Relaxed);
        Ok(Running::new(async move {
            self.0.signal().requested().await;
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

#[tokio::test]
async fn many_workers_start_and_stop() {
    let count: u32 = std::env::var("PLBA_MANY").map_or(5_000, |count| count.parse().unwrap());
    let began = std::time::Instant::now();
    let supervisor = WorkerSupervisor::new(Arc::new(SystemClock::new()), 1);
    let definition = |number| {
        WorkerDefinition::new(format!("w{number}"), |_| async {
            Ok(Arc::new(Trivial(StopHandle::new())) as Arc<dyn Worker>)
        })
    };
    let definitions: Vec<WorkerDefinition> = (0..count).map(definition).collect();
    let memory = resident();
    supervisor.start(definitions, services()).await.unwrap();
    let (started, used) = (began.elapsed(), resident().saturating_sub(memory));
    assert_eq!(supervisor.snapshot().len(), count as usize);
    let began = std::time::Instant::now();
    let report = supervisor.stop(secs(25), never_forced()).await;
    assert_eq!(report.len(), count as usize);
    let each = used / u64::from(count);
    eprintln!(
        "{count} workers: started in {started:?}, stopped in {:?}, {each} bytes each",
        began.elapsed()
    );
}

/// Resident memory of this process in bytes, where the system tells.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = status
        .split_whitespace()
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}

#[tokio::test(start_paused = true)]
async fn a_consumer_sees_every_event_and_may_panic() {
    let (supervisor, log) = (supervisor(), Log::default());
    let seen = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&seen);
    supervisor.events().subscribe(|_| panic!("a bad consumer"));
    supervisor.events().subscribe(move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
    });
    supervisor
        .start(vec![acts("a", Does::Waits, &log)], services())
        .await
        .unwrap();
    assert_eq!(
        seen.load(Ordering::Relaxed) as usize,
        supervisor.events().history().len()
    );
    let first = serde_json::to_value(&supervisor.events().history()[0]).unwrap();
    assert_eq!(first["event"], "added");
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_given_up_may_ask_for_the_end_of_the_process() {
    let (supervisor, log) = (supervisor(), Log::default());
    let never = RestartPolicy::Never;
    let definitions = vec![
        acts("good", Does::Waits, &log),
        acts("vital", Does::Fails, &log).restart(never).exit_when_given_up(78),
    ];
    supervisor.start(definitions, services()).await.unwrap();
    let fatal = supervisor.fatal().await;
    assert_eq!((fatal.worker.as_str(), fatal.slot, fatal.exit_code), ("vital", 0, 78));
    assert_eq!(fatal.cause, "was given up: attempt 1 failed: disk full");
    assert_eq!(view(&supervisor, "good").state, SlotState::Running);
    assert_eq!(supervisor.fatal().await, fatal);
}

#[tokio::test(start_paused = true)]
async fn a_stop_names_those_that_are_not_at_rest_every_few_seconds() {
    let (supervisor, log) = (supervisor(), Log::default());
    let definitions = vec![
        acts("good", Does::Waits, &log),
        acts("slow", Does::IgnoresGraceful, &log),
    ];
    supervisor.start(definitions, services()).await.unwrap();
    supervisor.stop(secs(15), never_forced()).await;
    let history = supervisor.events().history();
    let told = history.iter().filter_map(|recorded| match &recorded.event {
        SupervisorEvent::Stragglers {
            count,
            first,
            stopping_for,
        } => Some((*count, first.join(" "), stopping_for.as_secs())),
        _ => None,
    });
    // After 80 % of the budget it lets go.
    let slow = || "slow#0 (order 17)".to_owned();
    assert_eq!(told.collect::<Vec<_>>(), [(1, slow(), 5), (1, slow(), 10)]);
}

/// On real time: the watchdog has a thread and time of its own.
#[tokio::test]
async fn a_hung_instance_is_replaced_or_asks_for_the_end_of_the_process() {
    let (log, millis) = (Log::default(), Duration::from_millis);
    let options = WatchdogOptions {
        look_every: millis(20),
        ..WatchdogOptions::default()
    };
    let clock = Arc::new(SystemClock::new());
    let supervisor = WorkerSupervisor::with_workers_on(&Handle::current(), clock, 1, options);
    let hangs = |name, policy| {
        let definition = acts(name, Does::IgnoresGraceful, &log);
        definition.stall_after(millis(60)).on_hang(policy)
    };
    let definitions = vec![
        hangs("replaced", HangPolicy::Replace),
        hangs("vital", HangPolicy::EndProcess { exit_code: 70 }),
    ];
    supervisor.start(definitions, services()).await.unwrap();
    let fatal = tokio::time::timeout(secs(20), supervisor.fatal()).await.unwrap();
    assert_eq!((fatal.worker.as_str(), fatal.exit_code), ("vital", 70));
    let again = async {
        while view(&supervisor, "replaced").restarts == 0 {
            tokio::time::sleep(millis(5)).await;
        }
    };
    tokio::time::timeout(secs(20), again).await.unwrap();
    let exit = view(&supervisor, "replaced").slots[0].last_exit.clone().unwrap();
    assert_eq!(exit.end, AttemptEnd::Hung);
    assert_eq!(view(&supervisor, "vital").restarts, 0);
    supervisor.stop(millis(200), never_forced()).await;
}
