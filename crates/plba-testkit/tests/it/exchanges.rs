//! A worker with a backlog ends one batch and takes the next in one call, and with none its tasks are ended at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use plba_tasks::handler::Outcome;
use plba_tasks::memory::{InMemoryTaskQueue, MemorySettings};
use plba_tasks::queue::{ConsumerId, Delivery, Durability, EndError, Ending, Exchange, QueueError, TaskQueue};
use plba_tasks::task::{NewTask, QueueName};
use plba_tasks::worker::{TaskWorker, TaskWorkerSettings};
use plba_testkit::clock::TokioClock;
use plba_testkit::decorator::{Decorated, QueueDecorator};
use plba_testkit::handler::FakeHandler;
use plba_testkit::runtime::paused;
use plba_testkit::worker::{Supervised, context};
use tokio::time::sleep;

/// The queue in memory, with the calls of a worker counted.
struct Counted {
    memory: InMemoryTaskQueue,
    consumes: AtomicUsize,
    ends: AtomicUsize,
    exchanges: AtomicUsize,
    /// How many exchanges are yet to fail.
    failing: AtomicUsize,
}

#[async_trait]
impl QueueDecorator for Counted {
    fn inner(&self) -> &dyn TaskQueue {
        &self.memory
    }

    fn durability(&self) -> Durability {
        // As a durable backend: its workers keep what they sent until it is known to have arrived.
        Durability::ProcessCrash
    }

    async fn consume(&self, queue: &QueueName, consumer: &ConsumerId, max: usize) -> Result<Vec<Delivery>, QueueError> {
        let taken = self.memory.consume(queue, consumer, max).await;
        self.consumes.fetch_add(1, Ordering::Relaxed);
        taken
    }

    async fn end(&self, endings: Vec<Ending>) -> Result<Vec<Result<(), EndError>>, QueueError> {
        self.ends.fetch_add(1, Ordering::Relaxed);
        self.memory.end(endings).await
    }

    async fn exchange(&self, endings: Vec<Ending>, queue: &QueueName, consumer: &ConsumerId, max: usize) -> Exchange {
        self.exchanges.fetch_add(1, Ordering::Relaxed);
        if self.failing.load(Ordering::Relaxed) > 0 {
            self.failing.fetch_sub(1, Ordering::Relaxed);
            return Exchange {
                ended: Err(QueueError::new("the server is away")),
                taken: Err(QueueError::new("the server is away")),
            };
        }
        self.memory.exchange(endings, queue, consumer, max).await
    }
}

fn counted() -> Arc<Decorated<Counted>> {
    let memory = InMemoryTaskQueue::new(MemorySettings::default(), Arc::new(TokioClock::new())).unwrap();
    Arc::new(Decorated(Counted {
        memory,
        consumes: AtomicUsize::new(0),
        ends: AtomicUsize::new(0),
        exchanges: AtomicUsize::new(0),
        failing: AtomicUsize::new(0),
    }))
}

async fn worker(queue: &Arc<Decorated<Counted>>) -> Supervised {
    let handler = FakeHandler::new(|_, _| async { Ok(Outcome::done()) });
    let settings = TaskWorkerSettings::default();
    let worker = TaskWorker::new(queue.clone(), "orders".into(), handler, None, settings);
    Supervised::start(Arc::new(worker), context("orders", Arc::new(TokioClock::new())))
        .await
        .unwrap()
}

async fn publish(queue: &dyn TaskQueue, count: usize) {
    let tasks = (0..count).map(|number| NewTask::new("orders", "order", number.to_string()));
    queue.publish(tasks.collect()).await.unwrap();
}

async fn acked(queue: &dyn TaskQueue) -> u64 {
    queue.stats().await.unwrap().first().map_or(0, |stats| stats.acked)
}

#[test]
fn with_a_backlog_a_batch_costs_one_call() {
    paused(async {
        let queue = counted();
        publish(&*queue, 640).await;
        let worker = worker(&queue).await;
        sleep(Duration::from_secs(1)).await;
        assert_eq!(acked(&*queue).await, 640);
        // Batches of 1, 2, 4 … 64, and then of 64.
        let calls = [&queue.0.consumes, &queue.0.ends, &queue.0.exchanges].map(|calls| calls.load(Ordering::Relaxed));
        assert_eq!((calls[0], calls[1]), (1, 0));
        assert!((10..=17).contains(&calls[2]), "{calls:?}");
        worker.stop(false).await;
    });
}

#[test]
fn a_task_alone_is_ended_at_once() {
    paused(async {
        let queue = counted();
        let worker = worker(&queue).await;
        for number in 1..=3 {
            publish(&*queue, 1).await;
            sleep(Duration::from_millis(1)).await;
            assert_eq!(acked(&*queue).await, number);
        }
        worker.stop(false).await;
    });
}

#[test]
fn an_exchange_that_failed_is_made_good() {
    paused(async {
        let queue = counted();
        queue.0.failing.store(1, Ordering::Relaxed);
        publish(&*queue, 3).await;
        let worker = worker(&queue).await;
        sleep(Duration::from_secs(5)).await;
        assert_eq!(acked(&*queue).await, 3);
        let stats = queue.stats().await.unwrap().remove(0);
        assert_eq!((stats.ready, stats.leased, stats.lost), (0, 0, 0));
        worker.stop(false).await;
    });
}

#[test]
fn a_worker_that_stops_takes_no_more() {
    paused(async {
        let queue = counted();
        publish(&*queue, 200).await;
        let handler = FakeHandler::new(|_, _| async {
            sleep(Duration::from_secs(1)).await;
            Ok(Outcome::done())
        });
        let settings = TaskWorkerSettings::default();
        let worker = TaskWorker::new(queue.clone(), "orders".into(), handler, None, settings);
        let clock = Arc::new(TokioClock::new());
        let worker = Supervised::start(Arc::new(worker), context("orders", clock))
            .await
            .unwrap();
        sleep(Duration::from_millis(2_500)).await;
        worker.stop(false).await;
        let stats = queue.stats().await.unwrap().remove(0);
        assert_eq!((stats.acked, stats.leased, stats.ready), (3, 0, 197));
    });
}
