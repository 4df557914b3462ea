//! Publishing: rule 1 and back-pressure.

use std::time::Duration;

use bytes::Bytes;
use plba_tasks::queue::PublishError;
use plba_tasks::task::{MAXIMUM_HEADERS, MAXIMUM_ID, MAXIMUM_NAME, NewTask, QueueName};
use tokio::time::timeout;

use super::super::cases;
use super::{Subject, ids};

cases! { Subject;
    async fn a_task_arrives_as_it_was_given(s) {
        let task = NewTask::new(&s.name, "order.received", "five apples").with_id("a").with_header("traceparent", "00-1");
        s.queue.publish(vec![task]).await.unwrap();
        let delivery = s.one().await;
        assert_eq!(delivery.task.id.as_str(), "a");
        assert_eq!(delivery.task.queue, s.name);
        assert_eq!(delivery.task.kind, "order.received");
        assert_eq!(delivery.task.payload, "five apples");
        assert_eq!(delivery.task.headers["traceparent"], "00-1");
        assert!(delivery.task.history.is_empty());
    }

    async fn any_bytes_may_be_a_payload(s) {
        let all: Vec<u8> = (0..=255).cycle().take(300_000).collect();
        for payload in [Bytes::new(), Bytes::from(all)] {
            s.queue.publish(vec![NewTask::new(&s.name, "test", payload.clone())]).await.unwrap();
            let delivery = s.one().await;
            assert_eq!(delivery.task.payload, payload);
            s.ack(delivery).await;
        }
    }

    async fn a_task_without_an_id_gets_one_of_its_own(s) {
        let task = || NewTask::new(&s.name, "test", "same");
        let given = s.queue.publish(vec![task(), task()]).await.unwrap();
        assert_ne!(given[0], given[1]);
        let taken = ids(&s.drain().await);
        assert_eq!(taken, given.iter().map(ToString::to_string).collect::<Vec<_>>());
    }

    async fn ids_come_back_in_order(s) {
        let given = s.queue.publish(vec![s.task("b"), s.task("a"), s.task("c")]).await.unwrap();
        assert_eq!(given.iter().map(|id| id.as_str()).collect::<Vec<_>>(), ["b", "a", "c"]);
    }

    async fn publishing_an_id_twice_leaves_one_copy(s) {
        s.publish(&["a"]).await;
        s.publish(&["a"]).await;
        assert_eq!(ids(&s.drain().await), ["a"]);
    }

    async fn an_id_twice_in_one_batch_leaves_one_copy(s) {
        s.publish(&["a", "b", "a"]).await;
        assert_eq!(ids(&s.drain().await), ["a", "b"]);
    }

    async fn an_id_that_is_in_hand_is_not_published_again(s) {
        s.publish(&["a"]).await;
        let delivery = s.one().await;
        s.publish(&["a"]).await;
        s.nothing().await;
        s.ack(delivery).await;
        s.nothing().await;
    }

    async fn an_id_that_is_delayed_is_not_published_again(s) {
        s.queue.publish(vec![s.task("a").after(s.lease() / 2)]).await.unwrap();
        s.publish(&["a"]).await;
        s.nothing().await;
        assert_eq!(ids(&s.take(10).await), ["a"]);
    }

    async fn an_id_that_is_dead_is_not_published_again(s) {
        s.bury("a").await;
        s.publish(&["a"]).await;
        s.nothing().await;
        assert_eq!(s.dead().await, ["a"]);
    }

    async fn an_acked_id_may_be_published_again(s) {
        s.publish(&["a"]).await;
        let delivery = s.one().await;
        s.ack(delivery).await;
        s.publish(&["a"]).await;
        assert_eq!(s.one().await.deliveries, 1);
    }

    async fn one_id_in_two_queues_is_two_tasks(s) {
        let other = QueueName::from("replies");
        s.queue.publish(vec![s.task("a"), NewTask::new(&other, "test", "").with_id("a")]).await.unwrap();
        assert_eq!(s.take(10).await.len(), 1);
        assert_eq!(s.take_from(&other, 10).await.len(), 1);
    }

    async fn an_empty_batch_publishes_nothing(s) {
        assert!(s.queue.publish(Vec::new()).await.unwrap().is_empty());
        s.nothing().await;
    }

    async fn tasks_of_one_call_keep_their_order(s) {
        s.publish(&["c", "a", "b"]).await;
        assert_eq!(ids(&s.drain().await), ["c", "a", "b"]);
    }

    async fn a_delayed_task_comes_when_it_is_due_and_not_before(s) {
        let delay = s.lease() / 2;
        // From before it is published: the delay begins at some moment of the call.
        let began = s.now();
        s.queue.publish(vec![s.task("a").after(delay)]).await.unwrap();
        s.nothing().await;
        assert_eq!(s.stats().await.delayed, 1);
        s.one().await;
        assert!(s.since(began) >= delay, "it came after {:?}", s.since(began));
    }

    async fn delayed_tasks_come_in_the_order_of_their_time(s) {
        let unit = s.lease() / 5;
        let tasks = vec![s.task("c").after(unit * 3), s.task("a").after(unit), s.task("b").after(unit * 2)];
        s.queue.publish(tasks).await.unwrap();
        let order = [s.one().await, s.one().await, s.one().await];
        assert_eq!(ids(&order), ["a", "b", "c"]);
    }

    async fn a_sooner_task_wakes_a_consumer_that_waits_for_a_later_one(s) {
        s.queue.publish(vec![s.task("late").after(s.lease() * 3)]).await.unwrap();
        let consumer = {
            let (queue, name, id) = (s.queue.clone(), s.name.clone(), s.consumer.clone());
            tokio::spawn(async move { queue.consume(&name, &id, 1).await.unwrap() })
        };
        s.pass(s.moment()).await;
        s.queue.publish(vec![s.task("soon").after(s.moment())]).await.unwrap();
        let taken = s.within(s.lease(), consumer).await.expect("the sooner one came in time").unwrap();
        assert_eq!(ids(&taken), ["soon"]);
    }

    async fn publishing_waits_while_the_queue_is_full(s) {
        let Some(capacity) = s.capacity else { return };
        let tasks = (0..capacity).map(|number| s.task(&number.to_string())).collect();
        s.queue.publish(tasks).await.unwrap();
        let waits = s.queue.publish(vec![s.task("more")]);
        tokio::pin!(waits);
        assert!(timeout(s.moment(), waits.as_mut()).await.is_err(), "it should wait");
        let delivery = s.one().await;
        assert!(timeout(s.moment(), waits.as_mut()).await.is_err(), "a task in hand takes its place");
        s.ack(delivery).await;
        s.within(s.patience(), waits).await.expect("there is space").unwrap();
    }

    async fn a_dropped_publish_leaves_nothing(s) {
        let Some(capacity) = s.capacity else { return };
        let tasks = (0..capacity).map(|number| s.task(&number.to_string())).collect();
        s.queue.publish(tasks).await.unwrap();
        assert!(timeout(s.moment(), s.queue.publish(vec![s.task("more"), s.task("still")])).await.is_err());
        let taken = ids(&s.drain().await);
        assert_eq!(taken.len(), capacity);
        assert!(!taken.contains(&"more".to_owned()));
    }

    async fn a_dropped_publish_may_be_repeated_and_leaves_one_copy(s) {
        let nearly = s.queue.publish(vec![s.task("a")]);
        drop(timeout(Duration::ZERO, nearly).await);
        s.publish(&["a"]).await;
        assert_eq!(ids(&s.drain().await), ["a"]);
    }

    async fn publishers_that_wait_are_served_in_order(s) {
        let Some(capacity) = s.capacity else { return };
        let tasks = (0..capacity).map(|number| s.task(&number.to_string())).collect();
        s.queue.publish(tasks).await.unwrap();
        let mut waiting = Vec::new();
        for id in ["first", "second", "third"] {
            let (queue, task) = (s.queue.clone(), s.task(id));
            waiting.push(tokio::spawn(async move { queue.publish(vec![task]).await }));
            s.pass(s.moment()).await;
        }
        for delivery in s.take(capacity).await {
            s.ack(delivery).await;
            s.pass(Duration::from_millis(1)).await;
        }
        for publisher in waiting {
            s.within(s.patience(), publisher).await.expect("everybody is served").unwrap().unwrap();
        }
        assert_eq!(ids(&s.drain().await), ["first", "second", "third"]);
    }

    async fn a_newcomer_does_not_overtake_a_publisher_that_waits(s) {
        let Some(capacity) = s.capacity else { return };
        s.queue.publish((1..capacity).map(|number| s.task(&number.to_string())).collect()).await.unwrap();
        let (queue, two) = (s.queue.clone(), vec![s.task("waits 1"), s.task("waits 2")]);
        let waits = tokio::spawn(async move { queue.publish(two).await });
        s.pass(s.moment()).await;
        // There is space for one, but somebody waits for two.
        let (queue, one) = (s.queue.clone(), vec![s.task("newcomer")]);
        let newcomer = tokio::spawn(async move { queue.publish(one).await });
        s.pass(s.moment()).await;
        for delivery in s.take(capacity - 1).await {
            s.ack(delivery).await;
        }
        for publisher in [waits, newcomer] {
            s.within(s.patience(), publisher).await.expect("both are served").unwrap().unwrap();
        }
        assert_eq!(ids(&s.drain().await), ["waits 1", "waits 2", "newcomer"]);
    }

    async fn a_publisher_that_gives_up_lets_the_next_one_in(s) {
        let Some(capacity) = s.capacity else { return };
        let tasks = (0..capacity).map(|number| s.task(&number.to_string())).collect();
        s.queue.publish(tasks).await.unwrap();
        let (queue, task) = (s.queue.clone(), s.task("gives up"));
        let gives_up = tokio::spawn(async move { queue.publish(vec![task]).await });
        s.pass(s.moment()).await;
        let (queue, task) = (s.queue.clone(), s.task("next"));
        let next = tokio::spawn(async move { queue.publish(vec![task]).await });
        s.pass(s.moment()).await;
        let delivery = s.one().await;
        // It is told of the space, and may be gone before it uses it.
        s.ack(delivery).await;
        gives_up.abort();
        let delivery = s.one().await;
        s.ack(delivery).await;
        s.within(s.patience(), next).await.expect("the next one gets in").unwrap().unwrap();
    }

    async fn a_full_queue_holds_up_no_other(s) {
        let Some(capacity) = s.capacity else { return };
        let tasks = (0..capacity).map(|number| s.task(&number.to_string())).collect();
        s.queue.publish(tasks).await.unwrap();
        let (queue, task) = (s.queue.clone(), s.task("waits"));
        let waits = tokio::spawn(async move { queue.publish(vec![task]).await });
        s.pass(s.moment()).await;
        let other = NewTask::new("replies", "test", "");
        s.within(s.patience(), s.queue.publish(vec![other])).await.expect("the other queue has space").unwrap();
        waits.abort();
    }

    async fn a_batch_larger_than_the_queue_is_taken_once_it_is_empty(s) {
        let Some(capacity) = s.capacity else { return };
        let tasks = (0..capacity * 2).map(|number| s.task(&number.to_string())).collect();
        s.within(s.patience(), s.queue.publish(tasks)).await.expect("an empty queue takes it").unwrap();
        assert_eq!(s.stats().await.ready, capacity as u64 * 2);
    }

    async fn what_can_not_be_kept_is_refused_whole(s) {
        let long = "x".repeat(MAXIMUM_NAME + 1);
        let unfit = [
            NewTask::new("", "test", ""),
            NewTask::new(long.as_str(), "test", ""),
            NewTask::new(&s.name, "", ""),
            NewTask::new(&s.name, long, ""),
            NewTask::new("two\nlines", "test", ""),
            s.task(&"i".repeat(MAXIMUM_ID + 1)),
            s.task(""),
            s.task("a").with_header("name", "v".repeat(MAXIMUM_HEADERS)),
        ];
        for task in unfit {
            let refused = s.queue.publish(vec![s.task("sound"), task.clone()]).await;
            assert!(matches!(refused, Err(PublishError::Refused { .. })), "{task:?} gave {refused:?}");
        }
        s.nothing().await;
    }
}
