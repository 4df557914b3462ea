//! Pauses: nothing is handed out, and everything else goes on.

use std::time::Duration;

use plba_tasks::queue::How;
use plba_tasks::task::{NewTask, QueueName};

use super::super::cases;
use super::{Subject, ids};

cases! { Subject;
    async fn a_paused_queue_hands_out_nothing(s) {
        s.publish(&["a"]).await;
        s.queue.pause(&s.name, None).await.unwrap();
        s.nothing().await;
        s.pass(s.lease() * 2).await;
        s.nothing().await;
        assert_eq!(s.stats().await.ready, 1);
    }

    async fn a_resumed_queue_goes_on(s) {
        s.publish(&["a"]).await;
        s.queue.pause(&s.name, None).await.unwrap();
        s.nothing().await;
        s.queue.resume(&s.name).await.unwrap();
        s.this("a").await;
    }

    async fn a_pause_ends_at_its_time(s) {
        s.publish(&["a"]).await;
        let until = s.stamp(s.lease() / 2).await;
        s.queue.pause(&s.name, Some(until)).await.unwrap();
        s.nothing().await;
        s.pass(s.lease() * 6 / 10).await;
        s.this("a").await;
        assert!(!s.stats().await.paused);
    }

    async fn publishing_goes_on_during_a_pause(s) {
        s.queue.pause(&s.name, None).await.unwrap();
        s.publish(&["a", "b"]).await;
        s.nothing().await;
        s.queue.resume(&s.name).await.unwrap();
        assert_eq!(ids(&s.take(10).await), ["a", "b"]);
    }

    async fn leases_go_on_during_a_pause(s) {
        s.publish(&["a", "b"]).await;
        let mut taken = s.take(2).await;
        s.queue.pause(&s.name, None).await.unwrap();
        let tokens: Vec<_> = taken.iter().map(|delivery| delivery.token.clone()).collect();
        for result in s.queue.extend(&tokens).await.unwrap() {
            result.expect("it is held");
        }
        s.ack(taken.remove(0)).await;
        s.nack(taken.remove(0), Duration::ZERO).await;
        s.nothing().await;
        let stats = s.stats().await;
        assert_eq!((stats.ready, stats.leased, stats.acked), (1, 0, 1));
    }

    async fn follow_ups_of_a_paused_queue_wait(s) {
        s.publish(&["a"]).await;
        let delivery = s.one().await;
        s.queue.pause(&s.name, None).await.unwrap();
        s.queue.end_one(delivery.token, How::ack(vec![s.task("then")])).await.unwrap();
        s.nothing().await;
        s.queue.resume(&s.name).await.unwrap();
        s.this("then").await;
    }

    async fn a_consumer_that_waits_goes_on_waiting(s) {
        let waits = s.waiting(1);
        s.pass(s.moment()).await;
        s.queue.pause(&s.name, None).await.unwrap();
        s.publish(&["a"]).await;
        s.pass(s.moment()).await;
        s.nothing().await;
        assert!(!waits.is_finished());
        s.queue.resume(&s.name).await.unwrap();
        assert_eq!(ids(&s.within(s.patience(), waits).await.expect("it is woken").unwrap()), ["a"]);
    }

    async fn a_consumer_that_waits_is_woken_at_the_end_of_the_pause(s) {
        let waits = s.waiting(1);
        s.pass(s.moment()).await;
        let until = s.stamp(s.lease() / 2).await;
        s.queue.pause(&s.name, Some(until)).await.unwrap();
        s.publish(&["a"]).await;
        let began = s.now();
        assert_eq!(ids(&s.within(s.lease(), waits).await.expect("it is woken").unwrap()), ["a"]);
        assert!(s.since(began) >= s.lease() * 3 / 10);
    }

    async fn a_paused_queue_says_so(s) {
        let until = s.stamp(Duration::from_secs(3600)).await;
        assert!(!s.stats().await.paused);
        s.queue.pause(&s.name, None).await.unwrap();
        let stats = s.stats().await;
        assert_eq!((stats.paused, stats.paused_until), (true, None));
        s.queue.pause(&s.name, Some(until)).await.unwrap();
        let stats = s.stats().await;
        assert!(stats.paused);
        let told = stats.paused_until.expect("until when");
        assert_eq!(told.as_millisecond(), until.as_millisecond());
        s.queue.resume(&s.name).await.unwrap();
        let stats = s.stats().await;
        assert_eq!((stats.paused, stats.paused_until), (false, None));
    }

    async fn a_pause_replaces_the_one_before(s) {
        s.publish(&["a"]).await;
        s.queue.pause(&s.name, None).await.unwrap();
        let until = s.stamp(s.lease() / 2).await;
        s.queue.pause(&s.name, Some(until)).await.unwrap();
        s.pass(s.lease() * 6 / 10).await;
        s.this("a").await;
    }

    async fn a_pause_until_a_time_that_has_passed_is_none(s) {
        s.publish(&["a"]).await;
        let past = s.stamp(Duration::ZERO).await - jiff::SignedDuration::from_secs(60);
        s.queue.pause(&s.name, None).await.unwrap();
        s.queue.pause(&s.name, Some(past)).await.unwrap();
        s.this("a").await;
        assert!(!s.stats().await.paused);
    }

    async fn other_queues_are_not_paused(s) {
        s.queue.pause(&s.name, None).await.unwrap();
        let other = QueueName::from("replies");
        s.publish_all(vec![NewTask::new(&other, "test", "").with_id("a")]).await;
        assert_eq!(ids(&s.take_from(&other, 1).await), ["a"]);
    }

    async fn resuming_what_is_not_paused_does_nothing(s) {
        s.queue.resume(&s.name).await.unwrap();
        s.publish(&["a"]).await;
        s.this("a").await;
    }
}
