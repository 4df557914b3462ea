//! What is played under very many schedules: commands from several tasks at once, and what has to hold however these are
//! interleaved. A command that is not answered is a deadlock, which the scheduler itself finds: in all scenarios but one
//! time stands still, so that nothing is mended by a timer.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use plba_contracts::stop::{StopHandle, StopSignal};
use shuttle::future::{JoinHandle, block_on, spawn, yield_now};
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, FailurePersistence, Runner};

use crate::probe::{Does, Stage, WorldClock, services};
use crate::supervisor::{
    DefinitionChange, Race, SlotState, StopOutcome, SupervisionError, WorkerStop, WorkerSupervisor,
};
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{plant, time};

/// How many schedules of one kind are played before it is the other's turn.
const ROUND: usize = 100;

/// Something to play.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// Restarts, scales, pauses and resumes of two workers while they start, then a stop.
    Commands,
    /// A stop while workers start, from two tasks.
    StopWhileStarting,
    /// A stop beside commands; everybody who asks for the stop hears the same.
    StopBesideCommands,
    /// A force while a stop goes on and workers don't let go.
    Force,
    /// Reloads beside commands.
    Reload,
    /// The last handle is dropped while workers start.
    LastHandle,
    /// Time passes at any moment, so that everything times out at any moment.
    Time,
}

/// A race that can be planted in supervision's shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// A worker that was just built does not look whether it is to stop.
    StopUnseenAtInstall,
    /// A stop between a look and the leaving of a waker wakes nobody.
    WakerLeftTooLate,
    /// The end of an attempt is told before its worker is gone.
    EndToldTooEarly,
}

impl Scenario {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Commands,
        Self::StopWhileStarting,
        Self::StopBesideCommands,
        Self::Force,
        Self::Reload,
        Self::LastHandle,
        Self::Time,
    ];

    /// The one with this name, as `Debug` prints it.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scenario| format!("{scenario:?}") == name)
    }

    /// Plays it under this many random schedules, and as many in which three changes of who comes first are spread over
    /// the run, which finds what needs a rare order of few steps. The seed decides which schedules these are.
    ///
    /// # Panics
    /// Something does not hold; then the schedule is printed.
    pub fn play(self, seed: u64, schedules: usize, planted: Option<Planted>) {
        plant(planted.map(Planted::race));
        let mut config = config();
        if planted.is_some() {
            // That it fails is no news.
            config.failure_persistence = FailurePersistence::None;
        }
        // By turns, so that what one of the two finds soon is found soon.
        for round in 0..schedules.div_ceil(ROUND) {
            let (seed, count) = (seed + round as u64, ROUND.min(schedules - round * ROUND));
            let random = RandomScheduler::new_from_seed(seed, count);
            Runner::new(random, config.clone()).run(move || self.once());
            let rare = PctScheduler::new_from_seed(seed, 3, count);
            Runner::new(rare, config.clone()).run(move || self.once());
        }
    }

    /// Plays it under one schedule, as a failure has printed it.
    ///
    /// # Panics
    /// Something does not hold.
    pub fn replay(self, schedule: &str) {
        plant(None);
        let scheduler = shuttle::scheduler::ReplayScheduler::new_from_encoded(schedule);
        Runner::new(scheduler, config()).run(move || self.once());
    }

    fn once(self) {
        let stage = Stage::new();
        let supervisor = WorkerSupervisor::new(Arc::new(WorldClock), 7);
        match self {
            Self::Commands => block_on(commands(&stage, &supervisor)),
            Self::StopWhileStarting => block_on(stop_while_starting(&stage, &supervisor)),
            Self::StopBesideCommands => block_on(stop_beside_commands(&stage, &supervisor)),
            Self::Force => block_on(force(&stage, &supervisor)),
            Self::Reload => block_on(reload(&stage, &supervisor)),
            Self::LastHandle => block_on(last_handle(&stage, supervisor)),
            Self::Time => block_on(time_passes(&stage, &supervisor)),
        }
    }
}

impl Planted {
    fn race(self) -> Race {
        match self {
            Self::StopUnseenAtInstall => Race::StopUnseenAtInstall,
            Self::WakerLeftTooLate => Race::WakerLeftTooLate,
            Self::EndToldTooEarly => Race::EndToldTooEarly,
        }
    }
}

fn config() -> Config {
    let mut config = Config::new();
    config.stack_size = 256 * 1024;
    config
}

type Answer = Result<(), SupervisionError>;

/// Starts two workers, the second after the first, and a third beside them where one is wanted.
fn start(stage: &Arc<Stage>, supervisor: &WorkerSupervisor, second: Does, third: Option<Does>) -> JoinHandle<Answer> {
    let first = stage.worker("first", Does::Obeys).concurrency(2);
    let second = stage.worker("second", second).after("first");
    let third = third.map(|third| stage.worker("third", third));
    let definitions = [first, second].into_iter().chain(third).collect();
    let supervisor = supervisor.clone();
    spawn(async move { supervisor.start(definitions, services()).await })
}

/// Gives commands from a task of its own.
fn task<F>(supervisor: &WorkerSupervisor, commands: impl FnOnce(WorkerSupervisor) -> F) -> JoinHandle<Vec<Answer>>
where
    F: Future<Output = Vec<Answer>> + Send + 'static,
{
    spawn(commands(supervisor.clone()))
}

async fn answers(tasks: impl IntoIterator<Item = JoinHandle<Vec<Answer>>>) -> Vec<Answer> {
    let mut answers = Vec::new();
    for task in tasks {
        answers.extend(task.await.expect("nobody aborts whoever gives commands"));
    }
    answers
}

/// Where time stands still, nothing times out.
fn check_answers(answers: &[Answer]) {
    for answer in answers {
        let definite = match answer {
            Ok(()) | Err(SupervisionError::Stopped | SupervisionError::Overtaken) => true,
            Err(SupervisionError::NotYetStarted) => true,
            // Its start failed because it waits for another that rests or fails.
            Err(SupervisionError::NotStarted { cause, .. }) => cause.starts_with("waits for") || cause.contains("once"),
            Err(_) => false,
        };
        assert!(definite, "{answer:?}");
    }
}

/// Stops everything in a world in which all obey: nothing is left, and nobody had to be forced.
async fn stop(stage: &Stage, supervisor: &WorkerSupervisor) -> Vec<WorkerStop> {
    let report = supervisor.stop(Duration::from_secs(10), StopSignal::default()).await;
    let forced = report.iter().find(|stop| stop.how != StopOutcome::Drained);
    assert_eq!(forced, None);
    at_rest(stage, supervisor, &report);
    report
}

fn at_rest(stage: &Stage, supervisor: &WorkerSupervisor, report: &[WorkerStop]) {
    let abandoned = report.iter().filter(|stop| stop.how == StopOutcome::Abandoned);
    let abandoned: BTreeSet<_> = abandoned.map(|stop| (stop.worker.clone(), stop.slot)).collect();
    let doubled = stage.doubled();
    assert!(doubled.is_empty(), "two instances at once of {doubled:?}");
    let alive = stage.alive();
    assert!(
        alive.is_subset(&abandoned),
        "{alive:?} live, left behind are {abandoned:?}"
    );
    let slots: BTreeSet<_> = report.iter().map(|stop| (&stop.worker, stop.slot)).collect();
    assert_eq!(slots.len(), report.len(), "a slot is in the report twice: {report:?}");
    for view in supervisor.snapshot() {
        for slot in view.slots {
            let rests = !slot.state.is_live() && !matches!(slot.state, SlotState::Waiting | SlotState::BackingOff);
            assert!(rests, "{}#{} is {:?} after the stop", view.name, slot.slot, slot.state);
        }
    }
}

async fn commands(stage: &Arc<Stage>, supervisor: &WorkerSupervisor) {
    let started = start(stage, supervisor, Does::FailsOnce, None);
    let tasks = [
        task(supervisor, |supervisor| async move {
            vec![supervisor.restart("first").await, supervisor.scale("first", 3).await]
        }),
        task(supervisor, |supervisor| async move {
            vec![supervisor.pause("second").await, supervisor.resume("second").await]
        }),
        task(supervisor, |supervisor| async move {
            vec![
                supervisor.pause_for("first", Duration::ZERO).await,
                supervisor.scale("first", 1).await,
            ]
        }),
    ];
    check_answers(&answers(tasks).await);
    check_answers(&[started.await.expect("nobody aborts the start")]);
    stop(stage, supervisor).await;
    assert_eq!(supervisor.restart("first").await, Err(SupervisionError::Stopped));
}

async fn stop_while_starting(stage: &Arc<Stage>, supervisor: &WorkerSupervisor) {
    let started = start(stage, supervisor, Does::Obeys, Some(Does::NeverBuilt));
    let (beside, own) = (supervisor.clone(), Arc::clone(stage));
    let other = spawn(async move { stop(&own, &beside).await });
    let report = stop(stage, supervisor).await;
    assert_eq!(
        report,
        other.await.expect("nobody aborts the stop"),
        "both hear the same"
    );
    check_answers(&[started.await.expect("nobody aborts the start")]);
    assert!(stage.alive().is_empty());
}

async fn stop_beside_commands(stage: &Arc<Stage>, supervisor: &WorkerSupervisor) {
    let started = start(stage, supervisor, Does::Obeys, None).await;
    assert_eq!(started.expect("nobody aborts the start"), Ok(()));
    let tasks = [
        task(supervisor, |supervisor| async move {
            vec![supervisor.restart("first").await]
        }),
        task(supervisor, |supervisor| async move {
            vec![supervisor.scale("second", 2).await]
        }),
        task(supervisor, |supervisor| async move {
            vec![supervisor.pause("second").await]
        }),
    ];
    let report = stop(stage, supervisor).await;
    check_answers(&answers(tasks).await);
    assert_eq!(stop(stage, supervisor).await, report, "a later stop hears the same");
}

async fn force(stage: &Arc<Stage>, supervisor: &WorkerSupervisor) {
    let started = start(stage, supervisor, Does::IgnoresGraceful, Some(Does::NeverStarts));
    let restarted = task(supervisor, |supervisor| async move {
        vec![supervisor.restart("second").await]
    });
    let force = StopHandle::new();
    let signal = force.signal();
    let raised = spawn(async move { force.stop(true) });
    let report = supervisor.stop(Duration::from_secs(10), signal).await;
    let abandoned = report.iter().find(|stop| stop.how == StopOutcome::Abandoned);
    assert_eq!(abandoned, None);
    at_rest(stage, supervisor, &report);
    check_answers(&[started.await.expect("nobody aborts the start")]);
    check_answers(&answers([restarted]).await);
    raised.await.expect("nobody aborts whoever forces");
}

async fn reload(stage: &Arc<Stage>, supervisor: &WorkerSupervisor) {
    let started = start(stage, supervisor, Does::Obeys, None);
    let own = Arc::clone(stage);
    let tasks = [
        task(supervisor, |supervisor| async move {
            let change = DefinitionChange {
                added: vec![own.worker("third", Does::FailsOnce).after("first")],
                removed: vec!["second".into()],
                changed: vec![own.worker("first", Does::Obeys)],
            };
            let removed = supervisor.apply(change, services()).await;
            let change = DefinitionChange {
                added: vec![own.worker("second", Does::Obeys)],
                ..DefinitionChange::default()
            };
            vec![removed, supervisor.apply(change, services()).await]
        }),
        task(supervisor, |supervisor| async move {
            vec![supervisor.scale("first", 1).await, supervisor.restart("first").await]
        }),
    ];
    let answers = answers(tasks).await;
    // An early reload is told that there is nothing to change yet, or that what it names is there already.
    let early = |answer: &Answer| matches!(answer, Err(SupervisionError::Unknown(_) | SupervisionError::Graph(_)));
    let others: Vec<Answer> = answers.into_iter().filter(|answer| !early(answer)).collect();
    check_answers(&others);
    check_answers(&[started.await.expect("nobody aborts the start")]);
    stop(stage, supervisor).await;
}

async fn last_handle(stage: &Arc<Stage>, supervisor: WorkerSupervisor) {
    let started = start(stage, &supervisor, Does::IgnoresAll, None);
    drop(supervisor);
    check_answers(&[started.await.expect("nobody aborts the start")]);
    // Whoever is dropped is gone soon.
    while !stage.alive().is_empty() {
        yield_now().await;
    }
}

async fn time_passes(stage: &Arc<Stage>, supervisor: &WorkerSupervisor) {
    let over = Arc::new(AtomicBool::new(false));
    let until = Arc::clone(&over);
    let clock = spawn(async move {
        while !until.load(Ordering::SeqCst) {
            time::pass();
            yield_now().await;
        }
    });
    let started = start(stage, supervisor, Does::IgnoresGraceful, None);
    let own = Arc::clone(stage);
    let tasks = [
        task(supervisor, |supervisor| async move {
            let never = own.worker("never", Does::NeverStarts);
            let change = DefinitionChange {
                added: vec![never, own.worker("deaf", Does::IgnoresAll)],
                ..DefinitionChange::default()
            };
            vec![
                supervisor.apply(change, services()).await,
                supervisor.restart("deaf").await,
            ]
        }),
        task(supervisor, |supervisor| async move {
            let rest = Duration::from_secs(3);
            vec![
                supervisor.pause_for("first", rest).await,
                supervisor.scale("second", 2).await,
            ]
        }),
    ];
    // Which answers these are, time decides.
    answers(tasks).await;
    let _ = started.await.expect("nobody aborts the start");
    let report = supervisor.stop(Duration::from_secs(10), StopSignal::default()).await;
    at_rest(stage, supervisor, &report);
    over.store(true, Ordering::SeqCst);
    clock.await.expect("nobody stops the clock");
}
