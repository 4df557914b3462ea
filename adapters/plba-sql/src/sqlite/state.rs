//! The states of a task as numbers, and where a task stands within its state.

/// A state, by its number in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Ready,
    /// Ready, but it was in hand when somebody disappeared, again: handed out alone.
    Suspect,
    Delayed,
    Held,
    Leased,
    /// A suspect in hand.
    Alone,
    Dead,
}

impl State {
    pub(super) fn number(self) -> i64 {
        self as i64
    }

    pub(super) fn of(number: i64) -> Self {
        match number {
            0 => Self::Ready,
            1 => Self::Suspect,
            2 => Self::Delayed,
            3 => Self::Held,
            4 => Self::Leased,
            5 => Self::Alone,
            _ => Self::Dead,
        }
    }

    /// Whether it waits: ready, delayed or held.
    pub(super) fn waits(self) -> bool {
        matches!(self, Self::Ready | Self::Suspect | Self::Delayed | Self::Held)
    }
}

/// How many ticks there can be: beyond any life of a database.
const TICKS: u32 = 44;

/// The rank of a ready task: its class first, then its place.
pub(super) fn ready_rank(priority: i64, place: i64) -> i64 {
    (priority << 60) | place
}

/// The rank of a suspect: the least suspicious first.
pub(super) fn suspect_rank(crashes: i64, place: i64) -> i64 {
    (crashes.min(1 << 16) << TICKS) | place
}

/// What tells a delivery from every other one: the task's tick, and how often it was leased.
pub(super) fn fence(seq: i64, grants: i64) -> u64 {
    ((seq as u64) << (64 - TICKS)) | (grants as u64 & ((1 << (64 - TICKS)) - 1))
}

/// The tick and the grant of a fence.
pub(super) fn unfence(fence: u64) -> (i64, i64) {
    let grants = fence & ((1 << (64 - TICKS)) - 1);
    ((fence >> (64 - TICKS)) as i64, grants as i64)
}

/// How many grants are told apart.
pub(super) const GRANTS: i64 = 1 << (64 - TICKS);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_names_its_task_and_its_grant() {
        for (seq, grants) in [(1, 1), (77, 3), ((1 << TICKS) - 1, GRANTS - 1)] {
            assert_eq!(unfence(fence(seq, grants)), (seq, grants));
        }
    }

    #[test]
    fn ranks_follow_class_suspicion_and_place() {
        assert!(ready_rank(0, 9) < ready_rank(1, 1) && ready_rank(1, 1) < ready_rank(1, 2));
        assert!(suspect_rank(1, 9) < suspect_rank(2, 1));
        for number in 0..7 {
            assert_eq!(State::of(number).number(), number);
        }
    }
}
