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
