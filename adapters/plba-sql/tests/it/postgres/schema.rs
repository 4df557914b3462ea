//! The schema: made once however many make it, refused when it is newer, and the start-up checks.

use std::time::Duration;

use plba_contracts::config::Location;
use plba_sql::postgres::{PostgresBackend, PostgresSettings, PostgresTaskQueue};
use plba_tasks::backend::QueueBackend;
use plba_tasks::queue::{ConsumerId, DeadFilter, Durability, Incarnation, TaskQueue, UNDECODABLE};
use plba_tasks::task::{NewTask, QueueName, TaskId};
use plba_testkit::runtime;
use plba_testservers::{PostgresOptions, PostgresServer, require};
use tokio::time::timeout;

use super::ground::{Ground, is_there};

#[test]
fn failure_36_many_that_start_at_once_make_the_tables_once() {
    if !is_there() {
        return;
    }
    runtime::real(async {
        let ground = Ground::new().await;
        let opening: Vec<_> = (0..6)
            .map(|_| tokio::spawn(PostgresTaskQueue::open(ground.settings())))
            .collect();
        for opened in opening {
            opened.await.unwrap().unwrap();
        }
        let client = ground.client().await;
        let text = format!("SELECT count(*) FROM {}.plba_schema", ground.schema);
        let migrations: i64 = client.query_one(&text, &[]).await.unwrap().get(0);
        assert_eq!(migrations, 1);
    });
}

#[test]
fn failure_36_a_migration_that_was_interrupted_leaves_nothing_and_is_made_by_the_next() {
    // Whoever is killed half-way has an open transaction, which ends with its connection.
    if !is_there() {
        return;
    }
    runtime::real(async {
        let ground = Ground::new().await;
        let half = ground.client().await;
        let text = format!(
            "BEGIN; CREATE SCHEMA {0}; CREATE TABLE {0}.tasks (place bigint)",
            ground.schema
        );
        half.batch_execute(&text).await.unwrap();
        let settings = ground.settings();
        let opening = tokio::spawn(PostgresTaskQueue::open(settings));
        tokio::time::sleep(Duration::from_millis(200)).await;
        drop(half);
        opening.await.unwrap().unwrap();
    });
}

#[test]
fn tables_of_a_newer_program_are_left_alone() {
    if !is_there() {
        return;
    }
    runtime::real(async {
        let ground = Ground::new().await;
        drop(ground.open().await);
        let text = format!("INSERT INTO {}.plba_schema (version) VALUES (7)", ground.schema);
        ground.client().await.batch_execute(&text).await.unwrap();
        let refused = PostgresTaskQueue::open(ground.settings())
            .await
            .err()
            .unwrap()
            .to_string();
        assert!(
            refused.contains("version 7") && refused.contains("run the newer program"),
            "{refused}"
        );
    });
}

#[test]
fn a_server_that_keeps_less_than_declared_is_refused() {
    // Q8.
    if !is_there() {
        return;
    }
    runtime::real(async {
        let ground = Ground::new().await;
        let settings = PostgresSettings {
            durability: Durability::OsCrash,
            ..ground.settings()
        };
        let refused = PostgresTaskQueue::open(settings).await.err().unwrap().to_string();
        assert!(
            refused.contains("fsync is off") && refused.contains("synchronous_commit is off"),
            "{refused}"
        );
    });
}

#[test]
fn failure_28_a_wrong_password_and_a_missing_database_are_told_from_a_server_that_is_away() {
    runtime::real(async {
        let Some(server) = require(PostgresServer::shared().await) else {
            return;
        };
        let (port, clock) = (
            server.port(),
            std::sync::Arc::new(plba_testkit::clock::ManualClock::new()),
        );
        for (location, says) in [
            (
                format!("postgres://plba:wrong@127.0.0.1:{port}/postgres"),
                "check user and password",
            ),
            (
                format!("postgres://plba:secret@127.0.0.1:{port}/nowhere"),
                "create the database first",
            ),
            (
                "postgres://plba:secret@127.0.0.1:1/postgres".to_owned(),
                "can't be reached",
            ),
        ] {
            let context = plba_tasks::backend::BackendContext {
                clock: clock.clone() as _,
                ledger: None,
                seed: None,
            };
            let refused = PostgresBackend
                .open(&Location::from(location.as_str()), context)
                .await
                .err()
                .unwrap();
            let text = plba_contracts::describe(refused.as_ref());
            assert!(text.contains(says), "{text}");
            assert!(!text.contains("secret"), "{text}");
        }
    });
}

#[test]
fn failure_10_what_cannot_be_decoded_is_a_dead_letter_with_its_raw_bytes() {
    if !is_there() {
        return;
    }
    runtime::real(async {
        let ground = Ground::new().await;
        let queue = ground.open().await;
        let (name, consumer) = (
            QueueName::from("orders"),
            ConsumerId::new(Incarnation::of_this_process(1), "w"),
        );
        let task = |id: &str| NewTask::new(&name, "test", "payload").with_id(id);
        queue
            .publish(vec![task("broken"), task("newer"), task("sound")])
            .await
            .unwrap();
        let client = ground.client().await;
        for (id, envelope) in [("broken", "{\"v\":1,"), ("newer", "{\"v\":2}")] {
            let text = format!("UPDATE {}.tasks SET envelope = $1 WHERE id = $2", ground.schema);
            client.execute(&text, &[&envelope, &id.as_bytes()]).await.unwrap();
        }
        let taken = queue.consume(&name, &consumer, 10).await.unwrap();
        assert_eq!(taken.len(), 1);
        assert_eq!(taken[0].task.id.as_str(), "sound");
        let dead = queue
            .dead_letters(&DeadFilter::default(), None, 10)
            .await
            .unwrap()
            .letters;
        assert_eq!(dead.len(), 2);
        assert!(dead.iter().all(|letter| letter.kind == UNDECODABLE), "{dead:?}");
        let id = TaskId::from("broken");
        let whole = queue.dead_task(&name, &id).await.unwrap().unwrap();
        assert_eq!((whole.decoded, &whole.payload[..]), (false, &b"{\"v\":1,payload"[..]));
        assert_eq!(queue.retry_dead(&name, std::slice::from_ref(&id)).await.unwrap(), 0);
        assert_eq!(queue.drop_dead(&name, &[id]).await.unwrap(), 1);
    });
}

#[test]
fn failure_34_without_listening_consumers_find_what_others_publish_by_looking() {
    // A pooler in transaction mode loses LISTEN.
    if !is_there() {
        return;
    }
    runtime::real(async {
        let ground = Ground::new().await;
        let settings = PostgresSettings {
            listen: false,
            ..ground.settings()
        };
        let (queue, other) = (PostgresTaskQueue::open(settings).await.unwrap(), ground.open().await);
        let (name, consumer) = (
            QueueName::from("orders"),
            ConsumerId::new(Incarnation::of_this_process(1), "w"),
        );
        let waiting = {
            let name = name.clone();
            tokio::spawn(async move { queue.consume(&name, &consumer, 1).await })
        };
        tokio::time::sleep(Duration::from_millis(300)).await;
        other.publish(vec![NewTask::new(&name, "test", "")]).await.unwrap();
        let taken = timeout(Duration::from_secs(5), waiting)
            .await
            .expect("it looks every second");
        assert_eq!(taken.unwrap().unwrap().len(), 1);
    });
}

#[test]
fn a_server_is_reached_by_tls_if_its_authority_is_trusted_and_not_otherwise() {
    runtime::real(async {
        let options = PostgresOptions {
            tls: true,
            ..PostgresOptions::default()
        };
        let Some(server) = require(PostgresServer::start_with(options).await) else {
            return;
        };
        let open = |query: String| {
            let location = Location::from(format!("{}?{query}", server.url()).as_str());
            async move { PostgresTaskQueue::open(PostgresSettings::from_location(&location).unwrap()).await }
        };
        let ca = server.ca_path().unwrap().display();
        let queue = open(format!("sslrootcert={ca}")).await.unwrap();
        queue.publish(vec![NewTask::new("orders", "test", "")]).await.unwrap();
        let client = queue.stats().await.unwrap();
        assert_eq!(client[0].ready, 1);
        let over_tls = server
            .query("SELECT count(*) > 0 FROM pg_stat_ssl WHERE ssl")
            .await
            .unwrap();
        assert_eq!(over_tls, "t");
        let refused = open("sslmode=verify-full".to_owned()).await.err().unwrap();
        let text = plba_contracts::describe(refused.as_ref());
        assert!(text.contains("certificate"), "{text}");
    });
}
