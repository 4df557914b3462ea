//! What a worker leaves behind: follow-ups that say who published them, and word of what became of the task that it had in
//! hand when it was forced to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use plba_contracts::worker::{Exit, Fate};
use plba_tasks::handler::{Outcome, TaskHandler};
use plba_tasks::memory::{InMemoryTaskQueue, MemorySettings};
use plba_tasks::queue::{
    ConsumerId, Delivery, DeliveryToken, Durability, EndError, Ending, Exchange, Incarnation, QueueError, TaskQueue,
};
use plba_tasks::task::{NewTask, PRODUCER, QueueName};
use plba_tasks::worker::{TaskWorker, TaskWorkerSettings};
use plba_testkit::clock::{ManualClock, TokioClock};
use plba_testkit::decorator::{Decorated, QueueDecorator};
use plba_testkit::handler::FakeHandler;
use plba_testkit::runtime::paused;
use plba_testkit::worker::{Supervised, context};
use tokio::time::sleep;

/// The queue in memory, taken for one on a server that can be cut off.
struct Server {
    memory: InMemoryTaskQueue,
    away: AtomicBool,
    /// How often leases were renewed.
    extended: AtomicU32,
}

#[async_trait]
impl QueueDecorator for Server {
    fn inner(&self) -> &dyn TaskQueue {
        &self.memory
    }

    fn durability(&self) -> Durability {
        Durability::ProcessCrash
    }

    async fn end(&self, endings: Vec<Ending>) -> Result<Vec<Result<(), EndError>>, QueueError> {
        self.answers()?;
        self.memory.end(endings).await
    }

    async fn exchange(&self, endings: Vec<Ending>, queue: &QueueName, consumer: &ConsumerId, max: usize) -> Exchange {
        if let Err(error) = self.answers() {
            return Exchange {
                ended: Err(error),
                taken: Ok(Vec::new()),
            };
        }
        self.memory.exchange(endings, queue, consumer, max).await
    }

    async fn extend(&self, tokens: &[DeliveryToken]) -> Result<Vec<Result<(), EndError>>, QueueError> {
        self.answers()?;
        self.extended.fetch_add(1, Ordering::Relaxed);
        self.memory.extend(tokens).await
    }
}

impl Server {
    fn answers(&self) -> Result<(), QueueError> {
        if self.away.load(Ordering::Relaxed) {
            return Err(QueueError::new("the server is away"));
        }
        Ok(())
    }
}

fn server() -> Arc<Decorated<Server>> {
    let memory = InMemoryTaskQueue::new(MemorySettings::default(), Arc::new(TokioClock::new())).unwrap();
    let (away, extended) = (AtomicBool::new(false), AtomicU32::new(0));
    Arc::new(Decorated(Server { memory, away, extended }))
}

async fn start(queue: &Arc<Decorated<Server>>, handler: Arc<dyn TaskHandler>) -> Supervised {
    let settings = TaskWorkerSettings::default();
    let worker = TaskWorker::new(Arc::clone(queue) as _, "orders".into(), handler, None, settings);
    Supervised::start(Arc::new(worker), context("orders", Arc::new(TokioClock::new())))
        .await
        .unwrap()
}

async fn take(queue: &dyn TaskQueue, name: &str, max: usize) -> Vec<Delivery> {
    let consumer = ConsumerId::new(Incarnation::of_this_process(3), "test");
    queue.consume(&name.into(), &consumer, max).await.unwrap()
}

#[test]
fn follow_ups_say_who_published_them_unless_they_say_so_themselves() {
    paused(async {
        let queue = server();
        let handler = FakeHandler::new(|_, _| async {
            let mut signed = NewTask::new("replies", "reply", "").with_id("signed");
            signed.headers.insert(PRODUCER.to_owned(), "somebody else".to_owned());
            let plain = NewTask::new("replies", "reply", "").with_id("plain");
            Ok(Outcome::Done {
                then: vec![plain, signed],
            })
        });
        let worker = start(&queue, handler).await;
        queue.publish(vec![NewTask::new("orders", "order", "")]).await.unwrap();
        sleep(Duration::from_millis(1)).await;
        let replies = take(&*queue, "replies", 8).await;
        let producers: Vec<(&str, &str)> = replies
            .iter()
            .map(|reply| (reply.task.id.as_str(), reply.task.headers[PRODUCER].as_str()))
            .collect();
        let [("plain", own), ("signed", "somebody else")] = producers[..] else {
            panic!("{producers:?}")
        };
        let process = format!(":{})", std::process::id());
        assert!(own.starts_with("orders#0 (") && own.ends_with(&process), "{own}");
        worker.stop(false).await;
    });
}

/// Forces a worker to stop that has a task in hand; gives what is said to have become of that.
async fn fate_of_a_forced_stop(queue: &Arc<Decorated<Server>>) -> Fate {
    let handler = FakeHandler::new(|_, _| std::future::pending());
    let worker = start(queue, handler).await;
    let activity = worker.activity.clone();
    queue
        .publish(vec![NewTask::new("orders", "order", "").with_id("in hand")])
        .await
        .unwrap();
    sleep(Duration::from_millis(1)).await;
    assert_eq!(
        activity.current().map(|busy| busy.what.to_string()).as_deref(),
        Some("in hand")
    );
    assert!(matches!(worker.stop(true).await, Exit::Stopped));
    activity.fate()
}

#[test]
fn what_a_forced_worker_had_in_hand_is_given_back_and_it_says_so() {
    paused(async {
        let queue = server();
        assert_eq!(fate_of_a_forced_stop(&queue).await, Fate::Released);
        let again = take(&*queue, "orders", 1).await;
        assert_eq!(again[0].attempt, 1, "no attempt was spent");
    });
}

#[test]
fn what_a_forced_worker_could_not_give_back_comes_after_its_lease_and_it_says_so() {
    paused(async {
        let queue = server();
        queue.0.away.store(true, Ordering::Relaxed);
        let began = tokio::time::Instant::now();
        assert_eq!(fate_of_a_forced_stop(&queue).await, Fate::AfterLease);
        assert!(
            began.elapsed() < Duration::from_secs(1),
            "nobody waits for the server: {:?}",
            began.elapsed()
        );
        queue.0.away.store(false, Ordering::Relaxed);
        let again = take(&*queue, "orders", 1).await;
        assert!(began.elapsed() >= queue.lease(), "{:?}", began.elapsed());
        assert_eq!((again[0].task.id.as_str(), again[0].deliveries), ("in hand", 2));
    });
}

#[test]
fn an_effect_whose_completion_did_not_reach_the_server_is_made_anew_and_not_left_out() {
    paused(async {
        let queue = server();
        let (ran, away) = (Arc::new(AtomicU32::new(0)), Arc::clone(&queue));
        let counted = Arc::clone(&ran);
        let handler = FakeHandler::new(move |_, context| {
            let (ran, away) = (Arc::clone(&counted), Arc::clone(&away));
            async move {
                // When the first attempt is to be completed, nobody answers.
                away.0.away.store(context.attempt == 1, Ordering::Relaxed);
                Ok(Outcome::done_with(move |_| {
                    ran.fetch_add(1, Ordering::Relaxed);
                    Box::pin(std::future::ready(Ok(Vec::new())))
                }))
            }
        });
        let worker = start(&queue, handler.clone()).await;
        queue
            .publish(vec![NewTask::new("orders", "order", "").with_id("a")])
            .await
            .unwrap();
        sleep(Duration::from_secs(1)).await;
        queue.0.away.store(false, Ordering::Relaxed);
        sleep(Duration::from_secs(60)).await;
        assert_eq!(handler.handled(), ["a", "a"]);
        assert_eq!(ran.load(Ordering::Relaxed), 1, "the effect has taken place once");
        assert_eq!(queue.stats().await.unwrap()[0].acked, 1);
        worker.stop(false).await;
    });
}

/// Says when it is dropped.
struct Dropped(Arc<AtomicBool>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_handler_whose_lease_can_not_be_renewed_is_dropped_when_it_runs_out() {
    paused(async {
        let queue = server();
        let dropped = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&dropped);
        let handler = FakeHandler::new(move |_, _| {
            let guard = Dropped(Arc::clone(&flag));
            async move {
                let _guard = guard;
                std::future::pending().await
            }
        });
        let worker = start(&queue, handler).await;
        queue.publish(vec![NewTask::new("orders", "order", "")]).await.unwrap();
        sleep(Duration::from_millis(1)).await;
        queue.0.away.store(true, Ordering::Relaxed);
        sleep(queue.lease() / 2).await;
        assert!(!dropped.load(Ordering::Relaxed), "the lease still holds");
        sleep(queue.lease() / 2).await;
        assert!(
            dropped.load(Ordering::Relaxed),
            "somebody else may have the task by now"
        );
        worker.stop(true).await;
    });
}

#[test]
fn handlers_that_never_wait_have_their_leases_renewed_in_between() {
    paused(async {
        let (queue, clock) = (server(), Arc::new(ManualClock::new()));
        let each = queue.lease() / 2;
        let passing = Arc::clone(&clock);
        let handler = FakeHandler::new(move |_, _| {
            passing.advance(each);
            async { Ok(Outcome::done()) }
        });
        let task = |number: u32| NewTask::new("orders", "order", "").with_id(number.to_string());
        queue.publish((0..16).map(task).collect()).await.unwrap();
        let settings = TaskWorkerSettings::default();
        let worker = TaskWorker::new(queue.clone() as _, "orders".into(), handler.clone(), None, settings);
        let worker = Supervised::start(Arc::new(worker), context("orders", clock))
            .await
            .unwrap();
        sleep(Duration::from_secs(1)).await;
        assert_eq!(handler.handled().len(), 16);
        // The first batch is of one task, and the next ones of two, four and eight: each but the first of a batch is late.
        assert_eq!(queue.0.extended.load(Ordering::Relaxed), 1 + 3 + 7);
        worker.stop(false).await;
    });
}
