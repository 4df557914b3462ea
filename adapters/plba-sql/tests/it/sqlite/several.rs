//! Several connections that write and empty the log at once: failure 39 of the catalogue; and what two that find the same
//! process gone must not do to a third.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use plba_sql::rusqlite::{self, Connection};
use plba_sql::sqlite::SqliteTaskQueue;
use plba_tasks::queue::{ConsumerId, How, Incarnation, TaskQueue};
use plba_tasks::task::{NewTask, QueueName};
use plba_testkit::runtime;

use super::ground::{Ground, consumer, sound};

/// In small what the catalogue asks for during an hour.
const SPAN: Duration = Duration::from_secs(4);

async fn publish_and_carry_out(queue: &SqliteTaskQueue, name: &QueueName) -> usize {
    let (began, mut count) = (Instant::now(), 0);
    while began.elapsed() < SPAN {
        let tasks = (0..8).map(|_| NewTask::new(name, "test", vec![7; 2_000]));
        queue.publish(tasks.collect()).await.unwrap();
        for delivery in queue.consume(name, &consumer(), 8).await.unwrap() {
            queue.end_one(delivery.token, How::ack(Vec::new())).await.unwrap();
            count += 1;
        }
    }
    count
}

#[test]
fn failure_39_the_library_is_none_that_resets_its_log_wrongly() {
    // Mended in 3.51.3; an older one could damage a file that two connections write to and checkpoint.
    assert!(rusqlite::version_number() >= 3_051_003, "{}", rusqlite::version());
}

#[test]
fn failure_39_two_that_write_and_one_that_empties_the_log_leave_the_file_sound() {
    let ground = Ground::new();
    let (path, over) = (ground.path.clone(), Arc::new(AtomicBool::new(false)));
    let checkpoints = runtime::real(async {
        let (one, other) = (ground.open().await, ground.open().await);
        let emptying = {
            let (path, over) = (path.clone(), Arc::clone(&over));
            tokio::task::spawn_blocking(move || {
                let connection = Connection::open(path).unwrap();
                connection.busy_timeout(Duration::from_secs(5)).unwrap();
                let mut count = 0_u32;
                while !over.load(Ordering::Relaxed) {
                    for how in ["PASSIVE", "RESTART", "TRUNCATE"] {
                        let text = format!("PRAGMA wal_checkpoint({how})");
                        // Busy is an answer as well.
                        count += u32::from(connection.query_row(&text, [], |row| row.get::<_, i64>(0)).is_ok());
                    }
                }
                count
            })
        };
        let (first, second) = (QueueName::from("first"), QueueName::from("second"));
        let counts = tokio::join!(
            publish_and_carry_out(&one, &first),
            publish_and_carry_out(&other, &second)
        );
        over.store(true, Ordering::Relaxed);
        assert!(counts.0 > 50 && counts.1 > 50, "{counts:?}");
        emptying.await.unwrap()
    });
    assert!(checkpoints > 20, "{checkpoints}");
    sound(&path);
}

#[test]
fn the_number_of_a_holder_that_is_gone_is_never_given_again() {
    let ground = Ground::new();
    let numbers = || {
        let connection = Connection::open(&ground.path).unwrap();
        let mut find = connection.prepare("SELECT number FROM plba_consumers").unwrap();
        let found = find.query_map([], |row| row.get::<_, i64>(0)).unwrap();
        found.collect::<Result<Vec<_>, _>>().unwrap()
    };
    runtime::real(async {
        let (queue, name) = (ground.open().await, QueueName::from("orders"));
        queue
            .publish(vec![NewTask::new(&name, "test", Vec::new())])
            .await
            .unwrap();
        let mut process = Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().unwrap();
        let holder = ConsumerId::new(Incarnation::of_process(process.id(), 1), "worker");
        assert_eq!(queue.consume(&name, &holder, 1).await.unwrap().len(), 1);
        let before = numbers();
        process.kill().unwrap();
        process.wait().unwrap();
        let began = Instant::now();
        while !numbers().is_empty() {
            queue.recover(None, 100).await.unwrap();
            assert!(began.elapsed() < Duration::from_secs(20), "it is not found gone");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(queue.consume(&name, &consumer(), 1).await.unwrap().len(), 1);
        let after = numbers();
        assert!(
            before.len() == 1 && after.len() == 1 && after[0] > before[0],
            "{before:?}, then {after:?}"
        );
    });
}
