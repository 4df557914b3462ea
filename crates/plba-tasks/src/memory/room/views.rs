//! What people are shown of the waiting and leased tasks of one named queue.

use std::time::Duration;

use jiff::SignedDuration;

use super::super::entry::Entry;
use super::{Now, Room};
use crate::queue::{ConsumerId, TaskState, TaskSummary};

/// A task where it was seen.
#[derive(Clone, Copy)]
pub(in super::super) struct Seen<'a> {
    pub(in super::super) entry: &'a Entry,
    pub(in super::super) state: TaskState,
    due: Option<Duration>,
    holder: Option<&'a ConsumerId>,
}

impl Room {
    /// All tasks that are not dead, in no order.
    pub(in super::super) fn seen(&self) -> impl Iterator<Item = Seen<'_>> {
        let at = |state, entry, due| Seen {
            entry,
            state,
            due,
            holder: None,
        };
        let ready = self.ready.iter().flatten().chain(self.suspects.values());
        let ready = ready.map(move |entry| at(TaskState::Ready, entry, None));
        let delayed = self.delayed.values();
        let delayed = delayed.map(move |entry| at(TaskState::Delayed, entry, Some(entry.ready_at)));
        let held = self.keys.entries().map(move |entry| at(TaskState::Held, entry, None));
        let leased = self.leases.iter().map(move |(entry, deadline, holder)| Seen {
            holder,
            ..at(TaskState::Leased, entry, Some(deadline))
        });
        ready.chain(delayed).chain(held).chain(leased)
    }
}

impl Seen<'_> {
    pub(in super::super) fn contains(&self, text: &str) -> bool {
        let task = &self.entry.task;
        task.id.as_str().contains(text)
            || task.kind.contains(text)
            || task.key.as_ref().is_some_and(|key| key.contains(text))
            || task.origin.as_ref().is_some_and(|origin| origin.contains(text))
    }

    pub(in super::super) fn summary(&self, now: Now) -> TaskSummary {
        let (entry, task) = (self.entry, &self.entry.task);
        let stamp = |due: Duration| {
            let left = SignedDuration::try_from(due.saturating_sub(now.span)).unwrap_or(SignedDuration::MAX);
            now.stamp.saturating_add(left).unwrap_or(now.stamp)
        };
        TaskSummary {
            id: task.id.clone(),
            queue: task.queue.clone(),
            kind: task.kind.clone().into_owned(),
            state: self.state,
            priority: task.priority,
            key: task.key.as_deref().map(str::to_owned),
            origin: task.origin.clone(),
            published: task.published,
            due: self.due.map(stamp),
            attempts: entry.attempts,
            deliveries: entry.deliveries,
            bytes: entry.size as u64,
            holder: self.holder.map(ToString::to_string),
            last: task.history.last().cloned(),
        }
    }
}
