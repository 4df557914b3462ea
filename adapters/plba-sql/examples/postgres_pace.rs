//! How fast the queue in PostgreSQL is: publish, lease and ack in one exchange, and idle pick-up, beside the fewest
//! statements that do the same in equal batches and beside the disk, in turns on the same server.
//!
//! `cargo run --release -p plba-sql --example postgres_pace -- [TASKS] [BATCH] [ROUNDS] [on|off] [postgres://…]`; `on` and
//! `off` are values of `listen`. Without a location on a server of its own, synchronous_commit on.
#![expect(clippy::print_stdout, reason = "its output is what it is for")]

mod beside;

use std::error::Error;
use std::time::{Duration, Instant};

use plba_contracts::config::Location;
use plba_sql::postgres::tokio_postgres::{Client, Config, NoTls};
use plba_sql::postgres::{PostgresSettings, PostgresTaskQueue};
use plba_tasks::queue::{ConsumerId, Delivery, Ending, How, Incarnation, TaskQueue};
use plba_tasks::task::{NewTask, QueueName, TRACEPARENT};
use plba_testservers::PostgresServer;

use crate::beside::Disk;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// How many pick-ups are measured in each round.
const PICKUPS: usize = 300;
/// How long a consumer is left alone before the next task.
const REST: Duration = Duration::from_millis(4);
const PAYLOAD: [u8; 256] = [7; 256];

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<()> {
    // On the executor's own threads: the thread that waits here is none of them.
    tokio::spawn(run()).await?
}

async fn run() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |place: usize, default: usize| arguments.get(place).map_or(Ok(default), |text| text.parse());
    let (tasks, batch, rounds) = (number(0, 20_000)?, number(1, 128)?, number(2, 3)?);
    let listen = arguments.get(3).map_or("on", String::as_str);
    let mut server = None;
    let location = match arguments.get(4) {
        Some(location) => location.clone(),
        None => server.insert(PostgresServer::start().await?).url(),
    };
    println!("{tasks} tasks, batch {batch}, {rounds} rounds, listen={listen}");
    let mut disk = Disk::new(&std::env::temp_dir())?;
    for round in 0..rounds {
        disk.measure()?;
        let (published, drained) = raw(&location, round, tasks, batch).await?;
        println!("raw    publish {published:7.0}/s   lease, delete {drained:7.0}/s");
        println!("queue  {}", measure(&location, listen, round, tasks, batch).await?);
    }
    disk.measure()?;
    println!("a synchronised write of this disk: {}", disk.figures());
    Ok(())
}

/// The fewest statements that do the same without attempts, retries, deduplication, lists and limits.
async fn raw(location: &str, round: usize, tasks: usize, batch: usize) -> Result<(f64, f64)> {
    let client = connect(location).await?;
    let table = format!("raw_{round}");
    client
        .batch_execute(&format!(
            "CREATE TABLE {table} (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, due timestamptz NOT NULL DEFAULT now(),
                 lease timestamptz, attempt int NOT NULL DEFAULT 0, trace text NOT NULL, payload bytea NOT NULL);
             CREATE INDEX ON {table} (due, id) WHERE lease IS NULL"
        ))
        .await?;
    let insert = format!("INSERT INTO {table} (trace, payload) SELECT * FROM unnest($1::text[], $2::bytea[])");
    let insert = client.prepare(&insert).await?;
    let lease = format!(
        "UPDATE {table} SET lease = now() + interval '30 s', attempt = attempt + 1 WHERE id = ANY(ARRAY(
             SELECT id FROM {table} WHERE lease IS NULL AND due <= now() ORDER BY due, id LIMIT {batch} FOR UPDATE SKIP LOCKED))
         RETURNING id, attempt, trace, payload"
    );
    let lease = client.prepare(&lease).await?;
    let delete = client
        .prepare(&format!("DELETE FROM {table} WHERE id = ANY($1)"))
        .await?;
    let began = Instant::now();
    for first in (0..tasks).step_by(batch) {
        let traces: Vec<String> = (first..tasks.min(first + batch)).map(trace).collect();
        let payloads: Vec<&[u8]> = traces.iter().map(|_| &PAYLOAD[..]).collect();
        client.execute(&insert, &[&traces, &payloads]).await?;
    }
    let published = pace(tasks, began);
    let began = Instant::now();
    loop {
        let rows = client.query(&lease, &[]).await?;
        if rows.is_empty() {
            return Ok((published, pace(tasks, began)));
        }
        let ids: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
        client.execute(&delete, &[&ids]).await?;
    }
}

async fn connect(location: &str) -> Result<Client> {
    let config: Config = location.parse()?;
    let port = config.get_ports().first().copied().unwrap_or(5432);
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    let (client, connection) = config.connect_raw(stream, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// As a trace's header looks.
fn trace(number: usize) -> String {
    format!("00-4bf92f3577b34da6a3ce929d{number:08x}-00f067aa0ba902b7-01")
}

async fn measure(location: &str, listen: &str, round: usize, tasks: usize, batch: usize) -> Result<String> {
    let joint = if location.contains('?') { '&' } else { '?' };
    let location = format!("{location}{joint}listen={listen}&schema=pace_{listen}_{round}");
    let settings = PostgresSettings::from_location(&Location::from(location.as_str()))?;
    let queue = PostgresTaskQueue::open(settings.clone()).await?;
    let name = QueueName::from("orders");
    let consumer = ConsumerId::new(Incarnation::of_this_process(1), "pace");
    // Connections are opened, and statements known.
    publish(&queue, &name, 10 * batch, batch).await?;
    drain(&queue, &name, &consumer, batch).await?;
    let published = publish(&queue, &name, tasks, batch).await?;
    let began = Instant::now();
    drain(&queue, &name, &consumer, batch).await?;
    let drained = pace(tasks, began);
    let within = pickups(&queue, &queue, &name, &consumer).await?;
    // As another process has it: what it publishes is told by the server.
    let across = pickups(&PostgresTaskQueue::open(settings).await?, &queue, &name, &consumer).await?;
    Ok(format!(
        "publish {published:7.0}/s   exchange {drained:7.0}/s   pick-up {within}   of another's {across}"
    ))
}

fn pace(tasks: usize, began: Instant) -> f64 {
    tasks as f64 / began.elapsed().as_secs_f64()
}

async fn publish(queue: &PostgresTaskQueue, name: &QueueName, tasks: usize, batch: usize) -> Result<f64> {
    let began = Instant::now();
    for first in (0..tasks).step_by(batch) {
        let new = |number: usize| {
            NewTask::new(name, "test", &PAYLOAD[..])
                .with_id(format!("source/1/{number}"))
                .with_header(TRACEPARENT, trace(number))
        };
        let new = (first..tasks.min(first + batch)).map(new);
        queue.publish(new.collect()).await?;
    }
    Ok(pace(tasks, began))
}

fn acks(taken: Vec<Delivery>) -> Vec<Ending> {
    let ack = |delivery: Delivery| Ending {
        token: delivery.token,
        how: How::ack(Vec::new()),
    };
    taken.into_iter().map(ack).collect()
}

/// Takes and ends, until there is nothing.
async fn drain(queue: &PostgresTaskQueue, name: &QueueName, consumer: &ConsumerId, batch: usize) -> Result<()> {
    let mut taken = queue.exchange(Vec::new(), name, consumer, batch).await.taken?;
    while !taken.is_empty() {
        let exchange = queue.exchange(acks(taken), name, consumer, batch).await;
        for ended in exchange.ended? {
            ended?;
        }
        taken = exchange.taken?;
    }
    Ok(())
}

/// From before a task is published to when a consumer that was idle has it.
async fn pickups(
    publisher: &PostgresTaskQueue,
    queue: &PostgresTaskQueue,
    name: &QueueName,
    consumer: &ConsumerId,
) -> Result<String> {
    let mut spans = Vec::with_capacity(PICKUPS);
    for number in 0..PICKUPS + 10 {
        let (there, at, who) = (queue.clone(), name.clone(), consumer.clone());
        let waiting = tokio::spawn(async move { (there.consume(&at, &who, 1).await, Instant::now()) });
        tokio::time::sleep(REST).await;
        let began = Instant::now();
        publisher
            .publish(vec![NewTask::new(name, "test", vec![7_u8; 100])])
            .await?;
        let (taken, at) = waiting.await?;
        if number >= 10 {
            spans.push(at.saturating_duration_since(began));
        }
        queue.end(acks(taken?)).await?;
    }
    spans.sort_unstable();
    let (p50, p99) = (spans[spans.len() / 2], spans[spans.len() * 99 / 100]);
    Ok(format!("p50 {p50:.2?} p99 {p99:.2?}"))
}
