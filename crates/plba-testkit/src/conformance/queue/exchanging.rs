//! Exchanges: endings and new deliveries in one go.

use std::time::Duration;

use plba_tasks::queue::{Delivery, EndError, Ending, Exchange, How};
use plba_tasks::task::QueueName;
use tokio::time::timeout;

use super::super::cases;
use super::{Subject, ids};

fn acks(deliveries: Vec<Delivery>) -> Vec<Ending> {
    let ack = |delivery: Delivery| Ending {
        token: delivery.token,
        how: How::ack(Vec::new()),
    };
    deliveries.into_iter().map(ack).collect()
}

async fn exchange(s: &Subject, endings: Vec<Ending>, max: usize) -> Exchange {
    let exchange = s.queue.exchange(endings, &s.name, &s.consumer, max);
    timeout(s.soon(), exchange).await.expect("an exchange does not wait")
}

/// An exchange, and a consume should the backend take nothing in exchanges; gives the ids.
async fn next(s: &Subject, endings: Vec<Ending>, max: usize) -> Vec<String> {
    let exchange = exchange(s, endings, max).await;
    for ended in exchange.ended.unwrap() {
        ended.unwrap();
    }
    let mut taken = exchange.taken.unwrap();
    assert!(taken.len() <= max);
    if taken.is_empty() {
        taken = s.take(max).await;
    }
    ids(&taken)
}

cases! { Subject;
    async fn an_exchange_ends_and_takes(s) {
        s.publish(&["a", "b", "c"]).await;
        let first = s.take(1).await;
        assert_eq!(next(&s, acks(first), 2).await, ["b", "c"]);
        assert_eq!(s.stats().await.acked, 1);
    }

    async fn an_exchange_does_not_wait(s) {
        s.publish(&["a"]).await;
        let first = s.take(1).await;
        let exchange = exchange(&s, acks(first), 10).await;
        assert!(exchange.ended.unwrap().remove(0).is_ok());
        assert!(exchange.taken.unwrap().is_empty());
        assert_eq!(s.stats().await.leased, 0);
    }

    async fn an_exchange_answers_each_ending_in_order(s) {
        s.publish(&["a", "b", "c"]).await;
        let taken = s.take(3).await;
        s.queue.release(taken[1].token.clone()).await.unwrap();
        let exchange = exchange(&s, acks(taken), 0).await;
        let ended = exchange.ended.unwrap();
        assert!(ended[0].is_ok() && ended[2].is_ok());
        assert!(matches!(ended[1], Err(EndError::LeaseLost)));
        assert!(exchange.taken.unwrap().is_empty());
    }

    async fn an_exchange_for_none_takes_none(s) {
        s.publish(&["a", "b"]).await;
        let first = s.take(1).await;
        assert!(exchange(&s, acks(first), 0).await.taken.unwrap().is_empty());
        s.this("b").await;
    }

    async fn follow_ups_may_be_taken_in_the_same_exchange(s) {
        s.publish(&["a"]).await;
        let token = s.one().await.token;
        let ending = Ending { token, how: How::ack(vec![s.task("then")]) };
        assert_eq!(next(&s, vec![ending], 1).await, ["then"]);
    }

    async fn the_next_of_a_line_may_be_taken_in_the_same_exchange(s) {
        s.publish_all(["a", "b"].map(|id| s.task(id).in_order_of("customer")).into()).await;
        let head = s.take(1).await;
        assert_eq!(next(&s, acks(head), 10).await, ["b"]);
    }

    async fn what_is_tried_again_at_once_may_come_again(s) {
        s.publish(&["a"]).await;
        let token = s.one().await.token;
        let how = How::Nack { delay: Duration::ZERO, reason: "no luck".into() };
        let exchange = exchange(&s, vec![Ending { token, how }], 1).await;
        exchange.ended.unwrap().remove(0).unwrap();
        let mut taken = exchange.taken.unwrap();
        if taken.is_empty() {
            taken = s.take(1).await;
        }
        assert_eq!((taken[0].deliveries, taken[0].attempt), (2, 2));
    }

    async fn an_exchange_takes_from_the_queue_it_names(s) {
        let other = QueueName::from("replies");
        s.publish(&["a", "b"]).await;
        let first = s.take(1).await;
        let exchange = s.queue.exchange(acks(first), &other, &s.consumer, 10).await;
        assert!(exchange.ended.unwrap().remove(0).is_ok());
        assert!(exchange.taken.unwrap().is_empty());
        s.this("b").await;
    }

    async fn an_exchange_without_endings_takes(s) {
        s.publish(&["a"]).await;
        assert_eq!(next(&s, Vec::new(), 10).await, ["a"]);
    }

    async fn an_exchange_respects_a_pause(s) {
        s.publish(&["a", "b"]).await;
        let first = s.take(1).await;
        s.queue.pause(&s.name, None).await.unwrap();
        let exchange = exchange(&s, acks(first), 10).await;
        assert!(exchange.ended.unwrap().remove(0).is_ok());
        assert!(exchange.taken.unwrap().is_empty());
    }

    async fn an_exchange_makes_room_for_publishers_that_wait(s) {
        let Some(capacity) = s.capacity else { return };
        s.publish_all((0..capacity).map(|number| s.task(&number.to_string())).collect()).await;
        let (queue, task) = (s.queue.clone(), s.task("more"));
        let waits = tokio::spawn(async move { queue.publish(vec![task]).await });
        s.pass(s.moment()).await;
        let first = s.take(1).await;
        exchange(&s, acks(first), 0).await.ended.unwrap().remove(0).unwrap();
        s.within(s.patience(), waits).await.expect("there is room").unwrap().unwrap();
    }

    async fn a_dropped_exchange_loses_nothing(s) {
        s.publish(&["a", "b"]).await;
        let first = s.take(1).await;
        drop(timeout(Duration::ZERO, s.queue.exchange(acks(first), &s.name, &s.consumer, 10)).await);
        s.pass(s.lease() * 11 / 10).await;
        let left = ids(&s.drain().await);
        assert!(left.contains(&"b".to_owned()), "{left:?}");
    }
}
