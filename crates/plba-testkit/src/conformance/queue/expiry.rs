//! Expiry: rule 8.

use std::time::Duration;

use jiff::SignedDuration;
use plba_tasks::queue::{DeadFilter, How};
use plba_tasks::task::{AttemptEnd, NewTask, QueueName};

use super::super::cases;
use super::{Subject, ids};

/// A task that expires in half a lease.
fn short(s: &Subject, id: &str) -> NewTask {
    s.task(id).expires_after(s.lease() / 2)
}

async fn let_expire(s: &Subject) {
    s.pass(s.lease() * 6 / 10).await;
}

cases! { Subject;
    async fn an_expired_task_is_dead_and_not_handed_out(s) {
        s.publish_all(vec![short(&s, "late")]).await;
        let_expire(&s).await;
        s.nothing().await;
        assert_eq!(s.dead().await, ["late"]);
        let stats = s.stats().await;
        assert_eq!((stats.ready, stats.dead, stats.expired), (0, 1, 1));
    }

    async fn the_letter_of_an_expired_task_says_so(s) {
        s.publish_all(vec![short(&s, "late")]).await;
        let_expire(&s).await;
        s.nothing().await;
        let letter = s.queue.dead_letters(&DeadFilter::default(), None, 10).await.unwrap().letters.remove(0);
        assert!(letter.reason.starts_with("expired at "), "{}", letter.reason);
        assert!(letter.reason.ends_with("before it could be carried out"), "{}", letter.reason);
        assert_eq!(letter.deliveries, 0);
        assert_eq!(letter.history.last().unwrap().how, AttemptEnd::Expired);
    }

    async fn a_task_in_time_is_carried_out(s) {
        s.publish_all(vec![short(&s, "a")]).await;
        let delivery = s.this("a").await;
        s.ack(delivery).await;
        assert!(s.dead().await.is_empty());
    }

    async fn a_task_tells_when_it_was_published_and_when_it_expires(s) {
        s.publish_all(vec![s.task("a").expires_after(Duration::from_secs(90)), s.task("b")]).await;
        let taken = s.take(2).await;
        let (a, b) = (&taken[0].task, &taken[1].task);
        assert_eq!(a.expires.unwrap().duration_since(a.published), SignedDuration::from_secs(90));
        assert_eq!(b.expires, None);
        assert!(b.published >= a.published);
    }

    async fn expired_tasks_hide_none_behind_them(s) {
        let mut tasks: Vec<_> = (0..20).map(|number| short(&s, &format!("late {number}"))).collect();
        tasks.push(s.task("live"));
        if s.capacity.is_some_and(|capacity| capacity < 21) {
            return;
        }
        s.publish_all(tasks).await;
        let_expire(&s).await;
        assert_eq!(ids(&s.take(1).await), ["live"]);
        assert_eq!(s.dead().await.len(), 20);
    }

    async fn a_delayed_task_expires_too(s) {
        s.publish_all(vec![short(&s, "late").after(s.lease() * 7 / 10)]).await;
        s.pass(s.lease() * 8 / 10).await;
        s.nothing().await;
        assert_eq!(s.dead().await, ["late"]);
    }

    async fn an_attempt_under_way_is_not_interrupted(s) {
        s.publish_all(vec![short(&s, "a")]).await;
        let delivery = s.one().await;
        let_expire(&s).await;
        s.queue.extend(std::slice::from_ref(&delivery.token)).await.unwrap().remove(0).expect("it is held");
        s.ack(delivery).await;
        assert!(s.dead().await.is_empty());
    }

    async fn a_failed_attempt_is_not_followed_by_one_too_late(s) {
        s.publish_all(vec![short(&s, "a")]).await;
        let delivery = s.one().await;
        let_expire(&s).await;
        s.nack(delivery, Duration::ZERO).await;
        s.nothing().await;
        let letter = s.queue.dead_letters(&DeadFilter::default(), None, 10).await.unwrap().letters.remove(0);
        let ends: Vec<_> = letter.history.iter().map(|attempt| attempt.how).collect();
        assert_eq!(ends, [AttemptEnd::Failed, AttemptEnd::Expired]);
    }

    async fn a_released_task_may_be_too_late(s) {
        s.publish_all(vec![short(&s, "a")]).await;
        let delivery = s.one().await;
        let_expire(&s).await;
        s.queue.release(delivery.token).await.unwrap();
        s.nothing().await;
        assert_eq!(s.dead().await, ["a"]);
    }

    async fn an_expired_task_that_is_retried_expires_no_more(s) {
        s.publish_all(vec![short(&s, "a")]).await;
        let_expire(&s).await;
        s.nothing().await;
        s.retry("a").await;
        s.pass(s.lease()).await;
        let delivery = s.this("a").await;
        assert_eq!((delivery.attempt, delivery.task.expires), (1, None));
    }

    async fn a_retried_letter_that_has_not_expired_yet_still_may(s) {
        s.publish_all(vec![short(&s, "a")]).await;
        let delivery = s.one().await;
        s.kill(delivery).await;
        s.retry("a").await;
        let_expire(&s).await;
        s.nothing().await;
        assert_eq!(s.dead().await, ["a"]);
    }

    async fn an_expired_task_keeps_its_id(s) {
        s.publish_all(vec![short(&s, "a")]).await;
        let_expire(&s).await;
        s.nothing().await;
        s.publish(&["a"]).await;
        s.nothing().await;
    }

    async fn follow_ups_expire_from_their_own_publication(s) {
        s.publish(&["a"]).await;
        let delivery = s.one().await;
        let_expire(&s).await;
        s.queue.end_one(delivery.token, How::ack(vec![short(&s, "reply")])).await.unwrap();
        s.this("reply").await;
    }

    async fn expired_tasks_make_room_for_publishers_that_wait(s) {
        let Some(capacity) = s.capacity else { return };
        s.publish_all((0..capacity).map(|number| short(&s, &number.to_string())).collect()).await;
        let (queue, task) = (s.queue.clone(), s.task("next"));
        let waits = tokio::spawn(async move { queue.publish(vec![task]).await });
        s.pass(s.moment()).await;
        assert!(!waits.is_finished());
        let_expire(&s).await;
        assert_eq!(ids(&s.take(1).await), ["next"]);
        s.within(s.patience(), waits).await.expect("there is room").unwrap().unwrap();
    }

    async fn tasks_of_other_queues_expire_on_their_own(s) {
        let other = QueueName::from("replies");
        let task = NewTask::new(&other, "test", "").with_id("other").expires_after(s.lease() / 2);
        s.publish_all(vec![task, s.task("a")]).await;
        let_expire(&s).await;
        s.this("a").await;
        assert_eq!(s.stats().await.expired, 0);
    }
}
