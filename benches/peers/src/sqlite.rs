//! apalis on SQLite: a batch of 128, write-ahead log, synchronous FULL as plba has it (its own set-up leaves one connection
//! at OFF), told of new tasks by the update hook.

use std::time::Instant;

use apalis::prelude::*;
use apalis_sqlite::{Config, SqliteStorage};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, SqlitePool};

use crate::Result;
use crate::request::Request;
use crate::sight::{Seen, Sight, payload, per_second};

async fn handle(task: String, sight: Data<Sight>) {
    sight.task(&task);
}

fn config() -> Config {
    Config::default().queue("bench").batch_size(128)
}

async fn pool(request: &Request) -> Result<SqlitePool> {
    let options = request.url.parse::<SqliteConnectOptions>()?.create_if_missing(true);
    let setting_up = SqlitePool::connect_with(options.clone().disable_statement_logging()).await?;
    SqliteStorage::setup(&setting_up).await?;
    setting_up.close().await;
    let options = options
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full);
    Ok(SqlitePoolOptions::new()
        .max_connections(5)
        .connect_with(options)
        .await?)
}

fn work(pool: &SqlitePool, request: &Request, sight: &Sight) {
    for number in 0..request.workers {
        let storage = SqliteStorage::<String>::new(pool).with_config(config());
        let worker = WorkerBuilder::new(format!("bench-{number}"))
            .backend(storage)
            .data(sight.clone())
            .build(handle);
        tokio::spawn(async move { worker.run().await });
    }
}

pub(crate) async fn pace(request: &Request) -> Result<Seen> {
    let (sight, pool) = (Sight::counting(), pool(request).await?);
    let mut producer = SqliteStorage::<String>::new(&pool).with_config(config());
    let (text, began) = (payload(), Instant::now());
    for first in (0..request.tasks).step_by(128) {
        let count = 128.min(request.tasks - first);
        producer.push_bulk(vec![text.clone(); count]).await?;
    }
    let enqueue = per_second(request.tasks, began);
    let began = Instant::now();
    work(&pool, request, &sight);
    let seen = sight.pace(request.tasks, began).await;
    Ok(Seen {
        enqueue: Some(enqueue),
        ..seen
    })
}

pub(crate) async fn pickups(request: &Request, count: usize) -> Result<Seen> {
    let (sight, text) = (Sight::timing(), payload());
    drop(pool(request).await?);
    let (pool, listener) = SqliteStorage::connect_with_callback(&request.url)?;
    let producer = SqliteStorage::<String>::new(&pool).with_config(config());
    let storage = producer.clone().with_callback(listener);
    let worker = WorkerBuilder::new("bench")
        .backend(storage)
        .data(sight.clone())
        .build(handle);
    tokio::spawn(async move { worker.run().await });
    let enqueue = || {
        let (mut producer, text) = (producer.clone(), text.clone());
        async move { Ok(producer.push(text).await?) }
    };
    sight.pickups(count, enqueue).await
}
