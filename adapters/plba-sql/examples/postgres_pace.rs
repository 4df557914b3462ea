//! How fast the queue in PostgreSQL is: publish, lease and ack in one exchange, and idle pick-up, each with prepared
//! statements and without (`listen=off`), in turns on the same server.
//!
//! `cargo run --release -p plba-sql --example postgres_pace -- [TASKS] [BATCH] [ROUNDS] [postgres://…]`; without a location
//! on a server of its own, synchronous_commit on.
#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::error::Error;
use std::time::{Duration, Instant};

use plba_contracts::config::Location;
use plba_sql::postgres::{PostgresSettings, PostgresTaskQueue};
use plba_tasks::queue::{ConsumerId, Delivery, Ending, How, Incarnation, TaskQueue};
use plba_tasks::task::{NewTask, QueueName};
use plba_testservers::PostgresServer;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// How many pick-ups are measured in each round.
const PICKUPS: usize = 300;
/// How long a consumer is left alone before the next task.
const REST: Duration = Duration::from_millis(4);

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |place: usize, default: usize| arguments.get(place).map_or(Ok(default), |text| text.parse());
    let (tasks, batch, rounds) = (number(0, 20_000)?, number(1, 128)?, number(2, 3)?);
    let mut server = None;
    let location = match arguments.get(3) {
        Some(location) => location.clone(),
        None => server.insert(PostgresServer::start().await?).url(),
    };
    println!("{tasks} tasks, batch {batch}, {rounds} rounds each");
    for round in 0..rounds {
        for listen in ["on", "off"] {
            let seen = measure(&location, listen, round, tasks, batch).await?;
            println!("listen={listen:3} {seen}");
        }
    }
    Ok(())
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
        let new = (first..tasks.min(first + batch)).map(|_| NewTask::new(name, "test", vec![7_u8; 100]));
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
