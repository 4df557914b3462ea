//! How long to wait before trying again. Knows neither what is tried nor a clock: the caller says what time it is.

use std::time::{Duration, Instant};

/// The shape of a back-off. Every wait lies in `[(1 - jitter) × d, d]` where `d` doubles from `first` up to `ceiling`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BackoffSettings {
    /// The wait after the first failure (default 1 s).
    pub first: Duration,
    /// No wait is longer than this (default 5 min).
    pub ceiling: Duration,
    /// The share of a wait that is random, from 0 (none) to 1 (all of it) (default 0.5). It keeps a fleet that lost the
    /// same server from coming back in step.
    pub jitter: f64,
    /// A connection counts as good again only after it held this long (default 1 min). A server that accepts and drops
    /// at once would otherwise be dialled every second.
    pub stable_after: Duration,
}

impl Default for BackoffSettings {
    fn default() -> Self {
        BackoffSettings {
            first: Duration::from_secs(1),
            ceiling: Duration::from_secs(300),
            jitter: 0.5,
            stable_after: Duration::from_secs(60),
        }
    }
}

/// Counts failures and answers with the wait that follows each.
#[derive(Debug, Clone)]
pub struct Backoff {
    settings: BackoffSettings,
    random: fastrand::Rng,
    failures: u32,
    up_since: Option<Instant>,
}

impl Backoff {
    /// A fresh back-off. The random generator is the caller's, so that a test can seed it.
    pub fn new(settings: BackoffSettings, random: fastrand::Rng) -> Self {
        Backoff {
            settings,
            random,
            failures: 0,
            up_since: None,
        }
    }

    /// The connection came up at `now`. Does not by itself forgive earlier failures: see [`BackoffSettings::stable_after`].
    pub fn connected(&mut self, now: Instant) {
        self.up_since.get_or_insert(now);
    }

    /// The attempt or the connection failed at `now`; answers how long to wait before the next attempt.
    pub fn failed(&mut self, now: Instant) -> Duration {
        if self.is_stable(now) {
            self.failures = 0;
        }
        self.up_since = None;
        self.failures = self.failures.saturating_add(1);
        let doublings = (self.failures - 1).min(31);
        let full = self
            .settings
            .first
            .saturating_mul(1 << doublings)
            .min(self.settings.ceiling);
        let jitter = self.settings.jitter.clamp(0.0, 1.0);
        full.mul_f64(1.0 - jitter * self.random.f64())
    }

    /// Failures in a row, as of the last call of [`failed`](Self::failed).
    pub fn failures(&self) -> u32 {
        self.failures
    }

    fn is_stable(&self, now: Instant) -> bool {
        self.up_since
            .is_some_and(|since| now.saturating_duration_since(since) >= self.settings.stable_after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn backoff(jitter: f64) -> Backoff {
        Backoff::new(
            BackoffSettings {
                jitter,
                ..BackoffSettings::default()
            },
            fastrand::Rng::with_seed(7),
        )
    }

    #[test]
    fn waits_double_up_to_the_ceiling() {
        let mut backoff = backoff(0.0);
        let now = Instant::now();
        let waits: Vec<u64> = (0..12).map(|_| backoff.failed(now).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
    }

    #[test]
    fn thousands_of_failures_neither_overflow_nor_pass_the_ceiling() {
        let mut backoff = backoff(0.0);
        let now = Instant::now();
        let last = (0..5_000).map(|_| backoff.failed(now)).last();
        assert_eq!(last, Some(Duration::from_secs(300)));
    }

    #[test]
    fn a_connection_that_drops_at_once_does_not_reset_the_wait() {
        let mut backoff = backoff(0.0);
        let mut now = Instant::now();
        let waits: Vec<u64> = (0..4)
            .map(|_| {
                backoff.connected(now);
                now += SECOND;
                backoff.failed(now).as_secs()
            })
            .collect();
        assert_eq!(waits, [1, 2, 4, 8]);
    }

    #[test]
    fn a_connection_that_held_for_the_stable_period_starts_anew() {
        let mut backoff = backoff(0.0);
        let now = Instant::now();
        (0..5).for_each(|_| _ = backoff.failed(now));
        backoff.connected(now);
        backoff.connected(now + 59 * SECOND);
        assert_eq!(backoff.failed(now + 60 * SECOND), SECOND);
        assert_eq!(backoff.failures(), 1);
    }

    #[test]
    fn jitter_only_shortens_and_stays_within_its_share() {
        let mut backoff = backoff(0.5);
        let now = Instant::now();
        let waits: Vec<Duration> = (0..200).map(|_| backoff.failed(now)).skip(20).collect();
        assert!(
            waits.iter().all(|wait| (150..=300).contains(&wait.as_secs())),
            "seed 7: {waits:?}"
        );
        assert!(waits.windows(2).any(|pair| pair[0] != pair[1]));
    }
}
