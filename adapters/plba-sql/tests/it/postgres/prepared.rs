//! Statements that stay prepared in sessions of our own, and what happens when a session forgets them.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use plba_contracts::services::BoxFuture;
use plba_sql::postgres::{PostgresSettings, PostgresTaskQueue, PostgresTransaction, transaction};
use plba_tasks::queue::{ConsumerId, Effect, EndError, How, Incarnation, TaskQueue};
use plba_tasks::task::{NewTask, QueueName};
use plba_testkit::runtime;
use tokio::time::timeout;

use super::ground::{Ground, is_there};

async fn open(ground: &Ground, listen: bool) -> PostgresTaskQueue {
    let settings = PostgresSettings {
        handlers: 1,
        listen,
        ..ground.settings()
    };
    PostgresTaskQueue::open(settings).await.unwrap()
}

/// Takes one task and ends it with an effect.
async fn complete<F>(queue: &PostgresTaskQueue, effect: F) -> Result<(), EndError>
where
    F: for<'a> FnOnce(&'a mut PostgresTransaction) -> BoxFuture<'a, ()> + Send + 'static,
{
    let consumer = ConsumerId::new(Incarnation::of_this_process(1), "worker");
    let name = QueueName::from("orders");
    let taken = timeout(Duration::from_secs(20), queue.consume(&name, &consumer, 1)).await;
    let token = taken.expect("something is ready").unwrap().remove(0).token;
    let effect = Effect::new(move |erased| {
        Box::pin(async move {
            effect(transaction(erased)?).await;
            Ok(Vec::new())
        })
    });
    let how = How::Ack {
        effect: Some(effect),
        then: Vec::new(),
    };
    queue.end_one(token, how).await
}

async fn publish(queue: &PostgresTaskQueue, count: usize) {
    let tasks = (0..count).map(|_| NewTask::new("orders", "test", "")).collect();
    queue.publish(tasks).await.unwrap();
}

/// How often the statement that ends tasks is prepared in the effects' session.
async fn prepared(queue: &PostgresTaskQueue) -> i64 {
    let found = Arc::new(AtomicI64::new(-1));
    let seen = Arc::clone(&found);
    let ended = complete(queue, move |transaction| {
        Box::pin(async move {
            // Written so that it does not find itself.
            let text = "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%end' || '_1(%'";
            let row = transaction.query_one(text, &[]).await.unwrap();
            seen.store(row.get(0), Ordering::Relaxed);
        })
    });
    ended.await.unwrap();
    found.load(Ordering::Relaxed)
}

#[test]
fn what_comes_again_is_prepared_once_and_nothing_is_behind_a_pooler() {
    if !is_there() {
        return;
    }
    runtime::real(async {
        for (listen, counts) in [(true, [0, 0, 1, 1, 1]), (false, [0; 5])] {
            let queue = open(&Ground::new().await, listen).await;
            publish(&queue, counts.len()).await;
            for count in counts {
                assert_eq!(prepared(&queue).await, count, "listen: {listen}");
            }
        }
    });
}

#[test]
fn a_session_that_forgets_what_it_had_prepared_costs_one_more_delivery() {
    // As a pooler in transaction mode does that the location does not tell of.
    if !is_there() {
        return;
    }
    runtime::real(async {
        let ground = Ground::new().await;
        let queue = open(&ground, true).await;
        publish(&queue, 4).await;
        for _ in 0..3 {
            prepared(&queue).await;
        }
        let ended = complete(&queue, |transaction| {
            Box::pin(async move { transaction.batch_execute("DEALLOCATE ALL").await.unwrap() })
        });
        let ended = ended.await;
        assert!(matches!(ended, Err(EndError::LeaseLost)), "{ended:?}");
        assert_eq!(prepared(&queue).await, 0, "it goes on without");
        let stats = queue.stats().await.unwrap();
        assert_eq!(
            (stats[0].ready, stats[0].delayed, stats[0].leased, stats[0].dead),
            (0, 0, 0, 0)
        );
    });
}
