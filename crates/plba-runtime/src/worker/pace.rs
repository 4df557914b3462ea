//! When a routine runs next: after its interval, at the moments of a cron expression, or after a pause because it
//! failed. Waiting itself lives in the instance.

use std::time::Duration;

use plba_contracts::cron::{Expression, ExpressionError};

/// Reads a cron expression that is meant in a zone of the IANA database; without one, in the system's.
pub(super) fn cron(expression: &str, zone: Option<&str>) -> Result<Expression, ExpressionError> {
    match zone {
        Some(zone) => Expression::parse(expression, zone),
        None => Expression::in_zone_of_system(expression),
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

    #[test]
    fn a_cron_expression_is_meant_in_its_zone_or_else_in_the_systems() {
        let zone = |zone| cron("30 6 * * *", zone).unwrap().zone().to_owned();
        assert_eq!(zone(Some("Europe/Berlin")), "Europe/Berlin");
        assert_eq!(zone(None), Expression::in_zone_of_system("30 6 * * *").unwrap().zone());
        assert!(cron("61 * * * *", None).is_err() && cron("* * * * *", Some("Europe/Bern")).is_err());
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
