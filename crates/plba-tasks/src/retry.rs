//! When a failed attempt is followed by the next, and when there is none.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How failed attempts are followed by new ones: after attempt *n* the task waits about *n* to the power of `exponent`
/// units. With the defaults that is 1 s, 16 s, 81 s, 256 s … up to a day, and more than a week in all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RetryPolicy {
    /// After how many failed attempts the task is dead. At least 1; default 20.
    pub maximum_attempts: u32,
    /// The wait after the first attempt. Default: 1 s.
    pub unit: Duration,
    /// How steeply the wait grows; 0 keeps it the same. Default: 4.
    pub exponent: u32,
    /// The longest wait. Default: 24 h.
    pub maximum_delay: Duration,
    /// By which share a wait is made longer or shorter, at random, so that tasks that failed together don't come back
    /// together. Between 0 and 1; default 0.1.
    pub jitter: f64,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            maximum_attempts: 20,
            unit: Duration::from_secs(1),
            exponent: 4,
            maximum_delay: Duration::from_secs(24 * 3600),
            jitter: 0.1,
        }
    }
}

impl RetryPolicy {
    /// Checks ranges.
    ///
    /// # Errors
    /// Every fault, each naming its setting.
    pub fn validate(&self) -> Result<(), String> {
        let mut faults = Vec::new();
        if self.maximum_attempts == 0 {
            faults.push("maximum_attempts is at least 1");
        }
        if self.exponent > 10 {
            faults.push("exponent is at most 10");
        }
        if !(0.0..=1.0).contains(&self.jitter) {
            faults.push("jitter lies between 0 and 1");
        }
        if faults.is_empty() {
            Ok(())
        } else {
            Err(faults.join("; "))
        }
    }

    /// Whether this attempt, counted from 1, was the last.
    pub fn is_last(&self, attempt: u32) -> bool {
        attempt >= self.maximum_attempts
    }

    /// How long to wait after this attempt, counted from 1.
    pub fn delay(&self, attempt: u32, random: &mut fastrand::Rng) -> Duration {
        let growth = f64::from(attempt.max(1)).powi(self.exponent.min(10) as i32);
        let seconds = (self.unit.as_secs_f64() * growth).min(self.maximum_delay.as_secs_f64());
        let factor = 1.0 + self.jitter.clamp(0.0, 1.0) * (random.f64() * 2.0 - 1.0);
        Duration::try_from_secs_f64(seconds * factor).unwrap_or(self.maximum_delay)
    }
}

/// A pause that doubles with each failure in a row: for what must not be tried in a busy loop.
pub(crate) struct BackOff {
    initial: Duration,
    maximum: Duration,
    failures: u32,
}

impl BackOff {
    pub(crate) fn new(initial: Duration, maximum: Duration) -> Self {
        Self {
            initial,
            maximum,
            failures: 0,
        }
    }

    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// The pause after one more failure: between half and all of its size, at random.
    pub(crate) fn next(&mut self, random: &mut fastrand::Rng) -> Duration {
        let doubled = self.initial.saturating_mul(1 << self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        doubled.min(self.maximum).mul_f64(0.5 + random.f64() / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_with_the_fourth_power_within_their_jitter_and_limit() {
        let policy = RetryPolicy::default();
        let mut random = fastrand::Rng::with_seed(7);
        for (attempt, seconds) in [
            (1, 1.0),
            (2, 16.0),
            (3, 81.0),
            (10, 10_000.0),
            (20, 86_400.0),
            (4_000_000, 86_400.0),
        ] {
            for _ in 0..100 {
                let share = policy.delay(attempt, &mut random).as_secs_f64() / seconds;
                assert!((0.9..=1.1).contains(&share), "attempt {attempt}: {share}");
            }
        }
    }

    #[test]
    fn a_back_off_doubles_up_to_its_maximum_and_starts_anew() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut back_off = BackOff::new(Duration::from_secs(1), Duration::from_secs(5));
        for whole in [1.0, 2.0, 4.0, 5.0, 5.0] {
            let share = back_off.next(&mut random).as_secs_f64() / whole;
            assert!((0.5..=1.0).contains(&share), "{share} of {whole}");
        }
        back_off.reset();
        assert!(back_off.next(&mut random) <= Duration::from_secs(1));
    }
}
