//! One named queue as a plain state machine: no clock, no waiting, no locks. Time comes in as spans since the backend was
//! opened.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::entry::{Dead, Entry};
use super::leases::Leases;
use super::signals::Signals;
use crate::ledger::Counts;
use crate::queue::QueueStats;
use crate::task::{AttemptEnd, TaskId};

/// What bounds a named queue.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    pub(super) capacity: usize,
    pub(super) bytes: usize,
    pub(super) dead: usize,
    pub(super) crashes: u32,
    pub(super) lease: Duration,
    /// Whether dead letters of tasks with an origin are kept by a ledger.
    pub(super) ledger: bool,
}

/// A named queue.
pub(super) struct Room {
    pub(super) signals: Arc<Signals>,
    /// Publishers that wait for space; newcomers queue up behind them.
    pub(super) waiting: usize,
    bounds: Bounds,
    ready: VecDeque<Entry>,
    /// Ready tasks that were in hand when somebody disappeared; least suspicious first. They are handed out alone and one
    /// at a time, so that a task that kills its process takes no innocent one down with it again and again.
    suspects: BTreeMap<(u32, u64), Entry>,
    suspects_out: usize,
    delayed: BTreeMap<(Duration, u64), Entry>,
    leases: Leases,
    dead: BTreeMap<u64, Dead>,
    /// Dead by too many crashes, but for their ledger, which has yet to hear of it.
    pub(super) condemned: Vec<Entry>,
    ids: HashSet<TaskId>,
    sequence: u64,
    count: usize,
    bytes: usize,
    published: u64,
    acked: u64,
    failed: u64,
    lost: u64,
}

/// The time, both kinds.
#[derive(Clone, Copy)]
pub(super) struct Now {
    pub(super) span: Duration,
    pub(super) stamp: Timestamp,
}

impl Room {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            signals: Arc::default(),
            waiting: 0,
            bounds,
            ready: VecDeque::new(),
            suspects: BTreeMap::new(),
            suspects_out: 0,
            delayed: BTreeMap::new(),
            leases: Leases::default(),
            dead: BTreeMap::new(),
            condemned: Vec::new(),
            ids: HashSet::new(),
            sequence: 0,
            count: 0,
            bytes: 0,
            published: 0,
            acked: 0,
            failed: 0,
            lost: 0,
        }
    }

    /// Whether so much more fits. An empty queue takes whatever comes, or a large batch could never be published.
    pub(super) fn fits(&self, count: usize, bytes: usize) -> bool {
        let within = self.count + count <= self.bounds.capacity && self.bytes + bytes <= self.bounds.bytes;
        within || self.count == 0
    }

    /// Takes a new task in; one with a known id is left as it is.
    pub(super) fn insert(&mut self, entry: Entry, now: Duration) {
        if entry.named && !self.ids.insert(entry.task.id.clone()) {
            return;
        }
        self.published += 1;
        self.count += 1;
        self.bytes += entry.size;
        self.place(entry, now);
    }

    /// Takes up to `max` ready tasks; a suspect comes alone.
    pub(super) fn take(&mut self, max: usize, now: Now, mut give: impl FnMut(u64, &Entry)) {
        let deadline = now.span.saturating_add(self.bounds.lease);
        if max == 0 {
            return;
        }
        if self.suspects_out == 0
            && let Some((_, mut entry)) = self.suspects.pop_first()
        {
            self.suspects_out += 1;
            entry.alone = true;
            entry.deliveries += 1;
            self.grant(entry, deadline, &mut give);
            return;
        }
        let count = max.min(self.ready.len());
        for _ in 0..count {
            let Some(mut entry) = self.ready.pop_front() else {
                return;
            };
            entry.deliveries += 1;
            self.grant(entry, deadline, &mut give);
        }
    }

    fn grant(&mut self, entry: Entry, deadline: Duration, give: &mut impl FnMut(u64, &Entry)) {
        let fence = self.leases.grant(entry, deadline);
        if let Some(entry) = self.leases.get(fence) {
            give(fence, entry);
        }
    }

    /// How many tasks [`take`](Self::take) would give now.
    pub(super) fn available(&self, max: usize) -> usize {
        if self.has_suspect() {
            max.min(1)
        } else {
            max.min(self.ready.len())
        }
    }

    /// Whether a consumer would get something now.
    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty() || self.has_suspect()
    }

    /// Whether a suspect would be handed out now.
    pub(super) fn has_suspect(&self) -> bool {
        self.suspects_out == 0 && !self.suspects.is_empty()
    }

    /// Moves what is due: delayed tasks become ready, leases that ran out end; at most `limit` leases. Gives how many.
    pub(super) fn advance(&mut self, now: Now, limit: usize) -> usize {
        while let Some(due) = self.delayed.first_entry().filter(|due| due.key().0 <= now.span) {
            let entry = due.remove();
            self.place(entry, now.span);
        }
        let mut expired = 0;
        while expired < limit
            && let Some(mut entry) = self.leases.expire(now.span)
        {
            expired += 1;
            self.lost += 1;
            self.left(&mut entry);
            entry.crashes += 1;
            entry.ready_at = now.span;
            entry.remember(
                now.stamp,
                AttemptEnd::Crashed,
                "the lease ran out while the task was in hand",
            );
            if entry.crashes < self.bounds.crashes {
                self.place(entry, now.span);
                continue;
            }
            let reason = format!("{} consumers disappeared with it", entry.crashes);
            self.die(entry, now.stamp, reason);
        }
        expired
    }

    /// When [`advance`](Self::advance) will next have something to do.
    pub(super) fn next_due(&self) -> Option<Duration> {
        let delayed = self.delayed.first_key_value().map(|((due, _), _)| *due);
        [delayed, self.leases.next_deadline()].into_iter().flatten().min()
    }

    pub(super) fn leased(&mut self, fence: u64) -> Option<&mut Entry> {
        self.leases.get(fence)
    }

    /// The counts of the ledger are those that hold.
    pub(super) fn set_counts(&mut self, fence: u64, counts: Counts) {
        if let Some(entry) = self.leases.get(fence) {
            (entry.deliveries, entry.attempts) = (counts.deliveries, counts.attempts);
        }
    }

    /// Dead by the ledger's count of crashes; the ledger has yet to be told.
    pub(super) fn condemn(&mut self, fence: u64, counts: Counts) {
        if let Some(mut entry) = self.end(fence) {
            entry.crashes = counts.crashes;
            self.condemned.push(entry);
        }
    }

    pub(super) fn pin(&mut self, fence: u64) -> bool {
        self.leases.pin(fence)
    }

    pub(super) fn unpin(&mut self, fence: u64, now: Duration) {
        self.leases.unpin(fence, now.saturating_add(self.bounds.lease));
    }

    pub(super) fn extend(&mut self, fence: u64, now: Duration) -> bool {
        self.leases.extend(fence, now.saturating_add(self.bounds.lease))
    }

    /// The task is done and gone.
    pub(super) fn ack(&mut self, fence: u64) -> bool {
        let Some(entry) = self.end(fence) else { return false };
        self.acked += 1;
        self.gone(&entry);
        true
    }

    /// The attempt failed.
    pub(super) fn nack(&mut self, fence: u64, delay: Duration, reason: &str, now: Now) -> bool {
        let Some(mut entry) = self.end(fence) else { return false };
        self.failed += 1;
        entry.attempts += 1;
        entry.remember(now.stamp, AttemptEnd::Failed, reason);
        entry.ready_at = now.span.saturating_add(delay);
        self.place(entry, now.span);
        true
    }

    /// No further attempt. With a ledger that keeps the dead letter, the task is gone from here.
    pub(super) fn bury(&mut self, fence: u64, reason: String, kept_elsewhere: bool, now: Now) -> bool {
        let Some(mut entry) = self.end(fence) else { return false };
        self.failed += 1;
        entry.attempts += 1;
        entry.remember(now.stamp, AttemptEnd::Rejected, &reason);
        if kept_elsewhere {
            self.gone(&entry);
        } else {
            self.dead_letter(entry, now.stamp, reason);
        }
        true
    }

    /// As if it had not been handed out. At once means: before all others.
    pub(super) fn release(&mut self, fence: u64, delay: Duration, now: Duration) -> bool {
        let Some(mut entry) = self.end(fence) else { return false };
        entry.ready_at = now.saturating_add(delay);
        if delay.is_zero() && !entry.is_suspect() {
            self.ready.push_front(entry);
        } else {
            self.place(entry, now);
        }
        true
    }

    /// A task that turned out to be finished, as its ledger says, leaves without a trace.
    pub(super) fn discard(&mut self, fence: u64) {
        if let Some(entry) = self.end(fence) {
            self.gone(&entry);
        }
    }

    /// Too many crashes, as counted by the ledger, which keeps the dead letter.
    pub(super) fn forget_condemned(&mut self, entry: &Entry) {
        self.gone(entry);
    }

    pub(super) fn dead_after(&self, after: u64) -> impl Iterator<Item = (u64, &Dead)> {
        self.dead.range(after + 1..).map(|(sequence, dead)| (*sequence, dead))
    }

    pub(super) fn retry_dead(&mut self, ids: &HashSet<&TaskId>, now: Duration) -> usize {
        let chosen = self.remove_dead(ids);
        let count = chosen.len();
        for Dead { mut entry, .. } in chosen {
            entry.forget_counts();
            entry.ready_at = now;
            self.count += 1;
            self.bytes += entry.size;
            self.place(entry, now);
        }
        count
    }

    pub(super) fn drop_dead(&mut self, ids: &HashSet<&TaskId>) -> usize {
        let chosen = self.remove_dead(ids);
        for dead in &chosen {
            self.ids.remove(&dead.entry.task.id);
        }
        chosen.len()
    }

    fn remove_dead(&mut self, ids: &HashSet<&TaskId>) -> Vec<Dead> {
        let chosen = |(sequence, dead): (&u64, &Dead)| ids.contains(&dead.entry.task.id).then_some(*sequence);
        let sequences: Vec<_> = self.dead.iter().filter_map(chosen).collect();
        sequences
            .iter()
            .filter_map(|sequence| self.dead.remove(sequence))
            .collect()
    }

    pub(super) fn stats(&self, name: &str, now: Duration) -> QueueStats {
        let oldest = self
            .ready
            .iter()
            .take(1)
            .chain(self.suspects.values())
            .map(|entry| entry.ready_at)
            .min();
        QueueStats {
            queue: name.to_owned(),
            ready: (self.ready.len() + self.suspects.len()) as u64,
            delayed: self.delayed.len() as u64,
            leased: self.leases.len() as u64,
            dead: (self.dead.len() + self.condemned.len()) as u64,
            bytes: self.bytes as u64,
            published: self.published,
            acked: self.acked,
            failed: self.failed,
            lost: self.lost,
            oldest: oldest.map(|since| now.saturating_sub(since)),
            ..QueueStats::default()
        }
    }

    fn end(&mut self, fence: u64) -> Option<Entry> {
        let mut entry = self.leases.take(fence)?;
        self.left(&mut entry);
        Some(entry)
    }

    fn left(&mut self, entry: &mut Entry) {
        if std::mem::take(&mut entry.alone) {
            self.suspects_out = self.suspects_out.saturating_sub(1);
        }
    }

    fn place(&mut self, entry: Entry, now: Duration) {
        self.sequence += 1;
        if entry.ready_at > now {
            self.delayed.insert((entry.ready_at, self.sequence), entry);
        } else if entry.is_suspect() {
            self.suspects.insert((entry.crashes, self.sequence), entry);
        } else {
            self.ready.push_back(entry);
        }
    }

    fn die(&mut self, entry: Entry, at: Timestamp, reason: String) {
        if entry.task.origin.is_some() && self.bounds.ledger {
            self.condemned.push(entry);
        } else {
            self.dead_letter(entry, at, reason);
        }
    }

    fn dead_letter(&mut self, entry: Entry, died: Timestamp, reason: String) {
        self.count -= 1;
        self.bytes -= entry.size;
        self.sequence += 1;
        self.dead.insert(self.sequence, Dead { entry, died, reason });
        while self.dead.len() > self.bounds.dead
            && let Some((_, dead)) = self.dead.pop_first()
        {
            self.ids.remove(&dead.entry.task.id);
            let (task, queue) = (&dead.entry.task.id, &dead.entry.task.queue);
            tracing::warn!(%task, %queue, reason = dead.reason, "the oldest dead letter is dropped: there are too many");
        }
    }

    fn gone(&mut self, entry: &Entry) {
        self.count -= 1;
        self.bytes -= entry.size;
        if entry.named {
            self.ids.remove(&entry.task.id);
        }
    }
}
