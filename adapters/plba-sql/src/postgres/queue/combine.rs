//! Group commit: what comes while an exchange is under way goes together in the next one. A call that finds nothing under
//! way starts at once, so that nobody waits for company.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What can be put together.
pub(super) trait Weighed {
    /// How many rows it brings.
    fn rows(&self) -> usize;
    /// How many bytes it brings.
    fn bytes(&self) -> usize;
    /// Whether it goes alone.
    fn alone(&self) -> bool;
}

/// An exchange takes no more rows than this, unless one call alone has more.
const ROWS: usize = 1_000;
/// The same in bytes.
const BYTES: usize = 8 << 20;

/// Requests that wait for an exchange.
pub(super) struct Combiner<R> {
    flights: usize,
    state: Mutex<State<R>>,
}

struct State<R> {
    waiting: VecDeque<R>,
    flying: usize,
}

impl<R: Weighed> Combiner<R> {
    /// With so many exchanges at once.
    pub(super) fn new(flights: usize) -> Self {
        let state = State {
            waiting: VecDeque::new(),
            flying: 0,
        };
        Self {
            flights,
            state: Mutex::new(state),
        }
    }

    /// Takes a request in. Whoever gets a flight has to fly it until [`Flight::next`] has nothing more.
    pub(super) fn submit(&self, request: R) -> Option<Flight<'_, R>> {
        let mut state = self.lock();
        state.waiting.push_back(request);
        (state.flying < self.flights).then(|| {
            state.flying += 1;
            Flight { combiner: self }
        })
    }

    /// For a task that flies on behalf of a flight that was given: see [`submit`](Self::submit).
    pub(super) fn resume(&self) -> Flight<'_, R> {
        Flight { combiner: self }
    }

    fn lock(&self) -> MutexGuard<'_, State<R>> {
        // Each step leaves the state whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to one exchange at a time.
pub(super) struct Flight<'a, R> {
    combiner: &'a Combiner<R>,
}

impl<R: Weighed> Flight<'_, R> {
    /// Hands the flight to [`Combiner::resume`].
    pub(super) fn hand_over(self) {
        std::mem::forget(self);
    }

    /// What goes together now; the flight is over when there is nothing.
    pub(super) fn next(&mut self) -> Vec<R> {
        let mut state = self.combiner.lock();
        let (mut rows, mut bytes) = (0, 0);
        let mut batch: Vec<R> = Vec::new();
        while let Some(first) = state.waiting.front() {
            let fits = rows + first.rows() <= ROWS && bytes + first.bytes() <= BYTES;
            let alone = first.alone();
            if !batch.is_empty() && (alone || !fits) {
                break;
            }
            rows += first.rows();
            bytes += first.bytes();
            batch.extend(state.waiting.pop_front());
            if alone {
                break;
            }
        }
        batch
    }
}

impl<R> Drop for Flight<'_, R> {
    fn drop(&mut self) {
        let mut state = self.combiner.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.flying -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Request(usize, bool);

    impl Weighed for Request {
        fn rows(&self) -> usize {
            self.0
        }

        fn bytes(&self) -> usize {
            0
        }

        fn alone(&self) -> bool {
            self.1
        }
    }

    fn rows(batch: &[Request]) -> Vec<usize> {
        batch.iter().map(|request| request.0).collect()
    }

    #[test]
    fn the_first_flies_at_once_and_the_others_together_after_it() {
        let combiner = Combiner::new(1);
        let mut flight = combiner.submit(Request(1, false)).unwrap();
        assert_eq!(rows(&flight.next()), [1]);
        for count in [2, 3, 999, 1_500] {
            assert!(combiner.submit(Request(count, false)).is_none());
        }
        assert_eq!(rows(&flight.next()), [2, 3]);
        assert_eq!(rows(&flight.next()), [999]);
        assert_eq!(rows(&flight.next()), [1_500]);
        assert!(flight.next().is_empty());
        drop(flight);
        assert!(combiner.submit(Request(1, false)).is_some());
    }

    #[test]
    fn who_has_to_go_alone_does() {
        let combiner = Combiner::new(1);
        let mut flight = combiner.submit(Request(1, false)).unwrap();
        combiner.submit(Request(2, true));
        combiner.submit(Request(3, false));
        assert_eq!(
            [rows(&flight.next()), rows(&flight.next()), rows(&flight.next())],
            [[1], [2], [3]]
        );
    }
}
