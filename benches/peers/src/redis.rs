//! apalis on Redis, with its locks: a batch of 128, told of new tasks by publish and subscribe, a connection
//! for each worker.

use std::time::{Duration, Instant};

use apalis::prelude::*;
use apalis_redis::factory::RedisStorageFactory;
use apalis_redis::{Client, Config, ConnectionManager, RedisStorage};

use crate::Result;
use crate::request::Request;
use crate::sight::{Seen, Sight, payload, per_second};

async fn handle(task: String, sight: Data<Sight>) {
    sight.task(&task);
}

fn config() -> Config {
    Config::default().queue("bench").batch_size(128)
}

async fn producer(request: &Request) -> Result<RedisStorage<String, ConnectionManager>> {
    let connection = apalis_redis::connect(request.url.as_str()).await?;
    Ok(RedisStorage::new(connection).with_config(config()))
}

async fn work(request: &Request, sight: &Sight) -> Result<()> {
    for number in 0..request.workers {
        // Notices to subscribers need the third protocol.
        let client = Client::open(format!("{}?protocol=resp3", request.url))?;
        let mut factory = RedisStorageFactory::new(client).await?;
        let storage = BackendFactory::<String>::create_with_config(&mut factory, config())?;
        let worker = WorkerBuilder::new(format!("bench-{number}"))
            .backend(storage)
            .data(sight.clone())
            .build(handle);
        tokio::spawn(async move { worker.run().await });
    }
    Ok(())
}

pub(crate) async fn pace(request: &Request) -> Result<Seen> {
    let (sight, mut producer) = (Sight::counting(), producer(request).await?);
    let (text, began) = (payload(), Instant::now());
    for first in (0..request.tasks).step_by(1_000) {
        let count = 1_000.min(request.tasks - first);
        producer.push_bulk(vec![text.clone(); count]).await?;
    }
    let enqueue = per_second(request.tasks, began);
    let began = Instant::now();
    work(request, &sight).await?;
    let seen = sight.pace(request.tasks, began).await;
    Ok(Seen {
        enqueue: Some(enqueue),
        ..seen
    })
}

/// Its subscription does not wake a worker that found nothing, so that this one polls.
pub(crate) async fn pickups(request: &Request, count: usize) -> Result<Seen> {
    let (sight, producer, text) = (Sight::timing(), producer(request).await?, payload());
    let worker = WorkerBuilder::new("bench")
        .backend(producer.clone().poll_with_interval(Duration::from_millis(5)))
        .data(sight.clone())
        .build(handle);
    tokio::spawn(async move { worker.run().await });
    let enqueue = || {
        let (mut producer, text) = (producer.clone(), text.clone());
        async move { Ok(producer.push(text).await?) }
    };
    sight.pickups(count, enqueue).await
}
