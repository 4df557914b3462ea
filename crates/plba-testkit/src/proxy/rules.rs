//! What a proxy does to bytes at the moment, in both directions: decided here, done in `connection`.

use std::num::NonZeroU64;
use std::time::Duration;

use fastrand::Rng;

use super::direction::Each;
use super::{Direction, Ending};

/// The rules in force.
#[derive(Debug)]
pub(super) struct Rules {
    lanes: Each<Lane>,
    random: Rng,
}

/// Those of one direction.
#[derive(Debug, Default)]
struct Lane {
    latency: Duration,
    jitter: Duration,
    rate: Option<NonZeroU64>,
    black_hole: bool,
    cut: Option<Cut>,
}

/// A cut that waits for its byte.
#[derive(Debug, Clone, Copy)]
struct Cut {
    left: u64,
    ending: Ending,
}

/// What is to be done with bytes that are due.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Hand on so many of them; none if there were none.
    Pass(usize),
    /// Hand on so many of them and end the connection.
    Cut(usize, Ending),
    /// Forget them all.
    Swallow,
}

impl Rules {
    pub(super) fn new(seed: u64) -> Rules {
        Rules {
            lanes: Each::default(),
            random: Rng::with_seed(seed),
        }
    }

    /// Back to no faults. Randomness goes on where it is.
    pub(super) fn heal(&mut self) {
        self.lanes = Each::default();
    }

    /// Whether bytes vanish in any direction.
    pub(super) fn swallows(&self) -> bool {
        Direction::BOTH
            .iter()
            .any(|direction| self.lanes[*direction].black_hole)
    }

    pub(super) fn set_latency(&mut self, direction: Direction, latency: Duration, jitter: Duration) {
        let lane = &mut self.lanes[direction];
        (lane.latency, lane.jitter) = (latency, jitter);
    }

    pub(super) fn set_rate(&mut self, direction: Direction, rate: Option<NonZeroU64>) {
        self.lanes[direction].rate = rate;
    }

    pub(super) fn set_black_hole(&mut self, direction: Direction) {
        self.lanes[direction].black_hole = true;
    }

    pub(super) fn arm_cut(&mut self, direction: Direction, left: u64, ending: Ending) {
        self.lanes[direction].cut = Some(Cut { left, ending });
    }

    /// How many more bytes pass before the cut, if one waits.
    pub(super) fn armed(&self, direction: Direction) -> Option<u64> {
        self.lanes[direction].cut.map(|cut| cut.left)
    }

    /// How late bytes are that come in now, or nothing when they are not to be late.
    pub(super) fn delay(&mut self, direction: Direction) -> Option<Duration> {
        if !self.is_late(direction) {
            return None;
        }
        let lane = &self.lanes[direction];
        Some(lane.latency + lane.jitter.mul_f64(self.random.f64()))
    }

    pub(super) fn is_late(&self, direction: Direction) -> bool {
        let lane = &self.lanes[direction];
        !lane.latency.is_zero() || !lane.jitter.is_zero()
    }

    pub(super) fn rate(&self, direction: Direction) -> Option<NonZeroU64> {
        self.lanes[direction].rate
    }

    /// Decides on `count` bytes and reckons them as done: two connections don't get the same bytes before a cut.
    pub(super) fn judge(&mut self, direction: Direction, count: usize) -> Verdict {
        let lane = &mut self.lanes[direction];
        if lane.black_hole {
            return Verdict::Swallow;
        }
        let Some(cut) = &mut lane.cut else {
            return Verdict::Pass(count);
        };
        if count == 0 {
            return Verdict::Pass(0);
        }
        let passing = count.min(usize::try_from(cut.left).unwrap_or(usize::MAX));
        cut.left -= passing as u64;
        if cut.left > 0 {
            return Verdict::Pass(passing);
        }
        let ending = cut.ending;
        lane.cut = None;
        Verdict::Cut(passing, ending)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_lets_exactly_its_bytes_pass_and_happens_once() {
        use Direction::{ToClient, ToServer};
        for (bytes, chunks, expected) in [
            (0, vec![5], vec![Verdict::Cut(0, Ending::Reset)]),
            (5, vec![5], vec![Verdict::Cut(5, Ending::Reset)]),
            (7, vec![5, 5], vec![Verdict::Pass(5), Verdict::Cut(2, Ending::Reset)]),
            (7, vec![0, 9], vec![Verdict::Pass(0), Verdict::Cut(7, Ending::Reset)]),
        ] {
            let mut rules = Rules::new(1);
            rules.arm_cut(ToServer, bytes, Ending::Reset);
            assert_eq!(rules.judge(ToClient, 100), Verdict::Pass(100));
            let verdicts: Vec<_> = chunks.into_iter().map(|count| rules.judge(ToServer, count)).collect();
            assert_eq!(verdicts, expected);
            assert_eq!(rules.armed(ToServer), None);
            assert_eq!(rules.judge(ToServer, 9), Verdict::Pass(9));
        }
    }

    #[test]
    fn lateness_lies_between_its_bounds_and_follows_the_seed() {
        let lateness = |seed| {
            let mut rules = Rules::new(seed);
            rules.set_latency(Direction::ToClient, Duration::from_millis(10), Duration::from_millis(5));
            let all: Vec<_> = (0..100).map(|_| rules.delay(Direction::ToClient).unwrap()).collect();
            assert_eq!(rules.delay(Direction::ToServer), None);
            all
        };
        let all = lateness(3);
        assert!(all.iter().all(|late| (10..=15).contains(&late.as_millis())), "{all:?}");
        assert_eq!(all, lateness(3));
        assert_ne!(all, lateness(4));
    }
}
