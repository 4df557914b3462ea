//! Handlers in tests: a closure that answers, with what it was given kept.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use plba_contracts::services::BoxFuture;
use plba_tasks::handler::{HandlerError, Outcome, TaskContext, TaskHandler};
use plba_tasks::task::Task;

type Answer = dyn Fn(Task, TaskContext) -> BoxFuture<'static, Result<Outcome, HandlerError>> + Send + Sync;

/// A handler that answers as a closure does, and remembers the ids of the tasks it was given.
pub struct FakeHandler {
    answer: Box<Answer>,
    handled: Mutex<Vec<String>>,
}

impl FakeHandler {
    /// Answers as `answer` does.
    pub fn new<F, Fut>(answer: F) -> Arc<Self>
    where
        F: Fn(Task, TaskContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Outcome, HandlerError>> + Send + 'static,
    {
        Arc::new(Self {
            answer: Box::new(move |task, context| Box::pin(answer(task, context))),
            handled: Mutex::default(),
        })
    }

    /// Succeeds with everything.
    pub fn done() -> Arc<Self> {
        Self::new(|_, _| async { Ok(Outcome::done()) })
    }

    /// The ids of the tasks it was given, in order, one for each attempt.
    pub fn handled(&self) -> Vec<String> {
        self.handled.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl TaskHandler for FakeHandler {
    async fn handle(&self, task: &Task, context: &TaskContext) -> Result<Outcome, HandlerError> {
        self.handled
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(task.id.to_string());
        (self.answer)(task.clone(), context.clone()).await
    }
}
