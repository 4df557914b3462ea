//! Dead letters of one named queue: kept within the rules, looked up, retried and dropped.

use std::collections::HashSet;
use std::time::Duration;

use jiff::Timestamp;

use super::super::entry::{Dead, Entry};
use super::{Now, Room};
use crate::task::{TaskId, UniqueScope};

impl Room {
    pub(in super::super) fn dead_after(&self, after: u64) -> impl Iterator<Item = (u64, &Dead)> {
        self.dead.range(after + 1..).map(|(sequence, dead)| (*sequence, dead))
    }

    pub(in super::super) fn dead_task(&self, id: &TaskId) -> Option<&Dead> {
        self.dead.values().find(|dead| dead.entry.task.id == *id)
    }

    pub(in super::super) fn retry_dead(&mut self, ids: &HashSet<&TaskId>, now: Now) -> usize {
        let chosen = self.remove_dead(ids);
        let count = chosen.len();
        for Dead { mut entry, .. } in chosen {
            entry.start_over(now);
            self.count += 1;
            self.bytes += entry.size;
            if let Some(unique) = entry
                .unique
                .as_ref()
                .filter(|unique| unique.scope == UniqueScope::UntilDone)
                && self.uniques.holder(&unique.key, now.span).is_none()
            {
                self.uniques.claim(unique, entry.task.id.clone(), now.span);
            }
            self.enter(entry, now.span);
        }
        count
    }

    pub(in super::super) fn drop_dead(&mut self, ids: &HashSet<&TaskId>) -> usize {
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

    pub(super) fn dead_letter(&mut self, entry: Entry, died: Timestamp, reason: String) {
        self.make_space(&entry);
        self.moves += 1;
        self.dead.insert(self.moves, Dead { entry, died, reason });
        self.retain_dead(died);
    }

    /// So many dead letters went that the ledger had.
    pub(in super::super) fn count_dropped(&mut self, count: u64) {
        self.totals.dropped += count;
    }

    /// Removes dead letters that are too many or too old.
    pub(super) fn retain_dead(&mut self, now: Timestamp) {
        let limit = usize::try_from(self.rules.dead_limit).unwrap_or(usize::MAX);
        let limit = limit.min(self.bounds.dead);
        let age = self.rules.dead_age;
        let too_old = |dead: &Dead| Duration::try_from(now.duration_since(dead.died)).is_ok_and(|past| past > age);
        let mut dropped = 0;
        while let count = self.dead.len()
            && let Some(oldest) = self.dead.first_entry()
            && (count > limit || too_old(oldest.get()))
        {
            let dead = oldest.remove();
            self.ids.remove(&dead.entry.task.id);
            dropped += 1;
            if dropped == 1 {
                let (task, queue) = (&dead.entry.task.id, &dead.entry.task.queue);
                tracing::warn!(%task, %queue, reason = dead.reason, "the oldest dead letters are dropped, this one first");
            }
        }
        self.totals.dropped += dropped;
    }
}
