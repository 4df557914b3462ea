//! The suite for task queues: the promises of the port, in groups.

mod consuming;
mod dead;
mod effects;
mod ending;
mod follow_ups;
mod leases;
mod publishing;
mod with_ledger;

use std::any::Any;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use plba_tasks::ledger::SourceLedger;
use plba_tasks::queue::{ConsumerId, Delivery, How, Incarnation, QueueStats, TaskQueue};
use plba_tasks::task::{NewTask, QueueName};
use tokio::time::timeout;

use super::{Time, run};

/// A fresh, empty queue and what the suite must know of it.
pub struct QueueUnderTest {
    /// The queue.
    pub queue: Arc<dyn TaskQueue>,
    /// How many tasks one named queue takes before publishers wait; `None` when it is not bounded. Between 4 and 1,000.
    pub capacity: Option<usize>,
    /// After how many crashes a task is dead.
    pub maximum_crashes: u32,
    /// What must live as long as the queue, such as a server.
    pub keep: Box<dyn Any + Send + Sync>,
}

/// Runs the suite against the queues that `make` makes, one for each case.
///
/// # Panics
/// With a report, when a promise is broken.
pub fn queue<Fut: Future<Output = QueueUnderTest>>(time: Time, make: impl Fn() -> Fut) {
    let cases = [
        publishing::CASES,
        consuming::CASES,
        leases::CASES,
        ending::CASES,
        follow_ups::CASES,
        effects::CASES,
        dead::CASES,
    ];
    run("the queue", time, &cases, || async { Subject::new(make().await) });
}

/// Runs the suite for queues that keep a ledger in step, such as the one in memory.
///
/// # Panics
/// With a report, when a promise is broken.
pub fn queue_with_ledger<Fut>(time: Time, make: impl Fn() -> Fut)
where
    Fut: Future<Output = (QueueUnderTest, Arc<dyn SourceLedger>)>,
{
    run("the queue with a ledger", time, &[with_ledger::CASES], || async {
        let (queue, ledger) = make().await;
        (Subject::new(queue), ledger)
    });
}

/// A queue with the verbs of the cases.
pub(super) struct Subject {
    queue: Arc<dyn TaskQueue>,
    name: QueueName,
    consumer: ConsumerId,
    capacity: Option<usize>,
    maximum_crashes: u32,
    _keep: Box<dyn Any + Send + Sync>,
}

impl Subject {
    fn new(subject: QueueUnderTest) -> Self {
        Self {
            queue: subject.queue,
            name: QueueName::from("orders"),
            consumer: ConsumerId::new(Incarnation::of_this_process(1), "conformance"),
            capacity: subject.capacity,
            maximum_crashes: subject.maximum_crashes,
            _keep: subject.keep,
        }
    }

    fn lease(&self) -> Duration {
        self.queue.lease()
    }

    /// How long a queue may take for what it does at once.
    fn patience(&self) -> Duration {
        self.lease() * 2 + Duration::from_secs(6)
    }

    fn task(&self, id: &str) -> NewTask {
        NewTask::new(&self.name, "test", id.to_owned()).with_id(id)
    }

    async fn publish(&self, ids: &[&str]) {
        let tasks = ids.iter().map(|id| self.task(id)).collect();
        self.queue.publish(tasks).await.expect("publishing works");
    }

    async fn take(&self, max: usize) -> Vec<Delivery> {
        self.take_from(&self.name, max).await
    }

    async fn take_from(&self, name: &QueueName, max: usize) -> Vec<Delivery> {
        let taken = timeout(self.patience(), self.queue.consume(name, &self.consumer, max)).await;
        taken.expect("something is ready").expect("consuming works")
    }

    async fn one(&self) -> Delivery {
        let mut taken = self.take(1).await;
        assert_eq!(taken.len(), 1, "one was asked for");
        taken.remove(0)
    }

    /// Takes everything that is ready within a moment, batch by batch.
    async fn drain(&self) -> Vec<Delivery> {
        let mut all = Vec::new();
        while let Ok(taken) = timeout(self.moment(), self.queue.consume(&self.name, &self.consumer, 100)).await {
            all.extend(taken.expect("consuming works"));
        }
        all
    }

    /// A span in which nothing runs out.
    fn moment(&self) -> Duration {
        self.lease() / 20
    }

    async fn nothing(&self) {
        let taken = timeout(self.moment(), self.queue.consume(&self.name, &self.consumer, 1)).await;
        assert!(taken.is_err(), "nothing should be ready, but this came: {taken:?}");
    }

    async fn pass(&self, span: Duration) {
        tokio::time::sleep(span).await;
    }

    async fn stats(&self) -> QueueStats {
        let stats = self.queue.stats().await.expect("stats work");
        stats
            .into_iter()
            .find(|stats| stats.queue == self.name.as_str())
            .unwrap_or_default()
    }

    async fn ack(&self, delivery: Delivery) {
        self.queue
            .end_one(delivery.token, How::ack(Vec::new()))
            .await
            .expect("the ack works");
    }

    async fn bury(&self, id: &str) {
        self.publish(&[id]).await;
        let delivery = self.one().await;
        assert_eq!(delivery.task.id.as_str(), id);
        self.queue
            .bury(delivery.token, format!("{id} is beyond help"))
            .await
            .expect("burying works");
    }

    async fn dead(&self) -> Vec<String> {
        let page = self
            .queue
            .dead_letters(&plba_tasks::queue::DeadFilter::default(), None, 1_000)
            .await
            .expect("dead letters are listed");
        page.letters.into_iter().map(|letter| letter.id.to_string()).collect()
    }
}

fn ids(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(|delivery| delivery.task.id.to_string()).collect()
}
