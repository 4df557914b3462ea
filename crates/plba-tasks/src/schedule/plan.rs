//! What is due, decided without a clock, a queue or a ledger: from how far a schedule has come, and what time it is.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{Expression, Misfire, Schedule};

/// Missed ticks are counted up to this; a count of so many means at least so many.
pub(super) const MOST_COUNTED: u64 = 10_000;

/// How far the clocks of two instances may lie apart, and how far a clock may be set, for a tick to be one task at most.
pub(super) const CLOCK_TOLERANCE: Duration = Duration::from_secs(2 * 3600);

/// For longer than this no tick is remembered.
const LONGEST_HOLD: Duration = Duration::from_secs(400 * 24 * 3600);

/// A tick that is to become a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tick {
    /// Its nominal time.
    pub(super) nominal: Timestamp,
    /// How many ticks before it were missed for good, and are carried out by none but this one.
    pub(super) instead_of: u64,
}

/// What is due.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Due {
    /// The ticks to publish, oldest first.
    pub(super) ticks: Vec<Tick>,
    /// How many ticks came too late to be on time, published or not.
    pub(super) missed: u64,
    /// How far the schedule has come once they are published; `None` when nothing was due.
    pub(super) through: Option<Timestamp>,
}

/// What is due `now` for a schedule that has come as far as `through`. At most `most` ticks; ask again for the others.
pub(super) fn due(schedule: &Schedule, through: Timestamp, now: Timestamp, most: usize) -> Due {
    let expression = &schedule.expression;
    let on_time_from = before(now, schedule.grace).max(through);
    let mut due = Due::default();
    if on_time_from > through {
        let late = latest(expression, through, on_time_from, schedule.misfire.kept());
        due.missed = late.counted;
        if late.counted > 0 {
            due.through = Some(on_time_from);
        }
        let mut instead_of = late.counted.saturating_sub(late.kept.len() as u64);
        for nominal in late.kept {
            due.ticks.push(Tick { nominal, instead_of });
            instead_of = 0;
        }
    }
    for nominal in expression
        .times_after(on_time_from)
        .take_while(|nominal| *nominal <= now)
    {
        due.ticks.push(Tick { nominal, instead_of: 0 });
        due.through = Some(nominal);
    }
    if due.ticks.len() > most {
        // What is cut off is met, and counted, the next time.
        let cut = due.ticks.split_off(most);
        due.missed -= cut.iter().filter(|tick| tick.nominal <= on_time_from).count() as u64;
        due.through = due.ticks.last().map(|tick| tick.nominal);
    }
    due
}

/// For how long from `now` on some instance may still come upon this tick: until so many later ones have passed that even
/// the misfire policy leaves it out. So long a tick that was published must not be published again.
pub(super) fn hold(schedule: &Schedule, nominal: Timestamp, now: Timestamp) -> Duration {
    let kept = schedule.misfire.kept();
    let outdated = match kept.checked_sub(1) {
        None => Some(nominal),
        Some(further) => schedule.expression.times_after(nominal).nth(further),
    };
    let margin = schedule.grace + CLOCK_TOLERANCE;
    let Some(outdated) = outdated else { return LONGEST_HOLD };
    let left = Duration::try_from(outdated.duration_since(now)).unwrap_or_default();
    (left + margin).min(LONGEST_HOLD)
}

struct Latest {
    /// The last ones, oldest first.
    kept: Vec<Timestamp>,
    /// How many there are; [`MOST_COUNTED`] means at least so many.
    counted: u64,
}

/// The last `keep` nominal times after `from` and up to `to`. A schedule may have stood still for years: then they are
/// searched from the end, in windows that grow, instead of from the beginning.
fn latest(expression: &Expression, from: Timestamp, to: Timestamp, keep: usize) -> Latest {
    let within = |from: Timestamp, most: u64| {
        let (mut kept, mut counted) = (VecDeque::with_capacity(keep + 1), 0_u64);
        for time in expression.times_after(from).take_while(|time| *time <= to) {
            counted += 1;
            kept.push_back(time);
            if kept.len() > keep {
                kept.pop_front();
            }
            if counted >= most {
                return (kept, counted, expression.after(time).is_some_and(|next| next <= to));
            }
        }
        (kept, counted, false)
    };
    let (kept, counted, more) = within(from, MOST_COUNTED);
    if !more {
        let kept = kept.into();
        return Latest { kept, counted };
    }
    let mut window = Duration::from_secs(60);
    loop {
        let start = before(to, window).max(from);
        let (kept, found, _) = within(start, u64::MAX);
        if found >= keep as u64 || start == from {
            let kept = kept.into();
            return Latest { kept, counted };
        }
        window = window.saturating_mul(4);
    }
}

fn before(moment: Timestamp, span: Duration) -> Timestamp {
    let span = SignedDuration::try_from(span).unwrap_or(SignedDuration::MAX);
    moment.checked_sub(span).unwrap_or(Timestamp::MIN)
}

impl Misfire {
    /// How many missed ticks are made up for.
    pub(super) fn kept(self) -> usize {
        match self {
            Self::Skip => 0,
            Self::Once => 1,
            Self::All { limit } => limit as usize,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::NewTask;

    fn schedule(expression: &str, misfire: Misfire) -> Schedule {
        let expression = Expression::parse(expression, "Europe/Berlin").unwrap();
        let mut schedule = Schedule::new("nightly", expression, NewTask::new("reports", "report.make", ""));
        schedule.misfire = misfire;
        schedule
    }

    fn told(schedule: &Schedule, through: &str, now: &str) -> (Vec<(String, u64)>, u64) {
        let due = due(schedule, through.parse().unwrap(), now.parse().unwrap(), 10_000);
        let ticks = due.ticks.iter().map(|tick| (tick.nominal.to_string(), tick.instead_of));
        (ticks.collect(), due.missed)
    }

    #[test]
    fn three_missed_ticks_are_skipped_made_up_once_or_all_made_up() {
        let (through, now) = ("2026-01-10T05:00:00Z", "2026-01-10T08:30:00Z");
        let tick = |hour: u32, instead_of| (format!("2026-01-10T0{hour}:00:00Z"), instead_of);
        for (misfire, expected) in [
            (Misfire::Skip, vec![]),
            (Misfire::Once, vec![tick(8, 2)]),
            (Misfire::All { limit: 2 }, vec![tick(7, 1), tick(8, 0)]),
            (Misfire::All { limit: 9 }, vec![tick(6, 0), tick(7, 0), tick(8, 0)]),
        ] {
            let schedule = schedule("0 * * * *", misfire);
            assert_eq!(told(&schedule, through, now), (expected, 3), "{misfire:?}");
        }
    }

    #[test]
    fn a_tick_within_its_grace_is_on_time_whatever_the_policy() {
        let schedule = schedule("0 * * * *", Misfire::Skip);
        let on_time = (vec![("2026-01-10T06:00:00Z".to_owned(), 0)], 0);
        assert_eq!(told(&schedule, "2026-01-10T05:00:00Z", "2026-01-10T06:00:59Z"), on_time);
        assert_eq!(
            told(&schedule, "2026-01-10T05:00:00Z", "2026-01-10T06:01:01Z"),
            (vec![], 1)
        );
        assert_eq!(
            told(&schedule, "2026-01-10T05:00:00Z", "2026-01-10T05:59:59Z"),
            (vec![], 0)
        );
    }

    #[test]
    fn a_clock_that_is_set_back_brings_no_tick_again() {
        let schedule = schedule("*/10 * * * *", Misfire::All { limit: 100 });
        assert_eq!(
            told(&schedule, "2026-01-10T06:00:00Z", "2026-01-10T05:00:00Z"),
            (vec![], 0)
        );
        assert_eq!(
            told(&schedule, "2026-01-10T06:00:00Z", "2026-01-10T06:09:59Z"),
            (vec![], 0)
        );
        let next = (vec![("2026-01-10T06:10:00Z".to_owned(), 0)], 0);
        assert_eq!(told(&schedule, "2026-01-10T06:00:00Z", "2026-01-10T06:10:00Z"), next);
    }

    #[test]
    fn years_of_missed_seconds_are_looked_through_from_their_end() {
        let schedule = schedule("* * * * * *", Misfire::All { limit: 500 });
        let due = due(
            &schedule,
            "2020-01-01T00:00:00Z".parse().unwrap(),
            "2026-01-10T08:01:00Z".parse().unwrap(),
            10_000,
        );
        assert_eq!(due.missed, MOST_COUNTED);
        assert_eq!(due.ticks.len(), 500 + 60);
        assert_eq!(due.ticks[0].nominal, "2026-01-10T07:51:41Z".parse().unwrap());
        assert_eq!(due.through, Some("2026-01-10T08:01:00Z".parse().unwrap()));
    }

    #[test]
    fn a_long_list_comes_in_parts_that_leave_nothing_out() {
        let schedule = schedule("* * * * * *", Misfire::All { limit: 500 });
        let now = "2026-01-10T08:00:00Z".parse().unwrap();
        let whole = due(&schedule, "2026-01-10T07:55:00Z".parse().unwrap(), now, 10_000).ticks;
        let (mut parts, mut missed, mut through) = (Vec::new(), 0, "2026-01-10T07:55:00Z".parse().unwrap());
        loop {
            let part = due(&schedule, through, now, 70);
            let Some(next) = part.through else { break };
            parts.extend(part.ticks);
            missed += part.missed;
            through = next;
        }
        assert_eq!(parts, whole);
        assert_eq!((parts.len(), missed), (300, 240));
    }

    #[test]
    fn a_tick_is_remembered_for_as_long_as_anybody_may_come_upon_it() {
        let now = "2026-01-10T05:00:00Z".parse().unwrap();
        let hours = |misfire| hold(&schedule("0 6 * * *", misfire), now, now).as_secs() / 3600;
        // Two hours of tolerance and a minute of grace come on top of each.
        assert_eq!(hours(Misfire::Skip), 2);
        assert_eq!(hours(Misfire::Once), 26);
        assert_eq!(hours(Misfire::All { limit: 3 }), 74);
    }
}
