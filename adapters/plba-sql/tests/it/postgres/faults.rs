//! Servers that restart, die, run out of connections or turn read-only: nothing is lost, nothing is done twice with an id,
//! and it goes on by itself.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::time::Duration;

use plba_sql::postgres::tokio_postgres::{Config, NoTls};
use plba_sql::postgres::{PostgresSettings, PostgresTaskQueue};
use plba_tasks::queue::{ConsumerId, Ending, How, Incarnation, TaskQueue};
use plba_tasks::task::{NewTask, QueueName};
use plba_testkit::runtime;
use plba_testservers::{PostgresOptions, PostgresServer, require};
use tokio::time::{sleep, timeout};

const TASKS: usize = 300;

fn orders() -> QueueName {
    QueueName::from("orders")
}

fn settings(server: &PostgresServer) -> PostgresSettings {
    PostgresSettings {
        lease: Duration::from_secs(2),
        ..PostgresSettings::new(Config::from_str(&server.url()).unwrap())
    }
}

/// Publishes until it is sure that all are there.
async fn publish_all(queue: PostgresTaskQueue) {
    for number in 0..TASKS {
        let task = || NewTask::new(orders(), "test", "").with_id(format!("{number}"));
        while queue.publish(vec![task()]).await.is_err() {
            sleep(Duration::from_millis(20)).await;
        }
        sleep(Duration::from_millis(5)).await;
    }
}

/// Carries tasks out until all are done; gives how often some were.
async fn carry_out(queue: PostgresTaskQueue) -> usize {
    let consumer = ConsumerId::new(Incarnation::of_this_process(1), "worker");
    let (mut done, mut extra) = (BTreeSet::new(), 0);
    while done.len() < TASKS {
        let Ok(Ok(taken)) = timeout(Duration::from_secs(5), queue.consume(&orders(), &consumer, 20)).await else {
            sleep(Duration::from_millis(20)).await;
            continue;
        };
        for delivery in taken {
            extra += usize::from(!done.insert(delivery.task.id.to_string()));
            let token = delivery.token;
            for _ in 0..50 {
                let ending = Ending {
                    token: token.clone(),
                    how: How::ack(Vec::new()),
                };
                let ended = queue.end(vec![ending]).await;
                match ended.map(|mut ended| ended.remove(0)) {
                    Ok(Err(plba_tasks::queue::EndError::Queue(_))) | Err(_) => sleep(Duration::from_millis(50)).await,
                    Ok(_) => break,
                }
            }
        }
    }
    extra
}

async fn goes_on_while<F: Future<Output = ()>>(server: &PostgresServer, fault: F) {
    let queue = PostgresTaskQueue::open(settings(server)).await.unwrap();
    let (publishing, working) = (
        tokio::spawn(publish_all(queue.clone())),
        tokio::spawn(carry_out(queue.clone())),
    );
    fault.await;
    timeout(Duration::from_secs(40), publishing)
        .await
        .expect("publishing goes on")
        .unwrap();
    timeout(Duration::from_secs(40), working)
        .await
        .expect("nothing is lost")
        .unwrap();
    let stats = queue.stats().await.unwrap();
    assert_eq!((stats[0].ready, stats[0].leased, stats[0].dead), (0, 0, 0), "{stats:?}");
}

#[test]
fn sessions_that_are_terminated_again_and_again_lose_nothing() {
    // Failure 29: pg_terminate_backend of every session in a loop.
    runtime::real(async {
        let Some(server) = require(PostgresServer::start().await) else {
            return;
        };
        goes_on_while(&server, async {
            for _ in 0..10 {
                sleep(Duration::from_millis(150)).await;
                server.terminate_backends().await.unwrap();
            }
        })
        .await;
    });
}

#[test]
fn a_server_that_is_killed_and_restarted_loses_nothing() {
    // Failure 29: kill -9 of the postmaster, and a restart.
    runtime::real(async {
        let Some(server) = require(PostgresServer::start().await) else {
            return;
        };
        goes_on_while(&server, async {
            sleep(Duration::from_millis(300)).await;
            server.kill().await;
            sleep(Duration::from_millis(300)).await;
            server.start_again().await.unwrap();
            sleep(Duration::from_millis(300)).await;
            server.restart().await.unwrap();
        })
        .await;
    });
}

#[test]
fn a_server_that_turns_read_only_is_named_and_used_again_when_it_is_not() {
    // Failure 35.
    runtime::real(async {
        let Some(server) = require(PostgresServer::start().await) else {
            return;
        };
        let queue = PostgresTaskQueue::open(settings(&server)).await.unwrap();
        let task = || vec![NewTask::new(orders(), "test", "").with_id("a")];
        server
            .query("ALTER SYSTEM SET default_transaction_read_only = on")
            .await
            .unwrap();
        server.query("SELECT pg_reload_conf()").await.unwrap();
        let refused = loop {
            match queue.publish(task()).await {
                Err(error) => break plba_contracts::describe(&error),
                Ok(_) => sleep(Duration::from_millis(20)).await,
            }
        };
        assert!(
            refused.contains("read-only") && refused.contains("name the primary"),
            "{refused}"
        );
        server
            .cli([
                "-c",
                "SET default_transaction_read_only = off",
                "-c",
                "ALTER SYSTEM RESET default_transaction_read_only",
            ])
            .await
            .unwrap();
        server.query("SELECT pg_reload_conf()").await.unwrap();
        let again = async {
            while queue.publish(task()).await.is_err() {
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(Duration::from_secs(10), again)
            .await
            .expect("it goes on by itself");
    });
}

#[test]
fn a_server_without_a_free_connection_says_what_to_do() {
    // Failure 35: max_connections.
    runtime::real(async {
        let options = PostgresOptions {
            max_connections: 8,
            ..PostgresOptions::default()
        };
        let Some(server) = require(PostgresServer::start_with(options).await) else {
            return;
        };
        let mut held = Vec::new();
        let refused = loop {
            match PostgresTaskQueue::open(settings(&server)).await {
                Ok(queue) => held.push(queue),
                Err(error) => break plba_contracts::describe(error.as_ref()),
            }
            assert!(held.len() < 20, "the server has room for ever");
        };
        assert!(refused.contains("max_connections"), "{refused}");
        // Those that are in keep working with what they have.
        held[0].publish(vec![NewTask::new(orders(), "test", "")]).await.unwrap();
    });
}

#[test]
fn a_holder_of_an_old_snapshot_does_not_slow_the_taking_down() {
    // Failure 33, in small: what is done can't be cleaned up, and every look must not go over all of it.
    runtime::real(async {
        let Some(server) = require(PostgresServer::start().await) else {
            return;
        };
        let queue = PostgresTaskQueue::open(settings(&server)).await.unwrap();
        let consumer = ConsumerId::new(Incarnation::of_this_process(1), "worker");
        let holder = tokio::net::TcpStream::connect(("127.0.0.1", server.port()))
            .await
            .unwrap();
        let config = Config::from_str(&server.url()).unwrap();
        let (holder, connection) = config.connect_raw(holder, NoTls).await.unwrap();
        tokio::spawn(connection);
        holder
            .batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1")
            .await
            .unwrap();
        let mut endings = Vec::new();
        for round in 0..20 {
            let tasks = (0..500).map(|number| NewTask::new(orders(), "test", "").with_id(format!("{round}/{number}")));
            queue.publish(tasks.collect()).await.unwrap();
            loop {
                let exchange = queue
                    .exchange(std::mem::take(&mut endings), &orders(), &consumer, 128)
                    .await;
                exchange.ended.unwrap().into_iter().for_each(|ended| ended.unwrap());
                let taken = exchange.taken.unwrap();
                if taken.is_empty() {
                    break;
                }
                let ack = |token| Ending {
                    token,
                    how: How::ack(Vec::new()),
                };
                endings = taken.into_iter().map(|delivery| ack(delivery.token)).collect();
            }
        }
        let stats = queue.stats().await.unwrap();
        assert_eq!((stats[0].acked, stats[0].ready, stats[0].leased), (10_000, 0, 0));
    });
}
