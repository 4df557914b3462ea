//! Dead letters of what came from sources: when they go, their entries in the ledger are settled with them, and so are those
//! that were buried before they became tasks, which only the ledger knows.

use std::sync::Arc;
use std::time::Duration;

use plba_contracts::clock::Clock;
use plba_tasks::intake::Intake;
use plba_tasks::ledger::{EntryState, SourceLedger};
use plba_tasks::queue::{ConsumerId, Incarnation, QueueRules, TaskQueue};
use plba_tasks::task::{NewTask, Origin, QueueName, TaskId};

const AGE: Duration = Duration::from_secs(3_600);

/// A source with its queue and its ledger, in a time of its own.
pub(crate) struct Post {
    pub(crate) queue: Arc<dyn TaskQueue>,
    pub(crate) ledger: Arc<dyn SourceLedger>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) advance: Box<dyn Fn(Duration)>,
}

impl Post {
    fn name(&self) -> QueueName {
        QueueName::from("orders")
    }

    fn consumer(&self) -> ConsumerId {
        ConsumerId::new(Incarnation::of_this_process(1), "post")
    }

    async fn bury(&self, key: &str) {
        let (queue, ledger) = (Arc::clone(&self.queue), Arc::clone(&self.ledger));
        let intake = Intake::new("in/box", queue, ledger, self.consumer());
        let reason = "too large".to_owned();
        intake
            .bury(key.into(), &self.name(), "mail", self.clock.now(), reason)
            .await
            .unwrap();
    }

    /// A task of the source whose intake nobody has recorded yet dies.
    async fn die(&self, key: &str) -> TaskId {
        let origin = Origin::new("in/box", key);
        let mut task = NewTask::new(self.name(), "mail", "").with_id(origin.task_id());
        task.origin = Some(origin.clone());
        self.queue.publish(vec![task]).await.unwrap();
        let taken = self.queue.consume(&self.name(), &self.consumer(), 1).await.unwrap();
        let token = taken.into_iter().next().unwrap().token;
        self.queue.bury(token, "nonsense".into()).await.unwrap();
        self.ledger.record_intake("in/box", &[key.into()]).await.unwrap();
        origin.task_id()
    }

    async fn states(&self, keys: &[&str]) -> Vec<EntryState> {
        let keys: Vec<Arc<str>> = keys.iter().map(|key| Arc::from(*key)).collect();
        let known = self.ledger.known("in/box", &keys).await.unwrap();
        known.into_iter().map(|known| known.unwrap().state).collect()
    }

    /// Has what is old looked after.
    async fn tidy(&self) {
        (self.advance)(Duration::from_secs(61));
        self.queue.recover(None, 1_000).await.unwrap();
    }

    async fn dropped(&self) -> u64 {
        let stats = self.queue.stats().await.unwrap();
        stats.into_iter().map(|queue| queue.dropped).sum()
    }
}

pub(crate) async fn what_was_buried_goes_by_the_rules_of_its_queue(post: Post) {
    let rules = QueueRules {
        dead_limit: 2,
        dead_age: AGE,
        ..QueueRules::default()
    };
    post.queue.govern(&post.name(), rules);
    post.queue
        .publish(vec![NewTask::new(post.name(), "mail", "")])
        .await
        .unwrap();
    for key in ["1", "2", "3"] {
        post.bury(key).await;
    }
    post.tidy().await;
    let (settled, dead) = (EntryState::Settled, EntryState::Dead);
    assert_eq!(post.states(&["1", "2", "3"]).await, [settled, dead, dead]);
    (post.advance)(AGE);
    post.bury("4").await;
    post.tidy().await;
    assert_eq!(
        post.states(&["1", "2", "3", "4"]).await,
        [settled, settled, settled, dead]
    );
    assert_eq!(post.dropped().await, 3);
    let stats = post.ledger.stats().await.unwrap().remove(0);
    assert_eq!((stats.settled, stats.dead), (3, 1));
    // Another queue's are none of its business, and a letter may still be tried again.
    assert_eq!(
        post.ledger
            .retry_dead(&post.name(), &[TaskId::from("in/box/4")])
            .await
            .unwrap(),
        1
    );
    assert_eq!(post.states(&["4"]).await, [EntryState::Open]);
}

pub(crate) async fn a_letter_that_goes_settles_an_entry_that_came_after_its_death(post: Post) {
    let rules = QueueRules {
        dead_limit: 1,
        ..QueueRules::default()
    };
    let id = post.die("dropped").await;
    assert_eq!(post.queue.drop_dead(&post.name(), &[id]).await.unwrap(), 1);
    assert_eq!(post.states(&["dropped"]).await, [EntryState::Settled]);
    for key in ["1", "2"] {
        post.die(key).await;
    }
    post.queue.govern(&post.name(), rules);
    post.tidy().await;
    assert_eq!(post.states(&["1"]).await, [EntryState::Settled]);
    assert_ne!(post.states(&["2"]).await, [EntryState::Settled]);
}

pub(crate) async fn a_source_that_has_found_nothing_is_listed(post: Post) {
    post.ledger.set_cursor("empty", "7").await.unwrap();
    post.bury("1").await;
    let stats = post.ledger.stats().await.unwrap();
    let sources: Vec<_> = stats
        .iter()
        .map(|source| (source.source.as_str(), source.dead))
        .collect();
    assert_eq!(sources, [("empty", 0), ("in/box", 1)]);
}
