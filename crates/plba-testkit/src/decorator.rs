//! A queue round a queue: one that hands everything on, but for what it does in its own way. What decorators do is theirs;
//! which calls there are stands here alone.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use plba_tasks::queue::{
    ConsumerId, Cursor, DeadFilter, DeadPage, DeadTask, Delivery, DeliveryToken, Durability, EndError, Ending,
    Exchange, PublishError, QueueError, QueueRules, QueueStats, Recovery, TaskFilter, TaskPage, TaskQueue,
};
use plba_tasks::task::{NewTask, QueueName, TaskId};

/// What a decorator does in its own way; every call that it says nothing of goes to [`inner`](Self::inner). Wrapped into
/// [`Decorated`] it is a queue.
///
/// Each call promises what the one of [`TaskQueue`] with its name does, as far as the decorator means to.
#[async_trait]
pub trait QueueDecorator: Send + Sync + 'static {
    /// The queue to which calls are handed on.
    fn inner(&self) -> &dyn TaskQueue;

    /// [`TaskQueue::durability`].
    fn durability(&self) -> Durability {
        self.inner().durability()
    }

    /// [`TaskQueue::publish`].
    async fn publish(&self, tasks: Vec<NewTask>) -> Result<Vec<TaskId>, PublishError> {
        self.inner().publish(tasks).await
    }

    /// [`TaskQueue::consume`].
    async fn consume(&self, queue: &QueueName, consumer: &ConsumerId, max: usize) -> Result<Vec<Delivery>, QueueError> {
        self.inner().consume(queue, consumer, max).await
    }

    /// [`TaskQueue::end`].
    async fn end(&self, endings: Vec<Ending>) -> Result<Vec<Result<(), EndError>>, QueueError> {
        self.inner().end(endings).await
    }

    /// [`TaskQueue::exchange`].
    async fn exchange(&self, endings: Vec<Ending>, queue: &QueueName, consumer: &ConsumerId, max: usize) -> Exchange {
        self.inner().exchange(endings, queue, consumer, max).await
    }

    /// [`TaskQueue::extend`].
    async fn extend(&self, tokens: &[DeliveryToken]) -> Result<Vec<Result<(), EndError>>, QueueError> {
        self.inner().extend(tokens).await
    }

    /// [`TaskQueue::recover`].
    async fn recover(&self, cursor: Option<Cursor>, limit: usize) -> Result<Recovery, QueueError> {
        self.inner().recover(cursor, limit).await
    }

    /// [`TaskQueue::govern`].
    fn govern(&self, queue: &QueueName, rules: QueueRules) {
        self.inner().govern(queue, rules);
    }

    /// [`TaskQueue::pause`].
    async fn pause(&self, queue: &QueueName, until: Option<Timestamp>) -> Result<(), QueueError> {
        self.inner().pause(queue, until).await
    }

    /// [`TaskQueue::tasks`].
    async fn tasks(&self, filter: &TaskFilter, cursor: Option<Cursor>, limit: usize) -> Result<TaskPage, QueueError> {
        self.inner().tasks(filter, cursor, limit).await
    }

    /// [`TaskQueue::dead_letters`].
    async fn dead_letters(
        &self,
        filter: &DeadFilter,
        cursor: Option<Cursor>,
        limit: usize,
    ) -> Result<DeadPage, QueueError> {
        self.inner().dead_letters(filter, cursor, limit).await
    }

    /// [`TaskQueue::dead_task`].
    async fn dead_task(&self, queue: &QueueName, id: &TaskId) -> Result<Option<DeadTask>, QueueError> {
        self.inner().dead_task(queue, id).await
    }
}

/// A decorator as the queue that it is to everybody else.
#[derive(Debug)]
pub struct Decorated<D>(pub D);

#[async_trait]
impl<D: QueueDecorator> TaskQueue for Decorated<D> {
    fn durability(&self) -> Durability {
        self.0.durability()
    }

    fn lease(&self) -> Duration {
        self.0.inner().lease()
    }

    async fn publish(&self, tasks: Vec<NewTask>) -> Result<Vec<TaskId>, PublishError> {
        self.0.publish(tasks).await
    }

    async fn consume(&self, queue: &QueueName, consumer: &ConsumerId, max: usize) -> Result<Vec<Delivery>, QueueError> {
        self.0.consume(queue, consumer, max).await
    }

    async fn end(&self, endings: Vec<Ending>) -> Result<Vec<Result<(), EndError>>, QueueError> {
        self.0.end(endings).await
    }

    async fn exchange(&self, endings: Vec<Ending>, queue: &QueueName, consumer: &ConsumerId, max: usize) -> Exchange {
        self.0.exchange(endings, queue, consumer, max).await
    }

    async fn extend(&self, tokens: &[DeliveryToken]) -> Result<Vec<Result<(), EndError>>, QueueError> {
        self.0.extend(tokens).await
    }

    async fn recover(&self, cursor: Option<Cursor>, limit: usize) -> Result<Recovery, QueueError> {
        self.0.recover(cursor, limit).await
    }

    async fn stats(&self) -> Result<Vec<QueueStats>, QueueError> {
        self.0.inner().stats().await
    }

    fn govern(&self, queue: &QueueName, rules: QueueRules) {
        self.0.govern(queue, rules);
    }

    async fn pause(&self, queue: &QueueName, until: Option<Timestamp>) -> Result<(), QueueError> {
        self.0.pause(queue, until).await
    }

    async fn resume(&self, queue: &QueueName) -> Result<(), QueueError> {
        self.0.inner().resume(queue).await
    }

    async fn tasks(&self, filter: &TaskFilter, cursor: Option<Cursor>, limit: usize) -> Result<TaskPage, QueueError> {
        self.0.tasks(filter, cursor, limit).await
    }

    async fn dead_letters(
        &self,
        filter: &DeadFilter,
        cursor: Option<Cursor>,
        limit: usize,
    ) -> Result<DeadPage, QueueError> {
        self.0.dead_letters(filter, cursor, limit).await
    }

    async fn dead_task(&self, queue: &QueueName, id: &TaskId) -> Result<Option<DeadTask>, QueueError> {
        self.0.dead_task(queue, id).await
    }

    async fn retry_dead(&self, queue: &QueueName, ids: &[TaskId]) -> Result<usize, QueueError> {
        self.0.inner().retry_dead(queue, ids).await
    }

    async fn drop_dead(&self, queue: &QueueName, ids: &[TaskId]) -> Result<usize, QueueError> {
        self.0.inner().drop_dead(queue, ids).await
    }

    fn has_letters_of_ledger(&self) -> bool {
        self.0.inner().has_letters_of_ledger()
    }
}
