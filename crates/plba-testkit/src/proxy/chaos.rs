//! Random faults from a seed: the schedule alone, without a proxy. The same seed gives the same faults at the same times;
//! what they meet there is up to the client and the server.

use std::num::NonZeroU64;
use std::time::Duration;

use fastrand::Rng;

use super::{Direction, Ending, Fault};

/// What a schedule of random faults may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chaos {
    /// Each choice follows from it.
    pub seed: u64,
    /// The longest time that a fault lasts; default: 100 ms.
    pub longest_fault: Duration,
    /// The longest time without one in between; default: 200 ms.
    pub longest_peace: Duration,
    /// The most bytes that pass before a cut; default: 4096.
    pub most_bytes: u64,
}

impl Chaos {
    /// The defaults with this seed.
    pub fn new(seed: u64) -> Chaos {
        Chaos {
            seed,
            longest_fault: Duration::from_millis(100),
            longest_peace: Duration::from_millis(200),
            most_bytes: 4096,
        }
    }

    /// The endless schedule: how long to wait after the step before, then what to inject. Every second fault is
    /// [`Fault::Heal`].
    pub fn schedule(&self) -> impl Iterator<Item = (Duration, Fault)> + Send + use<> {
        let chaos = self.clone();
        let mut random = Rng::with_seed(self.seed);
        let mut faulty = false;
        std::iter::repeat_with(move || {
            faulty = !faulty;
            if faulty {
                (up_to(&mut random, chaos.longest_peace), chaos.fault(&mut random))
            } else {
                (up_to(&mut random, chaos.longest_fault), Fault::Heal)
            }
        })
    }

    fn fault(&self, random: &mut Rng) -> Fault {
        let direction = Direction::BOTH[random.usize(..2)];
        let ending = [Ending::Reset, Ending::Close][random.usize(..2)];
        match random.u8(..7) {
            0 => {
                let longest = self.longest_fault / 2;
                Fault::Latency(direction, up_to(random, longest), up_to(random, longest))
            }
            1 => Fault::Rate(direction, NonZeroU64::MIN.saturating_add(random.u64(..100_000))),
            2 => Fault::BlackHole(direction),
            3 => Fault::HalfClose(direction),
            4 => Fault::CutAfter(direction, random.u64(..=self.most_bytes), ending),
            5 => Fault::EndAll(ending),
            _ => Fault::Refuse,
        }
    }
}

fn up_to(random: &mut Rng, longest: Duration) -> Duration {
    longest.mul_f64(random.f64())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::mem;

    use super::*;

    fn steps(seed: u64) -> Vec<(Duration, Fault)> {
        Chaos::new(seed).schedule().take(400).collect()
    }

    #[test]
    fn a_seed_is_a_schedule_and_another_one_another() {
        assert_eq!(steps(1), steps(1));
        assert_ne!(steps(1), steps(2));
    }

    #[test]
    fn every_kind_of_fault_comes_and_each_is_healed_in_time() {
        let chaos = Chaos::new(7);
        let steps = steps(7);
        let kinds: HashSet<_> = steps.iter().map(|(_, fault)| mem::discriminant(fault)).collect();
        assert_eq!(kinds.len(), 8);
        for pair in steps.chunks(2) {
            assert_ne!(pair[0].1, Fault::Heal);
            assert_eq!(pair[1].1, Fault::Heal);
            assert!(pair[0].0 <= chaos.longest_peace && pair[1].0 <= chaos.longest_fault);
        }
    }
}
