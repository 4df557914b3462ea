//! Effects: run in the completion step, under the lease, all or nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use plba_tasks::queue::{Effect, EndError, How};
use plba_tasks::task::NewTask;
use tokio::time::timeout;

use super::super::cases;
use super::{Subject, ids};

fn with(effect: Effect, then: Vec<NewTask>) -> How {
    How::Ack {
        effect: Some(effect),
        then,
    }
}

cases! { Subject;
    async fn an_effect_runs_once_and_its_follow_ups_come_too(s) {
        s.publish(&["a"]).await;
        let runs = Arc::new(AtomicUsize::new(0));
        let (counted, more) = (Arc::clone(&runs), s.task("c"));
        let effect = Effect::new(move |_| Box::pin(async move {
            counted.fetch_add(1, Ordering::Relaxed);
            Ok(vec![more])
        }));
        s.queue.end_one(s.one().await.token, with(effect, vec![s.task("b")])).await.unwrap();
        assert_eq!(runs.load(Ordering::Relaxed), 1);
        assert_eq!(ids(&s.drain().await), ["b", "c"]);
    }

    async fn an_effect_that_fails_undoes_the_completion(s) {
        s.publish(&["a"]).await;
        let delivery = s.one().await;
        let effect = Effect::new(|_| Box::pin(async { Err("no such table".into()) }));
        let failed = s.queue.end_one(delivery.token.clone(), with(effect, vec![s.task("b")])).await;
        assert!(matches!(&failed, Err(EndError::Effect(error)) if error.to_string() == "no such table"), "{failed:?}");
        s.nothing().await;
        s.queue.nack(delivery.token, s.moment(), "no such table".into()).await.unwrap();
        assert_eq!(ids(&s.take(10).await), ["a"]);
    }

    async fn an_effect_that_panics_has_failed(s) {
        s.publish(&["a"]).await;
        let delivery = s.one().await;
        let effect = Effect::new(|_| Box::pin(async { panic!("out of paper") }));
        let failed = s.queue.end_one(delivery.token.clone(), with(effect, Vec::new())).await;
        assert!(matches!(failed, Err(EndError::Effect(_))));
        s.ack(delivery).await;
    }

    async fn without_the_lease_no_effect_runs(s) {
        s.publish(&["a"]).await;
        let stale = s.one().await.token;
        s.pass(s.lease() * 11 / 10).await;
        let effect = Effect::new(|_| Box::pin(async { unreachable!("the lease is lost") }));
        assert!(matches!(s.queue.end_one(stale, with(effect, Vec::new())).await, Err(EndError::LeaseLost)));
    }

    async fn the_lease_does_not_run_out_while_an_effect_runs(s) {
        s.publish(&["a"]).await;
        let (token, span) = (s.one().await.token, s.lease() * 3 / 2);
        let effect = Effect::new(move |_| Box::pin(async move {
            tokio::time::sleep(span).await;
            Ok(Vec::new())
        }));
        let (queue, name, id) = (s.queue.clone(), s.name.clone(), s.consumer.clone());
        let other = tokio::spawn(async move { queue.consume(&name, &id, 1).await });
        s.queue.end_one(token, with(effect, Vec::new())).await.unwrap();
        s.pass(s.lease()).await;
        assert!(!other.is_finished(), "somebody else got the task");
        other.abort();
    }

    async fn an_effect_that_is_dropped_leaves_the_task_in_hand_and_then_to_others(s) {
        s.publish(&["a"]).await;
        let token = s.one().await.token;
        let effect = Effect::new(|_| Box::pin(std::future::pending()));
        let ending = s.queue.end_one(token.clone(), with(effect, Vec::new()));
        assert!(timeout(s.moment(), ending).await.is_err());
        s.nothing().await;
        assert_eq!(ids(&s.take(1).await), ["a"]);
        assert!(matches!(s.queue.release(token).await, Err(EndError::LeaseLost)));
    }
}
