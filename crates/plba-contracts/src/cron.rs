//! A cron expression in a time zone: the nominal times of a schedule, for workers and for sources of tasks alike. What is
//! done when one has come is theirs.

use std::fmt;
use std::str::FromStr;

use croner::Cron;
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// The nominal times that a cron expression names in a time zone.
///
/// ```
/// use plba_contracts::cron::Expression;
///
/// let weekdays = Expression::parse("30 6 * * MON-FRI", "Europe/Berlin")?;
/// let next = weekdays.after("2026-11-22T06:30:00Z".parse().unwrap()).unwrap();
/// assert_eq!(weekdays.local(next), "2026-11-23T06:30:00+01:00");
/// # Ok::<(), plba_contracts::cron::ExpressionError>(())
/// ```
///
/// Five fields, or six with seconds first. When clocks are put forward, a fixed time that does not exist that day (`30 2 *
/// * *`) is at the first moment after the gap; when they are put back, a fixed time that exists twice is the first of the
/// two. Expressions with `*` or steps in hours or minutes (`*/10 * * * *`) go through both.
#[derive(Clone)]
pub struct Expression {
    cron: Cron,
    zone: TimeZone,
    text: String,
    zone_name: String,
}

/// Why an expression or a zone can't be used; the sentence says what would do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpressionError {
    /// The expression can't be read.
    #[error("the cron expression \"{expression}\" can't be read: {reason}; \"30 6 * * MON-FRI\" would be one")]
    Cron {
        /// As it was given.
        expression: String,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no such zone.
    #[error("there is no time zone \"{zone}\": {reason}; \"Europe/Berlin\" would be one")]
    Zone {
        /// As it was given.
        zone: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Expression {
    /// Reads an expression and the name of a zone of the IANA database.
    ///
    /// # Errors
    /// One of the two can't be read.
    pub fn parse(expression: &str, zone: &str) -> Result<Self, ExpressionError> {
        let found = TimeZone::get(zone).map_err(|error| ExpressionError::Zone {
            zone: zone.to_owned(),
            reason: error.to_string(),
        });
        Self::in_zone(expression, found, zone.to_owned())
    }

    /// Reads an expression that is meant in the system's own zone.
    ///
    /// # Errors
    /// It can't be read.
    pub fn in_zone_of_system(expression: &str) -> Result<Self, ExpressionError> {
        let zone = TimeZone::system();
        let name = zone.iana_name().unwrap_or("the system's").to_owned();
        Self::in_zone(expression, Ok(zone), name)
    }

    fn in_zone(
        expression: &str,
        zone: Result<TimeZone, ExpressionError>,
        zone_name: String,
    ) -> Result<Self, ExpressionError> {
        let cron = Cron::from_str(expression).map_err(|error| ExpressionError::Cron {
            expression: expression.to_owned(),
            reason: error.to_string(),
        })?;
        Ok(Self {
            cron,
            zone: zone?,
            text: expression.to_owned(),
            zone_name,
        })
    }

    /// The first nominal time after this moment; `None` when there is none.
    pub fn after(&self, moment: Timestamp) -> Option<Timestamp> {
        let from = moment.to_zoned(self.zone.clone());
        let next = self.cron.find_next_occurrence(&from, false).ok()?.timestamp();
        (next > moment).then_some(next)
    }

    /// The nominal times after this moment, in order.
    pub fn times_after(&self, moment: Timestamp) -> impl Iterator<Item = Timestamp> + '_ {
        std::iter::successors(self.after(moment), |latest| self.after(*latest))
    }

    /// The expression in words, such as `At 06:30, on Monday through Friday.`
    pub fn in_words(&self) -> String {
        self.cron.describe()
    }

    /// The expression as it was given.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The name of the time zone.
    pub fn zone(&self) -> &str {
        &self.zone_name
    }

    /// A moment as a clock on the wall in the zone shows it, such as `2026-11-22T06:30:00+01:00`.
    pub fn local(&self, moment: Timestamp) -> String {
        let zoned = moment.to_zoned(self.zone.clone());
        zoned.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Expression({} in {})", self.as_str(), self.zone_name)
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        (self.as_str(), self.zone()) == (other.as_str(), other.zone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(expression: &str, after: &str, count: usize) -> Vec<String> {
        let expression = Expression::parse(expression, "Europe/Berlin").unwrap();
        let times = expression.times_after(after.parse().unwrap()).take(count);
        times.map(|time| expression.local(time)).collect()
    }

    #[test]
    fn a_fixed_time_in_the_gap_is_at_its_end_and_in_the_overlap_is_once() {
        // On 29 March 2026 the clock goes from 02:00 to 03:00.
        assert_eq!(
            times("30 2 * * *", "2026-03-28T00:00:00Z", 3),
            [
                "2026-03-28T02:30:00+01:00",
                "2026-03-29T03:00:00+02:00",
                "2026-03-30T02:30:00+02:00"
            ]
        );
        // On 25 October 2026 it goes from 03:00 back to 02:00.
        assert_eq!(
            times("30 2 * * *", "2026-10-24T12:00:00Z", 2),
            ["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"]
        );
    }

    #[test]
    fn steps_leave_the_gap_out_and_go_through_the_overlap_twice() {
        assert_eq!(
            times("*/30 * * * *", "2026-03-29T00:15:00Z", 3),
            [
                "2026-03-29T01:30:00+01:00",
                "2026-03-29T03:00:00+02:00",
                "2026-03-29T03:30:00+02:00"
            ]
        );
        assert_eq!(
            times("*/30 * * * *", "2026-10-25T00:00:00Z", 4),
            [
                "2026-10-25T02:30:00+02:00",
                "2026-10-25T02:00:00+01:00",
                "2026-10-25T02:30:00+01:00",
                "2026-10-25T03:00:00+01:00"
            ]
        );
    }

    #[test]
    fn what_can_not_be_read_is_named_with_what_would_do() {
        let error = |expression, zone| Expression::parse(expression, zone).unwrap_err().to_string();
        assert!(error("61 * * * *", "UTC").starts_with("the cron expression \"61 * * * *\" can't be read: "));
        assert!(error("* * * * *", "Europe/Bern").starts_with("there is no time zone \"Europe/Bern\": "));
    }

    #[test]
    fn nominal_times_follow_the_zone_with_seconds_too() {
        for (expression, after, next) in [
            ("30 6 * * *", "2026-01-10T05:30:00Z", "2026-01-11T06:30:00+01:00"),
            ("30 6 * * *", "2026-07-10T04:29:59Z", "2026-07-10T06:30:00+02:00"),
            ("*/10 * * * * *", "2026-01-10T05:30:01Z", "2026-01-10T06:30:10+01:00"),
        ] {
            assert_eq!(times(expression, after, 1), [next], "{expression} after {after}");
        }
    }

    #[test]
    fn without_a_zone_it_is_meant_in_the_systems() {
        let after: Timestamp = "2026-01-10T05:30:00Z".parse().unwrap();
        let expression = Expression::in_zone_of_system("30 6 * * *").unwrap();
        let wall = expression.after(after).unwrap().to_zoned(TimeZone::system());
        assert_eq!((wall.hour(), wall.minute()), (6, 30));
        assert!(Expression::in_zone_of_system("61 * * * *").is_err());
    }

    #[test]
    fn an_expression_without_a_further_time_ends() {
        let expression = Expression::parse("0 0 30 2 *", "UTC").unwrap();
        assert_eq!(expression.after(Timestamp::UNIX_EPOCH), None);
    }
}
