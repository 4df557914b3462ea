//! Exchanging by itself, without ever waiting in `consume`: it finds what was given back, and what was held by processes
//! that are gone.

use std::process::Command;
use std::time::{Duration, Instant};

use plba_sql::postgres::{PostgresSettings, PostgresTaskQueue};
use plba_tasks::queue::{ConsumerId, Delivery, DeliveryToken, How, Incarnation, Presence, TaskQueue};
use plba_tasks::task::{NewTask, QueueName};
use plba_testkit::runtime;
use tokio::time::sleep;

use super::ground::{Ground, is_there};

fn orders() -> QueueName {
    QueueName::from("orders")
}

fn consumer(name: &str) -> ConsumerId {
    ConsumerId::new(Incarnation::of_this_process(1), name)
}

async fn take(queue: &PostgresTaskQueue, consumer: &ConsumerId, max: usize) -> Vec<Delivery> {
    queue
        .exchange(Vec::new(), &orders(), consumer, max)
        .await
        .taken
        .unwrap()
}

async fn release(queue: &PostgresTaskQueue, token: DeliveryToken) {
    let how = How::Release { delay: Duration::ZERO };
    queue.end_one(token, how).await.unwrap();
}

#[test]
fn what_another_process_gives_back_is_exchanged_at_once_wherever_this_one_has_got_to() {
    if !is_there() {
        return;
    }
    runtime::real(async {
        let ground = Ground::new().await;
        let settings = PostgresSettings {
            capacity: 10_000,
            ..ground.settings()
        };
        let (one, other) = (
            PostgresTaskQueue::open(settings.clone()).await.unwrap(),
            PostgresTaskQueue::open(settings).await.unwrap(),
        );
        let (here, there) = (consumer("here"), consumer("there"));
        one.publish(vec![NewTask::new(orders(), "test", "").with_id("first")])
            .await
            .unwrap();
        let mut first = take(&other, &there, 1).await.remove(0);
        // This one gets on, and remembers that nothing is ready before.
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(3_300) {
            one.publish(vec![NewTask::new(orders(), "test", "")]).await.unwrap();
            for delivery in take(&one, &here, 10).await {
                one.end_one(delivery.token, How::ack(Vec::new())).await.unwrap();
            }
        }
        // So often within the second after which it would look at everything again.
        for round in 0..20 {
            release(&other, first.token).await;
            let mut taken = take(&one, &here, 1).await;
            assert_eq!(taken.len(), 1, "round {round}: it is there");
            release(&one, taken.remove(0).token).await;
            first = take(&other, &there, 1).await.remove(0);
        }
        assert_eq!(first.task.id.as_str(), "first");
    });
}

#[test]
fn who_only_exchanges_looks_for_holders_that_are_gone() {
    if !is_there() {
        return;
    }
    runtime::real(async {
        let ground = Ground::new().await;
        let queue = ground.open().await;
        let mut process = Command::new("sleep").arg("60").spawn().unwrap();
        let mut gone = consumer("gone");
        gone.incarnation.presence = Presence::of(process.id());
        assert!(gone.incarnation.presence.is_some(), "the kernel tells of processes");
        queue
            .publish(vec![NewTask::new(orders(), "test", "").with_id("a")])
            .await
            .unwrap();
        assert_eq!(take(&queue, &gone, 1).await.len(), 1);
        process.kill().unwrap();
        process.wait().unwrap();
        let began = Instant::now();
        while take(&queue, &consumer("here"), 1).await.is_empty() {
            assert!(began.elapsed() < Duration::from_secs(10), "its lease lasts 30 s");
            sleep(Duration::from_millis(20)).await;
        }
    });
}

/// How many blocks of the tasks' table were looked at so far, one take included: the session tells it once it is idle, if it
/// has not told anything for a second.
async fn blocks(ground: &Ground, queue: &PostgresTaskQueue) -> u64 {
    sleep(Duration::from_millis(1_300)).await;
    assert_eq!(take(queue, &consumer("here"), 1).await.len(), 1);
    sleep(Duration::from_millis(300)).await;
    let text = format!(
        "SELECT heap_blks_hit + heap_blks_read FROM pg_statio_user_tables WHERE schemaname = '{}' AND relname = 'tasks'",
        ground.schema
    );
    ground.server.query(&text).await.unwrap().parse().unwrap()
}

#[test]
fn a_backlog_is_taken_from_its_front_however_little_is_known_of_the_table() {
    if !is_there() {
        return;
    }
    runtime::real(async {
        const TASKS: usize = 20_000;
        const TAKES: u64 = 20;
        let ground = Ground::new().await;
        let settings = PostgresSettings {
            capacity: 100_000,
            pool: 1,
            ..ground.settings()
        };
        let queue = PostgresTaskQueue::open(settings).await.unwrap();
        let publish = |count: usize| {
            let tasks = (0..count).map(|_| NewTask::new(orders(), "test", vec![7; 200]));
            queue.publish(tasks.collect())
        };
        // The plans are made now, and what is known of the table stays as it is.
        let client = ground.client().await;
        let off = format!("ALTER TABLE {}.tasks SET (autovacuum_enabled = off)", ground.schema);
        client.batch_execute(&off).await.unwrap();
        publish(10).await.unwrap();
        client
            .batch_execute(&format!("ANALYZE {}.tasks", ground.schema))
            .await
            .unwrap();
        let here = consumer("here");
        for _ in 0..3 {
            assert_eq!(take(&queue, &here, 1).await.len(), 1);
        }
        for _ in 0..TASKS / 500 {
            publish(500).await.unwrap();
        }
        let before = blocks(&ground, &queue).await;
        for _ in 0..TAKES {
            assert_eq!(take(&queue, &here, 1).await.len(), 1);
        }
        let seen = blocks(&ground, &queue).await;
        let looked_at = seen - before;
        // All of it has about 1,500 blocks.
        assert!(before > TASKS as u64, "what publishing looked at was told");
        assert!(looked_at < TAKES * 100, "{TAKES} takes looked at {looked_at} blocks");
    });
}
