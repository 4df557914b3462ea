//! A long history: failure 33 for a file. However many dead letters there are, and however much was removed, taking and
//! ending cost the same. `PLBA_SQL_HISTORY=1000000` for more of it.

use std::time::{Duration, Instant};

use plba_sql::rusqlite::Connection;
use plba_sql::sqlite::{SqliteSettings, SqliteTaskQueue};
use plba_tasks::queue::{Ending, How, TaskQueue};
use plba_tasks::task::{NewTask, QueueName};
use plba_testkit::runtime;

use super::ground::{Ground, consumer, sound};

const TASKS: usize = 500;
const ROUNDS: usize = 5;

fn rows() -> i64 {
    let more = std::env::var("PLBA_SQL_HISTORY").ok();
    more.map_or(60_000, |text| text.parse().expect("PLBA_SQL_HISTORY is a number"))
}

/// The least time that it takes to carry tasks out: what disturbs this machine is no matter.
async fn pace(queue: &SqliteTaskQueue) -> Duration {
    let (name, who, mut best) = (QueueName::from("orders"), consumer(), Duration::MAX);
    for _ in 0..ROUNDS {
        queue
            .publish((0..TASKS).map(|_| NewTask::new(&name, "test", "")).collect())
            .await
            .unwrap();
        let began = Instant::now();
        let mut taken = queue.exchange(Vec::new(), &name, &who, 100).await.taken.unwrap();
        while !taken.is_empty() {
            let ack = |delivery: plba_tasks::queue::Delivery| Ending {
                token: delivery.token,
                how: How::ack(Vec::new()),
            };
            let endings = taken.into_iter().map(ack).collect();
            let exchange = queue.exchange(endings, &name, &who, 100).await;
            exchange.ended.unwrap().into_iter().for_each(|ended| ended.unwrap());
            taken = exchange.taken.unwrap();
        }
        best = best.min(began.elapsed());
    }
    best
}

/// Rows as dying makes them.
fn bury(connection: &Connection, count: i64) {
    connection
        .execute_batch(&format!(
            "BEGIN;
             WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {count})
             INSERT INTO plba_tasks (seq, queue, state, rank, place, since, grants, holder, priority, deliveries, attempts,
                     crashes, bytes, ordered, reason, id, envelope, payload)
                 SELECT tick.next + n, queue.number, 6, tick.next + n, 0, 0, 1, 0, 1, 1, 1, 0, 400, 0, 'no luck', 'old' || n,
                     CAST('{{\"v\":1,\"kind\":\"test\",\"published\":0}}' AS BLOB), zeroblob(100)
                 FROM n, plba_tick AS tick, plba_queues AS queue WHERE queue.name = 'orders';
             UPDATE plba_tick SET next = next + {count} + 1;
             UPDATE plba_queues SET dead = dead + {count} WHERE name = 'orders';
             COMMIT"
        ))
        .unwrap();
}

#[test]
fn failure_33_a_long_history_costs_those_who_take_and_end_nothing() {
    let (ground, rows) = (Ground::new(), rows());
    runtime::real(async {
        let queue = ground
            .open_with(SqliteSettings {
                dead_capacity: 10_000_000,
                ..ground.settings()
            })
            .await;
        let before = pace(&queue).await;
        let connection = Connection::open(&ground.path).unwrap();
        bury(&connection, rows);
        assert_eq!(queue.stats().await.unwrap()[0].dead, u64::try_from(rows).unwrap());
        let after = pace(&queue).await;
        eprintln!("{TASKS} tasks: {before:?}, and {after:?} with {rows} dead letters");
        assert!(
            after < before * 3 + Duration::from_millis(100),
            "{before:?}, then {after:?}"
        );
        // What finds tasks goes by an index, whatever has been learned of the table.
        connection.execute_batch("ANALYZE").unwrap();
        for (condition, order) in [
            ("state = 0", "rank"),
            ("state = 2 AND rank <= 5", "rank"),
            ("state IN (4, 5)", "seq"),
        ] {
            let plan = format!(
                "EXPLAIN QUERY PLAN SELECT seq FROM plba_tasks WHERE queue = 1 AND {condition} ORDER BY {order}"
            );
            let steps: String = connection.query_row(&plan, [], |row| row.get(3)).unwrap();
            assert!(
                steps.starts_with("SEARCH") && steps.contains("plba_tasks_state"),
                "{condition}: {steps}"
            );
        }
        // What is removed keeps nobody waiting, and gives its pages back bit by bit when there is time.
        connection
            .execute_batch("BEGIN; DELETE FROM plba_tasks WHERE state = 6; UPDATE plba_queues SET dead = 0; COMMIT")
            .unwrap();
        let free = || -> i64 {
            connection
                .query_row("PRAGMA freelist_count", [], |row| row.get(0))
                .unwrap()
        };
        let (at_first, mut worst) = (free(), Duration::ZERO);
        for _ in 0..30 {
            let began = Instant::now();
            queue.publish(vec![NewTask::new("orders", "test", "")]).await.unwrap();
            worst = worst.max(began.elapsed());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(worst < Duration::from_secs(2), "{worst:?}");
        let idle = Instant::now();
        while free() >= at_first {
            assert!(idle.elapsed() < Duration::from_secs(20), "{at_first} pages stay free");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        eprintln!(
            "{at_first} free pages, then {}; a publish took {worst:?} at most",
            free()
        );
    });
    sound(&ground.path);
}
