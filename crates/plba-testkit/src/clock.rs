//! Clocks for tests: one that is moved by hand, and one that follows tokio's paused time.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use plba_contracts::clock::Clock;
use tokio::time::Instant;

/// When test clocks start: 2026-01-01T00:00:00Z.
pub const START: Timestamp = Timestamp::constant(1_767_225_600, 0);

/// A clock that stands still until it is moved.
#[derive(Debug, Default)]
pub struct ManualClock {
    passed: Mutex<Passed>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Passed {
    monotonic: Duration,
    set: SignedDuration,
}

impl ManualClock {
    /// A clock at [`START`].
    pub fn new() -> Self {
        Self::default()
    }

    /// Time passes.
    pub fn advance(&self, by: Duration) {
        self.change(|passed| passed.monotonic += by);
    }

    /// Somebody sets the time of day; no time passes.
    pub fn set_back(&self, by: Duration) {
        let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
        self.change(|passed| passed.set -= by);
    }

    fn change(&self, change: impl FnOnce(&mut Passed)) {
        change(&mut self.passed.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn read(&self) -> Passed {
        *self.passed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        let passed = self.read();
        START + passed.set + SignedDuration::try_from(passed.monotonic).unwrap_or(SignedDuration::MAX)
    }

    fn monotonic(&self) -> Duration {
        self.read().monotonic
    }
}

/// A clock that goes with tokio's: paused where that is paused.
#[derive(Clone, Copy, Debug)]
pub struct TokioClock {
    started: Instant,
}

impl TokioClock {
    /// A clock that shows [`START`] now. To be made within a runtime.
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
        }
    }
}

impl Default for TokioClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        START + SignedDuration::try_from(self.started.elapsed()).unwrap_or(SignedDuration::MAX)
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setting_the_time_of_day_does_not_touch_the_monotonic_clock() {
        let clock = ManualClock::new();
        clock.advance(Duration::from_secs(10));
        clock.set_back(Duration::from_secs(3600));
        assert_eq!(clock.monotonic(), Duration::from_secs(10));
        assert_eq!(clock.now(), START - SignedDuration::from_secs(3590));
    }
}
