//! Rules of whole queues: rule 10.

use std::time::Duration;

use plba_tasks::queue::{QueueRules, Rate};
use plba_tasks::task::{NewTask, QueueName};

use super::super::cases;
use super::{Subject, ids};

fn two_at_once() -> QueueRules {
    QueueRules {
        concurrency: Some(2),
        ..QueueRules::default()
    }
}

/// Two at once, and then one for each half of a lease.
fn slow(s: &Subject) -> QueueRules {
    QueueRules {
        rate: Some(Rate::new(2, s.lease())),
        ..QueueRules::default()
    }
}

cases! { Subject;
    async fn no_more_leases_than_allowed(s) {
        s.govern(two_at_once());
        s.publish(&["a", "b", "c"]).await;
        assert_eq!(ids(&s.take(10).await), ["a", "b"]);
        s.nothing().await;
        assert_eq!(s.stats().await.ready, 1);
    }

    async fn the_end_of_a_lease_allows_the_next(s) {
        s.govern(two_at_once());
        s.publish(&["a", "b", "c", "d"]).await;
        let mut taken = s.take(10).await;
        s.ack(taken.remove(0)).await;
        assert_eq!(ids(&s.take(10).await), ["c"]);
        s.nack(taken.remove(0), Duration::from_secs(3600)).await;
        assert_eq!(ids(&s.take(10).await), ["d"]);
    }

    async fn a_lease_that_ran_out_allows_the_next(s) {
        s.govern(two_at_once());
        s.publish(&["a", "b", "c"]).await;
        let _lost = s.take(10).await;
        s.pass(s.lease() * 11 / 10).await;
        let mut all = Vec::new();
        while all.len() < 2 {
            all.extend(ids(&s.take(10).await));
        }
        assert_eq!(all.len(), 2, "{all:?}");
        s.nothing().await;
    }

    async fn a_consumer_that_waits_for_a_lease_is_woken_by_its_end(s) {
        s.govern(two_at_once());
        s.publish(&["a", "b", "c"]).await;
        let mut taken = s.take(10).await;
        let waits = s.waiting(10);
        s.pass(s.moment()).await;
        assert!(!waits.is_finished());
        s.ack(taken.remove(0)).await;
        assert_eq!(ids(&s.within(s.patience(), waits).await.expect("it is woken").unwrap()), ["c"]);
    }

    async fn a_limit_counts_the_leases_of_all_consumers(s) {
        s.govern(two_at_once());
        s.publish(&["a", "b", "c", "d"]).await;
        s.this("a").await;
        assert_eq!(ids(&s.take(10).await), ["b"]);
        s.nothing().await;
    }

    async fn a_rate_lets_its_count_pass_at_once_and_then_the_rest_in_time(s) {
        s.govern(slow(&s));
        s.publish(&["a", "b", "c", "d"]).await;
        assert_eq!(ids(&s.take(10).await), ["a", "b"]);
        s.nothing().await;
        s.pass(s.lease() * 6 / 10).await;
        assert_eq!(ids(&s.take(10).await), ["c"]);
        s.nothing().await;
    }

    async fn a_consumer_that_waits_for_the_rate_is_woken_in_time(s) {
        s.govern(slow(&s));
        s.publish(&["a", "b", "c"]).await;
        for delivery in s.take(10).await {
            s.ack(delivery).await;
        }
        let waits = s.waiting(1);
        let began = s.now();
        assert_eq!(ids(&s.within(s.lease(), waits).await.expect("it is woken").unwrap()), ["c"]);
        assert!(s.since(began) >= s.lease() * 3 / 10, "{:?}", s.since(began));
    }

    async fn a_rate_that_was_not_used_is_saved_up_to_its_count(s) {
        s.govern(slow(&s));
        s.publish(&["a"]).await;
        let delivery = s.one().await;
        s.ack(delivery).await;
        s.pass(s.lease() * 5).await;
        s.publish(&["b", "c", "d"]).await;
        assert_eq!(ids(&s.take(10).await), ["b", "c"]);
    }

    async fn a_released_task_does_not_give_its_turn_back(s) {
        s.govern(slow(&s));
        s.publish(&["a", "b"]).await;
        for delivery in s.take(10).await {
            s.queue.release(delivery.token).await.unwrap();
        }
        s.nothing().await;
    }

    async fn a_rate_loses_nothing(s) {
        s.govern(slow(&s));
        s.publish(&["a", "b", "c", "d", "e"]).await;
        let mut all = Vec::new();
        while all.len() < 5 {
            for delivery in s.take(10).await {
                all.push(delivery.task.id.to_string());
                s.ack(delivery).await;
            }
        }
        assert_eq!(all, ["a", "b", "c", "d", "e"]);
    }

    async fn rules_belong_to_one_queue(s) {
        s.govern(QueueRules { concurrency: Some(1), ..QueueRules::default() });
        let other = QueueName::from("replies");
        s.publish_all(["a", "b"].map(|id| NewTask::new(&other, "test", "").with_id(id)).into()).await;
        assert_eq!(s.take_from(&other, 10).await.len(), 2);
    }

    async fn rules_that_are_lifted_hold_no_more(s) {
        s.govern(QueueRules { rate: Some(Rate::new(1, Duration::from_secs(3600))), ..two_at_once() });
        s.publish(&["a", "b", "c"]).await;
        s.this("a").await;
        s.nothing().await;
        s.govern(QueueRules::default());
        assert_eq!(ids(&s.take(10).await), ["b", "c"]);
    }

    async fn a_slower_rule_of_the_past_holds_nothing_up(s) {
        s.govern(QueueRules { rate: Some(Rate::new(1, Duration::from_secs(3600))), ..QueueRules::default() });
        s.publish(&["a", "b", "c"]).await;
        s.this("a").await;
        s.govern(slow(&s));
        s.pass(s.lease() * 11 / 10).await;
        assert!(!s.take(10).await.is_empty());
    }

    async fn retries_count_for_the_rate(s) {
        s.govern(slow(&s));
        s.publish(&["a"]).await;
        for _ in 0..2 {
            let delivery = s.this("a").await;
            s.nack(delivery, Duration::ZERO).await;
        }
        s.nothing().await;
    }
}
