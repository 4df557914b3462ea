//! How fast the queue in SQLite is on this disk, beside raw statements in equal batches: publish, and lease then ack.
//!
//! `cargo run --release -p plba-sql --example sqlite_pace -- [TASKS] [BATCH] [normal]`
#![expect(clippy::print_stdout, reason = "its output is what it is for")]

mod beside;

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use plba_contracts::clock::Clock;
use plba_sql::rusqlite::Connection;
use plba_sql::sqlite::{SqliteSettings, SqliteTaskQueue, Synchronous};
use plba_tasks::queue::{ConsumerId, Ending, How, Incarnation, TaskQueue};
use plba_tasks::task::{NewTask, QueueName};

use crate::beside::Disk;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Time from when it was made.
struct Ticking(Instant);

impl Clock for Ticking {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH + self.monotonic()
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |place: usize, default: usize| arguments.get(place).map_or(Ok(default), |text| text.parse());
    let (tasks, batch) = (number(0, 50_000)?, number(1, 128)?);
    let normal = arguments.iter().any(|argument| argument == "normal");
    let directory = std::env::temp_dir().join(format!("plba-pace-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    let mut disk = Disk::new(&directory)?;
    disk.measure()?;
    let raw = raw(&directory.join("raw.db"), tasks, batch, normal)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()?;
    let file = directory.join("queue.db");
    // On the executor's own threads: the thread that waits here is none of them.
    let ours =
        runtime.block_on(async { tokio::spawn(async move { ours(&file, tasks, batch, normal).await }).await })??;
    drop(runtime);
    disk.measure()?;
    let synced = disk.figures();
    drop(disk);
    std::fs::remove_dir_all(&directory)?;
    println!(
        "{tasks} tasks, batch {batch}, synchronous {}",
        if normal { "normal" } else { "full" }
    );
    for (what, raw, ours) in [
        ("publish", raw.0, ours.0),
        ("lease then ack, two calls", raw.1, ours.1),
        ("lease and ack in one exchange", raw.1, ours.2),
    ] {
        println!("{what:30} raw {raw:9.0}/s   queue {ours:9.0}/s   {:.2}", ours / raw);
    }
    for (what, figure) in ours.3 {
        println!("{what:30} {figure}");
    }
    println!("{:30} {synced}", "a synchronised write of this disk");
    Ok(())
}

fn pace(tasks: usize, began: Instant) -> f64 {
    tasks as f64 / began.elapsed().as_secs_f64()
}

/// The fewest statements that do the same without attempts, retries, deduplication, lists and limits.
fn raw(path: &Path, tasks: usize, batch: usize, normal: bool) -> Result<(f64, f64)> {
    let mut connection = Connection::open(path)?;
    connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    connection.execute_batch(if normal {
        "PRAGMA synchronous = NORMAL"
    } else {
        "PRAGMA synchronous = FULL"
    })?;
    connection.execute_batch(
        "CREATE TABLE tasks (id INTEGER PRIMARY KEY, state INTEGER NOT NULL, due INTEGER NOT NULL, token INTEGER,
             payload BLOB NOT NULL) STRICT;
         CREATE INDEX tasks_state ON tasks (state, due)",
    )?;
    let payload = [7_u8; 100];
    let began = Instant::now();
    for first in (0..tasks).step_by(batch) {
        let transaction = connection.transaction()?;
        let mut insert = transaction.prepare_cached("INSERT INTO tasks (state, due, payload) VALUES (0, ?1, ?2)")?;
        for number in first..(first + batch).min(tasks) {
            insert.execute((number as i64, &payload))?;
        }
        drop(insert);
        transaction.commit()?;
    }
    let published = pace(tasks, began);
    let began = Instant::now();
    loop {
        let transaction = connection.transaction()?;
        let mut find = transaction
            .prepare_cached("SELECT id, payload FROM tasks WHERE state = 0 AND due <= ?1 ORDER BY due LIMIT ?2")?;
        let found: Vec<(i64, Vec<u8>)> = find
            .query_map((i64::MAX, batch as i64), |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<std::result::Result<_, _>>()?;
        drop(find);
        let mut lease = transaction.prepare_cached("UPDATE tasks SET state = 1, due = ?2, token = ?3 WHERE id = ?1")?;
        for (id, _) in &found {
            lease.execute((id, i64::MAX, id))?;
        }
        drop(lease);
        transaction.commit()?;
        if found.is_empty() {
            break;
        }
        let transaction = connection.transaction()?;
        let mut ack = transaction.prepare_cached("DELETE FROM tasks WHERE id = ?1 AND token = ?2")?;
        for (id, _) in &found {
            ack.execute((id, id))?;
        }
        drop(ack);
        transaction.commit()?;
    }
    Ok((published, pace(tasks, began)))
}

type Figures = (f64, f64, f64, Vec<(&'static str, String)>);

async fn ours(path: &Path, tasks: usize, batch: usize, normal: bool) -> Result<Figures> {
    let settings = SqliteSettings {
        synchronous: if normal { Synchronous::Normal } else { Synchronous::Full },
        capacity: 10_000_000,
        ..SqliteSettings::new(path)
    };
    let queue = SqliteTaskQueue::open(settings, Arc::new(Ticking(Instant::now()))).await?;
    let (name, consumer) = (
        QueueName::from("orders"),
        ConsumerId::new(Incarnation::of_this_process(1), "pace"),
    );
    let published = publish(&queue, &name, tasks, batch).await?;
    let began = Instant::now();
    for _ in (0..tasks).step_by(batch) {
        let taken = queue.consume(&name, &consumer, batch).await?;
        for ended in queue.end(acks(taken)).await? {
            ended?;
        }
    }
    let two_calls = pace(tasks, began);
    publish(&queue, &name, tasks, batch).await?;
    let began = Instant::now();
    let mut taken = queue.exchange(Vec::new(), &name, &consumer, batch).await.taken?;
    while !taken.is_empty() {
        let exchange = queue.exchange(acks(taken), &name, &consumer, batch).await;
        for ended in exchange.ended? {
            ended?;
        }
        taken = exchange.taken?;
    }
    let exchanged = pace(tasks, began);
    let mut others = vec![("", String::new())];
    others.push(("four consumers, exchange", four(&queue, &name, tasks, batch).await?));
    others.push(("pick-up when idle", latency(&queue, &name, &consumer).await?));
    Ok((published, two_calls, exchanged, others))
}

fn acks(taken: Vec<plba_tasks::queue::Delivery>) -> Vec<Ending> {
    let ack = |delivery: plba_tasks::queue::Delivery| Ending {
        token: delivery.token,
        how: How::ack(Vec::new()),
    };
    taken.into_iter().map(ack).collect()
}

async fn publish(queue: &SqliteTaskQueue, name: &QueueName, tasks: usize, batch: usize) -> Result<f64> {
    let began = Instant::now();
    for first in (0..tasks).step_by(batch) {
        let count = batch.min(tasks - first);
        let new = (0..count).map(|_| NewTask::new(name, "test", vec![7_u8; 100]));
        queue.publish(new.collect()).await?;
    }
    Ok(pace(tasks, began))
}

async fn four(queue: &SqliteTaskQueue, name: &QueueName, tasks: usize, batch: usize) -> Result<String> {
    publish(queue, name, tasks, batch).await?;
    let began = Instant::now();
    let mut consumers = Vec::new();
    for number in 0..4 {
        let (queue, name) = (queue.clone(), name.clone());
        consumers.push(tokio::spawn(async move {
            let consumer = ConsumerId::new(Incarnation::of_this_process(1), format!("pace {number}"));
            let mut endings = Vec::new();
            loop {
                let Ok(taken) = queue.exchange(endings, &name, &consumer, batch).await.taken else {
                    return;
                };
                if taken.is_empty() {
                    return;
                }
                endings = acks(taken);
            }
        }));
    }
    for consumer in consumers {
        consumer.await?;
    }
    Ok(format!("{:.0}/s", pace(tasks, began)))
}

async fn latency(queue: &SqliteTaskQueue, name: &QueueName, consumer: &ConsumerId) -> Result<String> {
    let mut spans = Vec::new();
    for _ in 0..300 {
        let (there, at, who) = (queue.clone(), name.clone(), consumer.clone());
        let waiting = tokio::spawn(async move { (there.consume(&at, &who, 1).await, Instant::now()) });
        tokio::time::sleep(Duration::from_millis(3)).await;
        let began = Instant::now();
        queue.publish(vec![NewTask::new(name, "test", vec![7_u8; 100])]).await?;
        let (taken, at) = waiting.await?;
        spans.push(at - began);
        queue.end(acks(taken?)).await?;
    }
    spans.sort_unstable();
    let (p50, p99) = (spans[spans.len() / 2], spans[spans.len() * 99 / 100]);
    Ok(format!(
        "p50 {p50:.2?}, p99 {p99:.2?}, from before publish to the task in hand"
    ))
}
