//! apalis in memory, as it comes.

use std::sync::Arc;
use std::time::Instant;

use apalis::prelude::*;
use futures::channel::mpsc::unbounded;
use futures::lock::Mutex;
use futures::{Sink, SinkExt};

use crate::Result;
use crate::request::Request;
use crate::sight::{Seen, Sight, payload};

type Inner = Box<dyn Sink<Task<String>, Error = MemoryStorageError> + Send + Sync + Unpin>;

async fn handle(task: String, sight: Data<Sight>) {
    sight.task(&task);
}

/// From the first task enqueued to the last one carried out: there is nowhere to leave a backlog without a consumer.
pub(crate) async fn pace(request: &Request) -> Result<Seen> {
    let (sender, receiver) = unbounded();
    let inner: Inner = Box::new(sender.sink_map_err(MemoryStorageError::from));
    let mut sink = MemorySink::new(Arc::new(Mutex::new(inner)));
    let sight = Sight::counting();
    let worker = WorkerBuilder::new("bench")
        .backend(MemoryStorage::new_with(sink.clone(), Box::pin(receiver)))
        .data(sight.clone())
        .build(handle);
    let began = Instant::now();
    tokio::spawn(async move { worker.run().await });
    let tasks = request.tasks;
    let producing = tokio::spawn(async move {
        let text = payload();
        for number in 0..tasks {
            sink.feed(TaskBuilder::new(text.clone()).build()).await?;
            if number % 64 == 0 {
                tokio::task::yield_now().await;
            }
        }
        sink.flush().await
    });
    let seen = sight.pace(tasks, began).await;
    producing.await??;
    Ok(seen)
}
