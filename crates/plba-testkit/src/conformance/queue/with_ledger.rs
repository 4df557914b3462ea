//! Queues that keep a ledger in step: rules 4, 5 and 8 for tasks with an origin.

use std::sync::Arc;
use std::time::Duration;

use plba_tasks::intake::{Arrival, Intake};
use plba_tasks::ledger::{EntryState, Known, SourceLedger};
use plba_tasks::queue::{EndError, How, QueueRules, SUSPECT_CRASHES};
use plba_tasks::task::{NewTask, TaskId};
use tokio::time::timeout;

use super::super::cases;
use super::{Subject, ids};

type Both = (Subject, Arc<dyn SourceLedger>);

fn intake(both: &Both) -> Intake {
    Intake::new(
        "inbox",
        Arc::clone(&both.0.queue),
        Arc::clone(&both.1),
        both.0.consumer.clone(),
    )
}

async fn arrive(both: &Both, keys: &[&str]) {
    let arrival = |key: &&str| Arrival {
        key: (*key).into(),
        task: NewTask::new(&both.0.name, "mail", (*key).to_owned()),
    };
    intake(both).publish(keys.iter().map(arrival).collect()).await.unwrap();
}

async fn known(both: &Both, key: &str) -> Known {
    both.1
        .known("inbox", &[key.into()])
        .await
        .unwrap()
        .remove(0)
        .expect("the ledger knows it")
}

/// Arrives, is taken and ends dead.
async fn die(both: &Both, key: &str) {
    arrive(both, &[key]).await;
    let delivery = both.0.one().await;
    both.0.queue.bury(delivery.token, "nonsense".into()).await.unwrap();
}

async fn states(both: &Both, keys: &[&str]) -> Vec<EntryState> {
    let mut states = Vec::new();
    for key in keys {
        states.push(known(both, key).await.state);
    }
    states
}

cases! { Both;
    async fn the_oldest_of_too_many_letters_are_settled(both) {
        both.0.govern(QueueRules { dead_limit: 1, ..QueueRules::default() });
        for key in ["1", "2", "3"] {
            die(&both, key).await;
        }
        both.0.queue.recover(None, 1_000).await.unwrap();
        assert_eq!(both.0.dead().await, ["inbox/3"]);
        assert_eq!(both.0.stats().await.dropped, 2);
        let settled = EntryState::Settled;
        assert_eq!(states(&both, &["1", "2", "3"]).await, [settled, settled, EntryState::Dead]);
        arrive(&both, &["1"]).await;
        both.0.nothing().await;
    }

    async fn letters_that_are_too_old_are_settled_though_nothing_arrives(both) {
        let age = Duration::from_secs(10 * 3_600);
        both.0.govern(QueueRules { dead_age: age, ..QueueRules::default() });
        die(&both, "old").await;
        both.0.pass(age * 7 / 10).await;
        die(&both, "new").await;
        let waiting = both.0.queue.consume(&both.0.name, &both.0.consumer, 1);
        assert!(both.0.within(age / 2, waiting).await.is_err());
        assert_eq!(states(&both, &["old", "new"]).await, [EntryState::Settled, EntryState::Dead]);
    }

    async fn letters_within_the_limits_stay(both) {
        die(&both, "1").await;
        both.0.pass(Duration::from_secs(12 * 3_600)).await;
        both.0.queue.recover(None, 1_000).await.unwrap();
        assert_eq!(states(&both, &["1"]).await, [EntryState::Dead]);
        assert_eq!(both.0.stats().await.dropped, 0);
    }

    async fn a_delivery_is_counted_before_it_is_handed_out(both) {
        arrive(&both, &["1"]).await;
        assert_eq!(known(&both, "1").await.counts.deliveries, 0);
        let delivery = both.0.one().await;
        assert_eq!(known(&both, "1").await.counts.deliveries, 1);
        assert_eq!(delivery.task.id.as_str(), "inbox/1");
    }

    async fn a_batch_is_counted_whole(both) {
        arrive(&both, &["1", "2", "3"]).await;
        assert_eq!(both.0.take(3).await.len(), 3);
        for key in ["1", "2", "3"] {
            assert_eq!(known(&both, key).await.counts.deliveries, 1);
        }
    }

    async fn an_acked_task_is_done_and_its_follow_up_is_there(both) {
        arrive(&both, &["1"]).await;
        let token = both.0.one().await.token;
        both.0.queue.end_one(token, How::ack(vec![both.0.task("reply")])).await.unwrap();
        assert_eq!(known(&both, "1").await.state, EntryState::Done);
        assert_eq!(ids(&both.0.drain().await), ["reply"]);
    }

    async fn what_is_done_is_not_published_again(both) {
        arrive(&both, &["1"]).await;
        let delivery = both.0.one().await;
        both.0.ack(delivery).await;
        arrive(&both, &["1"]).await;
        both.0.nothing().await;
    }

    async fn a_failed_attempt_is_recorded(both) {
        arrive(&both, &["1"]).await;
        both.0.queue.nack(both.0.one().await.token, Duration::ZERO, "no luck".into()).await.unwrap();
        let entry = known(&both, "1").await;
        assert_eq!((entry.state, entry.counts.attempts), (EntryState::Open, 1));
        assert_eq!(entry.history[0].reason, "no luck");
        assert_eq!(both.0.one().await.attempt, 2);
    }

    async fn a_released_delivery_is_recorded_as_no_crash(both) {
        arrive(&both, &["1"]).await;
        for _ in 0..10 {
            both.0.queue.release(both.0.one().await.token).await.unwrap();
        }
        let entry = known(&both, "1").await;
        assert_eq!((entry.counts.deliveries, entry.counts.attempts, entry.counts.crashes), (10, 0, 0));
    }

    async fn a_dead_task_is_the_ledgers(both) {
        arrive(&both, &["1"]).await;
        both.0.queue.bury(both.0.one().await.token, "beyond help".into()).await.unwrap();
        assert_eq!(known(&both, "1").await.state, EntryState::Dead);
        let letters = both.0.queue.dead_letters(&plba_tasks::queue::DeadFilter::default(), None, 10).await.unwrap().letters;
        assert_eq!(letters.len(), 1);
        assert_eq!((letters[0].id.as_str(), letters[0].reason.as_str()), ("inbox/1", "beyond help"));
        assert_eq!((letters[0].queue.as_str(), letters[0].kind.as_str()), ("orders", "mail"));
        arrive(&both, &["1"]).await;
        both.0.nothing().await;
    }

    async fn dead_letters_of_queue_and_ledger_are_listed_once(both) {
        arrive(&both, &["1"]).await;
        both.0.queue.bury(both.0.one().await.token, "beyond help".into()).await.unwrap();
        both.0.bury("own").await;
        let (mut cursor, mut all) = (None, Vec::new());
        loop {
            let page = both.0.queue.dead_letters(&plba_tasks::queue::DeadFilter::default(), cursor, 1).await.unwrap();
            all.extend(page.letters.into_iter().map(|letter| letter.id.to_string()));
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        all.sort_unstable();
        assert_eq!(all, ["inbox/1", "own"]);
    }

    async fn a_retried_dead_letter_is_pending_and_published_again(both) {
        arrive(&both, &["1"]).await;
        both.0.queue.bury(both.0.one().await.token, "beyond help".into()).await.unwrap();
        assert_eq!(both.0.queue.retry_dead(&both.0.name, &[TaskId::from("inbox/1")]).await.unwrap(), 1);
        assert_eq!(intake(&both).pending(10).await.unwrap(), ["1".into()]);
        arrive(&both, &["1"]).await;
        let again = both.0.one().await;
        assert_eq!((again.deliveries, again.attempt), (1, 1));
        assert!(intake(&both).pending(10).await.unwrap().is_empty());
    }

    async fn a_dropped_dead_letter_is_not_taken_in_again(both) {
        arrive(&both, &["1"]).await;
        both.0.queue.bury(both.0.one().await.token, "beyond help".into()).await.unwrap();
        assert_eq!(both.0.queue.drop_dead(&both.0.name, &[TaskId::from("inbox/1")]).await.unwrap(), 1);
        arrive(&both, &["1"]).await;
        both.0.nothing().await;
        assert!(intake(&both).unsettled(10).await.unwrap().is_empty());
    }

    async fn the_counts_of_the_ledger_outlive_the_queue(both) {
        // As after a restart: the ledger knows of a delivery whose process died.
        let origin = plba_tasks::task::Origin::new("inbox", "1");
        both.1.count_deliveries(std::slice::from_ref(&origin)).await.unwrap();
        let task = origin.task_id();
        both.0.queue.publish(vec![{
            let mut new = NewTask::new(&both.0.name, "mail", "").with_id(task);
            new.origin = Some(origin);
            new
        }]).await.unwrap();
        assert_eq!(both.0.one().await.deliveries, 2);
        assert_eq!(known(&both, "1").await.counts.crashes, 1);
    }

    async fn a_task_that_killed_its_processes_ends_dead(both) {
        let origin = plba_tasks::task::Origin::new("inbox", "poison");
        for _ in 0..=both.0.maximum_crashes {
            both.1.count_deliveries(std::slice::from_ref(&origin)).await.unwrap();
        }
        let mut task = NewTask::new(&both.0.name, "mail", "").with_id(origin.task_id());
        task.origin = Some(origin);
        both.0.queue.publish(vec![task]).await.unwrap();
        both.0.nothing().await;
        assert_eq!(known(&both, "poison").await.state, EntryState::Dead);
        assert_eq!(both.0.dead().await, ["inbox/poison"]);
    }

    async fn suspects_come_alone_and_one_at_a_time(both) {
        let origins: Vec<_> = ["1", "2"].map(|key| plba_tasks::task::Origin::new("inbox", key)).into();
        // Three deliveries, of which the first two were never ended: two crashes each.
        for _ in 0..=SUSPECT_CRASHES {
            both.1.count_deliveries(&origins).await.unwrap();
        }
        let task = |key| {
            let origin = plba_tasks::task::Origin::new("inbox", key);
            let mut task = NewTask::new(&both.0.name, "mail", "").with_id(origin.task_id());
            task.origin = Some(origin);
            task
        };
        both.0.queue.publish(vec![task("1"), task("2"), task("3")]).await.unwrap();
        let mut taken = vec![both.0.take(10).await, both.0.take(10).await];
        assert_eq!(taken.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1]);
        both.0.nothing().await;
        let suspect = taken.iter().position(|batch| batch[0].task.id.as_str() != "inbox/3").unwrap();
        let suspect = taken.swap_remove(suspect).remove(0);
        both.0.ack(suspect).await;
        assert_eq!(both.0.take(10).await.len(), 1);
    }

    async fn a_lease_that_ran_out_counts_as_a_crash_in_the_ledger(both) {
        arrive(&both, &["1"]).await;
        for _ in 0..both.0.maximum_crashes {
            both.0.one().await;
        }
        both.0.pass(both.0.lease() * 2).await;
        both.0.nothing().await;
        assert_eq!(known(&both, "1").await.state, EntryState::Dead);
    }

    async fn an_ack_that_is_dropped_happens_whole_or_not_at_all(both) {
        arrive(&both, &["1"]).await;
        let token = both.0.one().await.token;
        drop(timeout(Duration::ZERO, both.0.queue.end_one(token, How::ack(vec![both.0.task("reply")]))).await);
        both.0.pass(both.0.moment()).await;
        let done = known(&both, "1").await.state == EntryState::Done;
        assert_eq!(ids(&both.0.drain().await), if done { vec!["reply"] } else { vec![] });
    }

    async fn a_consume_that_is_dropped_costs_no_attempt_and_no_crash(both) {
        arrive(&both, &["1"]).await;
        drop(timeout(Duration::ZERO, both.0.queue.consume(&both.0.name, &both.0.consumer, 1)).await);
        let again = both.0.one().await;
        assert_eq!(again.attempt, 1);
        assert_eq!(known(&both, "1").await.counts.crashes, 0);
    }

    async fn a_stale_end_is_not_recorded(both) {
        arrive(&both, &["1"]).await;
        let stale = both.0.one().await.token;
        both.0.pass(both.0.lease() * 11 / 10).await;
        assert!(matches!(both.0.queue.end_one(stale, How::ack(Vec::new())).await, Err(EndError::LeaseLost)));
        assert_eq!(known(&both, "1").await.state, EntryState::Open);
    }

    async fn completions_reach_the_source_and_are_settled(both) {
        arrive(&both, &["1"]).await;
        let delivery = both.0.one().await;
        let then = vec![plba_tasks::intake::completion_task(delivery.task.origin.as_ref().unwrap())];
        both.0.queue.end_one(delivery.token, How::ack(then)).await.unwrap();
        let intake = intake(&both);
        let keys = both.0.within(both.0.patience(), intake.completions(10)).await.expect("it is told").unwrap();
        assert_eq!(keys, ["1".into()]);
        assert_eq!(intake.unsettled(10).await.unwrap(), ["1".into()]);
        intake.settle(&keys).await.unwrap();
        assert_eq!(known(&both, "1").await.state, EntryState::Settled);
        assert!(intake.unsettled(10).await.unwrap().is_empty());
    }

    async fn tasks_without_an_origin_are_no_business_of_the_ledger(both) {
        both.0.publish(&["a"]).await;
        let delivery = both.0.one().await;
        both.0.ack(delivery).await;
        assert!(both.1.stats().await.unwrap().is_empty());
    }
}
