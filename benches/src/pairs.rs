//! Pairs: plba and its peer measured one right after the other, so that a noisy neighbour slows both. Criterion decides how
//! often, and sees plba's time; the peer's is kept beside it.

use std::time::Duration;

/// The times of pairs, of plba and of its peer.
#[derive(Debug, Default)]
pub struct Pairs {
    times: Vec<(Duration, Duration)>,
    peer_first: bool,
}

impl Pairs {
    /// Runs `iterations` pairs and gives the time that plba took in all. Who comes first alternates.
    pub fn run(
        &mut self,
        iterations: u64,
        mut ours: impl FnMut() -> Duration,
        mut peer: impl FnMut() -> Duration,
    ) -> Duration {
        let mut total = Duration::ZERO;
        for _ in 0..iterations {
            self.peer_first = !self.peer_first;
            let pair = if self.peer_first {
                let peer = peer();
                (ours(), peer)
            } else {
                let ours = ours();
                (ours, peer())
            };
            total += pair.0;
            self.times.push(pair);
        }
        total
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.times.len()
    }

    /// The medians of plba's times, of the peer's, and of the quotients of each pair, which is what noise spoils least.
    /// `None` before the first pair.
    pub fn medians(&self) -> Option<Medians> {
        let seconds = |(ours, peer): &(Duration, Duration)| (ours.as_secs_f64(), peer.as_secs_f64());
        let times: Vec<(f64, f64)> = self.times.iter().map(seconds).collect();
        Some(Medians {
            ours: median(times.iter().map(|(ours, _)| *ours))?,
            peer: median(times.iter().map(|(_, peer)| *peer))?,
            quotient: median(times.iter().map(|(ours, peer)| ours / peer))?,
        })
    }
}

/// The medians of a number of pairs, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Medians {
    /// plba's time.
    pub ours: f64,
    /// The peer's time.
    pub peer: f64,
    /// plba's time in terms of the peer's.
    pub quotient: f64,
}

/// The middle value, or the mean of the two in the middle; `None` of nothing.
pub fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quotient_is_the_median_of_pairs_not_of_sums() {
        let mut pairs = Pairs::default();
        let mut ours = [2, 200, 30].map(Duration::from_secs).into_iter();
        let mut peers = [1, 100, 10].map(Duration::from_secs).into_iter();
        let total = pairs.run(3, || ours.next().unwrap(), || peers.next().unwrap());
        assert_eq!(total, Duration::from_secs(232));
        let medians = pairs.medians().unwrap();
        assert_eq!((medians.ours, medians.peer, medians.quotient), (30.0, 10.0, 2.0));
        assert_eq!(median([4.0, 1.0].into_iter()), Some(2.5));
        assert_eq!(median(std::iter::empty()), None);
    }
}
