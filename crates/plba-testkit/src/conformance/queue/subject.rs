//! A queue with the verbs of the cases, in whichever time it lives.

use std::any::Any;
use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use plba_tasks::queue::{
    ConsumerId, DeadFilter, Delivery, How, Incarnation, QueueRules, QueueStats, TaskFilter, TaskQueue, TaskSummary,
};
use plba_tasks::task::{NewTask, QueueName, TaskId};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, error::Elapsed, timeout};

use super::{Advance, QueueUnderTest};

/// A queue with the verbs of the cases.
pub(super) struct Subject {
    pub(super) queue: Arc<dyn TaskQueue>,
    pub(super) name: QueueName,
    pub(super) consumer: ConsumerId,
    pub(super) capacity: Option<usize>,
    pub(super) maximum_crashes: u32,
    advance: Option<Advance>,
    began: Instant,
    /// By how much the queue's time has been moved.
    moved: Cell<Duration>,
    _keep: Box<dyn Any + Send + Sync>,
}

impl Subject {
    pub(super) fn new(subject: QueueUnderTest) -> Self {
        Self {
            queue: subject.queue,
            name: QueueName::from("orders"),
            consumer: ConsumerId::new(Incarnation::of_this_process(1), "conformance"),
            capacity: subject.capacity,
            maximum_crashes: subject.maximum_crashes,
            advance: subject.advance,
            began: Instant::now(),
            moved: Cell::default(),
            _keep: subject.keep,
        }
    }

    // Time.

    pub(super) fn lease(&self) -> Duration {
        self.queue.lease()
    }

    /// How long a queue may take for what it does at once.
    pub(super) fn patience(&self) -> Duration {
        self.lease() * 2 + Duration::from_secs(6)
    }

    /// A span in which nothing runs out.
    pub(super) fn moment(&self) -> Duration {
        match self.advance {
            None => self.lease() / 20,
            Some(_) => Duration::from_millis(60),
        }
    }

    /// How long at once may take on a busy machine.
    pub(super) fn soon(&self) -> Duration {
        self.moment().max(Duration::from_secs(2))
    }

    /// The queue's time, as a span.
    pub(super) fn now(&self) -> Duration {
        self.began.elapsed() + self.moved.get()
    }

    pub(super) fn since(&self, before: Duration) -> Duration {
        self.now().saturating_sub(before)
    }

    /// Time passes.
    pub(super) async fn pass(&self, span: Duration) {
        match &self.advance {
            None => tokio::time::sleep(span).await,
            Some(advance) => {
                self.moved.set(self.moved.get() + span);
                advance(span).await;
            }
        }
    }

    /// Waits for a future while time passes, for a span of the queue's time.
    pub(super) async fn within<F: Future>(&self, span: Duration, future: F) -> Result<F::Output, Elapsed> {
        if self.advance.is_none() {
            return timeout(span, future).await;
        }
        let mut future = pin!(future);
        // What needs no time to pass gets some time of the real kind first.
        let mut slice = Duration::from_millis(300);
        let began = self.now();
        loop {
            let waited = timeout(slice, future.as_mut()).await;
            if waited.is_ok() || self.since(began) >= span {
                return waited;
            }
            slice = Duration::from_millis(30);
            self.pass(self.lease() / 10).await;
        }
    }

    /// A time of day from now, by the queue's clock, as far as a task that it has just published tells it.
    pub(super) async fn stamp(&self, from_now: Duration) -> Timestamp {
        let other = QueueName::from("clock");
        self.queue
            .publish(vec![NewTask::new(&other, "test", "")])
            .await
            .unwrap();
        let tick = self.take_from(&other, 1).await.remove(0);
        let published = tick.task.published;
        self.ack(tick).await;
        published + SignedDuration::try_from(from_now).unwrap()
    }

    // Publishing.

    pub(super) fn task(&self, id: &str) -> NewTask {
        NewTask::new(&self.name, "test", id.to_owned()).with_id(id)
    }

    pub(super) async fn publish(&self, ids: &[&str]) {
        self.publish_all(ids.iter().map(|id| self.task(id)).collect()).await;
    }

    pub(super) async fn publish_all(&self, tasks: Vec<NewTask>) -> Vec<String> {
        let ids = self.queue.publish(tasks).await.expect("publishing works");
        ids.into_iter().map(|id| id.to_string()).collect()
    }

    // Consuming.

    pub(super) async fn take(&self, max: usize) -> Vec<Delivery> {
        self.take_from(&self.name, max).await
    }

    pub(super) async fn take_from(&self, name: &QueueName, max: usize) -> Vec<Delivery> {
        let taken = self
            .within(self.patience(), self.queue.consume(name, &self.consumer, max))
            .await;
        taken.expect("something is ready").expect("consuming works")
    }

    pub(super) async fn one(&self) -> Delivery {
        let mut taken = self.take(1).await;
        assert_eq!(taken.len(), 1, "one was asked for");
        taken.remove(0)
    }

    /// Takes one, which must be this one.
    pub(super) async fn this(&self, id: &str) -> Delivery {
        let delivery = self.one().await;
        assert_eq!(delivery.task.id.as_str(), id);
        delivery
    }

    /// Takes everything that is ready, batch by batch: what is there may take a while to come, what is not gets a moment.
    pub(super) async fn drain(&self) -> Vec<Delivery> {
        let mut all = Vec::new();
        loop {
            let more = all.is_empty() || self.stats().await.ready > 0;
            let span = if more { self.soon() } else { self.moment() };
            match timeout(span, self.queue.consume(&self.name, &self.consumer, 100)).await {
                Ok(taken) => all.extend(taken.expect("consuming works")),
                Err(_) => return all,
            }
        }
    }

    /// Takes `count` tasks by several consumers at once, who end what they get; gives the ids of all that came, and of what
    /// comes in a moment more.
    pub(super) async fn side_by_side(
        &self,
        consumers: impl IntoIterator<Item = (Arc<dyn TaskQueue>, ConsumerId)>,
        count: usize,
    ) -> Vec<String> {
        let (sender, mut came) = mpsc::unbounded_channel();
        let mut takers = JoinSet::new();
        for (queue, consumer) in consumers {
            let (name, sender) = (self.name.clone(), sender.clone());
            takers.spawn(async move {
                loop {
                    for delivery in queue.consume(&name, &consumer, 3).await.expect("consuming works") {
                        let _nobody_counts = sender.send(delivery.task.id.to_string());
                        let ended = queue.end_one(delivery.token, How::ack(Vec::new())).await;
                        ended.expect("the ack works");
                    }
                }
            });
        }
        drop(sender);
        let mut all = Vec::new();
        while all.len() < count {
            let next = timeout(self.patience(), came.recv()).await;
            all.push(next.expect("all of them come").expect("the consumers go on"));
        }
        while let Ok(Some(more)) = timeout(self.moment(), came.recv()).await {
            all.push(more);
        }
        all
    }

    /// Nothing is ready: the queue has looked, and what is due has happened, however slow the machine is; and a consumer
    /// that waits for a moment gets nothing.
    pub(super) async fn nothing(&self) {
        self.looked(&self.queue, &self.consumer).await;
        let taken = timeout(self.moment(), self.queue.consume(&self.name, &self.consumer, 1)).await;
        assert!(taken.is_err(), "nothing should be ready, but this came: {taken:?}");
    }

    /// A look of this consumer finds nothing.
    pub(super) async fn looked(&self, queue: &Arc<dyn TaskQueue>, consumer: &ConsumerId) {
        let looked = queue.exchange(Vec::new(), &self.name, consumer, 1).await.taken;
        let taken = looked.expect("looking works");
        assert!(taken.is_empty(), "nothing should be ready, but this was: {taken:?}");
    }

    /// A consumer that waits on a task of its own.
    pub(super) fn waiting(&self, max: usize) -> JoinHandle<Vec<Delivery>> {
        let (queue, name, id) = (self.queue.clone(), self.name.clone(), self.consumer.clone());
        tokio::spawn(async move { queue.consume(&name, &id, max).await.unwrap() })
    }

    // Ending.

    pub(super) async fn ack(&self, delivery: Delivery) {
        self.queue
            .end_one(delivery.token, How::ack(Vec::new()))
            .await
            .expect("the ack works");
    }

    pub(super) async fn nack(&self, delivery: Delivery, delay: Duration) {
        self.queue
            .nack(delivery.token, delay, "no luck".into())
            .await
            .expect("the nack works");
    }

    pub(super) async fn snooze(&self, delivery: Delivery, delay: Duration) {
        self.queue
            .end_one(delivery.token, How::Release { delay })
            .await
            .expect("the release works");
    }

    pub(super) async fn kill(&self, delivery: Delivery) {
        let reason = format!("{} is beyond help", delivery.task.id);
        self.queue.bury(delivery.token, reason).await.expect("burying works");
    }

    pub(super) async fn bury(&self, id: &str) {
        self.publish(&[id]).await;
        let delivery = self.this(id).await;
        self.kill(delivery).await;
    }

    pub(super) async fn retry(&self, id: &str) {
        assert_eq!(self.queue.retry_dead(&self.name, &[TaskId::from(id)]).await.unwrap(), 1);
    }

    // Looking.

    pub(super) async fn stats(&self) -> QueueStats {
        let stats = self.queue.stats().await.expect("stats work");
        stats
            .into_iter()
            .find(|stats| stats.queue == self.name.as_str())
            .unwrap_or_default()
    }

    pub(super) async fn dead(&self) -> Vec<String> {
        let page = self
            .queue
            .dead_letters(&DeadFilter::default(), None, 1_000)
            .await
            .expect("dead letters are listed");
        page.letters.into_iter().map(|letter| letter.id.to_string()).collect()
    }

    /// All tasks that pass a filter, page by page.
    pub(super) async fn listed(&self, filter: &TaskFilter, limit: usize) -> Vec<TaskSummary> {
        let (mut cursor, mut all) = (None, Vec::new());
        for _ in 0..200 {
            let page = self.queue.tasks(filter, cursor, limit).await.expect("tasks are listed");
            assert!(page.tasks.len() <= limit);
            all.extend(page.tasks);
            cursor = page.next;
            if cursor.is_none() {
                return all;
            }
        }
        panic!("the pages never end");
    }

    /// The same for dead letters: their ids.
    pub(super) async fn letters(&self, filter: &DeadFilter, limit: usize) -> Vec<String> {
        let (mut cursor, mut all) = (None, Vec::new());
        for _ in 0..200 {
            let page = self.queue.dead_letters(filter, cursor, limit).await.unwrap();
            assert!(page.letters.len() <= limit);
            all.extend(page.letters.into_iter().map(|letter| letter.id.to_string()));
            cursor = page.next;
            if cursor.is_none() {
                return all;
            }
        }
        panic!("the pages never end");
    }

    pub(super) fn govern(&self, rules: QueueRules) {
        assert_eq!(rules.validate(), Ok(()));
        self.queue.govern(&self.name, rules);
    }
}
