//! Who holds leases: each consumer once, whatever it holds, so that a lease needs only a number.

use crate::queue::ConsumerId;

/// The consumers of one named queue that hold something.
#[derive(Default)]
pub(super) struct Holders(Vec<(ConsumerId, usize)>);

/// A consumer's number, for as long as it holds something.
#[derive(Clone, Copy)]
pub(super) struct Holder(u32);

impl Holders {
    /// The number of a consumer; takes the place of one that holds nothing.
    pub(super) fn of(&mut self, consumer: &ConsumerId) -> Holder {
        let same = |(known, _): &(ConsumerId, usize)| known == consumer;
        let place = self.0.iter().position(same).unwrap_or_else(|| {
            let entry = (consumer.clone(), 0);
            match self.0.iter().position(|(_, leases)| *leases == 0) {
                Some(free) => {
                    self.0[free] = entry;
                    free
                }
                None => {
                    self.0.push(entry);
                    self.0.len() - 1
                }
            }
        });
        Holder(place as u32)
    }

    pub(super) fn get(&self, holder: Holder) -> Option<&ConsumerId> {
        self.0.get(holder.0 as usize).map(|(consumer, _)| consumer)
    }

    /// It has one lease more.
    pub(super) fn takes(&mut self, holder: Holder) {
        if let Some((_, leases)) = self.0.get_mut(holder.0 as usize) {
            *leases += 1;
        }
    }

    /// It has one lease less.
    pub(super) fn leaves(&mut self, holder: Holder) {
        if let Some((_, leases)) = self.0.get_mut(holder.0 as usize) {
            *leases = leases.saturating_sub(1);
        }
    }
}
