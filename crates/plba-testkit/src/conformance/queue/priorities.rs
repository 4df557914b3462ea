//! Priorities: rule 6.

use std::time::Duration;

use plba_tasks::queue::How;
use plba_tasks::task::Priority::{High, Low, Normal};
use plba_tasks::task::{NewTask, Priority};

use super::super::cases;
use super::{Subject, ids};

fn task(s: &Subject, id: &str, priority: Priority) -> NewTask {
    s.task(id).with_priority(priority)
}

cases! { Subject;
    async fn higher_priorities_come_first(s) {
        s.publish_all(vec![task(&s, "low", Low), task(&s, "normal", Normal), task(&s, "high", High)]).await;
        for id in ["high", "normal", "low"] {
            s.this(id).await;
        }
    }

    async fn one_batch_goes_through_the_priorities_in_order(s) {
        let tasks = [("l1", Low), ("h1", High), ("n1", Normal), ("l2", Low), ("h2", High), ("n2", Normal)];
        s.publish_all(tasks.map(|(id, priority)| task(&s, id, priority)).into()).await;
        assert_eq!(ids(&s.take(10).await), ["h1", "h2", "n1", "n2", "l1", "l2"]);
    }

    async fn a_task_without_a_priority_is_normal(s) {
        s.publish_all(vec![task(&s, "low", Low), s.task("plain"), task(&s, "high", High)]).await;
        assert_eq!(ids(&s.take(10).await), ["high", "plain", "low"]);
    }

    async fn a_task_tells_its_priority(s) {
        s.publish_all(vec![task(&s, "high", High), s.task("plain")]).await;
        let taken = s.take(10).await;
        assert_eq!((taken[0].task.priority, taken[1].task.priority), (High, Normal));
    }

    async fn a_higher_priority_that_is_not_ready_holds_nothing_up(s) {
        s.publish_all(vec![task(&s, "high", High).after(Duration::from_secs(3600)), task(&s, "low", Low)]).await;
        assert_eq!(ids(&s.take(10).await), ["low"]);
    }

    async fn a_task_keeps_its_priority_from_attempt_to_attempt(s) {
        s.publish_all(vec![task(&s, "high", High)]).await;
        let first = s.one().await;
        s.publish(&["normal"]).await;
        s.nack(first, Duration::ZERO).await;
        assert_eq!(ids(&s.take(10).await), ["high", "normal"]);
    }

    async fn a_released_task_overtakes_its_equals_only(s) {
        s.publish_all(vec![task(&s, "low 1", Low), task(&s, "low 2", Low)]).await;
        let first = s.this("low 1").await;
        s.publish_all(vec![task(&s, "high", High)]).await;
        s.queue.release(first.token).await.unwrap();
        assert_eq!(ids(&s.take(10).await), ["high", "low 1", "low 2"]);
    }

    async fn follow_ups_have_priorities_too(s) {
        s.publish(&["a", "b"]).await;
        let first = s.this("a").await;
        s.queue.end_one(first.token, How::ack(vec![task(&s, "urgent", High)])).await.unwrap();
        assert_eq!(ids(&s.take(10).await), ["urgent", "b"]);
    }

    async fn a_retried_dead_letter_keeps_its_priority(s) {
        s.publish_all(vec![task(&s, "high", High)]).await;
        let high = s.one().await;
        s.kill(high).await;
        s.publish(&["normal"]).await;
        s.retry("high").await;
        assert_eq!(ids(&s.take(10).await), ["high", "normal"]);
    }

    async fn a_delayed_task_overtakes_by_its_priority_once_it_is_ready(s) {
        s.publish_all(vec![s.task("normal").after(s.lease() / 4), task(&s, "high", High).after(s.lease() / 2)]).await;
        s.pass(s.lease() * 6 / 10).await;
        assert_eq!(ids(&s.take(10).await), ["high", "normal"]);
    }
}
