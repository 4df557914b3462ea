//! How fast the queue is beside the raw commands on the same server: `cargo run --release -p plba-redis --example speed -- \
//! redis://127.0.0.1:6379 100000`. It empties the database that it is given.
#![allow(clippy::unwrap_used, reason = "a measurement that can't be made ends")]
#![expect(clippy::print_stdout, reason = "it prints what it measured")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use plba_contracts::config::Location;
use plba_redis::{RedisSettings, RedisTaskQueue};
use plba_tasks::queue::{ConsumerId, Ending, How, Incarnation, TaskQueue};
use plba_tasks::task::{NewTask, QueueName};
use redis::aio::MultiplexedConnection;
use redis::{Value, cmd, pipe};

const BATCH: usize = 128;
const PUBLISH: usize = 256;

type Fields = Vec<(String, Vec<(String, Vec<u8>)>)>;

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().unwrap();
    let count: usize = arguments.next().map_or(100_000, |count| count.parse().unwrap());
    let client = redis::Client::open(url.as_str()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let settings = RedisSettings::read(&Location::from(&*format!("{url}?prefix=speed&capacity=10000000"))).unwrap();
    for _ in 0..3 {
        let before = busy(&mut connection).await;
        let (published, processed) = raw(&mut connection, count).await;
        let after = busy(&mut connection).await;
        println!(
            "raw:   XADD {published:>9.0}/s   XACK+XDEL+XREADGROUP {processed:>9.0}/s   {}",
            cost(before, after, count)
        );
        let () = cmd("FLUSHDB").query_async(&mut connection).await.unwrap();
        let queue = Arc::new(RedisTaskQueue::open(settings.clone()).await.unwrap());
        let own_published = publish(&queue, count).await;
        let own_processed = process(&queue, count, 1).await;
        println!(
            "queue: publish {own_published:>6.0}/s ({:.2})  exchange {own_processed:>14.0}/s ({:.2})   {}",
            own_published / published,
            own_processed / processed,
            cost(after, busy(&mut connection).await, count)
        );
    }
    let queue = Arc::new(RedisTaskQueue::open(settings).await.unwrap());
    publish(&queue, count).await;
    println!(
        "queue: exchange by 4 consumers {:>9.0}/s",
        process(&queue, count, 4).await
    );
    latency(&queue).await;
}

/// How long the server and this process have been busy, in microseconds: on a machine that others use, this is what tells.
async fn busy(connection: &mut MultiplexedConnection) -> (f64, f64) {
    let text: String = cmd("INFO").arg("cpu").query_async(connection).await.unwrap();
    let fact = |name: &str| -> f64 {
        let value = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        value.trim().parse().unwrap()
    };
    let server = fact("used_cpu_user:") + fact("used_cpu_sys:");
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    (server * 1e6, ticks * 1e4)
}

fn cost(before: (f64, f64), after: (f64, f64), count: usize) -> String {
    let each = |before: f64, after: f64| (after - before) / count as f64;
    format!(
        "busy for a task, in and out: server {:.1} µs, client {:.1} µs",
        each(before.0, after.0),
        each(before.1, after.1)
    )
}

fn payload() -> Vec<u8> {
    vec![b'x'; 200]
}

fn traceparent(number: usize) -> String {
    format!("00-4bf92f3577b34da6a3ce929d{number:08x}-00f067aa0ba902b7-01")
}

async fn raw(connection: &mut MultiplexedConnection, count: usize) -> (f64, f64) {
    let () = cmd("FLUSHDB").query_async(connection).await.unwrap();
    let () = cmd("XGROUP")
        .arg("CREATE")
        .arg("raw")
        .arg("g")
        .arg("0")
        .arg("MKSTREAM")
        .query_async(connection)
        .await
        .unwrap();
    let began = Instant::now();
    for first in (0..count).step_by(PUBLISH) {
        let mut batch = pipe();
        for number in first..(first + PUBLISH).min(count) {
            batch
                .cmd("XADD")
                .arg("raw")
                .arg("*")
                .arg("t")
                .arg(traceparent(number))
                .arg("d")
                .arg(payload())
                .ignore();
        }
        let () = batch.query_async(connection).await.unwrap();
    }
    let published = count as f64 / began.elapsed().as_secs_f64();
    let began = Instant::now();
    let mut done: Vec<String> = Vec::new();
    let mut processed = 0;
    loop {
        let mut batch = pipe();
        if !done.is_empty() {
            batch.cmd("XACK").arg("raw").arg("g").arg(&done).ignore();
            batch.cmd("XDEL").arg("raw").arg(&done).ignore();
        }
        batch
            .cmd("XREADGROUP")
            .arg("GROUP")
            .arg("g")
            .arg("c")
            .arg("COUNT")
            .arg(BATCH)
            .arg("STREAMS")
            .arg("raw")
            .arg(">");
        let (read,): (Option<Vec<(String, Fields)>>,) = batch.query_async(connection).await.unwrap();
        let Some(read) = read else { break };
        done = read
            .into_iter()
            .flat_map(|(_, entries)| entries)
            .map(|(id, _)| id)
            .collect();
        processed += done.len();
    }
    assert_eq!(processed, count);
    let answer: Value = cmd("XLEN").arg("raw").query_async(connection).await.unwrap();
    assert_eq!(answer, Value::Int(0));
    (published, count as f64 / began.elapsed().as_secs_f64())
}

async fn publish(queue: &Arc<RedisTaskQueue>, count: usize) -> f64 {
    let payload = bytes::Bytes::from(payload());
    let began = Instant::now();
    for first in (0..count).step_by(PUBLISH) {
        let batch = (first..(first + PUBLISH).min(count)).map(|number| {
            NewTask::new("orders", "order.received", payload.clone())
                .with_id(format!("inbox/1/{number}"))
                .with_header("traceparent", traceparent(number))
        });
        queue.publish(batch.collect()).await.unwrap();
    }
    count as f64 / began.elapsed().as_secs_f64()
}

async fn process(queue: &Arc<RedisTaskQueue>, count: usize, consumers: usize) -> f64 {
    let name = QueueName::from("orders");
    let began = Instant::now();
    let mut working = Vec::new();
    for number in 0..consumers {
        let (queue, name) = (Arc::clone(queue), name.clone());
        let consumer = ConsumerId::new(Incarnation::of_this_process(1), format!("c{number}"));
        working.push(tokio::spawn(async move {
            let mut endings = Vec::new();
            let mut done = 0;
            loop {
                let ended = endings.len();
                let exchange = queue.exchange(endings, &name, &consumer, BATCH).await;
                done += exchange.ended.unwrap().iter().filter(|result| result.is_ok()).count();
                let taken = exchange.taken.unwrap();
                if taken.is_empty() && ended == 0 {
                    return done;
                }
                endings = taken
                    .into_iter()
                    .map(|delivery| Ending {
                        token: delivery.token,
                        how: How::ack(Vec::new()),
                    })
                    .collect();
            }
        }));
    }
    let mut done = 0;
    for work in working {
        done += work.await.unwrap();
    }
    assert_eq!(done, count);
    count as f64 / began.elapsed().as_secs_f64()
}

/// From publish to the handler, with a consumer that waits.
async fn latency(queue: &Arc<RedisTaskQueue>) {
    let name = QueueName::from("idle");
    let consumer = ConsumerId::new(Incarnation::of_this_process(1), "idle");
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    let consuming = Arc::clone(queue);
    let at = name.clone();
    let working = tokio::spawn(async move {
        loop {
            for delivery in consuming.consume(&at, &consumer, 10).await.unwrap() {
                sender.send(Instant::now()).unwrap();
                consuming.end_one(delivery.token, How::ack(Vec::new())).await.unwrap();
            }
        }
    });
    let mut spans = Vec::new();
    for _ in 0..500 {
        tokio::time::sleep(Duration::from_millis(3)).await;
        let began = Instant::now();
        queue.publish(vec![NewTask::new(&name, "test", "")]).await.unwrap();
        spans.push(receiver.recv().await.unwrap().duration_since(began));
    }
    working.abort();
    spans.sort_unstable();
    println!("pick-up when idle: p50 {:?}  p99 {:?}", spans[250], spans[495]);
}
