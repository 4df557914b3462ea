//! Two handles on one store, as two processes have them: what one promises, the other keeps.

use std::sync::Arc;
use std::time::Duration;

use plba_tasks::queue::{
    ConsumerId, Delivery, EndError, Ending, How, Incarnation, QueueRules, Rate, TaskFilter, TaskQueue,
};
use plba_tasks::task::{NewTask, TaskId};
use tokio::time::timeout;

use super::super::cases;
use super::{QueueUnderTest, Subject, ids};

/// A queue, and another handle on it with a consumer in another process.
pub(super) struct Two {
    pub(super) here: Subject,
    pub(super) there: Arc<dyn TaskQueue>,
    pub(super) consumer: ConsumerId,
}

impl Two {
    pub(super) fn new(here: QueueUnderTest, there: Arc<dyn TaskQueue>) -> Self {
        let elsewhere = Incarnation {
            host: "elsewhere".into(),
            pid: 4_711,
            epoch: 2,
            presence: None,
        };
        Self {
            here: Subject::new(here),
            there,
            // The same name: recovery must not look at it.
            consumer: ConsumerId::new(elsewhere, "conformance"),
        }
    }

    async fn take_there(&self, max: usize) -> Vec<Delivery> {
        let taking = self.there.consume(&self.here.name, &self.consumer, max);
        let taken = self.here.within(self.here.patience(), taking).await;
        taken.expect("something is ready").expect("consuming works")
    }

    async fn nothing_there(&self) {
        self.here.looked(&self.there, &self.consumer).await;
        let taking = self.there.consume(&self.here.name, &self.consumer, 10);
        let taken = timeout(self.here.moment(), taking).await;
        assert!(
            taken.is_err(),
            "nothing should be ready there, but this came: {taken:?}"
        );
    }

    async fn publish_there(&self, tasks: Vec<NewTask>) -> Vec<String> {
        let ids = self.there.publish(tasks).await.expect("publishing works");
        ids.into_iter().map(|id| id.to_string()).collect()
    }

    async fn ack_there(&self, delivery: Delivery) {
        self.there
            .end_one(delivery.token, How::ack(Vec::new()))
            .await
            .expect("the ack works");
    }
}

cases! { Two;
    async fn what_is_published_here_is_taken_there(two) {
        two.here.publish(&["a"]).await;
        assert_eq!(ids(&two.take_there(1).await), ["a"]);
        two.here.nothing().await;
    }

    async fn a_lease_held_here_is_respected_there(two) {
        two.here.publish(&["a"]).await;
        let held = two.here.this("a").await;
        for _ in 0..4 {
            two.here.pass(two.here.lease() / 2).await;
            two.here.queue.extend(std::slice::from_ref(&held.token)).await.unwrap().remove(0).expect("it is held");
            assert_eq!(two.there.recover(None, 100).await.unwrap().recovered, 0);
            two.nothing_there().await;
        }
        two.here.ack(held).await;
    }

    async fn a_lease_lost_here_is_taken_over_there(two) {
        two.here.publish(&["a"]).await;
        let lost = two.here.this("a").await;
        two.here.pass(two.here.lease() * 11 / 10).await;
        let taken = two.take_there(1).await.remove(0);
        assert_eq!((taken.deliveries, taken.attempt), (2, 1));
        let late = two.here.queue.end_one(lost.token, How::ack(Vec::new())).await;
        assert!(matches!(late, Err(EndError::LeaseLost)));
        two.ack_there(taken).await;
    }

    async fn recovery_there_recovers_what_was_lost_here(two) {
        two.here.publish(&["a", "b"]).await;
        let _lost = two.here.take(2).await;
        two.here.pass(two.here.lease() * 11 / 10).await;
        let (mut cursor, mut recovered) = (None, 0);
        loop {
            let pass = two.there.recover(cursor, 100).await.unwrap();
            recovered += pass.recovered;
            cursor = pass.next;
            if cursor.is_none() {
                break;
            }
        }
        let stats = two.here.stats().await;
        assert_eq!((stats.ready, stats.leased), (2, 0), "{recovered} recovered");
    }

    async fn a_token_from_here_is_good_there(two) {
        two.here.publish(&["a"]).await;
        let delivery = two.here.this("a").await;
        two.ack_there(delivery).await;
        assert_eq!(two.here.stats().await.leased, 0);
    }

    async fn an_id_known_here_is_known_there(two) {
        two.here.publish(&["a"]).await;
        two.publish_there(vec![two.here.task("a")]).await;
        assert_eq!(ids(&two.here.drain().await), ["a"]);
    }

    async fn a_unique_key_taken_here_is_taken_there(two) {
        two.here.publish_all(vec![two.here.task("a").unique("report")]).await;
        assert_eq!(two.publish_there(vec![two.here.task("b").unique("report")]).await, ["a"]);
        let delivery = two.take_there(1).await.remove(0);
        two.ack_there(delivery).await;
        assert_eq!(two.publish_there(vec![two.here.task("c").unique("report")]).await, ["c"]);
    }

    async fn a_line_that_began_here_is_kept_there(two) {
        let ordered = |id| two.here.task(id).in_order_of("customer");
        two.here.publish_all(vec![ordered("a")]).await;
        two.publish_there(vec![ordered("b")]).await;
        let head = two.here.this("a").await;
        two.nothing_there().await;
        two.here.ack(head).await;
        assert_eq!(ids(&two.take_there(10).await), ["b"]);
    }

    async fn a_limit_of_leases_counts_both(two) {
        let rules = QueueRules { concurrency: Some(2), ..QueueRules::default() };
        two.here.govern(rules.clone());
        two.there.govern(&two.here.name, rules);
        two.here.publish(&["a", "b", "c"]).await;
        let held = two.here.this("a").await;
        assert_eq!(ids(&two.take_there(10).await), ["b"]);
        two.nothing_there().await;
        two.here.ack(held).await;
        assert_eq!(ids(&two.take_there(10).await), ["c"]);
    }

    async fn a_limit_of_a_keys_leases_counts_both(two) {
        let rules = QueueRules { key_concurrency: Some(1), ..QueueRules::default() };
        two.here.govern(rules.clone());
        two.there.govern(&two.here.name, rules);
        two.here.publish_all(["a", "b"].map(|id| two.here.task(id).with_key("customer")).into()).await;
        let held = two.here.this("a").await;
        two.nothing_there().await;
        two.here.ack(held).await;
        assert_eq!(ids(&two.take_there(10).await), ["b"]);
    }

    async fn a_rate_counts_both(two) {
        let rules = QueueRules { rate: Some(Rate::new(2, Duration::from_secs(3600))), ..QueueRules::default() };
        two.here.govern(rules.clone());
        two.there.govern(&two.here.name, rules);
        two.here.publish(&["a", "b", "c"]).await;
        two.here.this("a").await;
        assert_eq!(ids(&two.take_there(10).await), ["b"]);
        two.nothing_there().await;
        two.here.nothing().await;
    }

    async fn a_pause_made_here_is_seen_there(two) {
        two.here.publish(&["a"]).await;
        two.here.queue.pause(&two.here.name, None).await.unwrap();
        two.nothing_there().await;
        let stats = two.there.stats().await.unwrap();
        assert!(stats.iter().any(|stats| stats.queue == two.here.name.as_str() && stats.paused));
        two.there.resume(&two.here.name).await.unwrap();
        two.here.this("a").await;
    }

    async fn a_consumer_that_waits_there_is_woken_by_what_is_published_here(two) {
        let (there, name, consumer) = (two.there.clone(), two.here.name.clone(), two.consumer.clone());
        let waits = tokio::spawn(async move { there.consume(&name, &consumer, 1).await.unwrap() });
        two.here.pass(two.here.moment()).await;
        two.here.publish(&["a"]).await;
        assert_eq!(ids(&two.here.within(two.here.patience(), waits).await.expect("it is woken").unwrap()), ["a"]);
    }

    async fn two_processes_never_get_the_same_task(two) {
        let count = two.here.capacity.unwrap_or(200).min(200);
        two.here.publish_all((0..count).map(|number| two.here.task(&number.to_string())).collect()).await;
        let both = [
            (two.here.queue.clone(), two.here.consumer.clone()),
            (two.there.clone(), two.consumer.clone()),
        ];
        let mut all = two.here.side_by_side(both, count).await;
        assert_eq!(all.len(), count);
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }

    async fn dead_letters_from_here_are_retried_there(two) {
        two.here.bury("a").await;
        assert_eq!(two.there.retry_dead(&two.here.name, &[TaskId::from("a")]).await.unwrap(), 1);
        two.here.this("a").await;
    }

    async fn the_view_there_names_the_holder_here(two) {
        two.here.publish(&["a", "b"]).await;
        two.here.this("a").await;
        two.take_there(1).await;
        let page = two.there.tasks(&TaskFilter::of_queue(&two.here.name), None, 10).await.unwrap();
        let mut holders: Vec<_> = page.tasks.into_iter().filter_map(|task| task.holder).collect();
        holders.sort_unstable_by_key(|holder| holder.contains("elsewhere"));
        assert_eq!(holders.len(), 2);
        assert!(!holders[0].contains("elsewhere") && holders[1].contains("elsewhere"), "{holders:?}");
    }

    async fn an_exchange_there_ends_what_was_taken_here(two) {
        two.here.publish(&["a"]).await;
        let token = two.here.this("a").await.token;
        let ending = Ending { token, how: How::ack(vec![two.here.task("then")]) };
        let exchange = two.there.exchange(vec![ending], &two.here.name, &two.consumer, 0).await;
        assert!(exchange.ended.unwrap().remove(0).is_ok());
        two.here.this("then").await;
    }
}
