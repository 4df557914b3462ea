//! When a routine runs next: after its interval, at the moments of a cron expression, or after a pause because it
//! failed. Waiting itself lives in the instance.

use std::str::FromStr;
use std::time::Duration;

use croner::Cron;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use plba_contracts::BoxError;

/// The moments at which a cron expression wants a run, in a time zone.
#[derive(Clone)]
pub(super) struct Schedule {
    cron: Cron,
    zone: TimeZone,
}

impl Schedule {
    /// Reads an expression of five fields, or six with seconds first, and a zone of the IANA database; without one, the
    /// system's.
    pub(super) fn parse(expression: &str, zone: Option<&str>) -> Result<Self, BoxError> {
        let cron = Cron::from_str(expression).map_err(|error| {
            format!("the cron expression \"{expression}\" can't be read: {error}; \"30 6 * * MON-FRI\" would be one")
        })?;
        let zone = match zone {
            None => TimeZone::system(),
            Some(name) => TimeZone::get(name).map_err(|error| {
                format!("there is no time zone \"{name}\": {error}; \"Europe/Berlin\" would be one")
            })?,
        };
        Ok(Self { cron, zone })
    }

    /// The first moment after this one; `None` when there is none.
    pub(super) fn after(&self, moment: Timestamp) -> Option<Timestamp> {
        let from = moment.to_zoned(self.zone.clone());
        let next = self.cron.find_next_occurrence(&from, false).ok()?.timestamp();
        (next > moment).then_some(next)
    }
}

/// From one start to the next. While there is nothing to do, it doubles up to the limit.
pub(super) fn stretched(interval: Duration, idle_runs: u32, idle_limit: Duration) -> Duration {
    let factor = 1u32.checked_shl(idle_runs).unwrap_or(u32::MAX);
    let stretched = interval.checked_mul(factor).unwrap_or(Duration::MAX);
    stretched.min(idle_limit.max(interval))
}

/// The pause after the nth failure in a row, from 1, spread by `random` between 0 and 1.
pub(super) fn failure_pause(initial: Duration, maximum: Duration, in_a_row: u32, random: f64) -> Duration {
    let factor = 1u32.checked_shl(in_a_row.saturating_sub(1)).unwrap_or(u32::MAX);
    let pause = initial.checked_mul(factor).unwrap_or(Duration::MAX).min(maximum);
    let spread = Duration::try_from_secs_f64(pause.as_secs_f64() * (0.8 + 0.4 * random));
    spread.unwrap_or(Duration::MAX).min(maximum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(expression: &str, after: &str) -> String {
        let schedule = Schedule::parse(expression, Some("Europe/Berlin")).unwrap();
        schedule.after(after.parse().unwrap()).unwrap().to_string()
    }

    #[test]
    fn cron_moments_follow_the_zone_through_changes_of_the_clock() {
        for (expression, after, expected) in [
            ("30 6 * * *", "2026-01-10T05:30:00Z", "2026-01-11T05:30:00Z"),
            ("30 6 * * *", "2026-07-10T04:29:59Z", "2026-07-10T04:30:00Z"),
            ("*/10 * * * * *", "2026-01-10T05:30:01Z", "2026-01-10T05:30:10Z"),
            // The hour from two to three exists twice on 25 October; a fixed time runs once.
            ("30 2 * * *", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"),
        ] {
            assert_eq!(next(expression, after), expected, "{expression} after {after}");
        }
    }

    #[test]
    fn bad_expressions_and_zones_are_named() {
        let error = |expression, zone| Schedule::parse(expression, zone).err().unwrap().to_string();
        assert!(error("61 * * * *", None).starts_with("the cron expression \"61 * * * *\" can't be read: "));
        assert!(error("* * * * *", Some("Europe/Bern")).starts_with("there is no time zone \"Europe/Bern\": "));
    }

    #[test]
    fn an_expression_without_a_further_moment_ends() {
        let schedule = Schedule::parse("0 0 30 2 *", Some("UTC")).unwrap();
        assert_eq!(schedule.after(Timestamp::UNIX_EPOCH), None);
    }

    #[test]
    fn intervals_stretch_while_idle() {
        let secs = Duration::from_secs;
        for (idle_runs, expected) in [(0, 10), (1, 20), (3, 60), (200, 60)] {
            assert_eq!(stretched(secs(10), idle_runs, secs(60)), secs(expected));
        }
        assert_eq!(stretched(secs(100), 5, secs(60)), secs(100));
    }

    #[test]
    fn pauses_after_failures_double_up_to_the_limit() {
        let millis = Duration::from_millis;
        let pause = |in_a_row| failure_pause(millis(500), millis(30_000), in_a_row, 0.5);
        assert_eq!(
            [pause(1), pause(2), pause(3)],
            [millis(500), millis(1000), millis(2000)]
        );
        assert_eq!(pause(40), millis(30_000));
        assert_eq!(failure_pause(Duration::MAX, Duration::MAX, 9, 1.0), Duration::MAX);
    }
}
