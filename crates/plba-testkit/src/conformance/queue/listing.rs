//! The view of waiting and leased tasks.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::SignedDuration;
use plba_tasks::queue::{TaskFilter, TaskState, TaskSummary};
use plba_tasks::task::{AttemptEnd, NewTask, Origin, Priority, QueueName};

use super::super::cases;
use super::Subject;

async fn all(s: &Subject) -> Vec<TaskSummary> {
    s.listed(&TaskFilter::of_queue(&s.name), 100).await
}

async fn with_text(s: &Subject, text: &str) -> Vec<String> {
    let filter = TaskFilter {
        text: Some(text.to_owned()),
        ..TaskFilter::default()
    };
    names(&s.listed(&filter, 100).await)
}

async fn in_state(s: &Subject, state: TaskState) -> Vec<String> {
    let filter = TaskFilter {
        state: Some(state),
        ..TaskFilter::of_queue(&s.name)
    };
    names(&s.listed(&filter, 100).await)
}

fn names(tasks: &[TaskSummary]) -> Vec<String> {
    let mut names: Vec<_> = tasks.iter().map(|task| task.id.to_string()).collect();
    names.sort_unstable();
    names
}

cases! { Subject;
    async fn every_task_is_listed_in_its_state(s) {
        s.publish(&["leased"]).await;
        let _held = s.this("leased").await;
        let tasks = vec![
            s.task("ready").in_order_of("customer"),
            s.task("held").in_order_of("customer"),
            s.task("delayed").after(Duration::from_secs(3600)),
        ];
        s.publish_all(tasks).await;
        assert_eq!(in_state(&s, TaskState::Leased).await, ["leased"]);
        assert_eq!(in_state(&s, TaskState::Ready).await, ["ready"]);
        assert_eq!(in_state(&s, TaskState::Held).await, ["held"]);
        assert_eq!(in_state(&s, TaskState::Delayed).await, ["delayed"]);
        assert_eq!(all(&s).await.len(), 4);
    }

    async fn what_is_gone_or_dead_is_not_listed(s) {
        s.bury("dead").await;
        s.publish(&["acked"]).await;
        let delivery = s.one().await;
        s.ack(delivery).await;
        assert!(all(&s).await.is_empty());
    }

    async fn a_waiting_task_tells_what_it_is(s) {
        let mut task = NewTask::new(&s.name, "order.received", "five apples").with_id("a").with_key("customer 4");
        task.origin = Some(Origin::new("mail", "7/1"));
        s.publish_all(vec![task.with_priority(Priority::Low)]).await;
        let task = all(&s).await.remove(0);
        assert_eq!((task.queue.as_str(), task.kind.as_str()), (s.name.as_str(), "order.received"));
        assert_eq!((task.key.as_deref(), task.priority), (Some("customer 4"), Priority::Low));
        assert_eq!(task.origin, Some(Origin::new("mail", "7/1")));
        assert_eq!((task.attempts, task.deliveries, task.holder, task.due, task.last), (0, 0, None, None, None));
        assert!(task.bytes >= 11);
    }

    async fn a_leased_task_tells_its_holder_and_its_deadline(s) {
        s.publish(&["a"]).await;
        let now = s.stamp(Duration::ZERO).await;
        let _held = s.one().await;
        let task = all(&s).await.remove(0);
        let holder = task.holder.expect("a holder");
        assert!(holder.contains("conformance"), "{holder}");
        let left = task.due.expect("a deadline").duration_since(now);
        let lease = SignedDuration::try_from(s.lease()).unwrap();
        assert!(left > lease / 2 && left < lease * 2, "{left:?}");
    }

    async fn a_delayed_task_tells_when_it_is_ready(s) {
        s.publish_all(vec![s.task("a").after(Duration::from_secs(600))]).await;
        let task = all(&s).await.remove(0);
        let wait = task.due.expect("a time").duration_since(task.published);
        assert!((wait - SignedDuration::from_secs(600)).abs() < SignedDuration::from_secs(2), "{wait:?}");
    }

    async fn a_task_that_failed_tells_of_its_latest_attempt(s) {
        s.publish(&["a"]).await;
        let delivery = s.one().await;
        s.nack(delivery, Duration::from_secs(600)).await;
        let task = all(&s).await.remove(0);
        assert_eq!((task.attempts, task.deliveries, task.state), (1, 1, TaskState::Delayed));
        let last = task.last.expect("an attempt");
        assert_eq!((last.how, last.reason.as_str()), (AttemptEnd::Failed, "no luck"));
    }

    async fn tasks_are_listed_page_by_page(s) {
        s.publish(&["a", "b", "c", "d", "e"]).await;
        let _held = s.take(2).await;
        for limit in 1..=6 {
            let listed = s.listed(&TaskFilter::of_queue(&s.name), limit).await;
            assert_eq!(names(&listed), ["a", "b", "c", "d", "e"], "pages of {limit}");
        }
    }

    async fn tasks_of_all_queues_are_listed_once(s) {
        let mut expected = BTreeSet::new();
        for queue in ["x", "y", "z"] {
            for number in 0..3 {
                let id = format!("{queue}{number}");
                s.publish_all(vec![NewTask::new(queue, "test", "").with_id(id.as_str())]).await;
                expected.insert(id);
            }
        }
        for limit in 1..=10 {
            let listed = names(&s.listed(&TaskFilter::default(), limit).await);
            assert_eq!(listed.len(), 9, "pages of {limit}");
            assert_eq!(listed.into_iter().collect::<BTreeSet<_>>(), expected);
        }
    }

    async fn a_filter_names_a_queue(s) {
        s.publish(&["a"]).await;
        s.publish_all(vec![NewTask::new("replies", "test", "").with_id("b")]).await;
        assert_eq!(names(&s.listed(&TaskFilter::of_queue("replies"), 10).await), ["b"]);
        assert!(s.listed(&TaskFilter::of_queue("unknown"), 10).await.is_empty());
    }

    async fn a_filter_looks_for_text(s) {
        let mut from_mail = s.task("m");
        from_mail.origin = Some(Origin::new("mailbox", "7/1"));
        let kind = NewTask::new(&s.name, "order.received", "").with_id("k");
        s.publish_all(vec![s.task("needle-1"), kind, s.task("c").with_key("customer 4"), from_mail]).await;
        assert_eq!(with_text(&s, "needle").await, ["needle-1"]);
        assert_eq!(with_text(&s, "order.rec").await, ["k"]);
        assert_eq!(with_text(&s, "customer").await, ["c"]);
        assert_eq!(with_text(&s, "mailb").await, ["m"]);
        assert_eq!(with_text(&s, "7/1").await, ["m"]);
        assert!(with_text(&s, "nowhere").await.is_empty());
        assert!(with_text(&s, "%").await.is_empty(), "text is text, not a pattern");
        assert!(with_text(&s, "needle_1").await.is_empty(), "text is text, not a pattern");
    }

    async fn filters_hold_together(s) {
        s.publish(&["a1", "a2", "b1"]).await;
        let _held = s.this("a1").await;
        let filter = TaskFilter {
            state: Some(TaskState::Ready),
            text: Some("a".to_owned()),
            ..TaskFilter::of_queue(&s.name)
        };
        for limit in 1..4 {
            assert_eq!(names(&s.listed(&filter, limit).await), ["a2"]);
        }
    }

    async fn a_lease_that_ran_out_is_listed_as_ready(s) {
        s.publish(&["a"]).await;
        let _lost = s.one().await;
        s.pass(s.lease() * 11 / 10).await;
        s.queue.recover(None, 100).await.unwrap();
        assert_eq!(in_state(&s, TaskState::Ready).await, ["a"]);
    }

    async fn the_view_of_a_queue_that_nobody_used_is_empty(s) {
        assert!(s.listed(&TaskFilter::of_queue(QueueName::from("unknown")), 10).await.is_empty());
        assert!(all(&s).await.is_empty());
    }
}
