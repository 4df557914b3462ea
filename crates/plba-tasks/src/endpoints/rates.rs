//! Tasks a minute, from what the counters said before. A backend counts; how fast is seen between two looks.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::queue::QueueStats;

/// Rates are those of this last while,
const WINDOW: Duration = Duration::from_secs(60);
/// measured over no less than this,
const SHORTEST: Duration = Duration::from_secs(1);
/// from at most so many looks.
const LOOKS: usize = 64;

/// Counters at earlier looks, each at its moment on the monotonic clock.
#[derive(Default)]
pub(super) struct Rates(Mutex<VecDeque<(Duration, Counts)>>);

type Counts = BTreeMap<String, [u64; 3]>;

/// Tasks a minute of one queue.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct PerMinute {
    pub(super) published: f64,
    pub(super) done: f64,
    pub(super) failed: f64,
}

impl Rates {
    /// How long to wait until a second look tells rates; `None` when earlier looks do, or nothing has happened yet.
    pub(super) fn missing(&self, now: Duration, stats: &[QueueStats]) -> Option<Duration> {
        let idle = stats
            .iter()
            .all(|queue| queue.published + queue.acked + queue.failed == 0);
        let looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let usable = |(at, _): &(Duration, Counts)| (SHORTEST..=WINDOW).contains(&now.saturating_sub(*at));
        (!idle && !looks.iter().any(usable)).then_some(SHORTEST)
    }

    /// Remembers this look, and gives the rates since the oldest one within the window.
    pub(super) fn look(&self, now: Duration, stats: &[QueueStats]) -> BTreeMap<String, PerMinute> {
        let counts: Counts = stats
            .iter()
            .map(|queue| (queue.queue.clone(), [queue.published, queue.acked, queue.failed]))
            .collect();
        let mut looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while looks.len() >= LOOKS || looks.front().is_some_and(|(at, _)| now.saturating_sub(*at) > WINDOW) {
            looks.pop_front();
        }
        let mut rates = BTreeMap::new();
        if let Some((at, before)) = looks.front()
            && now.saturating_sub(*at) >= SHORTEST
        {
            let minutes = now.saturating_sub(*at).as_secs_f64() / 60.0;
            for (queue, counts) in &counts {
                let before = before.get(queue).copied().unwrap_or_default();
                let rate = |index: usize| counts[index].saturating_sub(before[index]) as f64 / minutes;
                let per_minute = PerMinute {
                    published: rate(0),
                    done: rate(1),
                    failed: rate(2),
                };
                rates.insert(queue.clone(), per_minute);
            }
        }
        // Looks that follow each other closely would push out the older ones, which say more.
        if looks.back().is_none_or(|(at, _)| now.saturating_sub(*at) >= SHORTEST) {
            looks.push_back((now, counts));
        }
        rates
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(published: u64, acked: u64) -> Vec<QueueStats> {
        vec![QueueStats {
            queue: "orders".into(),
            published,
            acked,
            ..QueueStats::default()
        }]
    }

    #[test]
    fn rates_are_those_of_the_last_minute() {
        let at = Duration::from_secs;
        let rates = Rates::default();
        assert_eq!(rates.missing(at(0), &stats(0, 0)), None, "nothing has happened");
        assert_eq!(rates.missing(at(0), &stats(100, 0)), Some(SHORTEST));
        assert!(rates.look(at(0), &stats(100, 0)).is_empty());
        let half = rates.look(at(30), &stats(160, 30))["orders"];
        assert_eq!((half.published, half.done), (120.0, 60.0));
        // The first look is too old by now.
        let then = rates.look(at(70), &stats(160, 150))["orders"];
        assert_eq!((then.published, then.done), (0.0, 180.0));
        assert_eq!(rates.missing(at(3_600), &stats(160, 150)), Some(SHORTEST));
    }
}
