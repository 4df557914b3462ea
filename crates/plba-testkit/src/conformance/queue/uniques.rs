//! Unique keys whose task stays: rule 9.

use std::time::Duration;

use plba_tasks::queue::How;
use plba_tasks::task::{NewTask, QueueName};

use super::super::cases;
use super::{Subject, ids};

fn unique(s: &Subject, id: &str) -> NewTask {
    s.task(id).unique("report")
}

cases! { Subject;
    async fn a_taken_key_gives_the_id_of_the_task_that_is_there(s) {
        assert_eq!(s.publish_all(vec![unique(&s, "a")]).await, ["a"]);
        assert_eq!(s.publish_all(vec![unique(&s, "b")]).await, ["a"]);
        assert_eq!(ids(&s.drain().await), ["a"]);
    }

    async fn a_key_is_taken_within_one_batch_too(s) {
        let given = s.publish_all(vec![unique(&s, "a"), unique(&s, "b"), s.task("c")]).await;
        assert_eq!(given, ["a", "a", "c"]);
        assert_eq!(ids(&s.drain().await), ["a", "c"]);
    }

    async fn tasks_without_an_id_may_be_unique(s) {
        let task = || NewTask::new(&s.name, "test", "").unique("report");
        let first = s.publish_all(vec![task()]).await;
        assert_eq!(s.publish_all(vec![task()]).await, first);
        assert_eq!(ids(&s.drain().await), first);
    }

    async fn other_unique_keys_do_not_meet(s) {
        s.publish_all(vec![unique(&s, "a"), s.task("b").unique("other"), s.task("c")]).await;
        assert_eq!(ids(&s.drain().await), ["a", "b", "c"]);
    }

    async fn unique_keys_belong_to_one_queue(s) {
        let other = QueueName::from("replies");
        s.publish_all(vec![unique(&s, "a")]).await;
        let given = s.publish_all(vec![NewTask::new(&other, "test", "").with_id("b").unique("report")]).await;
        assert_eq!(given, ["b"]);
    }

    async fn an_ack_frees_the_key(s) {
        s.publish_all(vec![unique(&s, "a")]).await;
        let delivery = s.one().await;
        s.ack(delivery).await;
        assert_eq!(s.publish_all(vec![unique(&s, "b")]).await, ["b"]);
        s.this("b").await;
    }

    async fn death_frees_the_key(s) {
        s.publish_all(vec![unique(&s, "a")]).await;
        let delivery = s.one().await;
        s.kill(delivery).await;
        assert_eq!(s.publish_all(vec![unique(&s, "b")]).await, ["b"]);
        s.this("b").await;
    }

    async fn expiry_frees_the_key(s) {
        s.publish_all(vec![unique(&s, "a").expires_after(s.lease() / 2)]).await;
        s.pass(s.lease() * 6 / 10).await;
        s.nothing().await;
        assert_eq!(s.publish_all(vec![unique(&s, "b")]).await, ["b"]);
    }

    async fn a_task_in_hand_keeps_its_key(s) {
        s.publish_all(vec![unique(&s, "a")]).await;
        let delivery = s.one().await;
        assert_eq!(s.publish_all(vec![unique(&s, "b")]).await, ["a"]);
        s.ack(delivery).await;
        s.nothing().await;
    }

    async fn a_task_that_is_tried_again_keeps_its_key(s) {
        s.publish_all(vec![unique(&s, "a")]).await;
        let delivery = s.one().await;
        s.nack(delivery, Duration::from_secs(3600)).await;
        assert_eq!(s.publish_all(vec![unique(&s, "b")]).await, ["a"]);
    }

    async fn a_released_task_keeps_its_key(s) {
        s.publish_all(vec![unique(&s, "a")]).await;
        let delivery = s.one().await;
        s.queue.release(delivery.token).await.unwrap();
        assert_eq!(s.publish_all(vec![unique(&s, "b")]).await, ["a"]);
        assert_eq!(ids(&s.drain().await), ["a"]);
    }

    async fn a_delayed_task_has_its_key(s) {
        s.publish_all(vec![unique(&s, "a").after(Duration::from_secs(3600))]).await;
        assert_eq!(s.publish_all(vec![unique(&s, "b")]).await, ["a"]);
        s.nothing().await;
    }

    async fn a_key_for_a_period_outlives_its_task(s) {
        let task = |id| s.task(id).unique_for("report", s.lease());
        s.publish_all(vec![task("a")]).await;
        let delivery = s.one().await;
        s.ack(delivery).await;
        assert_eq!(s.publish_all(vec![task("b")]).await, ["a"]);
        s.nothing().await;
    }

    async fn a_key_for_a_period_is_free_after_it(s) {
        let task = |id| s.task(id).unique_for("report", s.lease() / 2);
        s.publish_all(vec![task("a")]).await;
        s.pass(s.lease() * 6 / 10).await;
        assert_eq!(s.publish_all(vec![task("b")]).await, ["b"]);
        assert_eq!(ids(&s.drain().await), ["a", "b"]);
    }

    async fn the_end_of_an_old_holder_frees_no_key_of_another(s) {
        let task = |id| s.task(id).unique_for("report", s.lease() / 2);
        s.publish_all(vec![task("a")]).await;
        s.pass(s.lease() * 6 / 10).await;
        s.publish_all(vec![unique(&s, "b")]).await;
        let old = s.this("a").await;
        s.ack(old).await;
        assert_eq!(s.publish_all(vec![unique(&s, "c")]).await, ["b"]);
    }

    async fn a_known_id_comes_before_the_key(s) {
        s.publish_all(vec![unique(&s, "a"), s.task("b")]).await;
        assert_eq!(s.publish_all(vec![unique(&s, "b")]).await, ["b"]);
        assert_eq!(ids(&s.drain().await), ["a", "b"]);
    }

    async fn the_id_of_a_task_that_gave_way_stays_free(s) {
        s.publish_all(vec![unique(&s, "a")]).await;
        s.publish_all(vec![unique(&s, "b")]).await;
        s.publish(&["b"]).await;
        assert_eq!(ids(&s.drain().await), ["a", "b"]);
    }

    async fn follow_ups_may_be_unique(s) {
        s.publish_all(vec![s.task("first"), unique(&s, "a")]).await;
        let delivery = s.this("first").await;
        s.queue.end_one(delivery.token, How::ack(vec![unique(&s, "b"), s.task("c").unique("other")])).await.unwrap();
        assert_eq!(ids(&s.drain().await), ["a", "c"]);
    }

    async fn a_retried_letter_takes_its_key_again(s) {
        s.publish_all(vec![unique(&s, "a")]).await;
        let delivery = s.one().await;
        s.kill(delivery).await;
        s.retry("a").await;
        assert_eq!(s.publish_all(vec![unique(&s, "b")]).await, ["a"]);
    }

    async fn a_retried_letter_leaves_the_key_to_who_has_it(s) {
        s.publish_all(vec![unique(&s, "a")]).await;
        let delivery = s.one().await;
        s.kill(delivery).await;
        s.publish_all(vec![unique(&s, "b")]).await;
        s.retry("a").await;
        assert_eq!(s.publish_all(vec![unique(&s, "c")]).await, ["b"]);
        let mut all = ids(&s.drain().await);
        all.sort_unstable();
        assert_eq!(all, ["a", "b"]);
    }

    async fn unfit_keys_are_refused(s) {
        let long = "k".repeat(501);
        for task in [
            s.task("a").unique(""),
            s.task("a").unique(long.as_str()),
            s.task("a").unique_for("report", Duration::ZERO),
            s.task("a").with_key(""),
            s.task("a").with_key(long.as_str()),
            s.task("a").expires_after(Duration::ZERO),
        ] {
            assert!(s.queue.publish(vec![task.clone()]).await.is_err(), "{task:?}");
        }
        s.nothing().await;
    }
}
