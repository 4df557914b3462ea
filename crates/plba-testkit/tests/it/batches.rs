//! Batches to a handler, under paused time: how they are gathered, what a failure costs whom, and what a stop gives back.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use plba_contracts::services::BoxFuture;
use plba_contracts::worker::Exit;
use plba_tasks::batch::{BatchContext, BatchHandler, BatchOutcome, BatchSettings, BatchTask, BatchWorker};
use plba_tasks::handler::{HandlerError, Outcome};
use plba_tasks::memory::{InMemoryTaskQueue, MemorySettings};
use plba_tasks::queue::{ConsumerId, DeadFilter, Incarnation, QueueStats, TaskQueue};
use plba_tasks::retry::RetryPolicy;
use plba_tasks::task::NewTask;
use plba_testkit::clock::TokioClock;
use plba_testkit::runtime::paused;
use plba_testkit::worker::{Supervised, context};
use tokio::time::sleep;

type Answer = dyn Fn(Vec<String>, BatchContext) -> BoxFuture<'static, Result<BatchOutcome, HandlerError>> + Send + Sync;

/// Answers as a closure does, and remembers the batches that it was given.
struct FakeBatches {
    answer: Box<Answer>,
    given: Mutex<Vec<Vec<String>>>,
}

impl FakeBatches {
    fn new<F, Fut>(answer: F) -> Arc<Self>
    where
        F: Fn(Vec<String>, BatchContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<BatchOutcome, HandlerError>> + Send + 'static,
    {
        Arc::new(Self {
            answer: Box::new(move |ids, context| Box::pin(answer(ids, context))),
            given: Mutex::default(),
        })
    }

    fn sizes(&self) -> Vec<usize> {
        self.given().iter().map(Vec::len).collect()
    }

    fn given(&self) -> Vec<Vec<String>> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl BatchHandler for FakeBatches {
    async fn handle(&self, batch: &[BatchTask], context: &BatchContext) -> Result<BatchOutcome, HandlerError> {
        let ids: Vec<String> = batch.iter().map(|item| item.task.id.to_string()).collect();
        self.given
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(ids.clone());
        (self.answer)(ids, context.clone()).await
    }
}

fn settings(size: usize, wait: Duration) -> BatchSettings {
    BatchSettings {
        size,
        wait,
        timeout: Duration::from_secs(100),
        retry: RetryPolicy {
            maximum_attempts: 3,
            exponent: 0,
            jitter: 0.0,
            ..RetryPolicy::default()
        },
        seed: Some(7),
        ..BatchSettings::default()
    }
}

async fn start(settings: BatchSettings, handler: &Arc<FakeBatches>) -> (Arc<dyn TaskQueue>, Supervised) {
    let clock = Arc::new(TokioClock::new());
    let memory = InMemoryTaskQueue::new(MemorySettings::default(), clock.clone()).unwrap();
    let queue: Arc<dyn TaskQueue> = Arc::new(memory);
    let handler = Arc::clone(handler) as Arc<dyn BatchHandler>;
    let worker = BatchWorker::new(Arc::clone(&queue), "rows".into(), handler, None, settings);
    let running = Supervised::start(Arc::new(worker), context("rows", clock))
        .await
        .unwrap();
    (queue, running)
}

async fn publish(queue: &Arc<dyn TaskQueue>, numbers: std::ops::Range<usize>) {
    let task = |number| NewTask::new("rows", "row", "").with_id(format!("{number:03}"));
    queue.publish(numbers.map(task).collect()).await.unwrap();
}

async fn stats(queue: &Arc<dyn TaskQueue>) -> QueueStats {
    let stats = queue.stats().await.unwrap();
    stats.into_iter().find(|stats| stats.queue == "rows").unwrap()
}

#[test]
fn a_batch_is_full_or_its_first_task_has_waited_long_enough() {
    paused(async {
        let handler = FakeBatches::new(|_, _| async { Ok(BatchOutcome::Done) });
        let (queue, running) = start(settings(100, Duration::from_secs(10)), &handler).await;
        publish(&queue, 0..250).await;
        sleep(Duration::from_secs(1)).await;
        assert_eq!(handler.sizes(), [100, 100], "full ones go at once, the rest waits");
        sleep(Duration::from_secs(8)).await;
        publish(&queue, 250..260).await;
        sleep(Duration::from_millis(900)).await;
        assert_eq!(handler.sizes(), [100, 100]);
        sleep(Duration::from_millis(200)).await;
        assert_eq!(handler.sizes(), [100, 100, 60], "ten seconds after the first of them");
        assert_eq!((stats(&queue).await.acked, stats(&queue).await.leased), (260, 0));
        assert!(matches!(running.stop(false).await, Exit::Stopped));
    });
}

#[test]
fn a_poison_task_takes_its_neighbours_down_once_and_dies_alone() {
    for maximum_attempts in [1, 3] {
        paused(async {
            let handler = FakeBatches::new(|ids, _| async move {
                assert!(!ids.contains(&"007".to_owned()), "poison");
                Ok(BatchOutcome::Done)
            });
            let mut settings = settings(10, Duration::from_millis(100));
            settings.retry.maximum_attempts = maximum_attempts;
            let (queue, running) = start(settings, &handler).await;
            publish(&queue, 0..10).await;
            sleep(Duration::from_secs(60)).await;
            let given = handler.given();
            assert_eq!(given[0].len(), 10);
            assert!(given[1..].iter().all(|batch| batch.len() == 1), "{given:?}");
            let stats = stats(&queue).await;
            assert_eq!(
                (stats.acked, stats.dead, stats.ready + stats.delayed + stats.leased),
                (9, 1, 0)
            );
            let dead = queue
                .dead_letters(&DeadFilter::default(), None, 10)
                .await
                .unwrap()
                .letters
                .remove(0);
            assert_eq!(dead.id.as_str(), "007");
            assert!(dead.history[0].reason.contains("poison (in a batch of 10)"), "{dead:?}");
            // One failure together, and then as many alone as there may be, but at least one.
            assert_eq!(dead.history.len() as u32, maximum_attempts.max(2));
            // What never failed goes in batches as before.
            publish(&queue, 20..30).await;
            sleep(Duration::from_secs(1)).await;
            assert_eq!(handler.sizes().last(), Some(&10));
            running.stop(false).await;
        });
    }
}

#[test]
fn each_task_of_a_batch_has_an_outcome_of_its_own() {
    paused(async {
        let handler = FakeBatches::new(|ids, _| async move {
            let answer = |id: &String| match id.as_str() {
                "000" => Ok(Outcome::reject("no such article")),
                "001" => Err(HandlerError::retry_after(Duration::from_secs(600), "not now")),
                "002" => Ok(Outcome::snooze(Duration::from_secs(900))),
                "003" => Ok(Outcome::done().then(NewTask::new("replies", "reply", "3"))),
                _ => Ok(Outcome::done()),
            };
            Ok(BatchOutcome::Each(ids.iter().map(answer).collect()))
        });
        let (queue, running) = start(settings(10, Duration::from_millis(100)), &handler).await;
        publish(&queue, 0..10).await;
        sleep(Duration::from_secs(1)).await;
        let all = queue.stats().await.unwrap();
        let replies = all.iter().find(|stats| stats.queue == "replies").unwrap();
        let stats = stats(&queue).await;
        assert_eq!((stats.acked, stats.dead, stats.delayed, stats.failed), (7, 1, 2, 2));
        assert_eq!(replies.ready, 1);
        let consumer = ConsumerId::new(Incarnation::of_this_process(7), "test");
        let reply = queue.consume(&"replies".into(), &consumer, 1).await.unwrap().remove(0);
        assert!(
            reply.task.headers["producer"].starts_with("rows#0 ("),
            "{:?}",
            reply.task.headers
        );
        let page = queue.tasks(&Default::default(), None, 10).await.unwrap();
        let snoozed = page.tasks.iter().find(|task| task.id.as_str() == "002").unwrap();
        assert_eq!(snoozed.attempts, 0, "a snooze is no attempt");
        running.stop(false).await;
    });
}

#[test]
fn too_long_and_miscounted_answers_fail_the_whole_batch() {
    paused(async {
        let handler = FakeBatches::new(|ids, _| async move {
            match ids.len() {
                5 => sleep(Duration::from_secs(1_000)).await,
                4 => return Ok(BatchOutcome::Each(vec![Ok(Outcome::done())])),
                _ => {}
            }
            Ok(BatchOutcome::Done)
        });
        let (queue, running) = start(settings(5, Duration::from_millis(100)), &handler).await;
        publish(&queue, 0..5).await;
        sleep(Duration::from_secs(99)).await;
        assert_eq!(
            stats(&queue).await.leased,
            5,
            "the leases of 30 s are renewed meanwhile"
        );
        sleep(Duration::from_secs(10)).await;
        assert_eq!((stats(&queue).await.acked, stats(&queue).await.failed), (5, 5));
        publish(&queue, 5..9).await;
        sleep(Duration::from_secs(10)).await;
        assert_eq!(handler.sizes(), [5, 1, 1, 1, 1, 1, 4, 1, 1, 1, 1]);
        assert_eq!((stats(&queue).await.acked, stats(&queue).await.lost), (9, 0));
        running.stop(false).await;
    });
}

#[test]
fn what_is_gathered_keeps_its_lease_and_a_stop_gives_it_back_without_an_attempt() {
    paused(async {
        let handler = FakeBatches::new(|_, _| async { Ok(BatchOutcome::Done) });
        let (queue, running) = start(settings(10, Duration::from_secs(600)), &handler).await;
        publish(&queue, 0..3).await;
        sleep(Duration::from_secs(300)).await;
        assert_eq!((stats(&queue).await.leased, stats(&queue).await.lost), (3, 0));
        assert!(matches!(running.stop(false).await, Exit::Stopped));
        assert!(handler.given().is_empty());
        let after = stats(&queue).await;
        assert_eq!((after.ready, after.leased, after.failed), (3, 0, 0));
        let page = queue.tasks(&Default::default(), None, 10).await.unwrap();
        assert!(page.tasks.iter().all(|task| task.attempts == 0));
    });
}

#[test]
fn a_graceful_stop_finishes_the_batch_in_hand_and_a_forced_one_gives_it_back() {
    for (force, acked, ready) in [(false, 5, 0), (true, 0, 5)] {
        paused(async {
            let handler = FakeBatches::new(|_, _| async {
                sleep(Duration::from_secs(20)).await;
                Ok(BatchOutcome::Done)
            });
            let (queue, running) = start(settings(5, Duration::from_millis(100)), &handler).await;
            publish(&queue, 0..5).await;
            sleep(Duration::from_secs(5)).await;
            assert!(matches!(running.stop(force).await, Exit::Stopped));
            let stats = stats(&queue).await;
            assert_eq!(
                (stats.acked, stats.ready, stats.leased, stats.failed),
                (acked, ready, 0, 0),
                "{force}"
            );
        });
    }
}
