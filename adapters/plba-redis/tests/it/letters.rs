//! Dead letters of tasks that came from sources: when they go, their entries in the ledger go with them.

use std::sync::Arc;
use std::time::Duration;

use plba_redis::{RedisLedger, RedisSettings, RedisTaskQueue};
use plba_tasks::intake::{Arrival, Intake};
use plba_tasks::ledger::{DeliveryEnd, EntryState, SourceLedger};
use plba_tasks::queue::{ConsumerId, Incarnation, QueueRules, TaskQueue};
use plba_tasks::task::{AttemptEnd, EndedAttempt, NewTask, Origin, QueueName};
use plba_testkit::clock::ManualClock;
use plba_testkit::runtime;

use crate::place::fresh;

/// A source on Redis, with its queue and its ledger.
struct Post {
    settings: RedisSettings,
    clock: Arc<ManualClock>,
    queue: Arc<RedisTaskQueue>,
    ledger: Arc<RedisLedger>,
    intake: Intake,
    consumer: ConsumerId,
    name: QueueName,
}

impl Post {
    async fn open() -> Option<Self> {
        let settings = fresh().await?;
        let clock = Arc::new(ManualClock::new());
        let queue = RedisTaskQueue::open_with_clock(settings.clone(), Arc::clone(&clock) as _).await;
        let queue = Arc::new(queue.unwrap());
        let ledger = Arc::new(RedisLedger::open(settings.clone()).await.unwrap());
        let consumer = ConsumerId::new(Incarnation::of_this_process(1), "post");
        let intake = Intake::new(
            "in/box",
            Arc::clone(&queue) as _,
            Arc::clone(&ledger) as _,
            consumer.clone(),
        );
        Some(Self {
            settings,
            clock,
            queue,
            ledger,
            intake,
            consumer,
            name: QueueName::from("orders"),
        })
    }

    async fn arrive(&self, task: NewTask, key: &str) {
        let arrival = Arrival { key: key.into(), task };
        assert_eq!(self.intake.publish(vec![arrival]).await.unwrap().published, 1);
    }

    /// Arrives, is taken and ends dead.
    async fn die(&self, key: &str) {
        let task = NewTask::new(&self.name, "mail", "").with_header("note", "ein \"Brief\" für \\ dich");
        self.arrive(task, key).await;
        self.bury().await;
    }

    async fn bury(&self) {
        let taken = self.queue.consume(&self.name, &self.consumer, 1).await.unwrap();
        let token = taken.into_iter().next().unwrap().token;
        self.queue.bury(token, "nonsense".into()).await.unwrap();
    }

    async fn states(&self, keys: &[&str]) -> Vec<EntryState> {
        let keys: Vec<Arc<str>> = keys.iter().map(|key| Arc::from(*key)).collect();
        let known = self.ledger.known("in/box", &keys).await.unwrap();
        known.into_iter().map(|known| known.unwrap().state).collect()
    }

    /// What the source would bring again at the next start.
    async fn pending(&self) -> Vec<Arc<str>> {
        let next = RedisLedger::open(self.settings.clone()).await.unwrap();
        next.pending("in/box", 10).await.unwrap()
    }
}

fn with_post<Fut: Future<Output = ()>>(test: impl FnOnce(Post) -> Fut) {
    runtime::real(async {
        if let Some(post) = Post::open().await {
            test(post).await;
        }
    });
}

#[test]
fn what_goes_because_there_are_too_many_letters_is_settled() {
    with_post(|post| async move {
        let rules = QueueRules {
            dead_limit: 1,
            ..QueueRules::default()
        };
        post.queue.govern(&post.name, rules);
        for key in ["1", "für/dich \"2\"", "3"] {
            post.die(key).await;
        }
        let (settled, open) = (EntryState::Settled, EntryState::Open);
        assert_eq!(
            post.states(&["1", "für/dich \"2\"", "3"]).await,
            [settled, settled, open]
        );
        assert_eq!(post.pending().await, [Arc::<str>::from("3")]);
        let stats = post.ledger.stats().await.unwrap().remove(0);
        assert_eq!((stats.open, stats.settled, stats.dead), (1, 2, 0));
    });
}

#[test]
fn what_goes_because_it_is_too_old_is_settled() {
    with_post(|post| async move {
        let rules = QueueRules {
            dead_age: Duration::from_secs(60),
            ..QueueRules::default()
        };
        post.queue.govern(&post.name, rules);
        post.die("old").await;
        post.clock.advance(Duration::from_secs(50));
        post.die("new").await;
        post.clock.advance(Duration::from_secs(20));
        post.queue.recover(None, 100).await.unwrap();
        assert_eq!(
            post.states(&["old", "new"]).await,
            [EntryState::Settled, EntryState::Open]
        );
    });
}

#[test]
fn what_a_program_drops_is_settled_and_nothing_else_is() {
    with_post(|post| async move {
        for key in ["1", "2", "3", "4"] {
            post.die(key).await;
        }
        let origin = |key: &str| Origin::new("in/box", key);
        // Upstream has yet to be told of the third; the fourth is known to be dead here as well.
        let dead = DeliveryEnd::Dead {
            attempt: EndedAttempt::new(Default::default(), AttemptEnd::Rejected, "nonsense"),
            queue: "orders".into(),
            kind: "mail".into(),
        };
        let ends = vec![(origin("3"), DeliveryEnd::Done), (origin("4"), dead)];
        post.ledger.record_ends(ends).await.unwrap();
        let ids = ["2", "3", "4"].map(|key| origin(key).task_id());
        assert_eq!(post.queue.drop_dead(&post.name, &ids).await.unwrap(), 3);
        let (open, settled) = (EntryState::Open, EntryState::Settled);
        assert_eq!(
            post.states(&["1", "2", "3", "4"]).await,
            [open, settled, EntryState::Done, settled]
        );
        let stats = post.ledger.stats().await.unwrap().remove(0);
        assert_eq!((stats.open, stats.unsettled, stats.settled, stats.dead), (1, 1, 2, 0));
        assert!(post.ledger.dead_letters(None, 10).await.unwrap().letters.is_empty());
    });
}

#[test]
fn what_replaced_a_sources_task_settles_that_ones_entry() {
    with_post(|post| async move {
        let task = || NewTask::new(&post.name, "mail", "").unique("same").replacing();
        post.arrive(task(), "1").await;
        post.queue.publish(vec![task()]).await.unwrap();
        post.bury().await;
        let id = Origin::new("in/box", "1").task_id();
        assert_eq!(post.queue.drop_dead(&post.name, &[id]).await.unwrap(), 1);
        assert_eq!(post.states(&["1"]).await, [EntryState::Settled]);
    });
}

#[test]
fn letters_without_an_origin_leave_the_ledger_alone() {
    with_post(|post| async move {
        post.die("1").await;
        // Its id is that of a source's task in another queue, and its payload speaks of an origin.
        let id = Origin::new("in/box", "1").task_id();
        let other = QueueName::from("others");
        let text = r#"{"origin":{"source":"in/box","key":"1"}}"#;
        let task = NewTask::new(&other, "note", text).with_id(id.clone());
        post.queue.publish(vec![task]).await.unwrap();
        let taken = post.queue.consume(&other, &post.consumer, 1).await.unwrap();
        let token = taken.into_iter().next().unwrap().token;
        post.queue.bury(token, "nonsense".into()).await.unwrap();
        assert_eq!(post.queue.drop_dead(&other, &[id]).await.unwrap(), 1);
        assert_eq!(post.states(&["1"]).await, [EntryState::Open]);
    });
}
