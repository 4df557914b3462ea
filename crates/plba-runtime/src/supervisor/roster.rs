//! A table by worker number. Numbers only grow, so a sorted vector does what a tree would, in a quarter of the space:
//! looking one up is an index where nothing was removed, and a binary search elsewhere.

use super::machine::protocol::WorkerId;

/// Values by worker number.
pub(crate) struct Roster<T> {
    /// Ascending. What was removed leaves its place behind until half of the places are such.
    places: Vec<(WorkerId, Option<T>)>,
    left: usize,
}

impl<T> Default for Roster<T> {
    fn default() -> Self {
        Self {
            places: Vec::new(),
            left: 0,
        }
    }
}

impl<T> Roster<T> {
    /// Makes space for this many more, exactly.
    pub(crate) fn reserve(&mut self, more: usize) {
        self.places.reserve_exact(more);
    }

    /// Puts a value where there is none. Its number is higher than all before it.
    pub(crate) fn insert(&mut self, worker: WorkerId, value: T) {
        debug_assert!(
            self.places.last().is_none_or(|(last, _)| *last < worker),
            "numbers grow"
        );
        self.places.push((worker, Some(value)));
    }

    pub(crate) fn remove(&mut self, worker: WorkerId) -> Option<T> {
        let position = self.position(worker)?;
        let removed = self.places[position].1.take()?;
        self.left += 1;
        if self.left * 2 > self.places.len() {
            self.places.retain(|(_, value)| value.is_some());
            self.left = 0;
        }
        Some(removed)
    }

    pub(crate) fn get(&self, worker: WorkerId) -> Option<&T> {
        self.places[self.position(worker)?].1.as_ref()
    }

    pub(crate) fn get_mut(&mut self, worker: WorkerId) -> Option<&mut T> {
        let position = self.position(worker)?;
        self.places[position].1.as_mut()
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len() - self.left
    }

    /// All of them, by number.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (WorkerId, &T)> {
        let places = self.places.iter();
        places.filter_map(|(worker, value)| Some((*worker, value.as_ref()?)))
    }

    pub(crate) fn workers(&self) -> Vec<WorkerId> {
        self.iter().map(|(worker, _)| worker).collect()
    }

    fn position(&self, worker: WorkerId) -> Option<usize> {
        let first = self.places.first()?.0;
        // Where nothing is missing in between; never too low.
        let highest = usize::try_from(worker.checked_sub(first)?).ok()?;
        match self.places.get(highest) {
            Some((found, _)) if *found == worker => Some(highest),
            _ => {
                let up_to = highest.min(self.places.len());
                self.places[..up_to]
                    .binary_search_by_key(&worker, |(found, _)| *found)
                    .ok()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn it_is_a_map() {
        let mut random = fastrand::Rng::with_seed(3);
        let (mut roster, mut map) = (Roster::default(), BTreeMap::new());
        let mut next = 5;
        for step in 0..5_000 {
            let any = random.u64(0..next + 3);
            match random.u8(0..3) {
                0 if step < 2_000 || map.len() < 3 => {
                    next += random.u64(1..3);
                    roster.insert(next, step);
                    map.insert(next, step);
                }
                1 => assert_eq!(roster.remove(any), map.remove(&any)),
                _ => assert_eq!(roster.get(any), map.get(&any)),
            }
            assert_eq!(roster.len(), map.len());
            assert_eq!(roster.get_mut(any).copied(), map.get(&any).copied());
        }
        let all: Vec<_> = roster.iter().map(|(worker, value)| (worker, *value)).collect();
        assert_eq!(all, map.into_iter().collect::<Vec<_>>());
    }
}
