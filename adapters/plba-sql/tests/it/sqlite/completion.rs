//! Completions with effects: data and acks in one transaction.

use std::sync::Arc;
use std::time::Duration;

use plba_contracts::BoxError;
use plba_sql::rusqlite::Connection;
use plba_sql::sqlite::{SqliteSettings, SqliteTaskQueue, SqliteTransaction, done_with};
use plba_tasks::handler::Outcome;
use plba_tasks::queue::{Delivery, Effect, EndError, Ending, How, TaskQueue};
use plba_tasks::task::{NewTask, QueueName};
use plba_testkit::runtime;

use super::ground::{Ground, consumer};

async fn with_table(ground: &Ground) -> SqliteTaskQueue {
    let queue = ground
        .open_with(SqliteSettings {
            completion: Duration::from_millis(400),
            ..ground.settings()
        })
        .await;
    Connection::open(&ground.path)
        .unwrap()
        .execute_batch("CREATE TABLE orders (id TEXT PRIMARY KEY)")
        .unwrap();
    queue
}

fn stored(ground: &Ground) -> Vec<String> {
    let connection = Connection::open(&ground.path).unwrap();
    let mut read = connection.prepare("SELECT id FROM orders ORDER BY id").unwrap();
    let rows = read.query_map([], |row| row.get(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

fn how(outcome: Outcome) -> How {
    match outcome {
        Outcome::DoneWith { effect, then } => How::Ack {
            effect: Some(effect),
            then,
        },
        other => panic!("{other:?}"),
    }
}

fn storing(id: &'static str) -> Outcome {
    done_with(move |connection| {
        connection.execute("INSERT INTO orders (id) VALUES (?1)", [id])?;
        Ok(vec![NewTask::new("replies", "reply", id).with_id(id)])
    })
}

async fn take(queue: &SqliteTaskQueue, name: &str, max: usize) -> Vec<Delivery> {
    let name = QueueName::from(name);
    let taking = queue.consume(&name, &consumer(), max).await;
    taking.unwrap()
}

async fn publish(queue: &SqliteTaskQueue, ids: &[&str]) {
    let tasks = ids.iter().map(|id| NewTask::new("orders", "test", "").with_id(*id));
    queue.publish(tasks.collect()).await.unwrap();
}

#[test]
fn what_an_effect_stores_is_there_with_the_ack_and_the_follow_ups() {
    let ground = Ground::new();
    runtime::real(async {
        let queue = with_table(&ground).await;
        publish(&queue, &["1", "2", "3"]).await;
        let taken = take(&queue, "orders", 10).await;
        let ids = ["1", "2", "3"];
        let endings = taken.into_iter().zip(ids).map(|(delivery, id)| Ending {
            token: delivery.token,
            how: how(storing(id)),
        });
        for ended in queue.end(endings.collect()).await.unwrap() {
            ended.unwrap();
        }
        assert_eq!(stored(&ground), ids);
        assert_eq!(take(&queue, "replies", 10).await.len(), 3);
        let orders = &queue.stats().await.unwrap()[0];
        assert_eq!((orders.queue.as_str(), orders.acked, orders.leased), ("orders", 3, 0));
    });
}

#[test]
fn an_effect_that_fails_leaves_nothing_and_the_others_of_its_batch_go_on() {
    let ground = Ground::new();
    runtime::real(async {
        let queue = with_table(&ground).await;
        publish(&queue, &["1", "2", "3"]).await;
        let outcomes = [
            storing("1"),
            done_with(|connection| {
                connection.execute("INSERT INTO orders (id) VALUES ('half')", [])?;
                Err("no such customer".into())
            }),
            storing("3"),
        ];
        let taken = take(&queue, "orders", 10).await;
        let endings = taken.into_iter().zip(outcomes).map(|(delivery, outcome)| Ending {
            token: delivery.token,
            how: how(outcome),
        });
        let ended = queue.end(endings.collect()).await.unwrap();
        assert!(ended[0].is_ok() && ended[2].is_ok());
        assert!(
            matches!(&ended[1], Err(EndError::Effect(error)) if error.to_string() == "no such customer"),
            "{ended:?}"
        );
        assert_eq!(stored(&ground), ["1", "3"]);
    });
}

#[test]
fn an_effect_may_take_several_steps_and_go_on_after_one_that_failed() {
    let ground = Ground::new();
    runtime::real(async {
        let queue = with_table(&ground).await;
        publish(&queue, &["1"]).await;
        let delivery = take(&queue, "orders", 1).await.remove(0);
        let effect = Effect::new(|transaction| {
            Box::pin(async move {
                let transaction = transaction.downcast_mut::<SqliteTransaction>().ok_or("not SQLite")?;
                transaction.run(|database| insert(database, "a")).await?;
                let failed = transaction
                    .run(|database| {
                        insert(database, "b")?;
                        insert(database, "a")
                    })
                    .await;
                assert!(failed.is_err());
                transaction.run(|database| insert(database, "c")).await?;
                Ok(Vec::new())
            })
        });
        let how = How::Ack {
            effect: Some(effect),
            then: Vec::new(),
        };
        queue.end_one(delivery.token, how).await.unwrap();
        assert_eq!(stored(&ground), ["a", "c"]);
    });
}

fn insert(database: &Connection, id: &str) -> Result<(), BoxError> {
    database.execute("INSERT INTO orders (id) VALUES (?1)", [id])?;
    Ok(())
}

#[test]
fn an_effect_that_takes_too_long_is_rolled_back_and_holds_nobody_up() {
    let ground = Ground::new();
    runtime::real(async {
        let queue = with_table(&ground).await;
        publish(&queue, &["1", "2"]).await;
        let mut taken = take(&queue, "orders", 2).await;
        // One waits for ever, one never stops counting.
        let waits = Effect::new(|transaction| {
            Box::pin(async move {
                let transaction = transaction.downcast_mut::<SqliteTransaction>().ok_or("not SQLite")?;
                transaction.run(|database| insert(database, "a")).await?;
                std::future::pending().await
            })
        });
        let counts = done_with(|connection| {
            let sql = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n";
            connection.query_row(sql, [], |row| row.get::<_, i64>(0))?;
            Ok(Vec::new())
        });
        let waits = How::Ack {
            effect: Some(waits),
            then: Vec::new(),
        };
        for how in [waits, how(counts)] {
            let token = taken.remove(0).token;
            let ended = queue.end_one(token.clone(), how).await;
            assert!(
                matches!(&ended, Err(EndError::Effect(error)) if error.to_string().contains("longer than 0.4 s")),
                "{ended:?}"
            );
            queue.release(token).await.unwrap();
        }
        assert_eq!(stored(&ground), [""; 0]);
        publish(&queue, &["3"]).await;
        assert_eq!(take(&queue, "orders", 10).await.len(), 3);
    });
}

#[test]
fn an_effect_that_ends_the_transaction_itself_is_an_error() {
    let ground = Ground::new();
    runtime::real(async {
        let queue = with_table(&ground).await;
        publish(&queue, &["1"]).await;
        let delivery = take(&queue, "orders", 1).await.remove(0);
        let ends = done_with(|connection| {
            connection.execute_batch("ROLLBACK")?;
            Ok(Vec::new())
        });
        assert!(queue.end_one(delivery.token.clone(), how(ends)).await.is_err());
        queue.end_one(delivery.token, how(storing("1"))).await.unwrap();
        assert_eq!(stored(&ground), ["1"]);
    });
}

#[test]
fn with_a_queue_elsewhere_the_attempt_fails_and_says_why() {
    let ground = Ground::new();
    runtime::real(async {
        let memory = plba_tasks::memory::InMemoryTaskQueue::new(
            plba_tasks::memory::MemorySettings::default(),
            Arc::clone(&ground.clock) as _,
        )
        .unwrap();
        memory.publish(vec![NewTask::new("orders", "test", "")]).await.unwrap();
        let taken = memory
            .consume(&QueueName::from("orders"), &consumer(), 1)
            .await
            .unwrap();
        let ended = memory.end_one(taken[0].token.clone(), how(storing("1"))).await;
        assert!(
            matches!(&ended, Err(EndError::Effect(error)) if error.to_string().contains("in one file")),
            "{ended:?}"
        );
    });
}
