//! Leases: rules 2 and 3, and the crashes of rule 4.

use plba_tasks::queue::EndError;
use plba_tasks::task::{AttemptEnd, Priority};

use super::super::cases;
use super::{Subject, ids};

cases! { Subject;
    async fn while_a_lease_holds_nobody_else_gets_the_task(s) {
        s.publish(&["a"]).await;
        let _held = s.one().await;
        s.pass(s.lease() / 2).await;
        s.nothing().await;
    }

    async fn a_lease_that_ran_out_is_given_to_the_next(s) {
        s.publish(&["a"]).await;
        let _lost = s.one().await;
        let again = s.one().await;
        assert_eq!((again.deliveries, again.attempt), (2, 1));
    }

    async fn a_consumer_that_waits_gets_it_without_a_nudge(s) {
        s.publish(&["a"]).await;
        let (queue, name, id) = (s.queue.clone(), s.name.clone(), s.consumer.clone());
        let _lost = s.one().await;
        let waits = tokio::spawn(async move { queue.consume(&name, &id, 1).await.unwrap() });
        assert_eq!(ids(&s.within(s.patience(), waits).await.expect("it comes").unwrap()), ["a"]);
    }

    async fn a_consumer_that_waited_before_the_lease_gets_it_too(s) {
        let consumer = || {
            let (queue, name, id) = (s.queue.clone(), s.name.clone(), s.consumer.clone());
            tokio::spawn(async move { queue.consume(&name, &id, 1).await.unwrap() })
        };
        let (first, second) = (consumer(), consumer());
        s.pass(s.moment()).await;
        s.publish(&["a"]).await;
        let began = s.now();
        s.within(s.patience(), async { (first.await.unwrap(), second.await.unwrap()) }).await.expect("both get it");
        assert!(s.since(began) >= s.lease());
    }

    async fn a_stale_token_changes_nothing(s) {
        s.publish(&["a"]).await;
        let stale = s.one().await.token;
        let held = s.one().await;
        let follow_up = vec![s.task("never")];
        let ack = plba_tasks::queue::Completion { token: stale.clone(), then: follow_up };
        let results = s.queue.ack(vec![ack]).await.unwrap();
        assert!(matches!(results[0], Err(EndError::LeaseLost)));
        let nack = s.queue.nack(stale.clone(), s.lease(), "late".into()).await;
        assert!(matches!(nack, Err(EndError::LeaseLost)));
        assert!(matches!(s.queue.bury(stale.clone(), "late".into()).await, Err(EndError::LeaseLost)));
        assert!(matches!(s.queue.release(stale.clone()).await, Err(EndError::LeaseLost)));
        assert!(matches!(s.queue.extend(&[stale]).await.unwrap()[0], Err(EndError::LeaseLost)));
        s.nothing().await;
        assert!(s.dead().await.is_empty());
        s.ack(held).await;
        assert_eq!(s.stats().await.leased, 0);
    }

    async fn a_lease_that_ran_out_is_lost_even_before_anybody_looks(s) {
        s.publish(&["a"]).await;
        let stale = s.one().await.token;
        s.pass(s.lease() * 2).await;
        assert!(matches!(s.queue.extend(std::slice::from_ref(&stale)).await.unwrap()[0], Err(EndError::LeaseLost)));
        assert!(matches!(s.queue.release(stale).await, Err(EndError::LeaseLost)));
        s.one().await;
    }

    async fn an_extended_lease_holds_on(s) {
        s.publish(&["a"]).await;
        let held = s.one().await;
        for _ in 0..8 {
            s.pass(s.lease() / 2).await;
            s.queue.extend(std::slice::from_ref(&held.token)).await.unwrap().remove(0).expect("it is held");
            s.nothing().await;
        }
        s.ack(held).await;
    }

    async fn extending_answers_each_token_in_order(s) {
        s.publish(&["a", "b", "c"]).await;
        let taken = s.take(3).await;
        s.queue.release(taken[1].token.clone()).await.unwrap();
        let tokens: Vec<_> = taken.into_iter().map(|delivery| delivery.token).collect();
        let results = s.queue.extend(&tokens).await.unwrap();
        assert_eq!(results.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
    }

    async fn extending_one_lease_does_not_extend_the_others(s) {
        s.publish(&["a", "b"]).await;
        let taken = s.take(2).await;
        s.pass(s.lease() / 2).await;
        s.queue.extend(std::slice::from_ref(&taken[0].token)).await.unwrap().remove(0).unwrap();
        s.pass(s.lease() * 6 / 10).await;
        assert_eq!(ids(&s.take(10).await), ["b"]);
    }

    async fn a_lease_that_ran_out_is_no_attempt_but_is_remembered(s) {
        s.publish(&["a"]).await;
        let _lost = s.one().await;
        let again = s.one().await;
        assert_eq!(again.attempt, 1);
        assert_eq!(again.task.history.len(), 1);
        assert_eq!(again.task.history[0].how, AttemptEnd::Crashed);
    }

    async fn a_task_that_makes_its_holders_disappear_ends_dead(s) {
        s.publish(&["poison"]).await;
        for delivery in 1..=s.maximum_crashes {
            assert_eq!(s.one().await.deliveries, delivery);
        }
        s.pass(s.lease() * 2).await;
        s.nothing().await;
        assert_eq!(s.dead().await, ["poison"]);
    }

    async fn a_task_whose_holder_disappeared_once_comes_first_and_in_company(s) {
        s.publish(&["a", "b"]).await;
        let _lost = s.take(2).await;
        s.publish(&["c", "d"]).await;
        s.pass(s.lease() * 11 / 10).await;
        let mut taken = ids(&s.take(10).await);
        taken[..2].sort_unstable();
        assert_eq!(taken, ["a", "b", "c", "d"]);
    }

    async fn a_task_whose_holder_disappeared_keeps_its_class(s) {
        s.publish_all(vec![s.task("low").with_priority(Priority::Low)]).await;
        let _lost = s.one().await;
        s.publish(&["normal"]).await;
        s.pass(s.lease() * 11 / 10).await;
        assert_eq!(ids(&s.take(10).await), ["normal", "low"]);
    }

    async fn suspects_are_handed_out_one_at_a_time_the_least_suspicious_first(s) {
        s.publish(&["worse"]).await;
        let _lost = s.one().await;
        s.publish(&["bad"]).await;
        for _ in 0..2 {
            s.pass(s.lease() * 11 / 10).await;
            for _ in 0..2 {
                s.take(1).await;
            }
        }
        // Both are suspects now, one of them with a crash more.
        s.pass(s.lease() * 11 / 10).await;
        let bad = s.take(10).await;
        assert_eq!(ids(&bad), ["bad"]);
        s.nothing().await;
        s.ack(bad.into_iter().next().unwrap()).await;
        assert_eq!(ids(&s.take(10).await), ["worse"]);
    }

    async fn neighbours_of_a_task_that_ends_its_processes_are_carried_out(s) {
        s.publish(&["a", "poison", "b", "c"]).await;
        // Whoever has the poison in hand disappears, with all else that it has.
        let (mut done, mut rounds) = (Vec::new(), 0);
        while s.dead().await.is_empty() {
            let taken = s.take(10).await;
            if !ids(&taken).contains(&"poison".to_owned()) {
                done.extend(ids(&taken));
                for delivery in taken {
                    s.ack(delivery).await;
                }
                continue;
            }
            rounds += 1;
            assert!(rounds <= s.maximum_crashes, "the poison is handed out for ever");
            s.pass(s.lease() * 11 / 10).await;
            s.queue.recover(None, 100).await.unwrap();
        }
        while done.len() < 3 {
            let taken = s.take(10).await;
            done.extend(ids(&taken));
            for delivery in taken {
                s.ack(delivery).await;
            }
        }
        done.sort_unstable();
        assert_eq!(done, ["a", "b", "c"]);
        assert_eq!(s.dead().await, ["poison"]);
    }

    async fn a_task_whose_holders_disappeared_twice_comes_alone(s) {
        s.publish(&["suspect"]).await;
        for _ in 0..2 {
            let _lost = s.one().await;
        }
        s.publish(&["b", "c"]).await;
        s.pass(s.lease() * 11 / 10).await;
        let mut batches = vec![ids(&s.take(10).await), ids(&s.take(10).await)];
        batches.sort_unstable();
        assert_eq!(batches, [vec!["b".to_owned(), "c".to_owned()], vec!["suspect".to_owned()]]);
    }

    async fn recovery_makes_ready_what_nobody_consumes(s) {
        s.publish(&["a", "b"]).await;
        let _lost = s.take(2).await;
        s.pass(s.lease() * 11 / 10).await;
        let mut cursor = None;
        loop {
            let pass = s.queue.recover(cursor, 100).await.unwrap();
            cursor = pass.next;
            if cursor.is_none() {
                break;
            }
        }
        let stats = s.stats().await;
        assert_eq!((stats.ready, stats.leased), (2, 0));
    }

    async fn recovery_is_bounded_and_carries_its_cursor(s) {
        for queue in ["x", "y", "z"] {
            let task = |id| plba_tasks::task::NewTask::new(queue, "test", "").with_id(id);
            s.queue.publish(vec![task("a"), task("b")]).await.unwrap();
            assert_eq!(s.take_from(&queue.into(), 2).await.len(), 2);
        }
        s.pass(s.lease() * 11 / 10).await;
        let (mut cursor, mut recovered, mut passes) = (None, 0, 0);
        loop {
            let pass = s.queue.recover(cursor, 2).await.unwrap();
            assert!(pass.recovered <= 2);
            recovered += pass.recovered;
            passes += 1;
            cursor = pass.next;
            if cursor.is_none() {
                break;
            }
            assert!(passes < 100, "recovery gets nowhere");
        }
        assert_eq!(recovered, 6);
    }

    async fn recovery_leaves_live_leases_alone(s) {
        s.publish(&["a"]).await;
        let held = s.one().await;
        s.pass(s.lease() * 9 / 10).await;
        s.queue.extend(std::slice::from_ref(&held.token)).await.unwrap().remove(0).unwrap();
        s.pass(s.lease() * 9 / 10).await;
        assert_eq!(s.queue.recover(None, 100).await.unwrap().recovered, 0);
        s.ack(held).await;
    }
}
