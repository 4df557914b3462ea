//! Conflicts, crowded pools and callers that go away in the midst of a statement: failures 30, 31 and 32 of the catalogue.

use std::time::{Duration, Instant};

use plba_sql::postgres::{PostgresSettings, PostgresTaskQueue, done_with};
use plba_tasks::handler::Outcome;
use plba_tasks::queue::{ConsumerId, Delivery, How, Incarnation, PublishError, TaskQueue};
use plba_tasks::task::{NewTask, QueueName};
use plba_testkit::runtime;
use tokio::time::timeout;

use super::ground::{Ground, is_there};

fn orders() -> QueueName {
    QueueName::from("orders")
}

fn task(id: &str) -> NewTask {
    NewTask::new(orders(), "test", "").with_id(id)
}

async fn take(queue: &PostgresTaskQueue, max: usize) -> Vec<Delivery> {
    let consumer = ConsumerId::new(Incarnation::of_this_process(1), "worker");
    let name = orders();
    let taken = timeout(Duration::from_secs(10), queue.consume(&name, &consumer, max)).await;
    taken.expect("something is ready").unwrap()
}

/// Lets the next `times` inserts of tasks fail with an error code, whatever is rolled back meanwhile.
async fn let_inserts_fail(ground: &Ground, code: &str, times: i64) {
    let schema = &ground.schema;
    let text = format!(
        "CREATE SEQUENCE IF NOT EXISTS {schema}.conflicts;
         SELECT setval('{schema}.conflicts', 1, false);
         CREATE OR REPLACE FUNCTION {schema}.conflict() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             IF nextval('{schema}.conflicts') <= {times} THEN
                 RAISE EXCEPTION 'a conflict that was made' USING ERRCODE = '{code}';
             END IF;
             RETURN NULL;
         END $$;
         CREATE OR REPLACE TRIGGER conflict AFTER INSERT ON {schema}.tasks
             FOR EACH STATEMENT EXECUTE FUNCTION {schema}.conflict()"
    );
    ground.client().await.batch_execute(&text).await.unwrap();
}

#[test]
fn failure_30_deadlocks_and_serialization_failures_are_tried_again_with_a_cap() {
    if !is_there() {
        return;
    }
    runtime::real(async {
        let ground = Ground::new().await;
        let queue = ground.open().await;
        for (code, id) in [("40P01", "deadlock"), ("40001", "serialization")] {
            let_inserts_fail(&ground, code, 3).await;
            queue.publish(vec![task(id)]).await.unwrap();
            let taken = take(&queue, 10).await;
            assert_eq!(taken.len(), 1, "{code}: published once");
            for delivery in taken {
                queue.end_one(delivery.token, How::ack(Vec::new())).await.unwrap();
            }
            let_inserts_fail(&ground, code, 1_000_000).await;
            let began = Instant::now();
            let refused = timeout(Duration::from_secs(10), queue.publish(vec![task("never")])).await;
            let refused = refused.expect("it is given up");
            assert!(matches!(refused, Err(PublishError::Unknown { .. })), "{refused:?}");
            assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        }
        let_inserts_fail(&ground, "40001", 0).await;
        queue.publish(vec![task("again")]).await.unwrap();
        assert_eq!(take(&queue, 10).await.len(), 1);
    });
}

#[test]
fn failure_31_handlers_that_hold_all_their_connections_starve_neither_ack_nor_extend() {
    if !is_there() {
        return;
    }
    runtime::real(async {
        let ground = Ground::new().await;
        let settings = PostgresSettings {
            handlers: 1,
            ..ground.settings()
        };
        let queue = PostgresTaskQueue::open(settings).await.unwrap();
        queue
            .publish(vec![task("slow"), task("kept"), task("done")])
            .await
            .unwrap();
        let mut taken = take(&queue, 3).await;
        let (done, kept, slow) = (taken.remove(2), taken.remove(1), taken.remove(0));
        let outcome = done_with(|transaction| {
            Box::pin(async move {
                transaction.execute("SELECT pg_sleep(2)", &[]).await?;
                Ok(Vec::new())
            })
        });
        let Outcome::DoneWith { effect, then } = outcome else {
            panic!("{outcome:?}")
        };
        let how = How::Ack {
            effect: Some(effect),
            then,
        };
        let ending = {
            let queue = queue.clone();
            tokio::spawn(async move { queue.end_one(slow.token, how).await })
        };
        tokio::time::sleep(Duration::from_millis(200)).await;
        let began = Instant::now();
        let extended = queue.extend(std::slice::from_ref(&kept.token)).await.unwrap().remove(0);
        extended.unwrap();
        queue.end_one(done.token, How::ack(Vec::new())).await.unwrap();
        queue.publish(vec![task("more")]).await.unwrap();
        assert!(began.elapsed() < Duration::from_millis(1_500), "{:?}", began.elapsed());
        assert!(!ending.is_finished(), "the effect holds its connection");
        ending.await.unwrap().unwrap();
        queue.end_one(kept.token, How::ack(Vec::new())).await.unwrap();
    });
}

#[test]
fn failure_32_callers_that_go_away_keep_no_lock_and_lose_nothing() {
    if !is_there() {
        return;
    }
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    runtime::real(async {
        let ground = Ground::new().await;
        let settings = PostgresSettings {
            lease: Duration::from_secs(1),
            pool: 2,
            handlers: 1,
            maximum_crashes: 1_000,
            // On a busy machine nearly every caller goes away too early, and none of them may have to wait for space.
            capacity: 1_000,
            ..ground.settings()
        };
        let queue = PostgresTaskQueue::open(settings).await.unwrap();
        let consumer = ConsumerId::new(Incarnation::of_this_process(1), "worker");
        let name = orders();
        let (mut published, mut done) = (0, std::collections::BTreeSet::new());
        for number in 0..200 {
            let soon = |random: &mut fastrand::Rng| Duration::from_micros(random.u64(..4_000));
            let id = format!("{number}");
            let soon_over = timeout(soon(&mut random), queue.publish(vec![task(&id)])).await;
            // Whether it took effect is unknown: the same once more.
            if soon_over.is_err() {
                queue.publish(vec![task(&id)]).await.unwrap();
            }
            published += 1;
            let taken = timeout(soon(&mut random), queue.consume(&name, &consumer, 2)).await;
            for delivery in taken.map(Result::unwrap).unwrap_or_default() {
                let id = delivery.task.id.to_string();
                let ending = queue.end_one(delivery.token.clone(), How::ack(Vec::new()));
                if timeout(soon(&mut random), ending).await.is_err() {
                    // Either that one took effect, or this one does.
                    let _ = queue.end_one(delivery.token, How::ack(Vec::new())).await;
                }
                // A publish that was repeated after the end of its task brings it once more.
                done.insert(id);
            }
        }
        while done.len() < published {
            for delivery in take(&queue, 10).await {
                done.insert(delivery.task.id.to_string());
                let _ = queue.end_one(delivery.token, How::ack(Vec::new())).await;
            }
        }
        let text = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%' AND query LIKE '%{}.%'",
            ground.schema
        );
        let open: i64 = ground.client().await.query_one(&text, &[]).await.unwrap().get(0);
        assert_eq!(open, 0, "transactions that nobody ends");
    });
}
