//! Dead letters: listed, retried and dropped.

use std::collections::BTreeSet;

use plba_tasks::queue::DeadFilter;
use plba_tasks::task::{NewTask, QueueName, TaskId};

use super::super::cases;
use super::Subject;

async fn pages(s: &Subject, limit: usize) -> Vec<String> {
    s.letters(&DeadFilter::default(), limit).await
}

cases! { Subject;
    async fn a_dead_task_is_not_delivered(s) {
        s.bury("a").await;
        s.pass(s.lease() * 3).await;
        s.nothing().await;
    }

    async fn dead_letters_are_listed_oldest_first_page_by_page(s) {
        for id in ["c", "a", "b", "e", "d"] {
            s.bury(id).await;
        }
        for limit in 1..=6 {
            assert_eq!(pages(&s, limit).await, ["c", "a", "b", "e", "d"], "pages of {limit}");
        }
    }

    async fn dead_letters_of_all_queues_are_listed_once(s) {
        let mut expected = BTreeSet::new();
        for queue in ["x", "y", "z"] {
            let name = QueueName::from(queue);
            for number in 0..3 {
                let id = format!("{queue}{number}");
                s.queue.publish(vec![NewTask::new(&name, "test", "").with_id(id.as_str())]).await.unwrap();
                let delivery = s.take_from(&name, 1).await.remove(0);
                s.queue.bury(delivery.token, "beyond help".into()).await.unwrap();
                expected.insert(id);
            }
        }
        for limit in 1..=10 {
            let listed = pages(&s, limit).await;
            assert_eq!(listed.len(), 9, "pages of {limit}");
            assert_eq!(listed.into_iter().collect::<BTreeSet<_>>(), expected);
        }
    }

    async fn a_retried_task_starts_anew_and_keeps_its_history(s) {
        s.bury("a").await;
        assert_eq!(s.queue.retry_dead(&s.name, &[TaskId::from("a")]).await.unwrap(), 1);
        let again = s.one().await;
        assert_eq!((again.deliveries, again.attempt), (1, 1));
        assert_eq!(again.task.history[0].reason, "a is beyond help");
        assert_eq!(again.task.payload, "a");
        assert!(s.dead().await.is_empty());
    }

    async fn a_retried_task_may_die_again(s) {
        s.bury("a").await;
        s.queue.retry_dead(&s.name, &[TaskId::from("a")]).await.unwrap();
        s.queue.bury(s.one().await.token, "still".into()).await.unwrap();
        assert_eq!(s.dead().await, ["a"]);
    }

    async fn a_dropped_letter_is_gone_and_its_id_free(s) {
        s.bury("a").await;
        assert_eq!(s.queue.drop_dead(&s.name, &[TaskId::from("a")]).await.unwrap(), 1);
        assert!(s.dead().await.is_empty());
        s.nothing().await;
        s.publish(&["a"]).await;
        s.one().await;
    }

    async fn what_is_not_dead_is_neither_retried_nor_dropped(s) {
        s.publish(&["ready"]).await;
        let ids = [TaskId::from("ready"), TaskId::from("unknown")];
        assert_eq!(s.queue.retry_dead(&s.name, &ids).await.unwrap(), 0);
        assert_eq!(s.queue.drop_dead(&s.name, &ids).await.unwrap(), 0);
        assert_eq!(s.drain().await.len(), 1);
    }

    async fn only_the_chosen_are_retried(s) {
        for id in ["a", "b", "c"] {
            s.bury(id).await;
        }
        let chosen = [TaskId::from("a"), TaskId::from("c"), TaskId::from("a")];
        assert_eq!(s.queue.retry_dead(&s.name, &chosen).await.unwrap(), 2);
        assert_eq!(s.dead().await, ["b"]);
    }

    async fn what_has_the_same_id_in_another_queue_is_left_alone(s) {
        let other = QueueName::from("other");
        s.bury("a").await;
        s.queue.publish(vec![NewTask::new(&other, "test", "").with_id("a")]).await.unwrap();
        let delivery = s.take_from(&other, 1).await.remove(0);
        s.queue.bury(delivery.token, "beyond help".into()).await.unwrap();
        let (ids, all) = ([TaskId::from("a")], DeadFilter::default());
        assert_eq!(s.queue.retry_dead(&s.name, &ids).await.unwrap(), 1);
        assert_eq!(s.queue.drop_dead(&s.name, &ids).await.unwrap(), 0);
        let left = s.queue.dead_letters(&all, None, 10).await.unwrap().letters;
        assert_eq!(left.iter().map(|letter| &letter.queue).collect::<Vec<_>>(), [&other]);
        assert_eq!(s.queue.drop_dead(&"unheard-of".into(), &ids).await.unwrap(), 0);
        assert_eq!(s.queue.drop_dead(&other, &ids).await.unwrap(), 1);
        assert!(s.queue.dead_letters(&all, None, 10).await.unwrap().letters.is_empty());
        s.this("a").await;
    }

    async fn dead_letters_take_no_space_from_the_living(s) {
        let Some(capacity) = s.capacity else { return };
        for number in 0..capacity {
            s.bury(&format!("dead {number}")).await;
        }
        s.queue.publish((0..capacity).map(|number| s.task(&number.to_string())).collect()).await.unwrap();
        assert_eq!(s.stats().await.ready, capacity as u64);
    }
}
