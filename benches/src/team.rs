//! Task workers as a supervisor runs them, for benches that measure what goes through them.

use std::sync::Arc;

use plba_contracts::clock::Clock;
use plba_contracts::worker::{Activity, Exit, Worker, WorkerContext};
use plba_tasks::handler::TaskHandler;
use plba_tasks::queue::TaskQueue;
use plba_tasks::worker::{TaskWorker, TaskWorkerSettings};
use tokio::task::JoinHandle;

use crate::load::QUEUE;

/// Task workers as a supervisor runs them, each on a task of its own.
pub struct Team(Vec<(Arc<TaskWorker>, JoinHandle<Exit>)>);

impl Team {
    /// Starts `workers` of them on the queue [`QUEUE`].
    ///
    /// # Panics
    /// When one does not start.
    pub async fn start(
        workers: u32,
        queue: &Arc<dyn TaskQueue>,
        clock: &Arc<dyn Clock>,
        handler: Arc<dyn TaskHandler>,
        settings: &TaskWorkerSettings,
    ) -> Self {
        let mut team = Vec::new();
        for slot in 0..workers {
            let handler = Arc::clone(&handler);
            let worker = Arc::new(TaskWorker::new(
                Arc::clone(queue),
                QUEUE.into(),
                handler,
                None,
                settings.clone(),
            ));
            let context = WorkerContext {
                name: "bench".into(),
                slot,
                incarnation: 1,
                activity: Activity::new(Arc::clone(clock)),
                clock: Arc::clone(clock),
            };
            let running = Arc::clone(&worker).start(context).await.expect("a task worker starts");
            team.push((worker, tokio::spawn(running.into_future())));
        }
        Self(team)
    }

    /// Has them finish and end what they have in hand.
    ///
    /// # Panics
    /// When one of them panicked.
    pub async fn stop(self) {
        for (worker, _) in &self.0 {
            worker.stop(false);
        }
        for (_, attempt) in self.0 {
            attempt.await.expect("a task worker does not panic");
        }
    }
}
