//! Consuming: order, waiting, and who gets what.

use std::collections::BTreeSet;
use std::time::Duration;

use plba_tasks::queue::Delivery;
use plba_tasks::task::QueueName;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::super::cases;
use super::{Subject, ids};

fn consumer(s: &Subject, max: usize) -> JoinHandle<Vec<Delivery>> {
    let (queue, name, id) = (s.queue.clone(), s.name.clone(), s.consumer.clone());
    tokio::spawn(async move { queue.consume(&name, &id, max).await.unwrap() })
}

cases! { Subject;
    async fn consuming_waits_for_the_first_task(s) {
        let waits = consumer(&s, 10);
        s.pass(s.moment()).await;
        assert!(!waits.is_finished());
        s.publish(&["a"]).await;
        assert_eq!(ids(&timeout(s.soon(), waits).await.expect("it is woken at once").unwrap()), ["a"]);
    }

    async fn consuming_takes_at_most_what_was_asked_for(s) {
        s.publish(&["a", "b", "c"]).await;
        assert_eq!(ids(&s.take(2).await), ["a", "b"]);
        assert_eq!(ids(&s.take(2).await), ["c"]);
    }

    async fn consuming_takes_what_is_there_and_waits_for_no_more(s) {
        s.publish(&["a"]).await;
        assert_eq!(timeout(s.soon(), s.take(100)).await.expect("it does not wait").len(), 1);
    }

    async fn asking_for_none_gets_one(s) {
        s.publish(&["a", "b"]).await;
        assert_eq!(ids(&s.take(0).await), ["a"]);
    }

    async fn the_oldest_task_comes_first(s) {
        for id in ["c", "a", "b"] {
            s.publish(&[id]).await;
        }
        assert_eq!(ids(&s.drain().await), ["c", "a", "b"]);
    }

    async fn a_queue_gives_its_own_tasks_only(s) {
        s.publish(&["a"]).await;
        let other = QueueName::from("replies");
        let taken = timeout(s.moment(), s.queue.consume(&other, &s.consumer, 1)).await;
        assert!(taken.is_err());
        assert_eq!(ids(&s.take(1).await), ["a"]);
    }

    async fn no_two_consumers_get_the_same_task(s) {
        let count = s.capacity.unwrap_or(200).min(200);
        s.queue.publish((0..count).map(|number| s.task(&number.to_string())).collect()).await.unwrap();
        let consumers = (0..8).map(|_| (s.queue.clone(), s.consumer.clone()));
        let all = s.side_by_side(consumers, count).await;
        assert_eq!(all.len(), count);
        assert_eq!(all.into_iter().collect::<BTreeSet<_>>().len(), count);
    }

    async fn every_waiting_consumer_gets_a_task_of_one_batch(s) {
        let waiting: Vec<_> = (0..3).map(|_| consumer(&s, 1)).collect();
        s.pass(s.moment()).await;
        s.publish(&["a", "b", "c"]).await;
        let mut all = Vec::new();
        for waits in waiting {
            all.extend(ids(&s.within(s.patience(), waits).await.expect("nobody is forgotten").unwrap()));
        }
        all.sort_unstable();
        assert_eq!(all, ["a", "b", "c"]);
    }

    async fn every_waiting_consumer_gets_a_task_of_its_own_publish(s) {
        let waiting: Vec<_> = (0..3).map(|_| consumer(&s, 1)).collect();
        s.pass(s.moment()).await;
        for id in ["a", "b", "c"] {
            s.publish(&[id]).await;
        }
        for waits in waiting {
            assert_eq!(s.within(s.patience(), waits).await.expect("nobody is forgotten").unwrap().len(), 1);
        }
    }

    async fn a_dropped_consume_loses_nothing(s) {
        for _ in 0..20 {
            let waits = consumer(&s, 1);
            tokio::task::yield_now().await;
            waits.abort();
            drop(waits.await);
        }
        s.publish(&["a"]).await;
        assert_eq!(s.one().await.attempt, 1);
    }

    async fn a_consume_dropped_after_it_was_woken_hands_on_the_wake(s) {
        let (first, second) = (consumer(&s, 1), consumer(&s, 1));
        s.pass(s.moment()).await;
        s.publish(&["a"]).await;
        first.abort();
        // Whichever of the two was to get it: it is not lost, though it may take until its lease has run out.
        let taken = match first.await {
            Ok(taken) => taken,
            Err(_) => s.within(s.patience(), second).await.expect("the task is not lost").unwrap(),
        };
        assert_eq!(ids(&taken), ["a"]);
    }

    async fn the_first_delivery_is_the_first_attempt(s) {
        s.publish(&["a"]).await;
        let delivery = s.one().await;
        assert_eq!((delivery.deliveries, delivery.attempt), (1, 1));
    }

    async fn a_delivery_tells_how_long_the_task_was_ready(s) {
        s.publish(&["a"]).await;
        let span = s.lease() / 2;
        s.pass(span).await;
        let waited = s.one().await.waited;
        assert!(waited >= span && waited < span + s.lease(), "{waited:?}");
    }

    async fn tokens_tell_deliveries_apart(s) {
        s.publish(&["a", "b"]).await;
        let taken = s.take(2).await;
        assert_ne!(taken[0].token, taken[1].token);
    }

    async fn the_counts_of_a_queue_add_up(s) {
        let delayed = s.task("delayed").after(Duration::from_secs(3600));
        s.bury("dead").await;
        s.queue.publish(vec![s.task("leased"), s.task("ready"), delayed]).await.unwrap();
        assert_eq!(s.one().await.task.id.as_str(), "leased");
        let stats = s.stats().await;
        assert_eq!((stats.ready, stats.delayed, stats.leased, stats.dead), (1, 1, 1, 1));
        assert!(stats.oldest.is_some());
    }
}
