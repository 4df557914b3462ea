//! The publisher's side of publishing: what is refused at once, and waiting for space, first come, first served. The
//! transaction is in [`super::publish`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use plba_tasks::queue::PublishError;
use plba_tasks::task::{NewTask, QueueName, TaskId};

use super::publish::{self, Attempt, Batch, Draft};
use crate::sqlite::database::Database;
use crate::sqlite::signals::Signal;

/// How long a publisher waits for space before it looks again by itself: at first, and at most.
const FIRST_WAIT: Duration = Duration::from_millis(10);
const LAST_WAIT: Duration = Duration::from_millis(500);

/// Publishes all of the tasks, as soon as there is space, or none.
pub(super) async fn publish(database: &Database, tasks: Vec<NewTask>) -> Result<Vec<TaskId>, PublishError> {
    let shared = &database.shared;
    for task in &tasks {
        publish::check(&shared.settings, task).map_err(|reason| refused(task, reason))?;
    }
    let now = shared.clock.now();
    let drafts = tasks.into_iter().map(|task| Draft::new(task, now)).collect();
    publish_batch(database, Batch::new(drafts)).await
}

async fn publish_batch(database: &Database, batch: Batch) -> Result<Vec<TaskId>, PublishError> {
    let shared = &database.shared;
    let queues: Vec<QueueName> = batch.queues().cloned().collect();
    let batch = Arc::new(Mutex::new(batch));
    match attempt(database, &batch, true).await? {
        Attempt::Published(ids) => return Ok(ids),
        Attempt::Crowded => return Err(refused_for_crowd(&lock(&batch))),
        Attempt::Full(_) => {}
    }
    // A queue is full, or others wait already: stand in line, always in the order of names, so that two publishers
    // never wait for each other.
    let signals: Vec<_> = queues.iter().map(|queue| shared.signals.of(queue)).collect();
    let _waiting: Vec<_> = signals.iter().map(Signal::wait).collect();
    let mut gates = Vec::with_capacity(signals.len());
    for signal in &signals {
        gates.push(Arc::clone(&signal.gate).lock_owned().await);
    }
    let mut wait = FIRST_WAIT;
    loop {
        lock(&batch).restamp(shared.clock.now());
        match attempt(database, &batch, false).await? {
            Attempt::Published(ids) => return Ok(ids),
            Attempt::Crowded => return Err(refused_for_crowd(&lock(&batch))),
            Attempt::Full(signal) => {
                // Space that another process makes is not told of here.
                let told = tokio::time::timeout(wait, signal.space.notified()).await;
                wait = if told.is_ok() {
                    FIRST_WAIT
                } else {
                    (wait * 2).min(LAST_WAIT)
                };
            }
        }
    }
}

async fn attempt(database: &Database, batch: &Arc<Mutex<Batch>>, polite: bool) -> Result<Attempt, PublishError> {
    let batch = Arc::clone(batch);
    let attempt = database.write(move |session| publish::publish(session, &lock(&batch), polite));
    Ok(attempt.await?)
}

/// A batch that waits is its publisher's and, now and then, the writer's; nobody panics with it half changed.
fn lock(batch: &Mutex<Batch>) -> MutexGuard<'_, Batch> {
    batch.lock().unwrap_or_else(PoisonError::into_inner)
}

fn refused_for_crowd(batch: &Batch) -> PublishError {
    let reason = "there are as many named queues as `queues` allows; use fewer names".to_owned();
    match batch.first() {
        Some(task) => refused(task, reason),
        None => PublishError::Unknown { source: reason.into() },
    }
}

fn refused(task: &NewTask, reason: String) -> PublishError {
    PublishError::Refused {
        queue: task.queue.clone(),
        kind: task.kind.clone().into_owned(),
        reason,
    }
}
