//! A task as the queue in memory keeps it, with its counts.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::room::Now;
use crate::envelope::expiry;
use crate::queue::{DeadLetter, DeadTask, SUSPECT_CRASHES};
use crate::task::{AttemptEnd, EndedAttempt, NewTask, Task, TaskId, Unique, remember};

/// A task with its counts.
pub(super) struct Entry {
    pub(super) task: Arc<Task>,
    /// Boxed, because most often there is none.
    pub(super) unique: Option<Box<Unique>>,
    pub(super) size: usize,
    /// Which publication of its queue it was.
    pub(super) sequence: u64,
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

/// A dead entry whose ledger has yet to hear of it.
pub(super) struct Condemned {
    pub(super) entry: Entry,
    pub(super) how: AttemptEnd,
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
            expires: _,
            unique,
            key,
            ordered,
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
            unique: unique.map(Box::new),
            size,
            sequence: 0,
            deliveries: 0,
            attempts: 0,
            crashes: 0,
            ready_at: now.span.saturating_add(delay),
            named,
            alone: false,
        }
    }

    /// It is published at `now`, and not at the time when it was made.
    pub(super) fn put_off(&mut self, made: Now, now: Now) {
        let by = now.span.saturating_sub(made.span);
        if by.is_zero() {
            return;
        }
        self.ready_at = self.ready_at.saturating_add(by);
        let task = Arc::make_mut(&mut self.task);
        task.published = now.stamp;
        let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
        task.expires = task
            .expires
            .map(|expires| expires.saturating_add(by).unwrap_or(expires));
    }

    /// Takes over what a replacing task brings; identity, origin, key, counts and history stay.
    pub(super) fn become_new(&mut self, new: Self) {
        let given = Arc::unwrap_or_clone(new.task);
        let task = Arc::make_mut(&mut self.task);
        task.kind = given.kind;
        task.payload = given.payload;
        task.headers = given.headers;
        task.priority = given.priority;
        task.published = given.published;
        task.expires = given.expires;
        self.unique = new.unique;
        self.size = new.size;
        self.ready_at = new.ready_at;
    }

    /// Whether it was in hand so often when somebody disappeared that it may be what made them disappear.
    pub(super) fn is_suspect(&self) -> bool {
        self.crashes >= SUSPECT_CRASHES
    }

    pub(super) fn remember(&mut self, at: Timestamp, how: AttemptEnd, reason: &str) {
        remember(
            &mut Arc::make_mut(&mut self.task).history,
            EndedAttempt::new(at, how, reason),
        );
    }

    /// As good as new, but for its history.
    pub(super) fn start_over(&mut self, now: Now) {
        (self.deliveries, self.attempts, self.crashes) = (0, 0, 0);
        self.ready_at = now.span;
        if self.task.expires.is_some_and(|expires| expires <= now.stamp) {
            Arc::make_mut(&mut self.task).expires = None;
        }
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

    pub(super) fn whole(&self) -> DeadTask {
        DeadTask {
            letter: self.letter(),
            payload: self.entry.task.payload.clone(),
            headers: self.entry.task.headers.clone(),
            decoded: true,
        }
    }
}
