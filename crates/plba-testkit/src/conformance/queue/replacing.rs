//! Unique keys whose task is replaced: rule 9.

use std::time::Duration;

use plba_tasks::task::{NewTask, Priority};

use super::super::cases;
use super::{Subject, ids};

/// A task that takes the place of the one before: its payload is the version.
fn version(s: &Subject, version: &str) -> NewTask {
    NewTask::new(&s.name, "state", version.to_owned())
        .with_id(version)
        .unique("state")
        .replacing()
}

cases! { Subject;
    async fn a_task_that_waits_is_replaced_under_its_own_id(s) {
        s.publish_all(vec![version(&s, "1")]).await;
        assert_eq!(s.publish_all(vec![version(&s, "2")]).await, ["1"]);
        let delivery = s.this("1").await;
        assert_eq!(delivery.task.payload, "2");
        s.nothing().await;
    }

    async fn everything_that_says_what_to_do_is_replaced(s) {
        s.publish_all(vec![version(&s, "1").with_header("old", "1")]).await;
        let new = NewTask::new(&s.name, "other", "2").unique("state").replacing().with_header("new", "2");
        s.publish_all(vec![new.with_priority(Priority::High).expires_after(Duration::from_secs(3600))]).await;
        let task = s.this("1").await.task;
        assert_eq!((&*task.kind, &*task.payload), ("other", &b"2"[..]));
        assert_eq!((task.headers.get("old"), task.headers["new"].as_str()), (None, "2"));
        assert_eq!(task.priority, Priority::High);
        assert!(task.expires.is_some());
    }

    async fn a_replaced_task_takes_the_new_priority(s) {
        s.publish_all(vec![s.task("first"), version(&s, "1")]).await;
        s.publish_all(vec![version(&s, "2").with_priority(Priority::High)]).await;
        assert_eq!(ids(&s.take(10).await), ["1", "first"]);
    }

    async fn a_delayed_task_takes_the_new_delay(s) {
        s.publish_all(vec![version(&s, "1").after(Duration::from_secs(3600))]).await;
        s.publish_all(vec![version(&s, "2")]).await;
        assert_eq!(s.this("1").await.task.payload, "2");
    }

    async fn a_ready_task_may_be_delayed_by_its_replacement(s) {
        s.publish_all(vec![version(&s, "1")]).await;
        s.publish_all(vec![version(&s, "2").after(s.lease() / 2)]).await;
        s.nothing().await;
        assert_eq!(s.stats().await.delayed, 1);
        s.pass(s.lease() * 6 / 10).await;
        assert_eq!(s.this("1").await.task.payload, "2");
    }

    async fn a_consumer_that_waits_gets_what_a_replacement_made_ready(s) {
        s.publish_all(vec![version(&s, "1").after(Duration::from_secs(3600))]).await;
        let waits = s.waiting(1);
        s.pass(s.moment()).await;
        s.publish_all(vec![version(&s, "2")]).await;
        assert_eq!(ids(&s.within(s.patience(), waits).await.expect("it is woken").unwrap()), ["1"]);
    }

    async fn a_replacement_restarts_the_expiry(s) {
        s.publish_all(vec![version(&s, "1").expires_after(s.lease() / 2)]).await;
        s.pass(s.lease() * 3 / 10).await;
        s.publish_all(vec![version(&s, "2").expires_after(s.lease() / 2)]).await;
        s.pass(s.lease() * 3 / 10).await;
        assert_eq!(s.this("1").await.task.payload, "2");
    }

    async fn a_task_in_hand_is_not_replaced_but_followed(s) {
        s.publish_all(vec![version(&s, "1")]).await;
        let held = s.this("1").await;
        assert_eq!(s.publish_all(vec![version(&s, "2")]).await, ["2"]);
        s.ack(held).await;
        assert_eq!(s.this("2").await.task.payload, "2");
    }

    async fn the_key_is_the_followers_then(s) {
        s.publish_all(vec![version(&s, "1")]).await;
        let held = s.this("1").await;
        s.publish_all(vec![version(&s, "2")]).await;
        assert_eq!(s.publish_all(vec![version(&s, "3")]).await, ["2"]);
        s.ack(held).await;
        assert_eq!(s.publish_all(vec![version(&s, "4")]).await, ["2"]);
        assert_eq!(s.this("2").await.task.payload, "4");
        s.nothing().await;
    }

    async fn a_task_that_was_tried_keeps_its_attempts(s) {
        s.publish_all(vec![version(&s, "1")]).await;
        let delivery = s.one().await;
        s.nack(delivery, Duration::from_secs(3600)).await;
        s.publish_all(vec![version(&s, "2")]).await;
        let again = s.this("1").await;
        assert_eq!((again.attempt, again.task.history.len()), (2, 1));
        assert_eq!(again.task.payload, "2");
    }

    async fn a_follower_in_a_line_is_replaced_in_its_place(s) {
        let ordered = |task: NewTask| task.in_order_of("customer");
        let tasks = vec![ordered(s.task("a")), ordered(version(&s, "1")), ordered(s.task("c"))];
        s.publish_all(tasks).await;
        assert_eq!(s.publish_all(vec![ordered(version(&s, "2"))]).await, ["1"]);
        for (id, payload) in [("a", "a"), ("1", "2"), ("c", "c")] {
            let head = s.this(id).await;
            assert_eq!(head.task.payload, payload);
            s.ack(head).await;
        }
        s.nothing().await;
    }

    async fn a_task_that_is_done_is_no_reason_to_lose_a_new_state(s) {
        let task = |text: &str| s.task(text).unique_for("state", Duration::from_secs(3600)).replacing();
        s.publish_all(vec![task("1")]).await;
        let delivery = s.one().await;
        s.ack(delivery).await;
        assert_eq!(s.publish_all(vec![task("2")]).await, ["2"]);
        s.this("2").await;
    }

    async fn a_replacement_sets_the_bytes(s) {
        s.publish_all(vec![version(&s, "1")]).await;
        let before = s.stats().await.bytes;
        let large = NewTask::new(&s.name, "state", vec![b'x'; 10_000]).unique("state").replacing();
        s.publish_all(vec![large]).await;
        assert!(s.stats().await.bytes >= before + 9_000);
        let delivery = s.one().await;
        s.ack(delivery).await;
        assert_eq!(s.stats().await.bytes, 0);
    }

    async fn replacing_counts_no_task_twice(s) {
        s.publish_all(vec![version(&s, "1")]).await;
        for number in 2..20 {
            s.publish_all(vec![version(&s, &number.to_string())]).await;
        }
        assert_eq!(s.stats().await.ready, 1);
        let delivery = s.one().await;
        assert_eq!(delivery.task.payload, "19");
        s.ack(delivery).await;
        assert_eq!(s.stats().await.ready, 0);
    }
}
