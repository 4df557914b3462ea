//! What a worker leaves behind: follow-ups that say who published them, and word of what became of the task that it had in
//! hand when it was forced to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use plba_contracts::worker::{Exit, Fate};
use plba_tasks::handler::{Outcome, TaskHandler};
use plba_tasks::memory::{InMemoryTaskQueue, MemorySettings};
use plba_tasks::queue::{
    ConsumerId, Delivery, DeliveryToken, Durability, EndError, Ending, Incarnation, QueueError, TaskQueue,
};
use plba_tasks::task::{NewTask, PRODUCER};
use plba_tasks::worker::{TaskWorker, TaskWorkerSettings};
use plba_testkit::clock::TokioClock;
use plba_testkit::decorator::{Decorated, QueueDecorator};
use plba_testkit::handler::FakeHandler;
use plba_testkit::runtime::paused;
use plba_testkit::worker::{Supervised, context};
use tokio::time::sleep;

/// The queue in memory, taken for one on a server that can be cut off.
struct Server {
    memory: InMemoryTaskQueue,
    away: AtomicBool,
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

    async fn extend(&self, tokens: &[DeliveryToken]) -> Result<Vec<Result<(), EndError>>, QueueError> {
        self.answers()?;
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
    let away = AtomicBool::new(false);
    Arc::new(Decorated(Server { memory, away }))
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
