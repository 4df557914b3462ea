//! One slot: where it is, what is to follow, and what its past attempts mean for the next. Transitions are made by the
//! machine alone.

use std::time::Duration;

use plba_contracts::worker::{Restart, RestartPolicy};

use super::super::few::Few;
use super::super::view::SlotState;
use super::planted::{Bug, planted};
use super::protocol::Ticket;

/// What is to follow once a slot's attempt is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// The process stops: rest.
    Stop,
    /// Start anew.
    Again,
    /// The slot is not wanted any more.
    Gone,
    /// Rest until resumed.
    Pause,
    /// The attempt was dropped because its start took too long: treat it as failed.
    Retry,
    /// The attempt was ended because it hung: treat it as failed.
    Replace,
}

/// Where a command wants a slot to get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    Up,
    Down,
}

#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) state: SlotState,
    pub(crate) then: Then,
    /// The number of the current or latest attempt.
    pub(crate) attempt: u64,
    pub(crate) incarnation: u64,
    /// Since when the attempt runs, or, once its end was asked for, when that was.
    pub(crate) since: Duration,
    /// The window that it has for ending; it may start anew when the end comes nearer.
    pub(crate) from: Duration,
    pub(crate) end: Duration,
    /// The one timer a slot has; its meaning follows from the state.
    pub(crate) timer: Option<Duration>,
    /// Whether the worker's readiness waits for this slot.
    pub(crate) unready: bool,
    pub(crate) watchers: Watchers,
    /// Nothing, for one that has always gone well.
    past: Option<Box<Past>>,
}

/// The commands that wait for a slot. Hardly ever is it more than one.
#[derive(Debug, Default)]
pub(crate) struct Watchers {
    first: Option<(Ticket, Wish)>,
    more: Few<(Ticket, Wish)>,
}

impl Watchers {
    pub(crate) fn push(&mut self, ticket: Ticket, wish: Wish) {
        match self.first {
            None => self.first = Some((ticket, wish)),
            Some(_) => self.more.push((ticket, wish)),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none()
    }
}

impl IntoIterator for Watchers {
    type Item = (Ticket, Wish);
    type IntoIter = std::iter::Chain<std::option::IntoIter<Self::Item>, std::vec::IntoIter<Self::Item>>;

    fn into_iter(self) -> Self::IntoIter {
        self.first.into_iter().chain(self.more.into_vec())
    }
}

/// What is remembered of ended attempts.
#[derive(Debug, Default)]
struct Past {
    /// How many attempts have ended, those of long ago less and less.
    count: f64,
    counted_at: Duration,
    streak: u32,
}

/// What the restart policy says about an ended attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Finished,
    GivenUp,
    /// After this pause, to be spread by jitter.
    Again(Duration),
}

impl Slot {
    /// A slot that waits; `unready` when the worker's readiness waits for it.
    pub(crate) fn new(unready: bool) -> Self {
        Self {
            state: SlotState::Waiting,
            then: Then::Again,
            attempt: 0,
            incarnation: 0,
            since: Duration::ZERO,
            from: Duration::ZERO,
            end: Duration::ZERO,
            timer: None,
            unready,
            watchers: Watchers::default(),
            past: None,
        }
    }

    /// The past is forgotten: an operator or a reload starts the slot anew.
    pub(crate) fn forgive(&mut self) {
        self.past = None;
    }

    /// Counts an ended attempt and says what follows.
    pub(crate) fn judge(&mut self, restart: &Restart, failed: bool, ran: Option<Duration>, now: Duration) -> Verdict {
        let again = match restart.policy {
            RestartPolicy::Permanent => true,
            RestartPolicy::Transient => failed,
            RestartPolicy::Never => false,
        };
        if !again {
            return if failed { Verdict::GivenUp } else { Verdict::Finished };
        }
        let past = self.past.get_or_insert_default();
        past.count_one(restart.within, now);
        if past.count > f64::from(restart.intensity) + f64::from(u8::from(planted(Bug::IntensityOffByOne))) {
            self.past = None;
            return Verdict::GivenUp;
        }
        // An attempt that ran as long as failures are remembered starts a new series of pauses.
        if ran.is_some_and(|ran| ran >= restart.within) {
            past.streak = 0;
        }
        let factor = match planted(Bug::BackOffOverflow) {
            true => 1u32.wrapping_shl(past.streak),
            false => 1u32.checked_shl(past.streak).unwrap_or(u32::MAX),
        };
        past.streak = past.streak.saturating_add(1);
        let delay = restart.initial_delay.checked_mul(factor).unwrap_or(Duration::MAX);
        Verdict::Again(delay.min(restart.maximum_delay))
    }
}

impl Past {
    /// One more; of those before, half is forgotten in each span.
    fn count_one(&mut self, half_life: Duration, now: Duration) {
        let passed = now.saturating_sub(self.counted_at);
        // No span at all is infinitely many of them, or none where no time has passed either.
        let spans = passed.as_secs_f64() / half_life.as_secs_f64();
        let left = if spans.is_nan() { 1.0 } else { (-spans).exp2() };
        (self.count, self.counted_at) = (self.count * left + 1.0, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(restart: &Restart, ends: &[u64]) -> Vec<Verdict> {
        let mut slot = Slot::new(true);
        let at = |second: &u64| slot.judge(restart, true, None, Duration::from_secs(*second));
        ends.iter().map(at).collect()
    }

    #[test]
    fn one_attempt_more_than_the_intensity_gives_up_unless_they_are_far_apart() {
        let restart = Restart::default();
        assert_eq!(judged(&restart, &[0, 1, 2, 3, 4, 5]).last(), Some(&Verdict::GivenUp));
        assert!(!judged(&restart, &[0, 1, 2, 3, 4, 60]).contains(&Verdict::GivenUp));
        let steadily = |seconds: u64| judged(&restart, &(0..100).map(|number| number * seconds).collect::<Vec<_>>());
        assert!(steadily(15).contains(&Verdict::GivenUp));
        assert!(!steadily(20).contains(&Verdict::GivenUp));
        let none = Restart {
            intensity: 0,
            ..restart.clone()
        };
        assert_eq!(judged(&none, &[0]), [Verdict::GivenUp]);
        let forgetful = Restart {
            within: Duration::ZERO,
            ..restart
        };
        assert!(!judged(&forgetful, &[0, 1, 2, 3, 4, 5, 6, 7]).contains(&Verdict::GivenUp));
        assert_eq!(judged(&forgetful, &[0; 6]).last(), Some(&Verdict::GivenUp));
    }

    #[test]
    fn pauses_double_up_to_the_limit_and_never_overflow() {
        let restart = Restart {
            intensity: 1000,
            ..Restart::default()
        };
        let ends: Vec<u64> = (0..200).collect();
        let pauses = judged(&restart, &ends);
        let again = |millis| Verdict::Again(Duration::from_millis(millis));
        assert_eq!(pauses[..4], [again(500), again(1000), again(2000), again(4000)]);
        assert!(pauses[6..].iter().all(|verdict| *verdict == again(30_000)));
        let huge = Restart {
            initial_delay: Duration::MAX,
            maximum_delay: Duration::MAX,
            ..restart
        };
        assert_eq!(judged(&huge, &[0, 1])[1], Verdict::Again(Duration::MAX));
    }

    #[test]
    fn a_long_run_starts_a_new_series_of_pauses() {
        let restart = Restart::default();
        let mut slot = Slot::new(true);
        let secs = Duration::from_secs;
        slot.judge(&restart, true, None, secs(1));
        slot.judge(&restart, true, Some(secs(1)), secs(2));
        let verdict = slot.judge(&restart, true, Some(secs(60)), secs(90));
        assert_eq!(verdict, Verdict::Again(restart.initial_delay));
    }
}
