//! Retention of dead letters, by the rules of their queue.

use plba_tasks::queue::QueueRules;
use plba_tasks::task::TaskId;

use super::super::cases;
use super::Subject;

/// Time for a backend to do what it does now and then.
async fn tidy(s: &Subject) {
    s.queue.recover(None, 1_000).await.unwrap();
    s.stats().await;
}

cases! { Subject;
    async fn the_oldest_of_too_many_letters_go(s) {
        s.govern(QueueRules { dead_limit: 3, ..QueueRules::default() });
        for id in ["a", "b", "c", "d", "e"] {
            s.bury(id).await;
        }
        tidy(&s).await;
        assert_eq!(s.dead().await, ["c", "d", "e"]);
    }

    async fn letters_that_went_are_counted(s) {
        s.govern(QueueRules { dead_limit: 1, ..QueueRules::default() });
        for id in ["a", "b", "c"] {
            s.bury(id).await;
        }
        tidy(&s).await;
        let stats = s.stats().await;
        assert_eq!((stats.dead, stats.dropped), (1, 2));
    }

    async fn the_id_of_a_letter_that_went_is_free(s) {
        s.govern(QueueRules { dead_limit: 1, ..QueueRules::default() });
        s.bury("a").await;
        s.bury("b").await;
        tidy(&s).await;
        s.publish(&["a"]).await;
        s.this("a").await;
    }

    async fn letters_that_are_too_old_go(s) {
        s.govern(QueueRules { dead_age: s.lease(), ..QueueRules::default() });
        s.bury("old").await;
        s.pass(s.lease() * 7 / 10).await;
        s.bury("new").await;
        s.pass(s.lease() / 2).await;
        tidy(&s).await;
        assert_eq!(s.dead().await, ["new"]);
        assert_eq!(s.stats().await.dropped, 1);
    }

    async fn letters_dropped_by_hand_are_not_counted_as_gone(s) {
        s.bury("a").await;
        s.queue.drop_dead(&s.name, &[TaskId::from("a")]).await.unwrap();
        assert_eq!(s.stats().await.dropped, 0);
    }

    async fn a_letter_within_the_limits_stays(s) {
        s.bury("a").await;
        s.pass(s.lease() * 5).await;
        tidy(&s).await;
        assert_eq!(s.dead().await, ["a"]);
    }
}
