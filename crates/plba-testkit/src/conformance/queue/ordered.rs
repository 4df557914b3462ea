//! Ordered tasks: rule 7.

use std::time::Duration;

use plba_tasks::queue::{How, TaskFilter, TaskState};
use plba_tasks::task::{NewTask, Priority, QueueName};

use super::super::cases;
use super::{Subject, ids};

/// Publishes a line of ordered tasks.
async fn line(s: &Subject, ids: &[&str]) {
    s.publish_all(ids.iter().map(|id| s.task(id).in_order_of("customer")).collect())
        .await;
}

cases! { Subject;
    async fn only_the_head_of_a_line_is_handed_out(s) {
        line(&s, &["a", "b", "c"]).await;
        assert_eq!(ids(&s.take(10).await), ["a"]);
        s.nothing().await;
    }

    async fn an_ack_releases_the_next_in_order(s) {
        line(&s, &["a", "b", "c"]).await;
        for id in ["a", "b", "c"] {
            let head = s.this(id).await;
            s.nothing().await;
            s.ack(head).await;
        }
        let stats = s.stats().await;
        assert_eq!((stats.ready, stats.held, stats.leased), (0, 0, 0));
    }

    async fn a_line_is_held_across_publishes(s) {
        line(&s, &["a"]).await;
        let head = s.this("a").await;
        line(&s, &["b"]).await;
        s.nothing().await;
        s.ack(head).await;
        s.this("b").await;
    }

    async fn lines_of_other_keys_go_on(s) {
        line(&s, &["a1", "a2"]).await;
        let other = ["b1", "b2"].map(|id| s.task(id).in_order_of("other"));
        s.publish_all(other.into()).await;
        assert_eq!(ids(&s.take(10).await), ["a1", "b1"]);
    }

    async fn tasks_without_a_key_go_on(s) {
        line(&s, &["a", "b"]).await;
        s.publish(&["plain"]).await;
        assert_eq!(ids(&s.take(10).await), ["a", "plain"]);
    }

    async fn a_key_without_an_order_waits_for_nobody(s) {
        let tasks = ["a", "b"].map(|id| s.task(id).with_key("customer"));
        s.publish_all(tasks.into()).await;
        assert_eq!(ids(&s.take(10).await), ["a", "b"]);
    }

    async fn lines_belong_to_one_queue(s) {
        line(&s, &["a"]).await;
        let other = QueueName::from("replies");
        s.publish_all(vec![NewTask::new(&other, "test", "").with_id("other").in_order_of("customer")]).await;
        s.this("a").await;
        assert_eq!(ids(&s.take_from(&other, 1).await), ["other"]);
    }

    async fn a_head_that_is_tried_again_keeps_its_followers_waiting(s) {
        line(&s, &["a", "b"]).await;
        let head = s.this("a").await;
        s.nack(head, s.lease() / 2).await;
        s.nothing().await;
        s.pass(s.lease() * 6 / 10).await;
        let head = s.this("a").await;
        assert_eq!(head.attempt, 2);
        s.ack(head).await;
        s.this("b").await;
    }

    async fn a_head_that_is_snoozed_keeps_its_followers_waiting(s) {
        line(&s, &["a", "b"]).await;
        let head = s.this("a").await;
        s.snooze(head, s.lease() / 2).await;
        s.nothing().await;
        s.pass(s.lease() * 6 / 10).await;
        s.this("a").await;
    }

    async fn a_head_that_is_released_is_the_head_still(s) {
        line(&s, &["a", "b"]).await;
        let head = s.this("a").await;
        s.queue.release(head.token).await.unwrap();
        assert_eq!(ids(&s.take(10).await), ["a"]);
    }

    async fn a_head_whose_lease_ran_out_is_the_head_still(s) {
        line(&s, &["a", "b"]).await;
        let _lost = s.this("a").await;
        s.pass(s.lease() * 11 / 10).await;
        assert_eq!(ids(&s.take(10).await), ["a"]);
        s.nothing().await;
    }

    async fn the_death_of_the_head_releases_the_next(s) {
        line(&s, &["a", "b"]).await;
        let head = s.this("a").await;
        s.kill(head).await;
        s.this("b").await;
    }

    async fn a_head_that_kills_its_holders_releases_the_next_in_the_end(s) {
        line(&s, &["a", "b"]).await;
        for _ in 0..s.maximum_crashes {
            s.this("a").await;
            s.pass(s.lease() * 11 / 10).await;
        }
        s.this("b").await;
        assert_eq!(s.dead().await, ["a"]);
    }

    async fn an_expired_head_releases_the_next(s) {
        let late = s.task("late").in_order_of("customer").expires_after(s.lease() / 2);
        s.publish_all(vec![late]).await;
        line(&s, &["b"]).await;
        s.pass(s.lease() * 6 / 10).await;
        s.this("b").await;
        assert_eq!(s.dead().await, ["late"]);
    }

    async fn an_expired_follower_is_skipped(s) {
        line(&s, &["a"]).await;
        let late = s.task("late").in_order_of("customer").expires_after(s.lease() / 2);
        s.publish_all(vec![late]).await;
        line(&s, &["c"]).await;
        s.pass(s.lease() * 6 / 10).await;
        let head = s.this("a").await;
        s.ack(head).await;
        s.this("c").await;
    }

    async fn priorities_do_not_change_the_order_of_a_line(s) {
        line(&s, &["a", "b"]).await;
        s.publish_all(vec![s.task("c").in_order_of("customer").with_priority(Priority::High)]).await;
        for id in ["a", "b", "c"] {
            let head = s.this(id).await;
            s.ack(head).await;
        }
    }

    async fn a_delayed_head_keeps_its_followers_waiting(s) {
        s.publish_all(vec![s.task("a").in_order_of("customer").after(s.lease() / 2)]).await;
        line(&s, &["b"]).await;
        s.nothing().await;
        s.pass(s.lease() * 6 / 10).await;
        s.this("a").await;
    }

    async fn a_follower_waits_for_its_own_time_too(s) {
        line(&s, &["a"]).await;
        s.publish_all(vec![s.task("b").in_order_of("customer").after(s.lease() / 2)]).await;
        line(&s, &["c"]).await;
        let head = s.this("a").await;
        s.ack(head).await;
        s.nothing().await;
        s.pass(s.lease() * 6 / 10).await;
        assert_eq!(ids(&s.take(10).await), ["b"]);
    }

    async fn a_retried_letter_joins_the_end_of_its_line(s) {
        line(&s, &["a"]).await;
        let head = s.this("a").await;
        s.kill(head).await;
        line(&s, &["b", "c"]).await;
        s.retry("a").await;
        for id in ["b", "c", "a"] {
            let head = s.this(id).await;
            s.ack(head).await;
        }
    }

    async fn a_follow_up_stands_behind_those_that_were_there(s) {
        line(&s, &["a", "b"]).await;
        let head = s.this("a").await;
        let then = vec![s.task("then").in_order_of("customer")];
        s.queue.end_one(head.token, How::ack(then)).await.unwrap();
        let head = s.this("b").await;
        s.ack(head).await;
        s.this("then").await;
    }

    async fn a_consumer_that_waits_gets_the_next_when_the_head_is_done(s) {
        line(&s, &["a", "b"]).await;
        let head = s.this("a").await;
        let waits = s.waiting(1);
        s.pass(s.moment()).await;
        s.ack(head).await;
        assert_eq!(ids(&s.within(s.patience(), waits).await.expect("it is woken").unwrap()), ["b"]);
    }

    async fn followers_are_held(s) {
        line(&s, &["a", "b", "c"]).await;
        let stats = s.stats().await;
        assert_eq!((stats.ready, stats.held), (1, 2));
        let held = TaskFilter { state: Some(TaskState::Held), ..TaskFilter::default() };
        let held: Vec<_> = s.listed(&held, 10).await.into_iter().map(|task| task.id.to_string()).collect();
        assert_eq!(held, ["b", "c"]);
    }

    async fn followers_take_their_place_in_the_queue(s) {
        let Some(capacity) = s.capacity else { return };
        let tasks = (0..capacity).map(|number| s.task(&number.to_string()).in_order_of("customer"));
        s.publish_all(tasks.collect()).await;
        let (queue, task) = (s.queue.clone(), s.task("more"));
        let waits = tokio::spawn(async move { queue.publish(vec![task]).await });
        s.pass(s.moment()).await;
        assert!(!waits.is_finished(), "a full queue is full, though most are held");
        let head = s.this("0").await;
        s.ack(head).await;
        s.within(s.patience(), waits).await.expect("there is room").unwrap().unwrap();
    }

    async fn a_task_tells_its_key(s) {
        line(&s, &["a"]).await;
        let head = s.one().await;
        assert_eq!((head.task.key.as_deref(), head.task.ordered), (Some("customer"), true));
    }

    async fn many_lines_are_carried_out_side_by_side_each_in_order(s) {
        let count = s.capacity.unwrap_or(60).min(60) / 6;
        let tasks = (0..count * 6).map(|number| {
            s.task(&format!("{}/{}", number % 6, number / 6)).in_order_of(format!("line {}", number % 6))
        });
        s.publish_all(tasks.collect()).await;
        let mut next = [0; 6];
        for _ in 0..count {
            let taken = s.take(100).await;
            assert_eq!(taken.len(), 6, "one of each line");
            for delivery in taken {
                let id = delivery.task.id.to_string();
                let (line, place) = id.split_once('/').unwrap();
                let line: usize = line.parse().unwrap();
                assert_eq!(place, next[line].to_string());
                next[line] += 1;
                s.ack(delivery).await;
            }
        }
        s.nothing().await;
    }

    async fn a_released_line_is_as_good_as_new(s) {
        line(&s, &["a"]).await;
        let head = s.one().await;
        s.ack(head).await;
        s.pass(Duration::from_millis(1)).await;
        line(&s, &["b", "c"]).await;
        assert_eq!(ids(&s.take(10).await), ["b"]);
    }
}
