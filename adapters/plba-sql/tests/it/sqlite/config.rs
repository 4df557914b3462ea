//! Configuration in an SQLite file: what is written with plain SQL is read and told of, within its limits; and files that are
//! locked, replaced, removed, damaged or left by somebody who was killed are errors in time, and forgotten when they are well.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use plba_contracts::config::ConfigProvider;
use plba_sql::rusqlite::Connection;
use plba_sql::sqlite::{SqliteConfigBackend, SqliteSettings, SqliteTaskQueue};
use plba_testkit::directory::Directory;
use plba_testkit::runtime;

use super::ground::MovableClock;
use crate::configured::{provider, quiet, read, recovered, refused, told};
use crate::mounted::Mounted;

const SOON: Duration = Duration::from_secs(10);

fn at(path: &Path) -> Arc<dyn ConfigProvider> {
    provider(
        &SqliteConfigBackend,
        &format!("sqlite:{}?poll=20&create=on", path.display()),
    )
}

/// The same without the leave to make anything.
fn only(path: &Path) -> Arc<dyn ConfigProvider> {
    provider(&SqliteConfigBackend, &format!("sqlite:{}?poll=20", path.display()))
}

/// A place for a file, in a directory of its own.
fn place() -> (Directory, PathBuf) {
    let directory = Directory::new();
    let path = directory.path().join("config.db");
    (directory, path)
}

/// Carries out statements in a connection of their own.
fn run(path: &Path, text: &str) {
    let connection = Connection::open(path).unwrap();
    connection.busy_timeout(Duration::from_secs(5)).unwrap();
    connection.execute_batch(text).unwrap();
}

fn set(path: &Path, key: &str, value: &str) {
    let text = format!(
        "INSERT INTO plba_config (key, value) VALUES ('{key}', '{value}') ON CONFLICT (key) DO UPDATE SET value = \
         excluded.value"
    );
    run(path, &text);
}

#[test]
fn what_is_written_with_plain_sql_is_read_with_who_wrote_it_when_and_what_for() {
    let (_directory, path) = place();
    runtime::real(async {
        let config = at(&path);
        assert_eq!(config.name(), format!("SQLite {}", path.display()));
        assert_eq!(read(&config).await, "", "the file and its table are made");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        run(
            &path,
            "INSERT INTO plba_config (key, value, changed_by, note) VALUES ('bot.workers', 8, 'alice', 'the sale');
             INSERT INTO plba_config (key, value) VALUES ('bot', '{\"workers\": 2}');
             INSERT INTO plba_config (key, value) VALUES ('bot.name', '\"x\"')",
        );
        let values = config.load().await.unwrap();
        let paths: Vec<_> = values.iter().map(|value| value.path.join("/")).collect();
        assert_eq!(paths, ["bot", "bot/name", "bot/workers"]);
        assert_eq!((&values[1].value, &values[2].value), (&"x".into(), &8.into()));
        assert!(
            values[2].place.starts_with("row \"bot.workers\" by alice at 20"),
            "{}",
            values[2].place
        );
        assert!(values[2].place.ends_with("Z: the sale"), "{}", values[2].place);
        run(&path, "UPDATE plba_config SET changed_at = '2001-01-01T00:00:00Z'");
        run(&path, "UPDATE plba_config SET value = 9 WHERE key = 'bot.workers'");
        let values = config.load().await.unwrap();
        assert!(
            !values[2].place.contains("2001") && values[1].place.contains("2001"),
            "{values:?}"
        );
        let connection = Connection::open(&path).unwrap();
        let refused = connection.execute("INSERT INTO plba_config (key, value) VALUES ('a', 'no JSON')", []);
        assert!(refused.is_err(), "the table itself refuses it");
    });
}

#[test]
fn a_commit_is_told_and_what_is_not_committed_is_not() {
    for mode in ["DELETE", "WAL"] {
        let (_directory, path) = place();
        runtime::real(async {
            let config = at(&path);
            read(&config).await;
            run(&path, &format!("PRAGMA journal_mode = {mode}"));
            quiet(&config).await;
            for (text, expected) in [
                (
                    "INSERT INTO plba_config (key, value) VALUES ('a', 1), ('b', 2)",
                    "a = 1\nb = 2",
                ),
                ("UPDATE plba_config SET value = 3 WHERE key = 'b'", "a = 1\nb = 3"),
                ("DELETE FROM plba_config WHERE key = 'a'", "b = 3"),
            ] {
                run(&path, text);
                told(&config, SOON).await;
                assert_eq!(read(&config).await, expected, "{text}");
            }
            // A write elsewhere in the file is none to the configuration.
            run(&path, "CREATE TABLE orders (n INTEGER); INSERT INTO orders VALUES (1)");
            quiet(&config).await;
            if mode == "WAL" {
                let writer = Connection::open(&path).unwrap();
                writer.execute_batch("BEGIN; DELETE FROM plba_config").unwrap();
                quiet(&config).await;
                assert_eq!(read(&config).await, "b = 3");
            }
        });
    }
}

#[test]
fn a_call_that_is_dropped_loses_no_change() {
    let (_directory, path) = place();
    runtime::real(async {
        let config = at(&path);
        read(&config).await;
        set(&path, "a", "1");
        for _ in 0..3 {
            let _dropped = tokio::time::timeout(Duration::from_micros(10), config.changed()).await;
        }
        told(&config, SOON).await;
        assert_eq!(read(&config).await, "a = 1");
        quiet(&config).await;
    });
}

#[test]
fn failure_58_a_file_that_is_locked_is_an_error_in_time() {
    let (_directory, path) = place();
    runtime::real(async {
        let config = at(&path);
        read(&config).await;
        set(&path, "a", "1");
        let holder = Connection::open(&path).unwrap();
        holder
            .execute_batch("BEGIN EXCLUSIVE; UPDATE plba_config SET value = 2")
            .unwrap();
        let (said, took) = refused(&config).await;
        assert!(
            said.contains("look for one that is stopped") && took < SOON,
            "{said} after {took:?}"
        );
        holder.execute_batch("COMMIT").unwrap();
        told(&config, SOON).await;
        assert_eq!(read(&config).await, "a = 2");
    });
}

#[test]
fn failure_58_a_file_that_is_replaced_or_put_back_is_read_again() {
    let (directory, path) = place();
    runtime::real(async {
        let config = at(&path);
        read(&config).await;
        set(&path, "a", "1");
        told(&config, SOON).await;
        assert_eq!(read(&config).await, "a = 1");

        let other = directory.path().join("other.db");
        fs::copy(&path, &other).unwrap();
        set(&other, "a", "2");
        fs::rename(&other, &path).unwrap();
        told(&config, SOON).await;
        assert_eq!(read(&config).await, "a = 2");

        let saved = directory.path().join("saved.db");
        fs::rename(&path, &saved).unwrap();
        for config in [&config, &only(&path)] {
            let (said, _) = refused(config).await;
            assert!(said.contains("there is no such file; put it back"), "{said}");
        }
        assert!(!path.exists(), "an empty one would say nothing, without a word");
        fs::rename(&saved, &path).unwrap();
        told(&config, SOON).await;
        assert_eq!(read(&config).await, "a = 2");
        set(&path, "a", "3");
        told(&config, SOON).await;
        assert_eq!(read(&config).await, "a = 3");
    });
}

#[test]
fn failure_56_a_table_that_was_there_and_is_gone_is_an_error_and_not_an_empty_one() {
    let (_directory, path) = place();
    runtime::real(async {
        let config = at(&path);
        read(&config).await;
        run(
            &path,
            "CREATE TABLE saved (key, value); INSERT INTO saved VALUES ('a', '1'); DROP TABLE plba_config",
        );
        let (said, _) = refused(&config).await;
        assert!(
            said.contains("no such table: plba_config; restore it from a backup"),
            "{said}"
        );
        // A program that starts now is told as well: that there once was a table is known.
        let (said, _) = refused(&at(&path)).await;
        assert!(said.contains("DELETE FROM plba_schema WHERE part = 'config'"), "{said}");
        // What the message advises works.
        run(&path, "DELETE FROM plba_schema WHERE part = 'config'");
        for config in [&config, &only(&path)] {
            let (said, _) = refused(config).await;
            assert!(
                said.contains("there is no table plba_config in it; put it back"),
                "{said}"
            );
        }
        assert_eq!(read(&at(&path)).await, "");
        run(
            &path,
            "INSERT INTO plba_config (key, value) SELECT key, value FROM saved",
        );
        told(&config, SOON).await;
        assert_eq!(read(&config).await, "a = 1");
        run(&path, "ALTER TABLE plba_config DROP COLUMN note");
        let (said, _) = refused(&config).await;
        assert!(said.contains("add it again: plba_config has key"), "{said}");
    });
}

#[test]
fn failure_41_a_damaged_file_is_an_error_until_a_sound_one_is_there() {
    let (directory, path) = place();
    runtime::real(async {
        let config = at(&path);
        read(&config).await;
        set(&path, "a", "1");
        assert_eq!(read(&config).await, "a = 1");
        let sound = directory.path().join("sound.db");
        fs::copy(&path, &sound).unwrap();
        fs::write(&path, "this is no database, and was never one: ".repeat(200)).unwrap();
        let (said, _) = refused(&config).await;
        assert!(said.contains("restore a backup"), "{said}");
        fs::copy(&sound, &path).unwrap();
        told(&config, SOON).await;
        assert_eq!(recovered(&config).await, "a = 1");
    });
}

#[test]
fn failure_38_what_a_writer_that_was_killed_left_half_done_is_undone() {
    let (directory, path) = place();
    runtime::real(async {
        read(&at(&path)).await;
        let pages = "INSERT INTO plba_config (key, value) SELECT 'k' || value, json_quote(hex(zeroblob(1000)))
                     FROM generate_series(1, 200)";
        let pages = pages.replace(
            "FROM generate_series(1, 200)",
            "FROM (WITH RECURSIVE n (value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < 200) SELECT value FROM n)",
        );
        run(&path, &pages);
        // With next to no memory it writes to the file before its commit.
        let writer = Connection::open(&path).unwrap();
        writer
            .execute_batch("PRAGMA cache_size = 1; PRAGMA cache_spill = 1; BEGIN; UPDATE plba_config SET value = '1'")
            .unwrap();
        let left = directory.path().join("left.db");
        fs::copy(&path, &left).unwrap();
        fs::copy(
            directory.path().join("config.db-journal"),
            directory.path().join("left.db-journal"),
        )
        .unwrap();
        assert_ne!(fs::read(&left).unwrap().len(), 0);
        let values = at(&left).load().await.unwrap();
        assert_eq!(values.len(), 200);
        assert!(
            values.iter().all(|value| value.value.is_string()),
            "half of a transaction was read"
        );
    });
}

#[test]
fn rows_that_will_not_do_are_named_and_told_of_when_they_are_mended() {
    let (_directory, path) = place();
    let series = |count: u32| {
        format!("(WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {count}) SELECT n FROM n)")
    };
    runtime::real(async {
        let config = at(&path);
        read(&config).await;
        let large = "json_quote(printf('%.*c', 1000000, 'x'))";
        for (wrong, says) in [
            (
                "INSERT INTO plba_config (key, value) VALUES ('a..b', '1')".to_owned(),
                "row \"a..b\": its key has an empty part",
            ),
            (
                "INSERT INTO plba_config (key, value) VALUES ('big', json_quote(printf('%.*c', 2000000, 'x')))"
                    .to_owned(),
                "row \"big\": its value takes 2000002 bytes, and 1 MiB are allowed",
            ),
            (
                format!(
                    "INSERT INTO plba_config (key, value) SELECT 'k' || n, {large} FROM {}",
                    series(9)
                ),
                "take more than 4 MiB together",
            ),
            (
                format!(
                    "INSERT INTO plba_config (key, value) SELECT 'k' || n, 1 FROM {}",
                    series(10_001)
                ),
                "more than 10000 rows",
            ),
        ] {
            run(&path, &wrong);
            told(&config, SOON).await;
            let (said, _) = refused(&config).await;
            assert!(said.contains(says), "{said}");
            // Nothing changes by trying again, so nobody is asked to.
            quiet(&config).await;
            run(&path, "DELETE FROM plba_config");
            told(&config, SOON).await;
            assert_eq!(read(&config).await, "");
        }
    });
}

#[test]
fn who_may_only_read_reads_and_is_told_what_to_do_where_that_does_not_do() {
    let Some(mounted) = Mounted::new(16) else { return };
    let path = mounted.path().join("config.db");
    let remount = |how: &str| {
        let done = Command::new("mount")
            .args(["-o", &format!("remount,{how}")])
            .arg(mounted.path())
            .status();
        assert!(done.unwrap().success());
    };
    runtime::real(async {
        remount("ro");
        let (said, _) = refused(&at(&path)).await;
        assert!(said.contains("can't be made") && said.contains("writable"), "{said}");
        remount("rw");
        read(&at(&path)).await;
        set(&path, "a", "1");
        remount("ro");
        let config = at(&path);
        assert_eq!(read(&config).await, "a = 1");
        quiet(&config).await;
        remount("rw");
        set(&path, "a", "2");
        run(&path, "PRAGMA journal_mode = WAL");
        remount("ro");
        let (said, _) = refused(&config).await;
        assert!(said.contains("whose journal_mode is not WAL"), "{said}");
    });
}

#[test]
fn a_file_may_have_tasks_and_configuration_and_a_newer_one_is_left_alone() {
    let (_directory, path) = place();
    runtime::real(async {
        let queue = SqliteTaskQueue::open(SqliteSettings::new(&path), MovableClock::new())
            .await
            .unwrap();
        let config = at(&path);
        assert_eq!(read(&config).await, "");
        set(&path, "a", "1");
        told(&config, SOON).await;
        assert_eq!(read(&config).await, "a = 1");
        drop(queue);
        run(&path, "UPDATE plba_schema SET version = 7 WHERE part = 'config'");
        let (said, _) = refused(&config).await;
        assert!(
            said.contains("version 7") && said.contains("run the newer program"),
            "{said}"
        );
    });
}
