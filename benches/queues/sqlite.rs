//! SQLite, with the write-ahead log and synchronous FULL: beside raw transactions of equal batches on one connection, which is
//! all that SQLite has for writers, and beside apalis; and whether many tasks done before make it slower.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use plba_benches::pairs::median;
use plba_benches::report::{Figure, Goal, Good};
use plba_sql::sqlite::{SqliteSettings, SqliteTaskQueue};
use plba_tasks::queue::TaskQueue;
use rusqlite::Connection;
use tempfile::TempDir;

use crate::Result;
use crate::contest::{Contest, Contestant, Rival};
use crate::disk;
use crate::guest::{Guests, Place};
use crate::ours::{self, TAKE, traceparent};
use crate::seen::{Seen, per_second};

const TASKS: usize = 20_000;
/// apalis gets slower with each task that it has done.
const TASKS_OF_PEER: usize = 2_000;
const PUBLISH: usize = 128;
/// How many tasks lie behind the first of the two figures; ten times as many behind the second.
const HISTORY: usize = 5_000;
const HISTORIES: usize = 3;

pub(crate) async fn run(guests: &Guests) -> Result<()> {
    let contest = Contest {
        name: "sqlite, synchronous full".to_owned(),
        ours: Box::new(Ours),
        rivals: vec![
            Rival::control(Raw, 0.7, 0.7),
            disk::rival(env!("CARGO_TARGET_TMPDIR")),
            Rival::peer(guests.guest("apalis-sqlite", "1.0", TASKS_OF_PEER, File), 1.0),
        ],
    };
    contest.run().await?;
    history().await
}

/// On the disk, not in memory, as some systems have their temporary files.
fn directory() -> Result<TempDir> {
    Ok(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?)
}

struct File;

#[async_trait]
impl Place for File {
    async fn make(&self) -> Result<(String, Box<dyn Send>)> {
        let directory = directory()?;
        let url = format!("sqlite://{}", directory.path().join("tasks.db").display());
        Ok((url, Box::new(directory)))
    }
}

struct Ours;

async fn open(directory: &TempDir) -> Result<Arc<dyn TaskQueue>> {
    let settings = SqliteSettings::new(directory.path().join("queue.db"));
    Ok(Arc::new(SqliteTaskQueue::open(settings, ours::clock()).await?))
}

#[async_trait]
impl Contestant for Ours {
    fn name(&self) -> String {
        "plba".to_owned()
    }

    async fn pace(&self, workers: u32) -> Result<Seen> {
        let directory = directory()?;
        ours::pace(&open(&directory).await?, TASKS, PUBLISH, workers).await
    }

    async fn pickups(&self) -> Result<Seen> {
        let directory = directory()?;
        ours::pickups(&open(&directory).await?).await
    }
}

/// How fast the same number of tasks goes through after some, and after ten times as many.
async fn history() -> Result<()> {
    let (mut few, mut many) = (Vec::new(), Vec::new());
    for _ in 0..HISTORIES {
        let directory = directory()?;
        let queue = open(&directory).await?;
        for lap in 0..=10 {
            ours::publish(&queue, lap * HISTORY, HISTORY, PUBLISH).await?;
            let pace = ours::process(&queue, HISTORY, 1).await?;
            match lap {
                1 => few.push(pace),
                10 => many.push(pace),
                _ => {}
            }
        }
    }
    let quotients = many.iter().zip(&few).map(|(many, few)| many / few);
    let (Some(value), Some(peer_value), Some(ratio)) = (
        median(many.iter().copied()),
        median(few.iter().copied()),
        median(quotients),
    ) else {
        return Ok(());
    };
    let figure = Figure {
        name: &format!(
            "sqlite, synchronous full: process, 1 consumer, after {} tasks",
            10 * HISTORY
        ),
        value,
        unit: "tasks/s",
        good: Good::High,
        peer: &format!("plba after {HISTORY}"),
        peer_value,
        ratio,
        goal: Some(Goal::RatioAtLeast(0.85)),
    };
    Ok(figure.report()?)
}

/// The limit.
struct Raw;

#[async_trait]
impl Contestant for Raw {
    fn name(&self) -> String {
        "raw transactions".to_owned()
    }

    async fn pace(&self, _workers: u32) -> Result<Seen> {
        let directory = directory()?;
        let file = directory.path().join("raw.db");
        tokio::task::spawn_blocking(move || raw(&file)).await?
    }

    async fn pickups(&self) -> Result<Seen> {
        Ok(Seen::default())
    }
}

/// The fewest statements that do the same without attempts, retries, deduplication, lists and limits.
fn raw(file: &Path) -> Result<Seen> {
    let mut connection = Connection::open(file)?;
    connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    connection.execute_batch(
        "PRAGMA synchronous = FULL;
         CREATE TABLE tasks (id INTEGER PRIMARY KEY, state INTEGER NOT NULL, due INTEGER NOT NULL, token INTEGER,
             trace TEXT NOT NULL, payload BLOB NOT NULL) STRICT;
         CREATE INDEX tasks_state ON tasks (state, due)",
    )?;
    let payload = [7_u8; 256];
    let began = Instant::now();
    for first in (0..TASKS).step_by(PUBLISH) {
        let transaction = connection.transaction()?;
        let mut insert =
            transaction.prepare_cached("INSERT INTO tasks (state, due, trace, payload) VALUES (0, ?1, ?2, ?3)")?;
        for number in first..(first + PUBLISH).min(TASKS) {
            insert.execute((number as i64, traceparent(number), &payload))?;
        }
        drop(insert);
        transaction.commit()?;
    }
    let enqueue = per_second(TASKS, began);
    let began = Instant::now();
    while take_and_end(&mut connection)? > 0 {}
    Ok(Seen::pace(enqueue, per_second(TASKS, began)))
}

/// A lease and an ack, each a transaction; gives of how many.
fn take_and_end(connection: &mut Connection) -> Result<usize> {
    let transaction = connection.transaction()?;
    let mut find = transaction
        .prepare_cached("SELECT id, trace, payload FROM tasks WHERE state = 0 AND due <= ?1 ORDER BY due LIMIT ?2")?;
    let found: Vec<(i64, String, Vec<u8>)> = find
        .query_map((i64::MAX, TAKE as i64), |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })?
        .collect::<std::result::Result<_, _>>()?;
    drop(find);
    let mut lease = transaction.prepare_cached("UPDATE tasks SET state = 1, due = ?2, token = ?3 WHERE id = ?1")?;
    for (id, ..) in &found {
        lease.execute((id, i64::MAX, id))?;
    }
    drop(lease);
    transaction.commit()?;
    if found.is_empty() {
        return Ok(0);
    }
    let transaction = connection.transaction()?;
    let mut ack = transaction.prepare_cached("DELETE FROM tasks WHERE id = ?1 AND token = ?2")?;
    for (id, ..) in &found {
        ack.execute((id, id))?;
    }
    drop(ack);
    transaction.commit()?;
    Ok(found.len())
}
