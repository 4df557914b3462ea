//! A task as the queue in memory keeps it, with its counts.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::room::Now;
use crate::envelope::expiry;
use crate::queue::DeadLetter;
use crate::task::{AttemptEnd, EndedAttempt, NewTask, Task, TaskId, remember};

/// A task with its counts.
pub(super) struct Entry {
    pub(super) task: Arc<Task>,
    pub(super) size: usize,
    pub(super) deliveries: u32,
    pub(super) attempts: u32,
    pub(super) crashes: u32,
    /// When it became, or will become, ready.
    pub(super) ready_at: Duration,
    /// Whether the producer gave the id, so that it must be looked for when another comes with the same.
    pub(super) named: bool,
    /// Whether it was handed out alone, as a suspect.
    pub(super) alone: bool,
}

/// An entry that nobody will try again unless told to.
pub(super) struct Dead {
    pub(super) entry: Entry,
    pub(super) died: Timestamp,
    pub(super) reason: String,
}

impl Entry {
    pub(super) fn new(task: NewTask, now: Now, make_id: impl FnOnce() -> TaskId) -> Self {
        let size = task.size();
        let named = task.id.is_some();
        let expires = expiry(&task, now.stamp);
        let NewTask {
            id,
            queue,
            kind,
            payload,
            headers,
            origin,
            delay,
            priority,
            key,
            ordered,
            ..
        } = task;
        let task = Task {
            id: id.unwrap_or_else(make_id),
            queue,
            kind,
            payload,
            headers,
            origin,
            history: Vec::new(),
            priority,
            key,
            ordered,
            published: now.stamp,
            expires,
        };
        Self {
            task: Arc::new(task),
            size,
            deliveries: 0,
            attempts: 0,
            crashes: 0,
            ready_at: now.span.saturating_add(delay),
            named,
            alone: false,
        }
    }

    /// Whether it was in hand when somebody disappeared, so that it may be what made them disappear.
    pub(super) fn is_suspect(&self) -> bool {
        self.crashes > 0
    }

    pub(super) fn remember(&mut self, at: Timestamp, how: AttemptEnd, reason: &str) {
        remember(
            &mut Arc::make_mut(&mut self.task).history,
            EndedAttempt::new(at, how, reason),
        );
    }

    pub(super) fn forget_counts(&mut self) {
        (self.deliveries, self.attempts, self.crashes) = (0, 0, 0);
    }
}

impl Dead {
    pub(super) fn letter(&self) -> DeadLetter {
        let task = &self.entry.task;
        DeadLetter {
            id: task.id.clone(),
            queue: task.queue.clone(),
            kind: task.kind.clone().into_owned(),
            origin: task.origin.clone(),
            died: self.died,
            reason: self.reason.clone(),
            deliveries: self.entry.deliveries,
            history: task.history.clone(),
        }
    }
}
