//! Handing out: whose turn it is, and what the rules say; and what becomes due by the passing of time.

use std::collections::VecDeque;
use std::time::Duration;

use super::super::entry::Entry;
use super::super::holders::Holder;
use super::super::keys::{Admission, insert_by_sequence};
use super::{Now, Room};
use crate::queue::ConsumerId;
use crate::task::AttemptEnd;

impl Room {
    /// Takes up to `max` ready tasks; a suspect comes alone.
    pub(in super::super) fn take(
        &mut self,
        max: usize,
        now: Now,
        consumer: &ConsumerId,
        mut give: impl FnMut(u64, &Entry),
    ) {
        let mut left = max.min(self.allowance(now.span));
        if left == 0 || !self.has_waiting() {
            return;
        }
        let holder = self.leases.holder(consumer);
        while self.suspect_is_next() && self.gate_opens(now.span).is_none() {
            let Some((_, entry)) = self.suspects.pop_first() else {
                break;
            };
            if let Some(mut entry) = self.admit(entry, now) {
                self.suspects_out += 1;
                entry.alone = true;
                self.grant(entry, now.span, holder, &mut give);
                return;
            }
        }
        while left > 0 && self.gate_opens(now.span).is_none() {
            let Some(entry) = self.ready.iter_mut().find_map(VecDeque::pop_front) else {
                return;
            };
            if let Some(entry) = self.admit(entry, now) {
                self.grant(entry, now.span, holder, &mut give);
                left -= 1;
            }
        }
    }

    /// How many tasks [`take`](Self::take) would give now, at most.
    pub(in super::super) fn available(&self, max: usize) -> usize {
        if self.suspect_is_next() {
            max.min(1)
        } else {
            max.min(self.ready.iter().map(VecDeque::len).sum())
        }
    }

    /// Whether there is something for another consumer: a task, or time to wait for one. Asked once after each change.
    pub(in super::super) fn calls(&mut self, now: Duration) -> bool {
        let waiting = self.has_waiting() && self.allowance(now) > 0;
        std::mem::take(&mut self.stirred) || waiting
    }

    /// Whether beside what was asked for something has become ready. Asked once after each change.
    pub(in super::super) fn has_stirred(&mut self) -> bool {
        std::mem::take(&mut self.stirred)
    }

    /// Whether a suspect would be handed out now.
    pub(in super::super) fn has_suspect(&self) -> bool {
        self.suspects_out == 0 && !self.suspects.is_empty()
    }

    fn has_waiting(&self) -> bool {
        self.ready.iter().any(|line| !line.is_empty()) || self.has_suspect()
    }

    fn suspect_is_next(&self) -> bool {
        let Some(((priority, ..), _)) = self.suspects.first_key_value().filter(|_| self.suspects_out == 0) else {
            return false;
        };
        self.ready[..*priority as usize].iter().all(VecDeque::is_empty)
    }

    /// How many more leases there may be.
    fn allowance(&self, now: Duration) -> usize {
        if self.pause.is_some() && self.paused(now).is_some() {
            return 0;
        }
        match self.rules.concurrency {
            None => usize::MAX,
            Some(limit) => (limit as usize).saturating_sub(self.leases.len()),
        }
    }

    /// When the queue's rate lets the next task pass; `None` when it may pass now.
    fn gate_opens(&mut self, now: Duration) -> Option<Duration> {
        let rate = self.rules.rate?;
        Some(self.gate.opens(rate, now)).filter(|opens| *opens > now)
    }

    /// The last look at a task before it is handed out: it may have expired, or its key may be over its limits.
    fn admit(&mut self, entry: Entry, now: Now) -> Option<Entry> {
        if entry.task.expires.is_some_and(|expires| expires <= now.stamp) {
            self.expire(entry, now);
            return None;
        }
        if entry.task.key.is_none() {
            return Some(entry);
        }
        match self.keys.admit(entry, &self.rules, now.span) {
            Admission::Admitted(entry) => Some(entry),
            Admission::Later(mut entry, at) => {
                entry.ready_at = at;
                self.place(entry, now.span);
                self.stirred = true;
                None
            }
            Admission::Held => None,
        }
    }

    fn grant(&mut self, mut entry: Entry, now: Duration, holder: Holder, give: &mut impl FnMut(u64, &Entry)) {
        entry.deliveries += 1;
        if entry.task.key.is_some() {
            self.keys.granted(&entry, self.rules.key_rate, now);
        }
        if let Some(rate) = self.rules.rate {
            self.gate.pass(rate, now);
        }
        let deadline = now.saturating_add(self.bounds.lease);
        let (fence, entry) = self.leases.grant(entry, deadline, holder);
        give(fence, entry);
    }

    fn expire(&mut self, mut entry: Entry, now: Now) {
        let expired = entry.task.expires.unwrap_or(now.stamp);
        let reason = format!("expired at {expired} before it could be carried out");
        entry.remember(now.stamp, AttemptEnd::Expired, &reason);
        self.totals.expired += 1;
        self.die(entry, AttemptEnd::Expired, reason, now);
    }

    /// Moves what is due: delayed tasks become ready, leases that ran out end, at most `limit` of them; dead letters that
    /// are too old go. Gives how many leases.
    pub(in super::super) fn advance(&mut self, now: Now, limit: usize) -> usize {
        while let Some(due) = self.delayed.first_entry().filter(|due| due.key().0 <= now.span) {
            let entry = due.remove();
            self.place(entry, now.span);
        }
        if !self.dead.is_empty() {
            self.retain_dead(now.stamp);
        }
        let mut expired = 0;
        while expired < limit
            && let Some(entry) = self.leases.expire(now.span)
        {
            expired += 1;
            self.lose(entry, now);
        }
        expired
    }

    /// A lease has run out.
    fn lose(&mut self, mut entry: Entry, now: Now) {
        self.totals.lost += 1;
        self.left(&mut entry, now.span);
        entry.crashes += 1;
        entry.ready_at = now.span;
        entry.remember(
            now.stamp,
            AttemptEnd::Crashed,
            "the lease ran out while the task was in hand",
        );
        if entry.crashes < self.bounds.crashes {
            // One that is no suspect has its old place.
            self.unhold(entry, now.span);
            return;
        }
        let reason = format!("{} consumers disappeared with it", entry.crashes);
        self.die(entry, AttemptEnd::Crashed, reason, now);
    }

    /// When there will next be something to do, for a consumer that gets nothing now.
    pub(in super::super) fn next_due(&mut self, now: Duration) -> Option<Duration> {
        let delayed = self.delayed.first_key_value().map(|((due, _), _)| *due);
        let paused = self.paused(now).and_then(|pause| pause.until).map(|(_, until)| until);
        let gate = self.gate_opens(now).filter(|_| self.has_waiting());
        [delayed, self.leases.next_deadline(), paused, gate]
            .into_iter()
            .flatten()
            .min()
    }

    /// A task that was held for a lease of its key, or whose holder disappeared, is ready in its old place.
    pub(super) fn unhold(&mut self, entry: Entry, now: Duration) {
        self.stirred = true;
        if entry.ready_at > now || entry.is_suspect() {
            self.place(entry, now);
        } else {
            insert_by_sequence(&mut self.ready[entry.task.priority as usize], entry);
        }
    }
}
