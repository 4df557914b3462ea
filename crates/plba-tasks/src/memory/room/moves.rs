//! Moves of leased tasks: pins, extensions, and the ways in which a delivery ends.

use std::time::Duration;

use super::super::entry::{Condemned, Entry};
use super::{Now, Room};
use crate::ledger::Counts;
use crate::task::AttemptEnd;

impl Room {
    pub(in super::super) fn leased(&mut self, fence: u64) -> Option<&mut Entry> {
        self.leases.get(fence)
    }

    /// The counts of the ledger are those that hold.
    pub(in super::super) fn set_counts(&mut self, fence: u64, counts: Counts) {
        if let Some(entry) = self.leases.get(fence) {
            (entry.deliveries, entry.attempts) = (counts.deliveries, counts.attempts);
        }
    }

    pub(in super::super) fn pin(&mut self, fence: u64) -> bool {
        self.leases.pin(fence)
    }

    pub(in super::super) fn unpin(&mut self, fence: u64, now: Duration) {
        self.leases.unpin(fence, now.saturating_add(self.bounds.lease));
    }

    pub(in super::super) fn extend(&mut self, fence: u64, now: Duration) -> bool {
        self.leases.extend(fence, now.saturating_add(self.bounds.lease))
    }

    /// The task is done and gone.
    pub(in super::super) fn ack(&mut self, fence: u64, now: Duration) -> bool {
        let Some(entry) = self.end(fence, now) else {
            return false;
        };
        self.totals.acked += 1;
        self.depart(&entry, now);
        self.gone(&entry);
        true
    }

    /// The attempt failed.
    pub(in super::super) fn nack(&mut self, fence: u64, delay: Duration, reason: &str, now: Now) -> bool {
        let Some(mut entry) = self.end(fence, now.span) else {
            return false;
        };
        self.totals.failed += 1;
        entry.attempts += 1;
        entry.remember(now.stamp, AttemptEnd::Failed, reason);
        entry.ready_at = now.span.saturating_add(delay);
        self.place(entry, now.span);
        true
    }

    /// No further attempt. With a ledger that keeps the dead letter, the task is gone from here.
    pub(in super::super) fn bury(&mut self, fence: u64, reason: String, kept_elsewhere: bool, now: Now) -> bool {
        let Some(mut entry) = self.end(fence, now.span) else {
            return false;
        };
        self.totals.failed += 1;
        entry.attempts += 1;
        entry.remember(now.stamp, AttemptEnd::Rejected, &reason);
        self.depart(&entry, now.span);
        if kept_elsewhere {
            self.gone(&entry);
        } else {
            self.dead_letter(entry, now.stamp, reason);
        }
        true
    }

    /// As if it had not been handed out. At once means: before all others of its priority.
    pub(in super::super) fn release(&mut self, fence: u64, delay: Duration, now: Duration) -> bool {
        let Some(mut entry) = self.end(fence, now) else {
            return false;
        };
        entry.ready_at = now.saturating_add(delay);
        if delay.is_zero() && !entry.is_suspect() {
            self.ready[entry.task.priority as usize].push_front(entry);
        } else {
            self.place(entry, now);
        }
        true
    }

    /// A task that turned out to be finished, as its ledger says, leaves without a trace.
    pub(in super::super) fn discard(&mut self, fence: u64, now: Duration) {
        if let Some(entry) = self.end(fence, now) {
            self.depart(&entry, now);
            self.gone(&entry);
        }
    }

    /// Dead by the ledger's count of crashes; the ledger has yet to be told.
    pub(in super::super) fn condemn(&mut self, fence: u64, counts: Counts, now: Duration) {
        if let Some(mut entry) = self.end(fence, now) {
            entry.crashes = counts.crashes;
            self.depart(&entry, now);
            let reason = format!("{} processes or workers disappeared with it in hand", entry.crashes);
            let how = AttemptEnd::Crashed;
            self.condemned.push(Condemned { entry, how, reason });
        }
    }

    /// Dead, and kept by the ledger, which has been told.
    pub(in super::super) fn forget_condemned(&mut self, entry: &Entry) {
        self.gone(entry);
    }

    /// No further attempt, though nobody has it in hand.
    pub(super) fn die(&mut self, entry: Entry, how: AttemptEnd, reason: String, now: Now) {
        self.depart(&entry, now.span);
        if entry.task.origin.is_some() && self.bounds.ledger {
            self.condemned.push(Condemned { entry, how, reason });
        } else {
            self.dead_letter(entry, now.stamp, reason);
        }
    }

    fn end(&mut self, fence: u64, now: Duration) -> Option<Entry> {
        let mut entry = self.leases.take(fence)?;
        self.left(&mut entry, now);
        Some(entry)
    }

    /// A lease has ended: what waited for that may go on.
    pub(super) fn left(&mut self, entry: &mut Entry, now: Duration) {
        if std::mem::take(&mut entry.alone) {
            self.suspects_out = self.suspects_out.saturating_sub(1);
        }
        if self.rules.concurrency.is_some() {
            self.stirred = true;
        }
        if entry.task.key.is_some()
            && let Some(held) = self.keys.lease_ended(entry, now)
        {
            self.unhold(held, now);
        }
    }

    /// A task is done, dead or gone: what waited for that may go on.
    fn depart(&mut self, entry: &Entry, now: Duration) {
        if let Some(unique) = &entry.unique {
            self.uniques.leave(unique, &entry.task.id);
        }
        if entry.task.ordered
            && let Some(next) = self.keys.next_in_line(entry, now)
        {
            self.place(next, now);
            self.stirred = true;
        }
    }

    fn gone(&mut self, entry: &Entry) {
        self.make_space(entry);
        if entry.named {
            self.ids.remove(&entry.task.id);
        }
    }
}
