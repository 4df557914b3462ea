//! Sources, ledger, queue and workers together: what comes in is done once and told once, over restarts.

use std::sync::Arc;
use std::time::Duration;

use plba_contracts::health::Health;
use plba_contracts::services::Services;
use plba_contracts::worker::WorkerDefinition;
use plba_tasks::file_ledger::{FileLedger, FileLedgerSettings};
use plba_tasks::handler::{Outcome, TaskHandler};
use plba_tasks::intake::{Arrival, Intake, completion_task};
use plba_tasks::ledger::SourceLedger;
use plba_tasks::memory::{InMemoryTaskQueue, MemorySettings};
use plba_tasks::queue::{ConsumerId, How, Incarnation, TaskQueue};
use plba_tasks::source_worker::{SourceWorkerSettings, source_worker};
use plba_tasks::task::{NewTask, Origin, TaskId};
use plba_tasks::worker::{TaskWorkerSettings, task_worker};
use plba_testkit::clock::TokioClock;
use plba_testkit::directory::Directory;
use plba_testkit::handler::FakeHandler;
use plba_testkit::runtime::{paused, real};
use plba_testkit::services::FixedServices;
use plba_testkit::source::{FakeSource, Upstream};
use plba_testkit::worker::{Supervised, context};
use tokio::time::sleep;

/// A process: what stands between its start and its end.
struct Process {
    queue: Arc<dyn TaskQueue>,
    source: Supervised,
    worker: Supervised,
}

impl Process {
    async fn start(upstream: &Arc<Upstream>, ledger: Arc<dyn SourceLedger>, handler: Arc<FakeHandler>) -> Self {
        let clock = Arc::new(TokioClock::new());
        let memory = InMemoryTaskQueue::with_ledger(MemorySettings::default(), clock, Arc::clone(&ledger)).unwrap();
        let queue: Arc<dyn TaskQueue> = Arc::new(memory);
        let services = FixedServices::new()
            .with::<dyn TaskQueue>(Arc::clone(&queue))
            .with::<dyn SourceLedger>(ledger)
            .with::<dyn TaskHandler>(handler)
            .handle();
        let worker = task_worker(
            "things",
            "things",
            TaskWorkerSettings::default(),
            |services| async move { Ok(services.get::<dyn TaskHandler>().await?) },
        );
        let source = FakeSource::new(Arc::clone(upstream), "things");
        let source = source_worker("upstream", SourceWorkerSettings::default(), move |_| {
            let source = source.clone();
            async move { Ok(source as _) }
        });
        Self {
            queue,
            worker: supervise(&worker, services.clone()).await,
            source: supervise(&source, services).await,
        }
    }

    /// Ends as by SIGKILL: nothing is told, released or finished.
    async fn kill(self) {
        self.source.kill().await;
        self.worker.kill().await;
    }

    async fn stop(self) {
        self.source.stop(false).await;
        self.worker.stop(false).await;
    }
}

async fn supervise(definition: &WorkerDefinition, services: Services) -> Supervised {
    let worker = definition.build.call(services).await.unwrap();
    Supervised::start(worker, context(&definition.name, Arc::new(TokioClock::new())))
        .await
        .unwrap()
}

fn in_memory() -> Arc<dyn SourceLedger> {
    Arc::new(FileLedger::in_memory(&FileLedgerSettings::default()))
}

/// An intake with its queue and ledger, and who takes what is in the queue.
fn taking_in() -> (Arc<dyn TaskQueue>, Arc<dyn SourceLedger>, Intake, ConsumerId) {
    let ledger = in_memory();
    let clock = Arc::new(TokioClock::new());
    let memory = InMemoryTaskQueue::with_ledger(MemorySettings::default(), clock, Arc::clone(&ledger)).unwrap();
    let queue: Arc<dyn TaskQueue> = Arc::new(memory);
    let consumer = ConsumerId::new(Incarnation::of_this_process(1), "intake");
    let intake = Intake::new("upstream", Arc::clone(&queue), Arc::clone(&ledger), consumer.clone());
    (queue, ledger, intake, consumer)
}

#[test]
fn upstream_is_told_after_the_handler_succeeded_and_not_before() {
    paused(async {
        let (upstream, ledger) = (Upstream::new(), in_memory());
        upstream.arrive("1", "one");
        let handler = FakeHandler::new(|_, _| async {
            sleep(Duration::from_secs(3)).await;
            Ok(Outcome::done())
        });
        let process = Process::start(&upstream, ledger, handler).await;
        sleep(Duration::from_secs(2)).await;
        assert!(upstream.told().is_empty());
        sleep(Duration::from_secs(2)).await;
        assert_eq!(upstream.told(), ["1"]);
        upstream.arrive("2", "two");
        sleep(Duration::from_secs(4)).await;
        assert_eq!(upstream.told(), ["1", "2"]);
        process.stop().await;
    });
}

#[test]
fn a_thing_whose_task_gives_way_to_another_is_done_with_it() {
    paused(async {
        let (queue, ledger, intake, consumer) = taking_in();
        let arrival = |key: &str| Arrival {
            key: key.into(),
            task: NewTask::new("things", "thing", key.to_owned()).unique("same"),
        };
        let published = intake.publish(vec![arrival("1"), arrival("2")]).await.unwrap();
        assert_eq!((published.published, published.skipped), (1, 1));
        assert_eq!(intake.completions(10).await.unwrap(), ["2".into()]);
        intake.settle(&["2".into()]).await.unwrap();
        let taken = queue.consume(&"things".into(), &consumer, 10).await.unwrap();
        assert_eq!((taken.len(), &*taken[0].task.payload), (1, &b"1"[..]));
        let stats = ledger.stats().await.unwrap().remove(0);
        assert_eq!((stats.open, stats.settled), (1, 1));
    });
}

#[test]
fn a_key_that_is_twice_in_a_batch_counts_once() {
    paused(async {
        let (queue, _, intake, consumer) = taking_in();
        let arrival = |text: &str| Arrival {
            key: "1".into(),
            task: NewTask::new("things", "thing", text.to_owned()),
        };
        let published = intake.publish(vec![arrival("first"), arrival("second")]).await.unwrap();
        assert_eq!((published.published, published.skipped), (1, 1));
        let taken = queue.consume(&"things".into(), &consumer, 10).await.unwrap();
        assert_eq!((taken.len(), &*taken[0].task.payload), (1, &b"first"[..]));
    });
}

#[test]
fn a_batch_counts_what_is_new_and_what_is_known_in_whatever_way() {
    paused(async {
        let (queue, _, intake, consumer) = taking_in();
        let arrival = |key: &str| Arrival {
            key: key.into(),
            task: NewTask::new("things", "thing", key.to_owned()),
        };
        let only_one = |key: &str| Arrival {
            task: arrival(key).task.unique("same"),
            ..arrival(key)
        };
        let counts = async |batch: Vec<Arrival>| {
            let counts = intake.publish(batch).await.unwrap();
            (counts.published, counts.skipped)
        };
        let first = ["done", "dead", "in hand", "waits"].map(arrival);
        assert_eq!(counts(first.into()).await, (4, 0));
        let mut taken = queue.consume(&"things".into(), &consumer, 3).await.unwrap();
        taken.pop();
        queue
            .bury(taken.pop().unwrap().token, "nonsense".to_owned())
            .await
            .unwrap();
        let then = vec![completion_task(&Origin::new("upstream", "done"))];
        queue.end_one(taken.pop().unwrap().token, How::ack(then)).await.unwrap();
        assert_eq!(intake.completions(10).await.unwrap(), ["done".into()]);

        let mut batch: Vec<Arrival> = ["done", "new", "dead", "in hand", "waits", "new too"]
            .map(arrival)
            .into();
        batch.extend([only_one("one"), only_one("another")]);
        assert_eq!(counts(batch.clone()).await, (3, 5));
        assert_eq!(counts(batch).await, (0, 8), "all are known now");
        assert_eq!(counts(Vec::new()).await, (0, 0));
        let stats = queue.stats().await.unwrap();
        let things = stats.iter().find(|stats| stats.queue == "things").unwrap();
        assert_eq!((things.ready, things.leased, things.published), (4, 1, 7), "{things:?}");
    });
}

#[test]
fn a_rejected_thing_is_a_dead_letter_and_upstream_is_not_told_until_it_is_retried() {
    paused(async {
        let (upstream, ledger) = (Upstream::new(), in_memory());
        upstream.arrive("1", "one");
        let handler = FakeHandler::new(|_, context| async move {
            Ok(if context.clock.monotonic() < Duration::from_secs(60) {
                Outcome::reject("nonsense")
            } else {
                Outcome::done()
            })
        });
        let process = Process::start(&upstream, ledger, handler).await;
        sleep(Duration::from_secs(61)).await;
        assert!(upstream.told().is_empty());
        let letters = process
            .queue
            .dead_letters(&plba_tasks::queue::DeadFilter::default(), None, 10)
            .await
            .unwrap()
            .letters;
        assert_eq!(letters[0].reason, "nonsense");
        assert_eq!(
            process
                .queue
                .retry_dead(&letters[0].queue, &[TaskId::from("upstream/1")])
                .await
                .unwrap(),
            1
        );
        upstream.arrive("2", "two");
        sleep(Duration::from_secs(1)).await;
        assert_eq!(upstream.told(), ["1", "2"]);
        process.stop().await;
    });
}

#[test]
fn a_source_that_fails_is_degraded_backs_off_and_recovers() {
    paused(async {
        let (upstream, ledger) = (Upstream::new(), in_memory());
        upstream.fail(3);
        let process = Process::start(&upstream, ledger, FakeHandler::done()).await;
        sleep(Duration::from_millis(10)).await;
        let Health::Degraded { reason } = process.source.worker.health() else {
            panic!("a failure degrades")
        };
        assert!(reason.contains("upstream does not answer"), "{reason}");
        upstream.arrive("1", "one");
        sleep(Duration::from_secs(10)).await;
        assert_eq!(upstream.told(), ["1"]);
        process.stop().await;
    });
}

#[test]
fn over_kills_and_restarts_everything_is_done_and_told() {
    real(async {
        let directory = Directory::new();
        let path = directory.path().join("ledger");
        let upstream = Upstream::new();
        for number in 0..200 {
            upstream.arrive(&format!("{number:03}"), "payload");
        }
        let seed = fastrand::u64(..);
        let mut random = fastrand::Rng::with_seed(seed);
        let mut done = std::collections::BTreeSet::new();
        for life in 0..100 {
            let ledger = Arc::new(FileLedger::open(&path, FileLedgerSettings::default()).await.unwrap());
            let handler = FakeHandler::new(|_, _| async {
                tokio::task::yield_now().await;
                Ok(Outcome::done())
            });
            let process = Process::start(&upstream, ledger.clone(), handler.clone()).await;
            let last = life > 20 && upstream.told().len() == 200;
            for _ in 0..random.u32(1..40) {
                sleep(Duration::from_millis(1)).await;
            }
            if last {
                process.stop().await;
            } else {
                process.kill().await;
            }
            done.extend(handler.handled());
            drop(handler);
            assert!(
                ledger.dead_letters(None, 10).await.unwrap().letters.is_empty(),
                "seed {seed}: something died"
            );
            // Whatever spawned tasks hold of the ledger must be gone before it is opened again.
            let mut ledger = ledger;
            while let Err(held) = Arc::try_unwrap(ledger).map(drop) {
                ledger = held;
                tokio::task::yield_now().await;
            }
            if last {
                break;
            }
        }
        assert_eq!(done.len(), 200, "seed {seed}");
        assert_eq!(upstream.told().len(), 200, "seed {seed}");
    });
}
