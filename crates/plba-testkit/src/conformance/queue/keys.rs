//! Rules of keys: rule 10.

use std::time::Duration;

use plba_tasks::queue::{QueueRules, Rate, TaskFilter, TaskState};
use plba_tasks::task::NewTask;

use super::super::cases;
use super::{Subject, ids};

fn one_of_each() -> QueueRules {
    QueueRules {
        key_concurrency: Some(1),
        ..QueueRules::default()
    }
}

/// One at once, and then one for each half of a lease.
fn slow(s: &Subject) -> QueueRules {
    QueueRules {
        key_rate: Some(Rate::new(1, s.lease() / 2)),
        ..QueueRules::default()
    }
}

/// Tasks whose key is the first letter of their ids.
async fn publish(s: &Subject, ids: &[&str]) {
    let keyed = |id: &&str| -> NewTask { s.task(id).with_key(&id[..1]) };
    s.publish_all(ids.iter().map(keyed).collect()).await;
}

cases! { Subject;
    async fn a_key_has_no_more_leases_than_allowed(s) {
        s.govern(one_of_each());
        publish(&s, &["a1", "a2", "b1", "b2", "c1"]).await;
        assert_eq!(ids(&s.take(10).await), ["a1", "b1", "c1"]);
        s.nothing().await;
    }

    async fn tasks_over_the_leases_of_their_key_are_held(s) {
        s.govern(one_of_each());
        publish(&s, &["a1", "a2", "b1"]).await;
        s.take(10).await;
        let stats = s.stats().await;
        assert_eq!((stats.ready, stats.held, stats.leased), (0, 1, 2));
        let held = TaskFilter { state: Some(TaskState::Held), ..TaskFilter::default() };
        let held = s.listed(&held, 10).await;
        assert_eq!((held.len(), held[0].id.as_str()), (1, "a2"));
    }

    async fn the_end_of_a_keys_lease_releases_the_next_of_that_key(s) {
        s.govern(one_of_each());
        publish(&s, &["a1", "a2", "a3", "b1", "b2"]).await;
        let mut taken = s.take(10).await;
        s.ack(taken.remove(0)).await;
        let mut taken = s.take(10).await;
        assert_eq!(ids(&taken), ["a2"]);
        s.nack(taken.remove(0), Duration::from_secs(3600)).await;
        assert_eq!(ids(&s.take(10).await), ["a3"]);
    }

    async fn a_keys_lease_that_ran_out_releases_the_next(s) {
        s.govern(one_of_each());
        publish(&s, &["a1", "a2"]).await;
        s.this("a1").await;
        s.nothing().await;
        s.pass(s.lease() * 11 / 10).await;
        s.one().await;
        s.nothing().await;
    }

    async fn a_consumer_that_waits_for_a_key_is_woken(s) {
        s.govern(one_of_each());
        publish(&s, &["a1", "a2"]).await;
        let first = s.this("a1").await;
        let waits = s.waiting(10);
        s.pass(s.moment()).await;
        assert!(!waits.is_finished());
        s.ack(first).await;
        assert_eq!(ids(&s.within(s.patience(), waits).await.expect("it is woken").unwrap()), ["a2"]);
    }

    async fn keys_of_several_leases_have_so_many(s) {
        s.govern(QueueRules { key_concurrency: Some(2), ..QueueRules::default() });
        publish(&s, &["a1", "a2", "a3", "b1"]).await;
        assert_eq!(ids(&s.take(10).await), ["a1", "a2", "b1"]);
    }

    async fn a_key_is_carried_out_in_order_as_far_as_it_is_held(s) {
        s.govern(one_of_each());
        publish(&s, &["a1", "a2", "a3", "a4"]).await;
        for id in ["a1", "a2", "a3", "a4"] {
            let delivery = s.this(id).await;
            s.nothing().await;
            s.ack(delivery).await;
        }
        assert_eq!(s.stats().await.held, 0);
    }

    async fn tasks_without_a_key_are_not_limited_by_keys(s) {
        s.govern(QueueRules { key_rate: Some(Rate::new(1, s.lease())), ..one_of_each() });
        s.publish(&["x", "y", "z"]).await;
        assert_eq!(ids(&s.take(10).await), ["x", "y", "z"]);
    }

    async fn a_key_over_its_rate_is_delayed_and_others_pass(s) {
        s.govern(slow(&s));
        publish(&s, &["a1", "a2", "b1"]).await;
        assert_eq!(ids(&s.take(10).await), ["a1", "b1"]);
        s.nothing().await;
        let stats = s.stats().await;
        assert_eq!((stats.ready, stats.delayed), (0, 1));
    }

    async fn a_key_gets_its_next_turn_in_time(s) {
        s.govern(slow(&s));
        publish(&s, &["a1", "a2", "a3"]).await;
        for id in ["a1", "a2", "a3"] {
            let delivery = s.this(id).await;
            s.nothing().await;
            s.ack(delivery).await;
            s.pass(s.lease() * 6 / 10).await;
        }
    }

    async fn a_consumer_that_waits_for_a_keys_rate_is_woken(s) {
        s.govern(slow(&s));
        publish(&s, &["a1", "a2"]).await;
        let first = s.this("a1").await;
        s.ack(first).await;
        let waits = s.waiting(1);
        assert_eq!(ids(&s.within(s.lease(), waits).await.expect("it is woken").unwrap()), ["a2"]);
    }

    async fn a_keys_rate_loses_nothing(s) {
        s.govern(QueueRules { key_rate: Some(Rate::new(2, s.lease() / 2)), ..QueueRules::default() });
        publish(&s, &["a1", "a2", "a3", "a4", "b1", "b2", "b3"]).await;
        let mut all = Vec::new();
        while all.len() < 7 {
            for delivery in s.take(10).await {
                all.push(delivery.task.id.to_string());
                s.ack(delivery).await;
            }
        }
        all.sort_unstable();
        assert_eq!(all, ["a1", "a2", "a3", "a4", "b1", "b2", "b3"]);
    }

    async fn lines_obey_the_rules_of_their_key_too(s) {
        s.govern(slow(&s));
        s.publish_all(["a", "b"].map(|id| s.task(id).in_order_of("customer")).into()).await;
        let head = s.this("a").await;
        s.ack(head).await;
        s.nothing().await;
        s.pass(s.lease() * 6 / 10).await;
        s.this("b").await;
    }

    async fn a_limit_of_keys_that_is_lifted_holds_no_more(s) {
        s.govern(one_of_each());
        publish(&s, &["a1", "a2", "a3"]).await;
        s.this("a1").await;
        s.nothing().await;
        s.govern(QueueRules::default());
        let mut all = ids(&s.drain().await);
        all.sort_unstable();
        assert_eq!(all, ["a2", "a3"]);
    }

    async fn leases_from_before_a_rule_count_for_it(s) {
        publish(&s, &["a1", "a2"]).await;
        let first = s.this("a1").await;
        s.govern(one_of_each());
        s.nothing().await;
        s.ack(first).await;
        s.this("a2").await;
    }

    async fn held_tasks_may_expire(s) {
        s.govern(one_of_each());
        let tasks = vec![s.task("a1").with_key("a"), s.task("a2").with_key("a").expires_after(s.lease() / 2)];
        s.publish_all(tasks).await;
        let first = s.this("a1").await;
        s.nothing().await;
        s.pass(s.lease() * 6 / 10).await;
        s.ack(first).await;
        s.nothing().await;
        assert_eq!(s.dead().await, ["a2"]);
    }
}
