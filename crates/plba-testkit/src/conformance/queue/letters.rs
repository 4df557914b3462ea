//! Dead letters looked for and looked at.

use plba_tasks::queue::{DeadFilter, How};
use plba_tasks::task::{NewTask, QueueName, TaskId};

use super::super::cases;
use super::Subject;

/// Kills a task of this kind, for this reason.
async fn die(s: &Subject, queue: &str, id: &str, kind: &'static str, reason: &str) {
    let queue = QueueName::from(queue);
    s.publish_all(vec![NewTask::new(&queue, kind, id.to_owned()).with_id(id)])
        .await;
    let delivery = s.take_from(&queue, 1).await.remove(0);
    s.queue
        .end_one(
            delivery.token,
            How::Bury {
                reason: reason.to_owned(),
            },
        )
        .await
        .unwrap();
}

async fn some(s: &Subject) {
    for (queue, id, kind, reason) in [
        ("orders", "o1", "order.received", "no such customer"),
        ("orders", "o2", "order.cancelled", "too late"),
        ("orders", "o3", "order.received", "too late"),
        ("replies", "r1", "reply.send", "no such customer"),
    ] {
        die(s, queue, id, kind, reason).await;
    }
}

async fn found(s: &Subject, filter: DeadFilter) -> Vec<String> {
    let found = s.letters(&filter, 10).await;
    for limit in 1..4 {
        assert_eq!(s.letters(&filter, limit).await, found, "pages of {limit}");
    }
    found
}

fn text(text: &str) -> DeadFilter {
    DeadFilter {
        text: Some(text.to_owned()),
        ..DeadFilter::default()
    }
}

cases! { Subject;
    async fn letters_are_found_by_their_queue(s) {
        some(&s).await;
        assert_eq!(found(&s, DeadFilter::of_queue("orders")).await, ["o1", "o2", "o3"]);
        assert_eq!(found(&s, DeadFilter::of_queue("replies")).await, ["r1"]);
        assert!(found(&s, DeadFilter::of_queue("unknown")).await.is_empty());
    }

    async fn letters_are_found_by_their_kind(s) {
        some(&s).await;
        let filter = DeadFilter { kind: Some("order.received".to_owned()), ..DeadFilter::default() };
        assert_eq!(found(&s, filter).await, ["o1", "o3"]);
        let part = DeadFilter { kind: Some("order".to_owned()), ..DeadFilter::default() };
        assert!(found(&s, part).await.is_empty());
    }

    async fn letters_are_found_by_text(s) {
        some(&s).await;
        assert_eq!(found(&s, text("too late")).await, ["o2", "o3"]);
        assert_eq!(found(&s, text("cancel")).await, ["o2"]);
        assert_eq!(found(&s, text("o3")).await, ["o3"]);
        assert!(found(&s, text("%")).await.is_empty(), "text is text, not a pattern");
        assert!(found(&s, text("o_")).await.is_empty(), "text is text, not a pattern");
    }

    async fn filters_for_letters_hold_together(s) {
        some(&s).await;
        let filter = DeadFilter { kind: Some("order.received".to_owned()), ..text("too late") };
        assert_eq!(found(&s, filter).await, ["o3"]);
    }

    async fn a_letter_tells_what_it_was(s) {
        die(&s, "orders", "o1", "order.received", "no such customer").await;
        let letter = s.queue.dead_letters(&DeadFilter::default(), None, 10).await.unwrap().letters.remove(0);
        assert_eq!((letter.queue.as_str(), letter.kind.as_str()), ("orders", "order.received"));
        assert_eq!((letter.reason.as_str(), letter.deliveries, letter.history.len()), ("no such customer", 1, 1));
    }

    async fn a_letter_is_looked_at_whole(s) {
        let task = NewTask::new(&s.name, "test", vec![0, 159, 146, 150]).with_id("a").with_header("traceparent", "00-1");
        s.publish_all(vec![task]).await;
        let delivery = s.one().await;
        s.kill(delivery).await;
        let dead = s.queue.dead_task(&s.name, &TaskId::from("a")).await.unwrap().expect("it is there");
        assert_eq!(&*dead.payload, &[0, 159, 146, 150]);
        assert_eq!(dead.headers["traceparent"], "00-1");
        assert!(dead.decoded);
        assert_eq!(dead.letter.reason, "a is beyond help");
    }

    async fn only_the_dead_are_looked_at(s) {
        s.publish(&["ready"]).await;
        die(&s, "replies", "elsewhere", "test", "no luck").await;
        for id in ["ready", "unknown", "elsewhere"] {
            assert!(s.queue.dead_task(&s.name, &TaskId::from(id)).await.unwrap().is_none(), "{id}");
        }
    }

    async fn a_letter_that_was_retried_or_dropped_is_not_looked_at(s) {
        for id in ["a", "b"] {
            s.bury(id).await;
        }
        s.retry("a").await;
        s.queue.drop_dead(&s.name, &[TaskId::from("b")]).await.unwrap();
        for id in ["a", "b"] {
            assert!(s.queue.dead_task(&s.name, &TaskId::from(id)).await.unwrap().is_none(), "{id}");
        }
    }

    async fn many_letters_are_retried_at_once(s) {
        let count = s.capacity.unwrap_or(200).min(200);
        let ids: Vec<_> = (0..count).map(|number| format!("{number:03}")).collect();
        s.publish_all(ids.iter().map(|id| s.task(id)).collect()).await;
        for delivery in s.take(count).await {
            s.kill(delivery).await;
        }
        let chosen: Vec<_> = ids.iter().map(|id| TaskId::from(id.as_str())).collect();
        assert_eq!(s.queue.retry_dead(&s.name, &chosen).await.unwrap(), count);
        assert_eq!(s.stats().await.ready, count as u64);
    }
}
