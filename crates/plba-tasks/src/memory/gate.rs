//! A rate as a gate: the generic cell rate algorithm (GCRA), which needs no timer and one number of state.

use std::time::Duration;

use crate::queue::Rate;

/// Lets tasks pass at a rate; a full bucket's worth at once after a pause.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Gate {
    /// When the bucket would be full again, had nothing passed since.
    full_at: Duration,
}

impl Gate {
    /// When the next task may pass; not later than `now` when it may at once.
    pub(super) fn opens(&mut self, rate: Rate, now: Duration) -> Duration {
        let bucket = rate.interval().saturating_mul(rate.count.saturating_sub(1));
        // A bucket emptier than empty is that of a slower rate, which holds no more.
        self.full_at = self.full_at.min(now.saturating_add(rate.per));
        self.full_at.saturating_sub(bucket)
    }

    /// One task has passed.
    pub(super) fn pass(&mut self, rate: Rate, now: Duration) {
        self.full_at = self.full_at.max(now).saturating_add(rate.interval());
    }

    /// Whether it is as good as new.
    pub(super) fn is_idle(&self, now: Duration) -> bool {
        self.full_at <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        count: 3,
        per: Duration::from_secs(3),
    };

    /// How many pass at this second.
    fn passing(gate: &mut Gate, second: u64) -> u32 {
        let now = Duration::from_secs(second);
        let mut passed = 0;
        while gate.opens(RATE, now) <= now {
            gate.pass(RATE, now);
            passed += 1;
        }
        passed
    }

    #[test]
    fn a_full_bucket_passes_at_once_and_then_one_for_each_interval() {
        let mut gate = Gate::default();
        assert_eq!(passing(&mut gate, 10), 3);
        assert_eq!(passing(&mut gate, 10), 0);
        assert_eq!(passing(&mut gate, 11), 1);
        assert_eq!(gate.opens(RATE, Duration::from_secs(11)), Duration::from_secs(12));
        assert_eq!(passing(&mut gate, 13), 2);
        assert_eq!(passing(&mut gate, 100), 3);
    }

    #[test]
    fn a_slower_rate_that_was_left_behind_holds_nothing_up() {
        let slow = Rate::new(1, Duration::from_secs(3600));
        let mut gate = Gate::default();
        gate.pass(slow, Duration::ZERO);
        assert_eq!(gate.opens(slow, Duration::ZERO), Duration::from_secs(3600));
        assert_eq!(passing(&mut gate, 1), 0);
        assert_eq!(passing(&mut gate, 2), 1);
    }
}
