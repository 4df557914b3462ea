//! Servers that restart, die, run out of connections or space, keep old rows or turn read-only: nothing is lost, nothing is done twice with an id,
//! and it goes on by itself.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use plba_sql::postgres::tokio_postgres::{Config, NoTls};
use plba_sql::postgres::{PostgresLedger, PostgresSettings, PostgresTaskQueue};
use plba_tasks::queue::{ConsumerId, Durability, Ending, How, Incarnation, TaskQueue};
use plba_tasks::task::{NewTask, QueueName};
use plba_testkit::complaints::Complaints;
use plba_testkit::runtime;
use plba_testservers::{PostgresOptions, PostgresServer, require};
use tokio::time::{sleep, timeout};
use tracing::Level;

use super::ground::{Ground, is_there};
use crate::mounted::Mounted;

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
fn a_server_that_may_lose_tasks_is_told_of_once() {
    runtime::real(async {
        let options = PostgresOptions {
            fsync: false,
            in_memory: true,
            ..PostgresOptions::default()
        };
        let Some(server) = require(PostgresServer::start_with(options).await) else {
            return;
        };
        let told = Complaints::new();
        let settings = || PostgresSettings {
            durability: Durability::ProcessCrash,
            ..settings(&server)
        };
        PostgresTaskQueue::open(settings()).await.unwrap();
        PostgresLedger::open(settings()).await.unwrap();
        assert_eq!(told.said(Level::WARN, "does not survive the loss of its machine"), 1);
    });
}

#[test]
fn failure_29_sessions_that_are_terminated_again_and_again_lose_nothing() {
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
fn failure_29_a_server_that_is_killed_and_restarted_loses_nothing() {
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
fn failure_35_a_server_that_turns_read_only_is_named_and_used_again_when_it_is_not() {
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
fn failure_35_a_server_without_a_free_connection_says_what_to_do() {
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
fn failure_33_a_holder_of_an_old_snapshot_does_not_slow_the_taking_down() {
    // What is done can't be cleaned up, and every look must not go over all of it.
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
        let rows: usize = std::env::var("PLBA_SQL_HISTORY").map_or(10_000, |text| text.parse().unwrap());
        let (mut endings, mut spans) = (Vec::new(), Vec::new());
        for round in 0..rows / 500 {
            let tasks = (0..500).map(|number| NewTask::new(orders(), "test", "").with_id(format!("{round}/{number}")));
            queue.publish(tasks.collect()).await.unwrap();
            loop {
                let began = Instant::now();
                let exchange = queue
                    .exchange(std::mem::take(&mut endings), &orders(), &consumer, 128)
                    .await;
                spans.push(began.elapsed());
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
        assert_eq!((stats[0].acked, stats[0].ready, stats[0].leased), (rows as u64, 0, 0));
        let of = |spans: &[Duration], percent: usize| {
            let mut spans = spans.to_vec();
            spans.sort_unstable();
            spans[spans.len() * percent / 100]
        };
        let (early, late) = (&spans[..spans.len() / 4], &spans[spans.len() * 3 / 4..]);
        eprintln!(
            "an exchange takes {:.2?} (p99 {:.2?}) at first, {:.2?} (p99 {:.2?}) with {rows} rows that can't be removed",
            of(early, 50),
            of(early, 99),
            of(late, 50),
            of(late, 99),
        );
        assert!(
            of(late, 50) < of(early, 50) * 5 + Duration::from_millis(20),
            "{:?}, then {:?}",
            of(early, 50),
            of(late, 50)
        );
    });
}

#[test]
fn failure_34_a_listener_whose_connection_is_lost_finds_by_looking_what_it_missed() {
    if !is_there() {
        return;
    }
    runtime::real(async {
        let ground = Ground::new().await;
        let (queue, other) = (ground.open().await, ground.open().await);
        let consumer = ConsumerId::new(Incarnation::of_this_process(1), "worker");
        let cut = format!(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query LIKE 'LISTEN \"{}_tasks%'",
            ground.schema
        );
        for round in 0..3 {
            let waiting = {
                let (queue, consumer) = (queue.clone(), consumer.clone());
                tokio::spawn(async move { queue.consume(&orders(), &consumer, 1).await })
            };
            sleep(Duration::from_millis(100)).await;
            let deadline = Instant::now() + Duration::from_secs(10);
            while ground.server.query(&cut).await.unwrap() == "0" {
                assert!(Instant::now() < deadline, "somebody listens");
                sleep(Duration::from_millis(10)).await;
            }
            other.publish(vec![NewTask::new(orders(), "test", "")]).await.unwrap();
            let taken = timeout(Duration::from_secs(5), waiting).await;
            let taken = taken.expect("it looks every second").unwrap().unwrap();
            assert_eq!(taken.len(), 1, "round {round}");
        }
    });
}

#[test]
fn failure_35_a_full_disk_is_told_and_publishing_goes_on_when_there_is_space() {
    let Some(mounted) = Mounted::new(16) else { return };
    runtime::real(async {
        let options = PostgresOptions {
            in_memory: true,
            ..PostgresOptions::default()
        };
        let Some(server) = require(PostgresServer::start_with(options).await) else {
            return;
        };
        let data = server.query("SHOW data_directory").await.unwrap();
        let owner = std::fs::metadata(data).unwrap();
        std::os::unix::fs::chown(mounted.path(), Some(owner.uid()), Some(owner.gid())).unwrap();
        let location = mounted.path().display();
        server
            .query(&format!("CREATE TABLESPACE small LOCATION '{location}'"))
            .await
            .unwrap();
        let mut settings = settings(&server);
        settings.server.options("-c default_tablespace=small");
        let queue = PostgresTaskQueue::open(settings).await.unwrap();
        let publish = |number: usize| {
            let task = NewTask::new(orders(), "test", vec![7; 200_000]).with_id(format!("{number}"));
            queue.publish(vec![task])
        };
        let mut published = 0;
        let said = loop {
            match publish(published).await {
                Ok(_) => published += 1,
                Err(error) => break plba_contracts::describe(&error),
            }
            assert!(published < 1_000, "it is never full");
        };
        assert!(said.contains("disk is full") && said.contains("make room"), "{said}");
        assert_eq!(queue.stats().await.unwrap()[0].ready, published as u64);
        mounted.grow(256);
        let again = async {
            while publish(published).await.is_err() {
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(Duration::from_secs(20), again)
            .await
            .expect("it goes on by itself");
        let consumer = ConsumerId::new(Incarnation::of_this_process(1), "worker");
        let mut done = 0;
        while done <= published {
            let taking = timeout(Duration::from_secs(10), queue.consume(&orders(), &consumer, 10)).await;
            for delivery in taking.expect("all are there").unwrap() {
                queue.end_one(delivery.token, How::ack(Vec::new())).await.unwrap();
                done += 1;
            }
        }
        assert_eq!(queue.stats().await.unwrap()[0].ready, 0);
    });
}
