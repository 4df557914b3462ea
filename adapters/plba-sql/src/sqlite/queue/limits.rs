//! Rates as token buckets: one number, the time at which the bucket is full again, says everything.

use plba_tasks::queue::Rate;

use crate::sqlite::session::{Session, span};

/// How many tokens there are, at most `wanted`; and when the next one comes, if there is none.
pub(super) fn tokens(rate: Rate, full_at: i64, now: i64, wanted: i64) -> (i64, i64) {
    let (interval, per) = spans(rate);
    let behind = behind(full_at, now, per);
    let free = ((per - behind) / interval).clamp(0, wanted);
    (free, now + (behind + interval - per).max(1))
}

/// When the bucket is full again after so many tokens were taken.
pub(super) fn take(rate: Rate, full_at: i64, now: i64, count: i64) -> i64 {
    let (interval, per) = spans(rate);
    let behind = behind(full_at, now, per);
    now.saturating_add(behind)
        .saturating_add(interval.saturating_mul(count))
}

/// From the time at which rules were given, no bucket is emptier than they make it: what slower rules took is forgotten.
pub(super) fn apply(session: &mut Session<'_>, room: usize, at: i64) -> rusqlite::Result<()> {
    let counts = &mut session.rooms[room];
    let latest = |rate: Option<Rate>| rate.map_or(at, |rate| at.saturating_add(spans(rate).1));
    let full_at = counts.next_token.min(latest(counts.rules.rate));
    counts.changed |= full_at != counts.next_token;
    counts.next_token = full_at;
    session
        .connection
        .prepare_cached("UPDATE plba_key_rates SET next_token = ?2 WHERE queue = ?1 AND next_token > ?2")?
        .execute([counts.number, latest(counts.rules.key_rate)])
        .map(drop)
}

/// For how long the bucket is not full; an empty one is as bad as it gets, even if a slower rule emptied it.
fn behind(full_at: i64, now: i64, per: i64) -> i64 {
    full_at.saturating_sub(now).clamp(0, per)
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
        assert_eq!(tokens(rate, now + 3_600_000, now, 10), (0, now + 33));
    }
}
