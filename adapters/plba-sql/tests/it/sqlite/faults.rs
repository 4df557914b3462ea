//! Faults of disks, files and other programs: failures 37, 38, 40 and 41.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use plba_sql::rusqlite::{Connection, TransactionBehavior};
use plba_sql::sqlite::{OpenDatabaseError, SqliteSettings, SqliteTaskQueue, SqliteTransaction, done_with};
use plba_tasks::handler::Outcome;
use plba_tasks::queue::{DeadFilter, Effect, How, TaskFilter, TaskQueue, UNDECODABLE};
use plba_tasks::task::{NewTask, QueueName, TaskId};
use plba_testkit::runtime;

use super::ground::{Ground, consumer, sound};

fn task(id: &str, bytes: usize) -> NewTask {
    NewTask::new("orders", "test", vec![7; bytes]).with_id(id)
}

fn orders() -> QueueName {
    QueueName::from("orders")
}

async fn drain(queue: &SqliteTaskQueue) -> usize {
    let mut count = 0;
    while let Ok(taken) =
        tokio::time::timeout(Duration::from_millis(200), queue.consume(&orders(), &consumer(), 100)).await
    {
        for delivery in taken.unwrap() {
            queue.end_one(delivery.token, How::ack(Vec::new())).await.unwrap();
            count += 1;
        }
    }
    count
}

/// Limits the file for the writer, whose connection an effect can get at.
async fn limit_pages(queue: &SqliteTaskQueue, pages: i64) {
    queue.publish(vec![NewTask::new("limits", "test", "")]).await.unwrap();
    let taken = queue.consume(&QueueName::from("limits"), &consumer(), 1).await.unwrap();
    let limit = done_with(move |connection| {
        connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |row| {
            row.get::<_, i64>(0)
        })?;
        Ok(Vec::new())
    });
    let Outcome::DoneWith { effect, then } = limit else {
        panic!("{limit:?}")
    };
    let how = How::Ack {
        effect: Some(effect),
        then,
    };
    queue.end_one(taken[0].token.clone(), how).await.unwrap();
}

#[test]
fn failure_37_a_full_disk_is_an_error_and_goes_on_when_there_is_space() {
    let ground = Ground::new();
    runtime::real(async {
        let queue = ground.open().await;
        // A limit of the database stands for that of a disk: SQLite fails in the same way. It is the writer's own.
        let mut published = 0;
        limit_pages(&queue, 200).await;
        let failed = loop {
            match queue.publish(vec![task(&format!("t{published}"), 20_000)]).await {
                Ok(_) => published += 1,
                Err(error) => break error,
            }
            assert!(published < 1_000, "it is never full");
        };
        assert!(failed.to_string().contains("free some space"), "{failed}");
        assert!(published > 10);
        // Whoever consumes goes on, and makes space.
        let first = queue.consume(&orders(), &consumer(), 5).await.unwrap();
        for delivery in first {
            queue.end_one(delivery.token, How::ack(Vec::new())).await.unwrap();
        }
        queue.publish(vec![task("after", 20_000)]).await.unwrap();
        limit_pages(&queue, 1_000_000).await;
        queue.publish(vec![task("large", 4_000_000)]).await.unwrap();
        assert_eq!(drain(&queue).await, published - 5 + 2);
    });
    sound(&ground.path);
}

#[test]
fn a_job_that_fails_costs_the_others_of_its_transaction_nothing() {
    let ground = Ground::new();
    runtime::real(async {
        let queue = ground.open().await;
        queue
            .publish((0..5).map(|number| task(&number.to_string(), 10)).collect())
            .await
            .unwrap();
        limit_pages(&queue, 200).await;
        let first = queue.consume(&orders(), &consumer(), 1).await.unwrap().remove(0);
        // While this keeps the writer busy, the others gather for one transaction, in this order.
        let slow = Effect::new(|transaction| {
            Box::pin(async move {
                let transaction = transaction.downcast_mut::<SqliteTransaction>().ok_or("not SQLite")?;
                transaction.run(|_| Ok(())).await?;
                tokio::time::sleep(Duration::from_millis(300)).await;
                Ok(Vec::new())
            })
        });
        let slow = How::Ack {
            effect: Some(slow),
            then: Vec::new(),
        };
        let (name, who) = (orders(), consumer());
        let later = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            tokio::join!(
                queue.consume(&name, &who, 2),
                queue.publish(vec![task("too large", 4_000_000)]),
                queue.publish(vec![task("small", 10)]),
            )
        };
        let (ended, (taken, refused, published)) = tokio::join!(queue.end_one(first.token, slow), later);
        ended.unwrap();
        assert!(refused.is_err());
        published.unwrap();
        let taken = taken.unwrap();
        assert_eq!(taken.len(), 2);
        // What was taken in the transaction that failed is not put back over what was taken in the next one.
        tokio::time::sleep(Duration::from_millis(100)).await;
        for delivery in taken {
            queue.end_one(delivery.token, How::ack(Vec::new())).await.unwrap();
        }
        assert_eq!(drain(&queue).await, 3);
    });
    sound(&ground.path);
}

#[test]
fn failure_40_a_long_transaction_elsewhere_is_waited_for_and_then_an_error() {
    let ground = Ground::new();
    runtime::real(async {
        let queue = ground
            .open_with(SqliteSettings {
                busy: Duration::from_millis(300),
                ..ground.settings()
            })
            .await;
        let mut other = Connection::open(&ground.path).unwrap();
        let transaction = other.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
        let failed = queue.publish(vec![task("a", 10)]).await.unwrap_err();
        assert!(failed.to_string().contains("another process"), "{failed}");
        drop(transaction);
        queue.publish(vec![task("a", 10)]).await.unwrap();
        assert_eq!(drain(&queue).await, 1);
    });
    sound(&ground.path);
}

#[test]
fn failure_40_a_reader_that_keeps_an_old_state_costs_no_task_and_the_log_shrinks_after_it() {
    let ground = Ground::new();
    let log = ground.directory.path().join("queue.db-wal");
    runtime::real(async {
        let queue = ground
            .open_with(SqliteSettings {
                log_bytes: 16 << 20,
                ..ground.settings()
            })
            .await;
        queue.publish(vec![task("first", 10)]).await.unwrap();
        let mut other = Connection::open(&ground.path).unwrap();
        let reading = other.transaction().unwrap();
        let count = |connection: &Connection| -> i64 {
            connection
                .query_row("SELECT count(*) FROM plba_tasks", [], |row| row.get(0))
                .unwrap()
        };
        assert_eq!(count(&reading), 1);
        for number in 0..30 {
            queue.publish(vec![task(&format!("t{number}"), 1 << 20)]).await.unwrap();
        }
        assert!(fs::metadata(&log).unwrap().len() > 16 << 20);
        assert_eq!(count(&reading), 1, "it reads what was there");
        drop(reading);
        // Emptied when there is time.
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        while fs::metadata(&log).unwrap().len() > 1 << 20 {
            assert!(std::time::Instant::now() < deadline, "the log stays large");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(drain(&queue).await, 31);
    });
    sound(&ground.path);
}

#[test]
fn failure_41_a_file_that_was_deleted_or_replaced_is_written_no_more() {
    for (name, replaced) in [("queue.db", false), ("queue.db", true), ("queue.db-wal", false)] {
        let ground = Ground::new();
        runtime::real(async {
            let queue = ground.open().await;
            queue.publish(vec![task("a", 10)]).await.unwrap();
            let path = ground.directory.path().join(name);
            if replaced {
                fs::copy(&path, ground.directory.path().join("copy")).unwrap();
                fs::rename(ground.directory.path().join("copy"), &path).unwrap();
            } else {
                fs::remove_file(&path).unwrap();
            }
            let failed = queue.publish(vec![task("b", 10)]).await.unwrap_err().to_string();
            let what = if replaced { "was replaced" } else { "was deleted" };
            assert!(failed.contains(what) && failed.contains("/proc/"), "{failed}");
            assert!(queue.consume(&orders(), &consumer(), 1).await.is_err());
        });
    }
}

#[test]
fn failure_41_a_file_that_is_no_database_is_refused_and_left_alone() {
    let ground = Ground::new();
    fs::write(
        &ground.path,
        "not a database, but 100 bytes and more of something else; ".repeat(10),
    )
    .unwrap();
    let refused = runtime::real(async {
        SqliteTaskQueue::open(ground.settings(), Arc::clone(&ground.clock) as _)
            .await
            .err()
            .unwrap()
    });
    assert!(refused.to_string().contains("no database"), "{refused}");
    assert!(fs::read_to_string(&ground.path).unwrap().starts_with("not a database"));
}

#[test]
fn failure_41_a_directory_that_is_not_there_is_named() {
    let ground = Ground::new();
    let settings = SqliteSettings::new("/nonexistent/queue.db");
    let refused = runtime::real(async {
        SqliteTaskQueue::open(settings, Arc::clone(&ground.clock) as _)
            .await
            .err()
            .unwrap()
    });
    assert!(matches!(refused, OpenDatabaseError::Create { .. }), "{refused}");
    assert!(refused.to_string().contains("/nonexistent/queue.db"), "{refused}");
}

#[test]
fn a_database_of_a_newer_program_is_left_alone() {
    let ground = Ground::new();
    runtime::real(async { drop(ground.open().await) });
    let other = Connection::open(&ground.path).unwrap();
    other
        .execute_batch("UPDATE plba_schema SET version = 7 WHERE part = 'tasks'")
        .unwrap();
    let refused = runtime::real(async {
        SqliteTaskQueue::open(ground.settings(), Arc::clone(&ground.clock) as _)
            .await
            .err()
            .unwrap()
    });
    assert!(
        matches!(refused, OpenDatabaseError::Newer { found: 7, known: 1, .. }),
        "{refused}"
    );
}

#[test]
fn failure_10_a_record_that_cant_be_decoded_is_a_dead_letter_with_its_bytes() {
    let ground = Ground::new();
    runtime::real(async {
        let queue = ground.open().await;
        queue
            .publish(vec![task("a", 3), task("b", 3), task("c", 2_000)])
            .await
            .unwrap();
        let other = Connection::open(&ground.path).unwrap();
        other
            .execute("UPDATE plba_tasks SET envelope = x'7b2276' WHERE id <> 'b'", [])
            .unwrap();
        let taken = queue.consume(&orders(), &consumer(), 10).await.unwrap();
        assert_eq!(taken.len(), 1);
        assert_eq!(taken[0].task.id.as_str(), "b");
        let letters = queue
            .dead_letters(&DeadFilter::default(), None, 10)
            .await
            .unwrap()
            .letters;
        assert_eq!(letters.len(), 2);
        assert!(letters.iter().all(|letter| letter.kind == UNDECODABLE));
        let whole = queue.dead_task(&orders(), &TaskId::from("c")).await.unwrap().unwrap();
        assert!(!whole.decoded);
        assert_eq!(whole.payload, [b"{\"v".to_vec(), vec![7; 2_000]].concat());
        assert_eq!(queue.retry_dead(&orders(), &[TaskId::from("a")]).await.unwrap(), 0);
        assert_eq!(queue.drop_dead(&orders(), &[TaskId::from("a")]).await.unwrap(), 1);
        let listed = queue.tasks(&TaskFilter::default(), None, 10).await.unwrap();
        assert_eq!(listed.tasks.len(), 1);
    });
}
