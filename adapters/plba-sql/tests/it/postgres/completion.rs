//! Completions in one transaction with the application's data, and the fence of singleton workers.

use std::time::Duration;

use plba_contracts::lease::{FencingToken, Lease};
use plba_sql::postgres::{FenceError, PostgresLease, PostgresTaskQueue, check_fence, transaction};
use plba_tasks::handler::Outcome;
use plba_tasks::queue::{ConsumerId, Delivery, Effect, EndError, How, Incarnation, TaskQueue};
use plba_tasks::task::{NewTask, QueueName};
use plba_testkit::runtime;
use tokio::time::timeout;

use super::ground::{Ground, is_there};

fn orders() -> QueueName {
    QueueName::from("orders")
}

fn consumer() -> ConsumerId {
    ConsumerId::new(Incarnation::of_this_process(1), "worker")
}

async fn one(queue: &PostgresTaskQueue) -> Delivery {
    let taken = timeout(Duration::from_secs(10), queue.consume(&orders(), &consumer(), 1)).await;
    taken.expect("something is ready").unwrap().remove(0)
}

async fn publish(queue: &PostgresTaskQueue, id: &str) {
    queue
        .publish(vec![NewTask::new(orders(), "test", "").with_id(id)])
        .await
        .unwrap();
}

/// An ending with the effect of an outcome.
fn ack(outcome: Outcome) -> How {
    match outcome {
        Outcome::DoneWith { effect, then } => How::Ack {
            effect: Some(effect),
            then,
        },
        other => panic!("{other:?}"),
    }
}

async fn count(ground: &Ground, table: &str) -> i64 {
    let client = ground.client().await;
    let text = format!("SELECT count(*) FROM {}.{table}", ground.schema);
    client.query_one(&text, &[]).await.unwrap().get(0)
}

#[test]
fn what_an_effect_writes_and_the_end_of_its_task_are_one_commit() {
    if !is_there() {
        return;
    }
    runtime::real(async {
        let ground = Ground::new().await;
        let queue = ground.open().await;
        let make = format!("CREATE TABLE {}.invoices (total int)", ground.schema);
        ground.client().await.batch_execute(&make).await.unwrap();
        let insert = format!("INSERT INTO {}.invoices VALUES ($1)", ground.schema);
        for fails in [true, false] {
            publish(&queue, "a").await;
            let delivery = one(&queue).await;
            let insert = insert.clone();
            let outcome = plba_sql::postgres::done_with(move |transaction| {
                Box::pin(async move {
                    transaction.execute(&insert, &[&17_i32]).await?;
                    if fails {
                        Err("out of paper".into())
                    } else {
                        Ok(vec![NewTask::new("replies", "reply", "")])
                    }
                })
            });
            let token = delivery.token.clone();
            let ended = queue.end_one(delivery.token, ack(outcome)).await;
            assert_eq!(count(&ground, "invoices").await, i64::from(!fails));
            if fails {
                assert!(matches!(ended, Err(EndError::Effect(_))), "{ended:?}");
                queue.release(token).await.unwrap();
            } else {
                ended.unwrap();
                let stats = queue.stats().await.unwrap();
                let waiting: Vec<(&str, u64)> = stats.iter().map(|stats| (stats.queue.as_str(), stats.ready)).collect();
                assert_eq!(waiting, [("orders", 0), ("replies", 1)]);
            }
        }
    });
}

#[test]
fn an_effect_for_another_kind_of_queue_says_so() {
    let mut other = ();
    let refused = transaction(&mut other).err().unwrap().to_string();
    assert!(refused.contains("set the queue's location to postgres:"), "{refused}");
}

#[test]
fn a_deadlock_in_an_effect_is_no_failure_of_its_handler() {
    // Failure 30.
    if !is_there() {
        return;
    }
    runtime::real(async {
        let ground = Ground::new().await;
        let queue = ground.open().await;
        let make = format!(
            "CREATE TABLE {0}.pair (id int); INSERT INTO {0}.pair VALUES (1), (2)",
            ground.schema
        );
        ground.client().await.batch_execute(&make).await.unwrap();
        let lock = |number: i32| format!("SELECT 1 FROM {}.pair WHERE id = {number} FOR UPDATE", ground.schema);
        publish(&queue, "a").await;
        let delivery = one(&queue).await;
        // The other side has the second row, then wants the first one; it waits longer than the effect, which is the victim.
        let other = ground.client().await;
        other
            .batch_execute("SET deadlock_timeout = '1min'; BEGIN")
            .await
            .unwrap();
        other.batch_execute(&lock(2)).await.unwrap();
        let (first, second) = (lock(1), lock(2));
        let (locked, has_locked) = tokio::sync::oneshot::channel();
        let effect = Effect::new(move |erased| {
            Box::pin(async move {
                let transaction = transaction(erased)?;
                transaction.batch_execute(&first).await?;
                let _told = locked.send(());
                transaction.batch_execute(&second).await?;
                Ok(Vec::new())
            })
        });
        let wants_first = lock(1);
        let waiting = tokio::spawn(async move {
            has_locked.await.unwrap();
            other.batch_execute(&wants_first).await.unwrap();
            other.batch_execute("COMMIT").await.unwrap();
        });
        let how = How::Ack {
            effect: Some(effect),
            then: Vec::new(),
        };
        let ended = queue.end_one(delivery.token, how).await;
        assert!(matches!(ended, Err(EndError::LeaseLost)), "{ended:?}");
        waiting.await.unwrap();
        let again = one(&queue).await;
        assert_eq!((again.attempt, again.task.history.len()), (1, 0));
    });
}

#[test]
fn an_effect_that_is_dropped_leaves_no_transaction_and_no_lock() {
    // Failure 32.
    if !is_there() {
        return;
    }
    runtime::real(async {
        let ground = Ground::new().await;
        let queue = ground.open().await;
        publish(&queue, "a").await;
        let delivery = one(&queue).await;
        let token = delivery.token.clone();
        let effect = Effect::new(|_| Box::pin(std::future::pending()));
        let how = How::Ack {
            effect: Some(effect),
            then: Vec::new(),
        };
        assert!(
            timeout(Duration::from_millis(300), queue.end_one(delivery.token, how))
                .await
                .is_err()
        );
        timeout(Duration::from_secs(5), queue.release(token))
            .await
            .expect("the row is free")
            .unwrap();
        assert_eq!(one(&queue).await.attempt, 1);
        let client = ground.client().await;
        let open =
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction' AND datname = current_database()
            AND query LIKE $1";
        let open: i64 = client
            .query_one(open, &[&format!("%{}%", ground.schema)])
            .await
            .unwrap()
            .get(0);
        assert_eq!(open, 0);
    });
}

#[test]
fn handlers_that_hold_all_their_connections_keep_no_lease_from_being_extended() {
    // Failure 31.
    if !is_there() {
        return;
    }
    runtime::real(async {
        let ground = Ground::new().await;
        let settings = plba_sql::postgres::PostgresSettings {
            handlers: 2,
            ..ground.settings()
        };
        let queue = PostgresTaskQueue::open(settings).await.unwrap();
        for id in ["a", "b", "c", "d"] {
            publish(&queue, id).await;
        }
        let mut busy = Vec::new();
        for _ in 0..3 {
            let (queue, token) = (queue.clone(), one(&queue).await.token);
            busy.push(tokio::spawn(async move {
                let effect = Some(Effect::new(|_| Box::pin(std::future::pending())));
                queue
                    .end_one(
                        token,
                        How::Ack {
                            effect,
                            then: Vec::new(),
                        },
                    )
                    .await
            }));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        let free = one(&queue).await.token;
        let extended = timeout(Duration::from_secs(5), queue.extend(std::slice::from_ref(&free))).await;
        extended.expect("it does not wait").unwrap().remove(0).unwrap();
        let ended = timeout(Duration::from_secs(5), queue.end_one(free, How::ack(Vec::new()))).await;
        ended.expect("it does not wait").unwrap();
        busy.iter().for_each(tokio::task::JoinHandle::abort);
    });
}

#[test]
fn a_stale_holders_write_is_refused_and_a_take_over_waits_for_one_that_is_not() {
    if !is_there() {
        return;
    }
    runtime::real(async {
        let ground = Ground::new().await;
        let ttl = Duration::from_secs(30);
        let store = PostgresLease::open_with_clock(ground.settings(), ground.clock.clone() as _)
            .await
            .unwrap();
        let mut client = ground.client().await;
        let unknown = check_fence(&client, &ground.schema, "invoices", FencingToken(1)).await;
        assert!(matches!(unknown, Err(FenceError::Unknown { .. })));
        let first = store.acquire("invoices", "a", ttl).await.unwrap().unwrap().token;
        ground.clock.advance(ttl);
        let transaction = client.transaction().await.unwrap();
        check_fence(&transaction, &ground.schema, "invoices", first)
            .await
            .unwrap();
        let taking = {
            let store = store.clone();
            tokio::spawn(async move { store.acquire("invoices", "b", ttl).await })
        };
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(!taking.is_finished(), "it waits for the writer's commit");
        transaction.commit().await.unwrap();
        let second = taking.await.unwrap().unwrap().unwrap().token;
        let refused = check_fence(&client, &ground.schema, "invoices", first).await;
        assert!(
            matches!(&refused, Err(FenceError::Stale { newest, .. }) if *newest == second),
            "{refused:?}"
        );
        check_fence(&client, &ground.schema, "invoices", second).await.unwrap();
    });
}
