//! Redis, on the disk, without an append-only file and with one synced every second: beside raw commands in pipes, in which
//! the ends of one batch and the next read go together, apalis with its locks, and BullMQ.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use plba_benches::load::payload;
use plba_benches::pairs::median;
use plba_benches::report::{Figure, Goal, Good, not_run};
use plba_contracts::config::Location;
use plba_redis::{RedisSettings, RedisTaskQueue};
use plba_tasks::queue::TaskQueue;
use plba_testservers::{AppendOnly, RedisOptions, RedisServer, StartError};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, cmd, pipe};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

use crate::Result;
use crate::bullmq::BullMq;
use crate::contest::{Contest, Contestant, Rival};
use crate::guest::{Guests, Place};
use crate::ours::{self, PICKUPS, REST, TAKE, traceparent};
use crate::seen::{Seen, per_second};

const TASKS: usize = 50_000;
/// apalis unpacks every id in one script, and dies of a backlog of 10,000.
const TASKS_OF_APALIS: usize = 5_000;
const TASKS_OF_BULLMQ: usize = 10_000;
const PUBLISH: usize = 256;
const MILLION: usize = 1_000_000;

pub(crate) async fn run(guests: &Guests, million: bool) -> Result<()> {
    let bullmq = BullMq::install().await;
    for (append_only, name) in [
        (AppendOnly::Off, "redis, appendonly off"),
        (AppendOnly::EverySecond, "redis, appendonly everysec"),
    ] {
        let options = RedisOptions {
            append_only,
            ..RedisOptions::default()
        };
        let server = match RedisServer::start_with(options).await {
            Ok(server) => Server(Arc::new(server)),
            Err(StartError::NotRun(reason)) => return Ok(not_run(name, "all", &reason.to_string())?),
            Err(error) => return Err(error.into()),
        };
        let contest = Contest {
            name: name.to_owned(),
            ours: Box::new(Ours(server.clone())),
            rivals: vec![
                Rival::control(Raw(server.clone()), 0.8, 0.7),
                Rival::peer(
                    guests.guest("apalis-redis", "1.0", TASKS_OF_APALIS, server.clone()),
                    8.0,
                ),
                Rival::peer(bullmq.guest(TASKS_OF_BULLMQ, server.clone()), 8.0),
            ],
        };
        contest.run().await?;
        if million {
            backlog(&server, name).await?;
        }
    }
    Ok(())
}

#[derive(Clone)]
struct Server(Arc<RedisServer>);

impl Server {
    /// An own connection to a server that has been emptied.
    async fn emptied(&self) -> Result<MultiplexedConnection> {
        let mut connection = connect(&self.0.url()).await?;
        let () = cmd("FLUSHALL").query_async(&mut connection).await?;
        Ok(connection)
    }

    async fn open(&self) -> Result<Arc<dyn TaskQueue>> {
        self.emptied().await?;
        let location = format!("{}?capacity=10000000", self.0.url());
        let settings = RedisSettings::read(&Location::from(location.as_str()))?;
        Ok(Arc::new(RedisTaskQueue::open(settings).await?))
    }
}

#[async_trait]
impl Place for Server {
    async fn make(&self) -> Result<(String, Box<dyn Send>)> {
        self.emptied().await?;
        Ok((self.0.url(), Box::new(())))
    }
}

struct Ours(Server);

#[async_trait]
impl Contestant for Ours {
    fn name(&self) -> String {
        "plba".to_owned()
    }

    async fn pace(&self, workers: u32) -> Result<Seen> {
        ours::pace(&self.0.open().await?, TASKS, PUBLISH, workers).await
    }

    async fn pickups(&self) -> Result<Seen> {
        ours::pickups(&self.0.open().await?).await
    }
}

/// Whether a backlog of a million drains as fast as a small one: beside one of [`TASKS`] before and after it, and beside raw
/// commands with the same backlog, since half a gigabyte is in no processor's cache, whosever it is.
async fn backlog(server: &Server, name: &str) -> Result<()> {
    let mut small = vec![backlog_of(server, TASKS).await?];
    let value = backlog_of(server, MILLION).await?;
    let (_, raw) = Raw(server.clone()).paces(MILLION, 1).await?;
    small.push(backlog_of(server, TASKS).await?);
    let Some(small) = median(small.into_iter()) else {
        return Ok(());
    };
    for (peer, peer_value, goal) in [
        (format!("plba of {TASKS}"), small, 0.85),
        ("raw commands of a million".to_owned(), raw, 0.7),
    ] {
        let figure = Figure {
            name: &format!("{name}: process, 1 consumer, of a backlog of a million"),
            value,
            unit: "tasks/s",
            good: Good::High,
            peer: &peer,
            peer_value,
            ratio: value / peer_value,
            goal: Some(Goal::RatioAtLeast(goal)),
        };
        figure.report()?;
    }
    Ok(())
}

async fn backlog_of(server: &Server, tasks: usize) -> Result<f64> {
    let queue = server.open().await?;
    ours::publish(&queue, 0, tasks, PUBLISH).await?;
    ours::process(&queue, tasks, 1).await
}

/// The limit.
struct Raw(Server);

impl Raw {
    /// How many tasks a second are added, and then processed by so many consumers.
    async fn paces(&self, tasks: usize, workers: u32) -> Result<(f64, f64)> {
        let mut connection = self.0.emptied().await?;
        group(&mut connection).await?;
        let enqueue = add(&mut connection, tasks).await?;
        let mut consumers = Vec::new();
        for number in 0..workers {
            consumers.push((connect(&self.0.0.url()).await?, format!("c{number}")));
        }
        let began = Instant::now();
        let mut loops = JoinSet::new();
        for (connection, consumer) in consumers {
            loops.spawn(drain(connection, consumer));
        }
        let mut done = 0;
        while let Some(count) = loops.join_next().await {
            done += count??;
        }
        assert_eq!(done, tasks, "each task is read once");
        Ok((enqueue, per_second(tasks, began)))
    }
}

#[async_trait]
impl Contestant for Raw {
    fn name(&self) -> String {
        "raw commands".to_owned()
    }

    async fn pace(&self, workers: u32) -> Result<Seen> {
        let (enqueue, process) = self.paces(TASKS, workers).await?;
        Ok(Seen::pace(enqueue, process))
    }

    async fn pickups(&self) -> Result<Seen> {
        let mut producer = self.0.emptied().await?;
        group(&mut producer).await?;
        let consumer = connect(&self.0.0.url()).await?;
        let (sender, mut starts) = unbounded_channel();
        let reading = tokio::spawn(read(consumer, sender));
        let mut pickups = Vec::with_capacity(PICKUPS);
        for number in 0..PICKUPS {
            tokio::time::sleep(REST).await;
            let began = Instant::now();
            let mut add = pipe();
            add_one(&mut add, number, &payload());
            let () = add.query_async(&mut producer).await?;
            let start = starts.recv().await.ok_or("the reader ended")?;
            pickups.push(start.saturating_duration_since(began));
        }
        reading.abort();
        Ok(Seen::pickups(pickups))
    }
}

type Read = Option<Vec<(String, Vec<(String, Vec<(String, Vec<u8>)>)>)>>;

async fn connect(url: &str) -> Result<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(60)));
    Ok(redis::Client::open(url)?
        .get_multiplexed_async_connection_with_config(&config)
        .await?)
}

async fn group(connection: &mut MultiplexedConnection) -> Result<()> {
    let mut create = cmd("XGROUP");
    create.arg("CREATE").arg("raw").arg("g").arg("0").arg("MKSTREAM");
    Ok(create.query_async(connection).await?)
}

fn add_one(batch: &mut redis::Pipeline, number: usize, payload: &[u8]) {
    let add = batch.cmd("XADD").arg("raw").arg("*");
    add.arg("t").arg(traceparent(number)).arg("d").arg(payload).ignore();
}

async fn add(connection: &mut MultiplexedConnection, tasks: usize) -> Result<f64> {
    let payload = payload();
    let began = Instant::now();
    for first in (0..tasks).step_by(PUBLISH) {
        let mut batch = pipe();
        for number in first..tasks.min(first + PUBLISH) {
            add_one(&mut batch, number, &payload);
        }
        let () = batch.query_async(connection).await?;
    }
    Ok(per_second(tasks, began))
}

fn read_group(consumer: &str, count: usize) -> redis::Cmd {
    let mut read = cmd("XREADGROUP");
    read.arg("GROUP").arg("g").arg(consumer).arg("COUNT").arg(count);
    read
}

fn ids(read: Read) -> Vec<String> {
    let entries = read.into_iter().flatten().flat_map(|(_, entries)| entries);
    entries
        .map(|(id, fields)| std::hint::black_box((id, fields)).0)
        .collect()
}

/// Waits for one entry after the other, and tells when it has it.
async fn read(mut connection: MultiplexedConnection, sender: UnboundedSender<Instant>) -> Result<()> {
    let mut command = read_group("c", 1);
    command.arg("BLOCK").arg(0).arg("STREAMS").arg("raw").arg(">");
    loop {
        let read: Read = command.query_async(&mut connection).await?;
        sender.send(Instant::now())?;
        let ids = ids(read);
        let mut end = pipe();
        end.cmd("XACK").arg("raw").arg("g").arg(&ids).ignore();
        end.cmd("XDEL").arg("raw").arg(&ids).ignore();
        let () = end.query_async(&mut connection).await?;
    }
}

/// Ends one batch and reads the next in one pipe, until there is none.
async fn drain(mut connection: MultiplexedConnection, consumer: String) -> Result<usize> {
    let (mut ended, mut done) = (Vec::new(), 0);
    loop {
        let mut batch = pipe();
        if !ended.is_empty() {
            batch.cmd("XACK").arg("raw").arg("g").arg(&ended).ignore();
            batch.cmd("XDEL").arg("raw").arg(&ended).ignore();
        }
        let mut read = read_group(&consumer, TAKE);
        read.arg("STREAMS").arg("raw").arg(">");
        batch.add_command(read);
        let (read,): (Read,) = batch.query_async(&mut connection).await?;
        ended = ids(read);
        if ended.is_empty() {
            return Ok(done);
        }
        done += ended.len();
    }
}
