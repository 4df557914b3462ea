//! PostgreSQL, on the disk, synchronous_commit on: beside raw statements of equal batches, apalis and graphile_worker. Each
//! measurement has a database of its own on one server.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use plba_benches::load::payload;
use plba_benches::report::not_run;
use plba_contracts::config::Location;
use plba_sql::postgres::{PostgresSettings, PostgresTaskQueue};
use plba_tasks::queue::TaskQueue;
use plba_testservers::{PostgresServer, StartError};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_postgres::{Client, Config, NoTls};

use crate::Result;
use crate::contest::{Contest, Contestant, Rival};
use crate::disk;
use crate::guest::{Guests, Place};
use crate::ours::{self, TAKE, traceparent};
use crate::seen::{Seen, per_second};

const TASKS: usize = 20_000;
const TASKS_OF_PEERS: usize = 10_000;
const PUBLISH: usize = 128;
const NAME: &str = "postgres, synchronous_commit on";

pub(crate) async fn run(guests: &Guests) -> Result<()> {
    let server = match PostgresServer::start().await {
        Ok(server) => Databases(Arc::new(server)),
        Err(StartError::NotRun(reason)) => return Ok(not_run(NAME, "all", &reason.to_string())?),
        Err(error) => return Err(error.into()),
    };
    let contest = Contest {
        name: NAME.to_owned(),
        ours: Box::new(Ours(server.clone())),
        rivals: vec![
            Rival::control(Raw(server.clone()), 0.8, 0.8),
            disk::rival(std::env::temp_dir()),
            Rival::peer(
                guests.guest("apalis-postgres", "1.0", TASKS_OF_PEERS, server.clone()),
                3.0,
            ),
            Rival::peer(guests.guest("graphile_worker", "0.14", TASKS_OF_PEERS, server), 1.0),
        ],
    };
    contest.run().await
}

#[derive(Clone)]
struct Databases(Arc<PostgresServer>);

#[async_trait]
impl Place for Databases {
    async fn make(&self) -> Result<(String, Box<dyn Send>)> {
        let database = self.0.fresh_database().await?;
        // What others left to be written is not for the next one to wait for.
        database.query("CHECKPOINT").await?;
        Ok((database.url(), Box::new(database)))
    }
}

struct Ours(Databases);

async fn open(url: &str) -> Result<Arc<dyn TaskQueue>> {
    let settings = PostgresSettings::from_location(&Location::from(url))?;
    Ok(Arc::new(PostgresTaskQueue::open(settings).await?))
}

#[async_trait]
impl Contestant for Ours {
    fn name(&self) -> String {
        "plba".to_owned()
    }

    async fn pace(&self, workers: u32) -> Result<Seen> {
        let (url, _kept) = self.0.make().await?;
        ours::pace(&open(&url).await?, TASKS, PUBLISH, workers).await
    }

    async fn pickups(&self) -> Result<Seen> {
        let (url, _kept) = self.0.make().await?;
        ours::pickups(&open(&url).await?).await
    }
}

/// The limit.
struct Raw(Databases);

#[async_trait]
impl Contestant for Raw {
    fn name(&self) -> String {
        "raw statements".to_owned()
    }

    async fn pace(&self, workers: u32) -> Result<Seen> {
        let (url, _kept) = self.0.make().await?;
        let producer = connect(&url).await?;
        let schema = "CREATE TABLE tasks (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, due timestamptz NOT NULL
                          DEFAULT now(), lease timestamptz, attempt int NOT NULL DEFAULT 0, trace text NOT NULL, payload
                          bytea NOT NULL);
                      CREATE INDEX tasks_ready ON tasks (due, id) WHERE lease IS NULL";
        producer.batch_execute(schema).await?;
        let enqueue = insert(&producer).await?;
        let mut connections = vec![producer];
        while connections.len() < workers as usize {
            connections.push(connect(&url).await?);
        }
        let began = Instant::now();
        let mut loops = JoinSet::new();
        for client in connections {
            loops.spawn(drain(client));
        }
        let mut done = 0;
        while let Some(count) = loops.join_next().await {
            done += count??;
        }
        assert_eq!(done, TASKS, "each task is taken once");
        Ok(Seen::pace(enqueue, per_second(TASKS, began)))
    }

    async fn pickups(&self) -> Result<Seen> {
        Ok(Seen::default())
    }
}

async fn connect(url: &str) -> Result<Client> {
    let config: Config = url.parse()?;
    let port = config.get_ports().first().copied().ok_or("the address has no port")?;
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    let (client, connection) = config.connect_raw(stream, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

async fn insert(client: &Client) -> Result<f64> {
    let insert = client
        .prepare("INSERT INTO tasks (trace, payload) SELECT * FROM unnest($1::text[], $2::bytea[])")
        .await?;
    let payload = payload();
    let began = Instant::now();
    for first in (0..TASKS).step_by(PUBLISH) {
        let traces: Vec<String> = (first..TASKS.min(first + PUBLISH)).map(traceparent).collect();
        let payloads: Vec<&[u8]> = traces.iter().map(|_| &*payload).collect();
        client.execute(&insert, &[&traces, &payloads]).await?;
    }
    Ok(per_second(TASKS, began))
}

/// Leases a batch and deletes it, until there is none.
async fn drain(client: Client) -> Result<usize> {
    let lease = client
        .prepare(&format!(
            "UPDATE tasks SET lease = now() + interval '30 s', attempt = attempt + 1 WHERE id = ANY(ARRAY(
                 SELECT id FROM tasks WHERE lease IS NULL AND due <= now() ORDER BY due, id LIMIT {TAKE}
                 FOR UPDATE SKIP LOCKED))
             RETURNING id, attempt, trace, payload"
        ))
        .await?;
    let delete = client.prepare("DELETE FROM tasks WHERE id = ANY($1)").await?;
    let mut done = 0;
    loop {
        let rows = client.query(&lease, &[]).await?;
        if rows.is_empty() {
            return Ok(done);
        }
        let ids: Vec<i64> = rows
            .iter()
            .map(|row| {
                std::hint::black_box(row.get::<_, &[u8]>(3).len() + row.get::<_, &str>(2).len());
                row.get(0)
            })
            .collect();
        done += ids.len();
        client.execute(&delete, &[&ids]).await?;
    }
}
