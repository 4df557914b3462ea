//! Schedules from end to end, under paused time: every tick one task, whatever happens to clocks and processes. What is due
//! when, changes to and from daylight-saving time included, is tested where it is decided.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use plba_contracts::clock::Clock;
use plba_contracts::stop::StopHandle;
use plba_tasks::file_ledger::{FileLedger, FileLedgerSettings};
use plba_tasks::intake::{Intake, completion_task};
use plba_tasks::ledger::SourceLedger;
use plba_tasks::memory::{InMemoryTaskQueue, MemorySettings};
use plba_tasks::queue::{Completion, ConsumerId, Delivery, Durability, Incarnation, TaskQueue};
use plba_tasks::schedule::{Expression, Misfire, Schedule, Schedules};
use plba_tasks::source::TaskSource;
use plba_tasks::task::NewTask;
use plba_testkit::clock::{START, TokioClock};
use plba_testkit::decorator::{Decorated, QueueDecorator};
use plba_testkit::directory::Directory;
use plba_testkit::runtime::{paused, real};
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// Goes with paused time, and can be set.
struct Settable {
    clock: TokioClock,
    by: AtomicI64,
}

impl Settable {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            clock: TokioClock::new(),
            by: AtomicI64::new(0),
        })
    }

    fn set(&self, seconds: i64) {
        self.by.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Clock for Settable {
    fn now(&self) -> Timestamp {
        self.clock.now() + SignedDuration::from_secs(self.by.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }
}

/// The queue in memory, taken for one that outlives the processes that use it: a test's "process" is a task.
struct Outliving(InMemoryTaskQueue);

impl QueueDecorator for Outliving {
    fn inner(&self) -> &dyn TaskQueue {
        &self.0
    }

    fn durability(&self) -> Durability {
        Durability::ProcessCrash
    }
}

fn consumer(name: &str) -> ConsumerId {
    ConsumerId::new(Incarnation::of_this_process(7), name)
}

fn ledger() -> Arc<dyn SourceLedger> {
    Arc::new(FileLedger::in_memory(&FileLedgerSettings::default()))
}

fn outliving(clock: Arc<dyn Clock>) -> Arc<dyn TaskQueue> {
    let memory = InMemoryTaskQueue::new(MemorySettings::default(), clock).unwrap();
    Arc::new(Decorated(Outliving(memory)))
}

/// Every ten minutes.
fn schedule(misfire: Misfire) -> Schedule {
    let expression = Expression::parse("*/10 * * * *", "Europe/Berlin").unwrap();
    let mut schedule = Schedule::new("report", expression, NewTask::new("reports", "report.make", "{}"));
    schedule.misfire = misfire;
    schedule
}

/// An instance at work; dropping the handle's task is its end.
fn instance(
    misfire: Misfire,
    clock: Arc<dyn Clock>,
    queue: &Arc<dyn TaskQueue>,
    ledger: &Arc<dyn SourceLedger>,
) -> JoinHandle<()> {
    run(schedule(misfire), clock, queue, ledger)
}

fn run(
    schedule: Schedule,
    clock: Arc<dyn Clock>,
    queue: &Arc<dyn TaskQueue>,
    ledger: &Arc<dyn SourceLedger>,
) -> JoinHandle<()> {
    let source = Schedules::new([schedule]).unwrap().source("report", clock).unwrap();
    let intake = Intake::new(
        "schedule/report",
        Arc::clone(queue),
        Arc::clone(ledger),
        consumer("schedule"),
    );
    let stop = StopHandle::new();
    tokio::spawn(async move { source.run(intake, stop.signal()).await.unwrap() })
}

/// What was carried out: the minutes after the start of each nominal time, with how often it came.
type Done = Arc<Mutex<BTreeMap<i64, Vec<Delivery>>>>;

/// Acks every task at once, so that nothing but the unique key and the ledger remembers it.
fn carry_out(queue: &Arc<dyn TaskQueue>, done: &Done) -> JoinHandle<()> {
    let (queue, done) = (Arc::clone(queue), Arc::clone(done));
    tokio::spawn(async move {
        loop {
            for delivery in queue.consume(&"reports".into(), &consumer("worker"), 10).await.unwrap() {
                let nominal: Timestamp = delivery.task.headers["scheduled-for"].parse().unwrap();
                let minute = nominal.duration_since(START).as_secs() / 60;
                assert_eq!(delivery.task.id.as_str(), format!("schedule/report/{nominal}"));
                let (token, then) = (delivery.token.clone(), Vec::new());
                queue
                    .ack(vec![Completion { token, then }])
                    .await
                    .unwrap()
                    .remove(0)
                    .unwrap();
                done.lock().unwrap().entry(minute).or_default().push(delivery);
            }
        }
    })
}

fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(60 * minutes)
}

/// The nominal minutes that were carried out; each once.
fn once_each(done: &Done) -> Vec<i64> {
    let done = done.lock().unwrap();
    let twice: Vec<_> = done.iter().filter(|(_, deliveries)| deliveries.len() != 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    done.keys().copied().collect()
}

#[test]
fn failure_51_two_instances_with_an_hour_between_their_clocks_and_no_common_ledger_make_one_task_of_each_tick() {
    paused(async {
        let (early, late) = (Settable::new(), Settable::new());
        early.set(3_600);
        let queue = outliving(late.clone());
        let done = Done::default();
        let worker = carry_out(&queue, &done);
        let first = instance(Misfire::All { limit: 3 }, early.clone(), &queue, &ledger());
        let second = instance(Misfire::All { limit: 3 }, late.clone(), &queue, &ledger());
        sleep(minutes(5 * 60 + 5)).await;
        // The early one begins an hour after the start by its own clock; what the late one missed of that it does itself.
        assert_eq!(once_each(&done), (1..=36).map(|tick| tick * 10).collect::<Vec<_>>());
        let producer = &done.lock().unwrap()[&100][0].task.headers["producer"];
        assert!(producer.starts_with("schedule ("), "{producer}");
        [first, second, worker].iter().for_each(JoinHandle::abort);
    });
}

#[test]
fn failure_51_of_two_instances_on_one_ledger_the_later_one_publishes_nothing() {
    paused(async {
        let (early, late) = (Settable::new(), Settable::new());
        late.set(-5);
        let (queue, ledger) = (outliving(early.clone()), ledger());
        let source = |clock: &Arc<Settable>| {
            let schedules = Schedules::new([schedule(Misfire::Skip)]).unwrap();
            let source = Arc::new(schedules.source("report", clock.clone()).unwrap());
            let intake = Intake::new("schedule/report", queue.clone(), ledger.clone(), consumer("schedule"));
            let (running, stop) = (Arc::clone(&source), StopHandle::new());
            let run = tokio::spawn(async move { running.run(intake, stop.signal()).await.unwrap() });
            (source, run)
        };
        let (first, second) = (source(&early), source(&late));
        sleep(minutes(35)).await;
        assert_eq!((first.0.status().published, second.0.status().published), (3, 0));
        [first.1, second.1].iter().for_each(JoinHandle::abort);
    });
}

#[test]
fn failure_51_ticks_that_nobody_was_there_for_follow_the_policy() {
    for (misfire, made_up, instead_of) in [
        (Misfire::Skip, vec![], None),
        (Misfire::Once, vec![60], Some("2")),
        (Misfire::All { limit: 2 }, vec![50, 60], Some("1")),
        (Misfire::All { limit: 9 }, vec![40, 50, 60], None),
    ] {
        paused(async {
            let clock: Arc<dyn Clock> = Settable::new();
            let (queue, ledger, done) = (outliving(Arc::clone(&clock)), ledger(), Done::default());
            let worker = carry_out(&queue, &done);
            let running = instance(misfire, Arc::clone(&clock), &queue, &ledger);
            sleep(minutes(35)).await;
            running.abort();
            sleep(minutes(30)).await;
            let running = instance(misfire, Arc::clone(&clock), &queue, &ledger);
            sleep(minutes(10)).await;
            let expected: Vec<i64> = [vec![10, 20, 30], made_up.clone(), vec![70]].concat();
            assert_eq!(once_each(&done), expected, "{misfire:?}");
            if let Some(first) = made_up.first() {
                let done = done.lock().unwrap();
                let header = done[first][0].task.headers.get("missed-ticks").map(String::as_str);
                assert_eq!(header, instead_of, "{misfire:?}");
            }
            [running, worker].iter().for_each(JoinHandle::abort);
        });
    }
}

#[test]
fn failure_51_a_clock_that_is_set_brings_no_tick_twice() {
    paused(async {
        let clock = Settable::new();
        let (queue, ledger, done) = (outliving(clock.clone()), ledger(), Done::default());
        let worker = carry_out(&queue, &done);
        let running = instance(Misfire::Once, clock.clone(), &queue, &ledger);
        sleep(minutes(25)).await;
        assert_eq!(once_each(&done), [10, 20]);
        // Forward by an hour: what lies between is late, and made up for once.
        clock.set(3_600);
        sleep(minutes(1)).await;
        assert_eq!(once_each(&done), [10, 20, 80]);
        // Back by an hour: nothing again, until the clock has come to where it was.
        clock.set(-3_600);
        sleep(minutes(60)).await;
        assert_eq!(once_each(&done), [10, 20, 80]);
        sleep(minutes(5)).await;
        assert_eq!(once_each(&done), [10, 20, 80, 90]);
        // Back by a day: the clock was wrong, and nobody waits a day for it.
        clock.set(-24 * 3_600);
        sleep(minutes(15)).await;
        assert_eq!(once_each(&done), [90 - 24 * 60 + 10, 10, 20, 80, 90]);
        [running, worker].iter().for_each(JoinHandle::abort);
    });
}

#[test]
fn a_queue_that_ends_with_its_process_gets_what_was_not_done_once_more() {
    let directory = Directory::new();
    let clock = || -> Arc<dyn Clock> { Arc::new(TokioClock::new()) };
    let open = async |clock: &Arc<dyn Clock>| {
        let ledger = FileLedger::open(directory.path().join("ledger"), FileLedgerSettings::default()).await;
        let ledger: Arc<dyn SourceLedger> = Arc::new(ledger.unwrap());
        let memory = InMemoryTaskQueue::with_ledger(MemorySettings::default(), Arc::clone(clock), Arc::clone(&ledger));
        let queue: Arc<dyn TaskQueue> = Arc::new(memory.unwrap());
        let every_second = Expression::parse("* * * * * *", "UTC").unwrap();
        let schedule = Schedule::new("report", every_second, NewTask::new("reports", "report.make", "{}"));
        let running = run(schedule, Arc::clone(clock), &queue, &ledger);
        (queue, ledger, running)
    };
    real(async {
        let clock = clock();
        let (queue, ledger, running) = open(&clock).await;
        let take = async |queue: &Arc<dyn TaskQueue>| {
            let taken = queue.consume(&"reports".into(), &consumer("worker"), 1).await;
            taken.unwrap().remove(0)
        };
        let ack = async |queue: &Arc<dyn TaskQueue>, delivery: Delivery| {
            let then = vec![completion_task(delivery.task.origin.as_ref().unwrap())];
            let token = delivery.token;
            queue
                .ack(vec![Completion { token, then }])
                .await
                .unwrap()
                .remove(0)
                .unwrap();
        };
        let done = take(&queue).await;
        let first = done.task.id.clone();
        ack(&queue, done).await;
        let second = take(&queue).await.task.id.clone();
        assert_ne!(first, second);
        running.abort();
        let _ended = running.await;
        drop((queue, ledger));

        let (queue, ledger, running) = open(&clock).await;
        let mut seen = Vec::new();
        while seen.len() < 2 {
            let delivery = take(&queue).await;
            seen.push(delivery.task.id.clone());
            ack(&queue, delivery).await;
        }
        assert_eq!(seen[0], second, "what was in hand comes first");
        assert!(seen[1] > second && !seen.contains(&first), "{first} {second} {seen:?}");
        let settled = async {
            while ledger.stats().await.unwrap()[0].settled < 2 {
                tokio::task::yield_now().await;
            }
        };
        settled.await;
        running.abort();
    });
}
