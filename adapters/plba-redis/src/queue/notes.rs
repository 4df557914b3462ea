//! What scripts report beside their answers: told loudly, and counted.

use std::sync::atomic::Ordering::Relaxed;

use super::Inner;
use super::room::Room;
use crate::failure::Failure;
use crate::reply::Parts;

impl Inner {
    /// The queue's group has this name. Another one than before means that its data, or its group, were removed.
    pub(super) fn note_generation(&self, room: &Room, generation: &str) {
        if room.learn_generation(generation) {
            self.shared.counters.data_lost.fetch_add(1, Relaxed);
            tracing::error!(
                queue = %room.name,
                site = %self.shared.settings.site,
                "data_lost: the queue's data or its consumer group were removed; the group is made anew from the beginning. \
                 Tasks that were there are lost, or come again; sources publish again what their ledgers have open"
            );
        }
    }

    /// Entries that a foreign hand removed, dead letters that retention removed, leases that ran out. Gives how many
    /// of the last.
    pub(super) fn note(&self, room: &Room, mut notes: Parts) -> Result<usize, Failure> {
        let Ok(vanished) = notes.integer() else { return Ok(0) };
        let (dropped, lost) = (notes.integer()?, notes.integer()?);
        if vanished > 0 {
            self.shared
                .counters
                .vanished
                .fetch_add(vanished.unsigned_abs(), Relaxed);
            tracing::error!(
                queue = %room.name,
                tasks = vanished,
                "data_lost: tasks in hand had been removed from their stream by something else than plba (XDEL, XTRIM); \
                 they are given up"
            );
        }
        if dropped > 0 {
            tracing::warn!(queue = %room.name, letters = dropped, "the oldest dead letters are dropped: too many, or too old");
        }
        if lost > 0 {
            tracing::warn!(queue = %room.name, tasks = lost, "leases ran out, or their holders ended; the tasks are suspects now");
        }
        Ok(usize::try_from(lost).unwrap_or(0))
    }

    /// The server's time, in milliseconds.
    pub(super) fn note_time(&self, text: &str) {
        if let Ok(now) = text.parse() {
            self.shared.learn_time(now);
        }
    }
}
