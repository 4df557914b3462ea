//! The load that all share who carry out tasks: 256 bytes each, and a handler that counts them and says when it has seen the
//! last one.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use plba_tasks::handler::{HandlerError, Outcome, TaskContext, TaskHandler};
use plba_tasks::task::Task;
use tokio::sync::Notify;

/// The name of the queue.
pub const QUEUE: &str = "bench";

/// How many tasks may wait, here as there.
pub const CAPACITY: usize = 10_000;

/// What the tasks carry; shared, so that copying it costs both sides next to nothing.
pub fn payload() -> Bytes {
    Bytes::from(vec![7; 256])
}

/// Looks at each task and counts down.
#[derive(Debug)]
pub struct Count {
    left: AtomicUsize,
    finished: Notify,
}

impl Count {
    /// To be called so often.
    pub fn down_from(tasks: usize) -> Arc<Self> {
        Arc::new(Self {
            left: AtomicUsize::new(tasks),
            finished: Notify::new(),
        })
    }

    /// Waits for the last task.
    pub async fn finished(&self) {
        self.finished.notified().await;
    }
}

#[async_trait]
impl TaskHandler for Count {
    async fn handle(&self, task: &Task, _context: &TaskContext) -> Result<Outcome, HandlerError> {
        black_box(task.payload[0]);
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.finished.notify_one();
        }
        Ok(Outcome::done())
    }
}
