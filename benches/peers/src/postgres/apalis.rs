//! apalis on PostgreSQL: a batch of 128, told of new tasks by LISTEN.

use std::time::Instant;

use apalis::prelude::*;
use apalis_postgres::{Config, PostgresStorage};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;

use crate::Result;
use crate::request::Request;
use crate::sight::{Seen, Sight, payload, per_second};

async fn handle(task: String, sight: Data<Sight>) {
    sight.task(&task);
}

fn config() -> Config {
    Config::default().queue("bench").batch_size(128)
}

async fn pool(request: &Request) -> Result<PgPool> {
    let pool = PgPoolOptions::new().max_connections(16).connect(&request.url).await?;
    PostgresStorage::setup(&pool).await?;
    Ok(pool)
}

fn work(pool: &PgPool, request: &Request, sight: &Sight) {
    for number in 0..request.workers {
        let storage = PostgresStorage::<String>::new(pool).with_config(config()).with_pubsub();
        let worker = WorkerBuilder::new(format!("bench-{number}"))
            .backend(storage)
            .data(sight.clone())
            .build(handle);
        tokio::spawn(async move { worker.run().await });
    }
}

pub(crate) async fn pace(request: &Request) -> Result<Seen> {
    let (sight, pool) = (Sight::counting(), pool(request).await?);
    let mut producer = PostgresStorage::<String>::new(&pool).with_config(config());
    let (text, began) = (payload(), Instant::now());
    for first in (0..request.tasks).step_by(1_000) {
        let count = 1_000.min(request.tasks - first);
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
    let (sight, pool, text) = (Sight::timing(), pool(request).await?, payload());
    work(&pool, request, &sight);
    let producer = PostgresStorage::<String>::new(&pool).with_config(config());
    let enqueue = || {
        let (mut producer, text) = (producer.clone(), text.clone());
        async move { Ok(producer.push(text).await?) }
    };
    sight.pickups(count, enqueue).await
}
