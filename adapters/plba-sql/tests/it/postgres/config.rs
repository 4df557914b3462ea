//! Configuration in PostgreSQL: what is written with plain SQL is read and told of, within its limits and with a role that
//! may only read; and servers that are away, locked or emptied meanwhile are errors in time, and forgotten when they are back.

use std::sync::Arc;
use std::time::Duration;

use plba_contracts::config::ConfigProvider;
use plba_sql::postgres::PostgresConfigBackend;
use plba_testkit::complaints::Complaints;
use plba_testkit::runtime;
use plba_testservers::{PostgresDatabase, PostgresServer, require};
use tokio::time::sleep;
use tracing::Level;

use crate::configured::{provider, quiet, read, recovered, refused, told};

/// Longer than a notification takes, shorter than a look that nothing asked for.
const SOON: Duration = Duration::from_secs(5);

/// What is waited for a provider's error at most: the runtime gives up after 10 s.
const IN_TIME: Duration = Duration::from_secs(9);

fn at(location: &str) -> Arc<dyn ConfigProvider> {
    let sign = if location.contains('?') { '&' } else { '?' };
    provider(&PostgresConfigBackend, &format!("{location}{sign}create=on"))
}

/// The same without the leave to make a table.
fn only(location: &str) -> Arc<dyn ConfigProvider> {
    provider(&PostgresConfigBackend, location)
}

async fn database() -> Option<PostgresDatabase> {
    let server = require(PostgresServer::shared().await)?;
    Some(server.fresh_database().await.unwrap())
}

async fn set(database: &PostgresDatabase, key: &str, value: &str) {
    let text = format!(
        "INSERT INTO plba.config (key, value) VALUES ('{key}', '{value}') ON CONFLICT (key) DO UPDATE SET value = \
         excluded.value"
    );
    database.query(&text).await.unwrap();
}

#[test]
fn what_is_written_with_plain_sql_is_read_with_who_wrote_it_when_and_what_for() {
    runtime::real(async {
        let Some(database) = database().await else { return };
        let config = at(&database.url());
        assert!(config.name().starts_with("PostgreSQL 127.0.0.1:"), "{}", config.name());
        assert_eq!(read(&config).await, "", "the table is made, empty");
        for text in [
            "INSERT INTO plba.config (key, value, note) VALUES ('bot.workers', '8', 'the sale')",
            "INSERT INTO plba.config (key, value) VALUES ('bot', '{\"workers\": 2, \"name\": \"x\"}')",
            "INSERT INTO plba.config (key, value, changed_by) VALUES ('prices.\"blue hats\"', '1.50', 'alice')",
        ] {
            database.query(text).await.unwrap();
        }
        let values = config.load().await.unwrap();
        let paths: Vec<_> = values.iter().map(|value| value.path.join("/")).collect();
        assert_eq!(paths, ["bot", "bot/workers", "prices/blue hats"]);
        assert_eq!(values[1].value, 8);
        assert!(
            values[1].place.starts_with("row \"bot.workers\" by plba at 20"),
            "{}",
            values[1].place
        );
        assert!(values[1].place.ends_with("Z: the sale"), "{}", values[1].place);
        assert!(values[2].place.contains("by alice at"), "{}", values[2].place);
        // Who comes after alice is not alice.
        database
            .query("UPDATE plba.config SET value = '2' WHERE changed_by = 'alice'")
            .await
            .unwrap();
        let who = database
            .query("SELECT changed_by FROM plba.config WHERE value = '2'")
            .await
            .unwrap();
        assert_eq!(who, "plba");
    });
}

#[test]
fn a_commit_is_told_at_once_and_what_is_not_committed_is_not() {
    runtime::real(async {
        let Some(database) = database().await else { return };
        let config = at(&database.url());
        read(&config).await;
        quiet(&config).await;
        for (text, expected) in [
            (
                "INSERT INTO plba.config (key, value) VALUES ('a', '1'), ('b', '2')",
                "a = 1\nb = 2",
            ),
            ("UPDATE plba.config SET value = '3' WHERE key = 'b'", "a = 1\nb = 3"),
            ("DELETE FROM plba.config WHERE key = 'a'", "b = 3"),
            (
                "BEGIN; DELETE FROM plba.config; INSERT INTO plba.config (key, value) VALUES ('c', '4'); COMMIT",
                "c = 4",
            ),
            ("TRUNCATE plba.config", ""),
        ] {
            let (waiting, writing) = (told(&config, SOON), async {
                sleep(Duration::from_millis(50)).await;
                database.query(text).await.unwrap();
            });
            tokio::join!(waiting, writing);
            assert_eq!(read(&config).await, expected, "{text}");
        }
        database
            .query("BEGIN; INSERT INTO plba.config (key, value) VALUES ('d', '5'); ROLLBACK")
            .await
            .unwrap();
        quiet(&config).await;
    });
}

#[test]
fn a_call_that_is_dropped_loses_no_change() {
    runtime::real(async {
        let Some(database) = database().await else { return };
        let config = at(&database.url());
        read(&config).await;
        quiet(&config).await;
        // Nobody waits, and then somebody does for a moment.
        set(&database, "a", "1").await;
        for _ in 0..3 {
            let _dropped = tokio::time::timeout(Duration::from_micros(10), config.changed()).await;
        }
        told(&config, SOON).await;
        assert_eq!(read(&config).await, "a = 1");
        quiet(&config).await;
    });
}

#[test]
fn failure_34_where_the_server_cannot_tell_it_is_looked() {
    runtime::real(async {
        let Some(database) = database().await else { return };
        let config = at(&format!("{}?listen=off&poll=100", database.url()));
        read(&config).await;
        quiet(&config).await;
        set(&database, "a", "1").await;
        told(&config, SOON).await;
        assert_eq!(read(&config).await, "a = 1");
        let listening =
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()";
        assert_eq!(database.query(listening).await.unwrap(), "0");
    });
}

#[test]
fn failure_57_after_a_thousand_commits_the_last_one_is_read() {
    runtime::real(async {
        let Some(database) = database().await else { return };
        let config = at(&database.url());
        read(&config).await;
        set(&database, "n", "0").await;
        let writing = async {
            let text = "DO $$ BEGIN FOR n IN 1..1000 LOOP UPDATE plba.config SET value = to_jsonb(n); COMMIT; \
                        PERFORM pg_sleep(0.001); END LOOP; END $$";
            database.query(text).await.unwrap();
        };
        let watching = async {
            let mut told = 0;
            while read(&config).await != "n = 1000" {
                config.changed().await;
                told += 1;
            }
            told
        };
        let ((), told) = tokio::join!(writing, watching);
        assert!((1..=1_002).contains(&told), "{told}");
        quiet(&config).await;
    });
}

#[test]
fn failure_58_a_server_that_is_killed_or_restarted_is_an_error_at_once_and_then_forgotten() {
    runtime::real(async {
        let Some(server) = require(PostgresServer::start().await) else {
            return;
        };
        let heard = Complaints::up_to(Level::INFO);
        let config = at(&server.url());
        read(&config).await;
        server
            .query("INSERT INTO plba.config (key, value) VALUES ('a', '1')")
            .await
            .unwrap();
        told(&config, SOON).await;
        assert_eq!(read(&config).await, "a = 1");
        for round in 2..4 {
            // Somebody waits all the while.
            let waiting = {
                let config = Arc::clone(&config);
                tokio::spawn(async move { config.changed().await })
            };
            sleep(Duration::from_millis(100)).await;
            if round == 2 {
                server.kill().await;
            } else {
                server.stop().await.unwrap();
            }
            let (said, took) = refused(&config).await;
            assert!(
                said.contains("can't be reached") && took < Duration::from_secs(2),
                "{said} after {took:?}"
            );
            assert!(!said.contains(server.password()), "{said}");
            // Who watches looks at a pace of its own: the server stays away until it has.
            let noticed = async {
                while heard.said(Level::WARN, "can't be read now") < round - 1 {
                    sleep(Duration::from_millis(10)).await;
                }
            };
            tokio::time::timeout(SOON, noticed)
                .await
                .expect("the outage is told of");
            server.start_again().await.unwrap();
            // A load has failed: that it would work now is told, although nothing has changed.
            tokio::time::timeout(SOON, waiting)
                .await
                .expect("it comes back by itself")
                .unwrap();
            assert_eq!(recovered(&config).await, format!("a = {}", round - 1));
            server
                .query(&format!("UPDATE plba.config SET value = '{round}'"))
                .await
                .unwrap();
            told(&config, SOON).await;
            assert_eq!(read(&config).await, format!("a = {round}"));
        }
        // Who waited was told of each outage once, however often it was tried.
        assert_eq!(heard.said(Level::WARN, "can't be read now"), 2);
        assert_eq!(heard.said(Level::INFO, "can be read again"), 2);
    });
}

#[test]
fn failure_58_nobody_is_told_of_an_outage_that_changed_nothing() {
    runtime::real(async {
        let Some(server) = require(PostgresServer::start().await) else {
            return;
        };
        let config = at(&server.url());
        read(&config).await;
        for _ in 0..3 {
            server.terminate_backends().await.unwrap();
            quiet(&config).await;
        }
        server.restart().await.unwrap();
        quiet(&config).await;
        // What was written while nobody listened is found all the same.
        server.terminate_backends().await.unwrap();
        server
            .query("INSERT INTO plba.config (key, value) VALUES ('a', '1')")
            .await
            .unwrap();
        told(&config, SOON).await;
    });
}

#[test]
fn failure_58_a_server_that_hangs_is_an_error_in_time() {
    runtime::real(async {
        let Some(server) = require(PostgresServer::start().await) else {
            return;
        };
        let config = at(&server.url());
        read(&config).await;
        server
            .query("INSERT INTO plba.config (key, value) VALUES ('a', '1')")
            .await
            .unwrap();
        let waiting = {
            let config = Arc::clone(&config);
            tokio::spawn(async move { config.changed().await })
        };
        server.pause();
        let (said, took) = refused(&config).await;
        server.resume();
        assert!(
            said.contains("did not let us in within 5 s") && took < IN_TIME,
            "{said} after {took:?}"
        );
        tokio::time::timeout(SOON, waiting).await.expect("it goes on").unwrap();
        assert_eq!(recovered(&config).await, "a = 1");
    });
}

#[test]
fn failure_58_a_table_that_is_locked_is_an_error_in_time() {
    runtime::real(async {
        let Some(database) = database().await else { return };
        let config = at(&database.url());
        read(&config).await;
        set(&database, "a", "1").await;
        let (locking, reading) = (
            database.query("BEGIN; LOCK TABLE plba.config; SELECT pg_sleep(5); COMMIT"),
            async {
                sleep(Duration::from_millis(300)).await;
                refused(&config).await
            },
        );
        let (locked, (said, took)) = tokio::join!(locking, reading);
        locked.unwrap();
        assert!(
            said.contains("somebody holds a lock") && took < IN_TIME,
            "{said} after {took:?}"
        );
        told(&config, Duration::from_secs(10)).await;
        assert_eq!(read(&config).await, "a = 1");
    });
}

#[test]
fn failure_56_a_table_that_was_there_and_is_gone_is_an_error_and_not_an_empty_one() {
    runtime::real(async {
        let Some(database) = database().await else { return };
        let config = at(&database.url());
        read(&config).await;
        set(&database, "a", "1").await;
        assert_eq!(read(&config).await, "a = 1");
        database
            .query("CREATE TABLE public.saved AS TABLE plba.config")
            .await
            .unwrap();

        database.query("DROP TABLE plba.config").await.unwrap();
        let (said, _) = refused(&config).await;
        assert!(said.contains("plba.config is gone; restore it from a backup"), "{said}");
        // A program that starts now is told as well: that there once was a table is known.
        let (said, _) = refused(&at(&database.url())).await;
        assert!(said.contains("DROP TABLE plba.config_schema"), "{said}");
        // What the message advises works.
        database.query("DROP TABLE plba.config_schema").await.unwrap();
        let (said, _) = refused(&config).await;
        assert!(said.contains("there is no table plba.config; restore it"), "{said}");
        assert_eq!(read(&at(&database.url())).await, "");

        database
            .query("INSERT INTO plba.config TABLE public.saved")
            .await
            .unwrap();
        told(&config, Duration::from_secs(10)).await;
        assert_eq!(read(&config).await, "a = 1");
        database.query("DROP SCHEMA plba CASCADE").await.unwrap();
        for config in [&config, &only(&database.url())] {
            let (said, _) = refused(config).await;
            assert!(said.contains("start once with create=on in the location"), "{said}");
        }
        assert_eq!(read(&at(&database.url())).await, "");
        database
            .query("ALTER TABLE plba.config DROP COLUMN note")
            .await
            .unwrap();
        let (said, _) = refused(&config).await;
        assert!(said.contains("a column of plba.config is gone; add it again"), "{said}");
    });
}

#[test]
fn rows_that_will_not_do_are_named_and_told_of_when_they_are_mended() {
    runtime::real(async {
        let Some(database) = database().await else { return };
        let config = at(&database.url());
        read(&config).await;
        for (wrong, says, mend) in [
            (
                "INSERT INTO plba.config (key, value) VALUES ('a..b', '1')",
                "row \"a..b\": its key has an empty part",
                "TRUNCATE plba.config",
            ),
            (
                "INSERT INTO plba.config (key, value) VALUES ('big', to_jsonb(repeat('x', 2000000)))",
                "row \"big\": its value takes 2000002 bytes, and 1 MiB are allowed",
                "UPDATE plba.config SET value = '1'",
            ),
            (
                "INSERT INTO plba.config (key, value) SELECT 'k' || n, to_jsonb(repeat('x', 1000000)) FROM generate_series(1, 9) n",
                "take more than 4 MiB together",
                "TRUNCATE plba.config",
            ),
            (
                "INSERT INTO plba.config (key, value) SELECT 'k' || n, '1' FROM generate_series(1, 10001) n",
                "more than 10000 rows",
                "DELETE FROM plba.config WHERE key <> 'k1'",
            ),
        ] {
            database.query(wrong).await.unwrap();
            told(&config, SOON).await;
            let (said, _) = refused(&config).await;
            assert!(said.contains(says), "{said}");
            // Nothing changes by trying again, so nobody is asked to.
            quiet(&config).await;
            database.query(mend).await.unwrap();
            told(&config, SOON).await;
            read(&config).await;
        }
        let empty = database
            .query("INSERT INTO plba.config (key, value) VALUES ('', '1')")
            .await;
        assert!(empty.is_err(), "the table itself refuses it");
        let many = "TRUNCATE plba.config; INSERT INTO plba.config (key, value) SELECT 'k' || n, '1' FROM generate_series(1, 10000) n";
        database.query(many).await.unwrap();
        assert_eq!(config.load().await.unwrap().len(), 10_000);
    });
}

#[test]
fn who_may_only_read_reads_and_is_told_of_changes() {
    runtime::real(async {
        let Some(database) = database().await else { return };
        let reader = format!("reader_{}", database.name());
        database
            .query(&format!("CREATE ROLE {reader} LOGIN PASSWORD 'hush'"))
            .await
            .unwrap();
        let url = database.url();
        let (_, place) = url.split_once('@').unwrap();
        let config = at(&format!("postgres://{reader}:hush@{place}"));
        // It can't make the table.
        let (said, _) = refused(&config).await;
        assert!(
            said.contains("who makes it CREATE on the database") && !said.contains("hush"),
            "{said}"
        );
        assert_eq!(read(&at(&database.url())).await, "", "the owner makes it");
        let (said, _) = refused(&config).await;
        assert!(
            said.contains("who reads it needs USAGE on the schema plba and SELECT on plba.config"),
            "{said}"
        );
        for text in [
            format!("GRANT USAGE ON SCHEMA plba TO {reader}"),
            format!("GRANT SELECT ON plba.config_schema TO {reader}"),
        ] {
            database.query(&text).await.unwrap();
        }
        let (said, _) = refused(&config).await;
        assert!(
            said.contains("grant the user USAGE on the schema plba and SELECT on plba.config"),
            "{said}"
        );
        database
            .query(&format!("GRANT SELECT ON plba.config TO {reader}"))
            .await
            .unwrap();
        assert_eq!(read(&config).await, "");
        quiet(&config).await;
        set(&database, "a", "1").await;
        told(&config, SOON).await;
        assert_eq!(read(&config).await, "a = 1");
        let write = format!("SET ROLE {reader}; INSERT INTO plba.config (key, value) VALUES ('b', '1')");
        let refusal = database.query(&write).await.unwrap_err().to_string();
        assert!(refusal.contains("permission denied"), "{refusal}");
        drop(config);
        let end = format!("DROP OWNED BY {reader}; DROP ROLE {reader}");
        database.query(&end).await.unwrap();
    });
}

#[test]
fn a_server_that_takes_no_writes_will_do_to_read_from() {
    runtime::real(async {
        let Some(database) = database().await else { return };
        read(&at(&database.url())).await;
        set(&database, "a", "1").await;
        let config = at(&format!(
            "{}?options=-c%20default_transaction_read_only%3Don&poll=100",
            database.url()
        ));
        assert_eq!(read(&config).await, "a = 1");
        set(&database, "a", "2").await;
        told(&config, SOON).await;
        assert_eq!(read(&config).await, "a = 2");
    });
}

#[test]
fn failure_36_many_that_start_at_once_make_the_table_once_and_a_newer_one_is_left_alone() {
    runtime::real(async {
        let Some(database) = database().await else { return };
        let reading: Vec<_> = (0..6)
            .map(|_| at(&database.url()))
            .map(|config| tokio::spawn(async move { read(&config).await }))
            .collect();
        for read in reading {
            assert_eq!(read.await.unwrap(), "");
        }
        assert_eq!(
            database.query("SELECT count(*) FROM plba.config_schema").await.unwrap(),
            "1"
        );
        database
            .query("INSERT INTO plba.config_schema (version) VALUES (7)")
            .await
            .unwrap();
        let (said, _) = refused(&at(&database.url())).await;
        assert!(
            said.contains("version 7") && said.contains("run the newer program"),
            "{said}"
        );
    });
}

#[test]
fn failure_28_what_is_wrong_with_the_way_there_is_told_without_the_password() {
    runtime::real(async {
        let Some(server) = require(PostgresServer::shared().await) else {
            return;
        };
        let port = server.port();
        for (location, says) in [
            (
                format!("postgres://plba:hush@127.0.0.1:{port}/postgres"),
                "check user and password",
            ),
            (
                format!("postgres://plba:{}@127.0.0.1:{port}/nowhere", server.password()),
                "create the database first",
            ),
            (
                "postgres://plba:hush@127.0.0.1:1/postgres".to_owned(),
                "127.0.0.1:1 can't be reached",
            ),
            (
                "postgres://plba:hush@127.0.0.1/postgres?sslrootcert=/nowhere".to_owned(),
                "/nowhere",
            ),
        ] {
            let config = at(&location);
            let (said, _) = refused(&config).await;
            assert!(said.contains(says), "{said}");
            for secret in ["hush", server.password()] {
                assert!(!said.contains(secret) && !config.name().contains(secret), "{said}");
            }
        }
    });
}
