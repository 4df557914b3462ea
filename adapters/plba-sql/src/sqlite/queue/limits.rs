//! Rates as token buckets: one number, the time at which the bucket is full again, says everything.

use plba_tasks::queue::Rate;

use crate::sqlite::session::span;

/// How many tokens there are, at most `wanted`; and when the next one comes, if there is none.
pub(super) fn tokens(rate: Rate, full_at: i64, now: i64, wanted: i64) -> (i64, i64) {
    let (interval, per) = spans(rate);
    let behind = full_at.max(now) - now;
    let free = ((per - behind) / interval).clamp(0, wanted);
    (free, now + (behind + interval - per).max(1))
}

/// When the bucket is full again after so many tokens were taken.
pub(super) fn take(rate: Rate, full_at: i64, now: i64, count: i64) -> i64 {
    let (interval, _) = spans(rate);
    full_at.max(now).saturating_add(interval.saturating_mul(count))
}

/// The bucket holds exactly `count` tokens, though a division may leave a rest.
fn spans(rate: Rate) -> (i64, i64) {
    let interval = span(rate.interval()).max(1);
    (interval, interval.saturating_mul(i64::from(rate.count.max(1))))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_bucket_gives_its_tokens_at_once_and_then_one_by_one() {
        let rate = Rate::new(3, Duration::from_micros(100));
        let mut full_at = 0;
        let now = 1_000;
        assert_eq!(tokens(rate, full_at, now, 10).0, 3);
        full_at = take(rate, full_at, now, 3);
        let (free, next) = tokens(rate, full_at, now, 10);
        assert_eq!((free, next), (0, now + 33));
        assert_eq!(tokens(rate, full_at, next - 1, 10).0, 0);
        assert_eq!(tokens(rate, full_at, next, 10).0, 1);
        assert_eq!(tokens(rate, full_at, now + 99, 10).0, 3);
        assert_eq!(tokens(rate, full_at, now + 1_000_000, 10).0, 3);
    }
}
