//! Follow-ups: published with the completion, or not at all.

use plba_tasks::queue::{EndError, How};
use plba_tasks::task::{NewTask, QueueName};
use tokio::time::timeout;

use super::super::cases;
use super::{Subject, ids};

cases! { Subject;
    async fn follow_ups_come_with_the_ack(s) {
        s.publish(&["a"]).await;
        s.queue.end_one(s.one().await.token, How::ack(vec![s.task("b"), s.task("c")])).await.unwrap();
        assert_eq!(ids(&s.drain().await), ["b", "c"]);
    }

    async fn follow_ups_may_go_to_another_queue(s) {
        s.publish(&["a"]).await;
        let replies = QueueName::from("replies");
        let reply = NewTask::new(&replies, "reply", "thanks").with_header("traceparent", "00-2");
        s.queue.end_one(s.one().await.token, How::ack(vec![reply])).await.unwrap();
        let taken = s.take_from(&replies, 10).await;
        assert_eq!(taken[0].task.headers["traceparent"], "00-2");
        s.nothing().await;
    }

    async fn a_follow_up_wakes_whoever_waits_for_it(s) {
        let (queue, id, replies) = (s.queue.clone(), s.consumer.clone(), QueueName::from("replies"));
        let name = replies.clone();
        let waits = tokio::spawn(async move { queue.consume(&name, &id, 1).await.unwrap() });
        s.publish(&["a"]).await;
        s.pass(s.moment()).await;
        s.queue.end_one(s.one().await.token, How::ack(vec![NewTask::new(&replies, "reply", "")])).await.unwrap();
        assert_eq!(timeout(s.soon(), waits).await.expect("it is woken at once").unwrap().len(), 1);
    }

    async fn follow_ups_may_exceed_the_queue(s) {
        let Some(capacity) = s.capacity else { return };
        s.queue.publish((0..capacity).map(|number| s.task(&number.to_string())).collect()).await.unwrap();
        let more = (0..capacity * 2).map(|number| s.task(&format!("more {number}"))).collect();
        let token = s.one().await.token;
        s.within(s.patience(), s.queue.end_one(token, How::ack(more))).await.expect("an ack never waits").unwrap();
        assert_eq!(s.stats().await.ready, (capacity * 3 - 1) as u64);
    }

    async fn a_follow_up_with_a_known_id_leaves_one_copy(s) {
        s.publish(&["a", "b"]).await;
        s.queue.end_one(s.one().await.token, How::ack(vec![s.task("b")])).await.unwrap();
        assert_eq!(ids(&s.drain().await), ["b"]);
    }

    async fn a_follow_up_may_take_the_id_of_the_task_it_follows(s) {
        s.publish(&["a"]).await;
        s.queue.end_one(s.one().await.token, How::ack(vec![s.task("a")])).await.unwrap();
        assert_eq!(s.one().await.deliveries, 1);
    }

    async fn a_follow_up_may_be_delayed(s) {
        s.publish(&["a"]).await;
        let later = s.task("b").after(s.lease() / 2);
        s.queue.end_one(s.one().await.token, How::ack(vec![later])).await.unwrap();
        s.nothing().await;
        assert_eq!(ids(&s.take(1).await), ["b"]);
    }

    async fn a_follow_up_that_can_not_be_kept_refuses_the_ack(s) {
        s.publish(&["a"]).await;
        let delivery = s.one().await;
        let unfit = NewTask::new("", "test", "");
        let refused = s.queue.end_one(delivery.token.clone(), How::ack(vec![s.task("b"), unfit])).await;
        assert!(matches!(refused, Err(EndError::Refused(_))), "{refused:?}");
        s.nothing().await;
        s.ack(delivery).await;
    }
}
