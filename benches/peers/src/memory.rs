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
    // The worker asks its storage's sink whether it is ready, and a sink that two use at once panics: the producer goes past
    // it, with tasks as the sink would make them.
    let inner: Inner = Box::new(sender.clone().sink_map_err(MemoryStorageError::from));
    let sink = MemorySink::new(Arc::new(Mutex::new(inner)));
    let sight = Sight::counting();
    let worker = WorkerBuilder::new("bench")
        .backend(MemoryStorage::new_with(sink, Box::pin(receiver)))
        .data(sight.clone())
        .build(handle);
    let began = Instant::now();
    tokio::spawn(async move { worker.run().await });
    let tasks = request.tasks;
    let producing = tokio::spawn(async move {
        let text = payload();
        for number in 0..tasks {
            let task = TaskBuilder::new(text.clone()).task_id(TaskId::from_string(RandomId::default()));
            sender.unbounded_send(task.build())?;
            if number % 64 == 0 {
                tokio::task::yield_now().await;
            }
        }
        Result::Ok(())
    });
    let seen = sight.pace(tasks, began).await;
    producing.await??;
    Ok(seen)
}
