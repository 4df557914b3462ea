//! What tests of sources stand on: a queue in memory with a ledger, and a handler's part played by hand.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use plba_contracts::clock::Clock;
use plba_contracts::stop::StopHandle;
use plba_tasks::intake::{Intake, completion_task};
use plba_tasks::ledger::{EntryState, SourceLedger};
use plba_tasks::memory::{InMemoryTaskQueue, MemorySettings};
use plba_tasks::queue::{Completion, ConsumerId, Delivery, Incarnation, TaskQueue};
use plba_tasks::source::{SourceError, TaskSource};
use plba_tasks::task::QueueName;
use tokio::task::JoinHandle;

use crate::settings::SourceSettings;
use crate::test_ledger::TestLedger;

/// The source's name in these tests.
pub(crate) const SOURCE: &str = "inbox";

struct FixedClock;

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

/// One process' life: queue, ledger, and at most one running source.
pub(crate) struct Bench<L = TestLedger> {
    pub(crate) ledger: Arc<L>,
    pub(crate) queue: Arc<InMemoryTaskQueue>,
    consumer: ConsumerId,
    stop: StopHandle,
}

/// Settings as in production, but for the queue's name.
pub(crate) fn settings() -> SourceSettings {
    SourceSettings {
        password: Some("secret".into()),
        seed: Some(7),
        ..SourceSettings::new("orders", "order.received", Arc::new(FixedClock))
    }
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with_capacity(10_000)
    }

    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self::on(TestLedger::default(), capacity)
    }

    /// The next process after a kill: the ledger stays, the queue is empty.
    pub(crate) fn restarted(&self) -> Self {
        self.stop.stop(true);
        Self::on(self.ledger.after_restart(), 10_000)
    }

    pub(crate) fn keys(&self, state: EntryState) -> Vec<String> {
        self.ledger.keys(state)
    }
}

impl<L: SourceLedger> Bench<L> {
    pub(crate) fn on(ledger: L, capacity: usize) -> Self {
        // Nobody extends a lease here, and paused clocks run fast.
        let settings = MemorySettings {
            capacity,
            lease: Duration::from_secs(86_400),
            ..MemorySettings::default()
        };
        let ledger = Arc::new(ledger);
        let shared: Arc<L> = Arc::clone(&ledger);
        let queue = InMemoryTaskQueue::with_ledger(settings, Arc::new(FixedClock), shared).unwrap();
        Bench {
            ledger,
            queue: Arc::new(queue),
            consumer: ConsumerId::new(Incarnation::of_this_process(1), "test"),
            stop: StopHandle::new(),
        }
    }

    pub(crate) fn intake(&self) -> Intake {
        let queue: Arc<InMemoryTaskQueue> = Arc::clone(&self.queue);
        let ledger: Arc<L> = Arc::clone(&self.ledger);
        Intake::new(SOURCE, queue, ledger, self.consumer.clone())
    }

    /// Runs a source until [`stop`](Self::stop).
    pub(crate) fn run<S: TaskSource>(&self, source: &Arc<S>) -> JoinHandle<Result<(), SourceError>> {
        let (source, intake, signal) = (Arc::clone(source), self.intake(), self.stop.signal());
        tokio::spawn(async move { source.run(intake, signal).await })
    }

    pub(crate) fn stop(&self) {
        self.stop.stop(false);
    }

    /// The next task, as a handler gets it.
    pub(crate) async fn next(&self) -> Delivery {
        let orders = QueueName::from("orders");
        let mut taken = self.queue.consume(&orders, &self.consumer, 1).await.unwrap();
        taken.remove(0)
    }

    /// The next tasks' messages, in order.
    pub(crate) async fn take(&self, count: usize) -> Vec<String> {
        let mut texts = Vec::new();
        for _ in 0..count {
            texts.push(text(&self.next().await));
        }
        texts
    }

    /// Carries everything out, for ever; `on` sees each message.
    pub(crate) async fn work(&self, mut on: impl FnMut(String)) {
        loop {
            let delivery = self.next().await;
            on(text(&delivery));
            self.complete(delivery).await;
        }
    }

    /// Ends a delivery as a handler's rejection does.
    pub(crate) async fn reject(&self, delivery: Delivery) {
        self.queue.bury(delivery.token, "no order".into()).await.unwrap();
    }

    /// Ends a delivery as a handler's success does, with the follow-up for the source.
    pub(crate) async fn complete(&self, delivery: Delivery) {
        let then = delivery.task.origin.iter().map(completion_task).collect();
        let token = delivery.token;
        let ended = self.queue.ack(vec![Completion { token, then }]).await.unwrap();
        assert!(ended.iter().all(Result::is_ok), "{ended:?}");
    }
}

pub(crate) fn text(delivery: &Delivery) -> String {
    String::from_utf8_lossy(&delivery.task.payload).into_owned()
}

/// Waits until `condition` holds; for outside servers and disks, which no paused clock rules.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(std::time::Instant::now() < end, "waited 20 s for: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
