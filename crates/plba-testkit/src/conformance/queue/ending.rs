//! Ending deliveries: ack, nack, bury and release, singly and in batches.

use std::time::Duration;

use plba_tasks::queue::{DeliveryToken, EndError, Ending, How};
use plba_tasks::task::AttemptEnd;

use super::super::cases;
use super::{Subject, ids};

cases! { Subject;
    async fn an_acked_task_is_gone(s) {
        s.publish(&["a"]).await;
        let delivery = s.one().await;
        s.ack(delivery).await;
        s.pass(s.lease() * 2).await;
        s.nothing().await;
        let stats = s.stats().await;
        assert_eq!((stats.ready, stats.delayed, stats.leased, stats.dead, stats.bytes), (0, 0, 0, 0, 0));
    }

    async fn a_second_ack_finds_the_lease_lost(s) {
        s.publish(&["a"]).await;
        let delivery = s.one().await;
        let token = delivery.token.clone();
        s.ack(delivery).await;
        let again = s.queue.end_one(token, How::ack(vec![s.task("never")])).await;
        assert!(matches!(again, Err(EndError::LeaseLost)));
        s.nothing().await;
    }

    async fn a_failed_attempt_is_followed_by_the_next_after_its_delay(s) {
        s.publish(&["a"]).await;
        let delay = s.lease() / 2;
        let began = s.now();
        s.queue.nack(s.one().await.token, delay, "no luck".into()).await.unwrap();
        s.nothing().await;
        let again = s.one().await;
        assert!(s.since(began) >= delay);
        assert_eq!((again.deliveries, again.attempt), (2, 2));
    }

    async fn a_failed_attempt_without_delay_is_followed_at_once(s) {
        s.publish(&["a"]).await;
        s.queue.nack(s.one().await.token, Duration::ZERO, "no luck".into()).await.unwrap();
        let began = s.now();
        s.one().await;
        assert!(s.since(began) < s.lease());
    }

    async fn a_failed_attempt_goes_behind_those_that_wait(s) {
        s.publish(&["a", "b"]).await;
        s.queue.nack(s.one().await.token, Duration::ZERO, "no luck".into()).await.unwrap();
        assert_eq!(ids(&s.drain().await), ["b", "a"]);
    }

    async fn the_history_tells_why_attempts_failed(s) {
        s.publish(&["a"]).await;
        for reason in ["first", "second"] {
            s.queue.nack(s.one().await.token, Duration::ZERO, reason.into()).await.unwrap();
        }
        let history = s.one().await.task.history.clone();
        assert_eq!(history.iter().map(|attempt| attempt.reason.as_str()).collect::<Vec<_>>(), ["first", "second"]);
        assert!(history.iter().all(|attempt| attempt.how == AttemptEnd::Failed));
    }

    async fn a_history_stays_bounded(s) {
        s.publish(&["a"]).await;
        for number in 0..60 {
            s.queue.nack(s.one().await.token, Duration::ZERO, number.to_string()).await.unwrap();
        }
        let last = s.one().await;
        assert_eq!(last.attempt, 61);
        assert!(last.task.history.len() <= plba_tasks::task::MAXIMUM_HISTORY);
        assert_eq!(last.task.history[0].reason, "0");
        assert_eq!(last.task.history.last().unwrap().reason, "59");
    }

    async fn attempts_and_deliveries_strictly_increase(s) {
        s.publish(&["a"]).await;
        for number in 1..=5 {
            let delivery = s.one().await;
            assert_eq!((delivery.deliveries, delivery.attempt), (number, number));
            s.queue.nack(delivery.token, Duration::ZERO, "no luck".into()).await.unwrap();
        }
    }

    async fn a_released_delivery_costs_no_attempt(s) {
        s.publish(&["a"]).await;
        s.queue.release(s.one().await.token).await.unwrap();
        let again = s.one().await;
        assert_eq!((again.deliveries, again.attempt), (2, 1));
        assert!(again.task.history.is_empty());
    }

    async fn releasing_often_never_kills_a_task(s) {
        s.publish(&["a"]).await;
        for _ in 0..s.maximum_crashes * 3 {
            s.queue.release(s.one().await.token).await.unwrap();
        }
        assert_eq!(s.one().await.attempt, 1);
        assert!(s.dead().await.is_empty());
    }

    async fn a_released_task_comes_before_those_that_wait(s) {
        s.publish(&["a", "b"]).await;
        s.queue.release(s.one().await.token).await.unwrap();
        assert_eq!(ids(&s.drain().await), ["a", "b"]);
    }

    async fn a_snoozed_task_comes_after_its_delay_and_costs_nothing(s) {
        s.publish(&["a"]).await;
        let (delay, began) = (s.lease() / 2, s.now());
        s.queue.end_one(s.one().await.token, How::Release { delay }).await.unwrap();
        s.nothing().await;
        assert_eq!(s.one().await.attempt, 1);
        assert!(s.since(began) >= delay);
    }

    async fn a_buried_task_is_a_dead_letter_with_reason_and_history(s) {
        s.publish(&["a"]).await;
        s.queue.nack(s.one().await.token, Duration::ZERO, "no luck".into()).await.unwrap();
        s.queue.bury(s.one().await.token, "beyond help".into()).await.unwrap();
        s.nothing().await;
        let letter = s.queue.dead_letters(&plba_tasks::queue::DeadFilter::default(), None, 10).await.unwrap().letters.remove(0);
        assert_eq!((letter.id.as_str(), letter.queue.as_str(), letter.kind.as_str()), ("a", "orders", "test"));
        assert_eq!((letter.reason.as_str(), letter.deliveries), ("beyond help", 2));
        assert_eq!(letter.history.iter().map(|attempt| attempt.reason.as_str()).collect::<Vec<_>>(), ["no luck", "beyond help"]);
    }

    async fn a_batch_ends_each_delivery_in_its_own_way(s) {
        s.publish(&["ack", "nack", "bury", "release", "stale"]).await;
        let taken = s.take(5).await;
        let token = |place: usize| -> DeliveryToken { taken[place].token.clone() };
        s.queue.release(token(4)).await.unwrap();
        let zero = Duration::ZERO;
        let endings = vec![
            Ending { token: token(0), how: How::ack(Vec::new()) },
            Ending { token: token(4), how: How::ack(Vec::new()) },
            Ending { token: token(1), how: How::Nack { delay: zero, reason: "no luck".into() } },
            Ending { token: token(2), how: How::Bury { reason: "beyond help".into() } },
            Ending { token: token(3), how: How::Release { delay: zero } },
        ];
        let results = s.queue.end(endings).await.unwrap();
        assert_eq!(results.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true, true, true]);
        let mut left = ids(&s.drain().await);
        left.sort_unstable();
        assert_eq!(left, ["nack", "release", "stale"]);
        assert_eq!(s.dead().await, ["bury"]);
    }

    async fn one_token_twice_in_a_batch_counts_once(s) {
        s.publish(&["a"]).await;
        let token = s.one().await.token;
        let ending = |id| Ending { token: token.clone(), how: How::ack(vec![s.task(id)]) };
        let results = s.queue.end(vec![ending("first"), ending("second")]).await.unwrap();
        assert!(results[0].is_ok() && matches!(results[1], Err(EndError::LeaseLost)));
        assert_eq!(ids(&s.drain().await), ["first"]);
    }

    async fn a_made_up_token_finds_the_lease_lost(s) {
        s.publish(&["a"]).await;
        let held = s.one().await;
        let mut tokens = vec![held.token.clone(), held.token.clone()];
        tokens[0].fence = held.token.fence.wrapping_add(1 << 40);
        tokens[1].queue = "no-such-queue".into();
        for token in tokens {
            assert!(matches!(s.queue.release(token).await, Err(EndError::LeaseLost)));
        }
        s.ack(held).await;
    }

    async fn an_empty_batch_of_endings_is_fine(s) {
        assert!(s.queue.end(Vec::new()).await.unwrap().is_empty());
        assert!(s.queue.extend(&[]).await.unwrap().is_empty());
    }
}
