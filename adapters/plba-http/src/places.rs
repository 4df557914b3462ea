//! Who holds a connection, and who must give it up when all are taken. A caller who has sent no whole request holds a
//! place only while nobody else needs it, so idle and slow connections can't lock anybody out.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The places for connections, in all and per address.
#[derive(Debug)]
pub(crate) struct Places {
    total: usize,
    per_address: usize,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    /// Counts up with every change, so that it tells both who is who and who has waited longer.
    next: u64,
    taken: HashMap<u64, Holder>,
}

#[derive(Debug)]
struct Holder {
    network: IpAddr,
    waiting_since: Option<u64>,
    leave: Arc<Notify>,
}

/// A connection's place; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    id: u64,
    leave: Arc<Notify>,
}

/// Marks a request in hand until it is dropped.
#[derive(Debug)]
pub(crate) struct Busy(Arc<Place>);

impl Places {
    pub(crate) fn new(total: usize, per_address: usize) -> Self {
        Self {
            total,
            per_address,
            table: Mutex::default(),
        }
    }

    /// A place for a connection from `address`, made free if need be; `None` if everybody has a request in hand.
    pub(crate) fn take(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let network = network(address);
        let mut table = self.table();
        let from_there = table.taken.values().filter(|holder| holder.network == network).count();
        if from_there >= self.per_address {
            table.make_room(|holder| holder.network == network)?;
        } else if table.taken.len() >= self.total {
            table.make_room(|_| true)?;
        }
        let id = table.count();
        let leave = Arc::new(Notify::new());
        let holder = Holder {
            network,
            waiting_since: Some(id),
            leave: Arc::clone(&leave),
        };
        table.taken.insert(id, holder);
        drop(table);
        Some(Place {
            places: Arc::clone(self),
            id,
            leave,
        })
    }

    // A panic while the lock is held can't leave the table half-changed, so a poisoned lock is as good as a sound one.
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn count(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn make_room(&mut self, among: impl Fn(&Holder) -> bool) -> Option<()> {
        let waiting = self.taken.iter().filter(|(_, holder)| among(holder));
        let longest = waiting.filter_map(|(id, holder)| holder.waiting_since.map(|since| (since, *id)));
        let (_, id) = longest.min()?;
        // Its entry goes now and not when it has left, so that the count is right for the next newcomer.
        self.taken.remove(&id)?.leave.notify_one();
        Some(())
    }
}

impl Place {
    /// Resolves once somebody else needs the place. Cancel safe.
    pub(crate) async fn wanted(&self) {
        self.leave.notified().await;
    }

    /// Marks a request in hand.
    pub(crate) fn busy(self: &Arc<Self>) -> Busy {
        self.set_waiting(false);
        Busy(Arc::clone(self))
    }

    fn set_waiting(&self, waits: bool) {
        let mut table = self.places.table();
        let now = table.count();
        if let Some(holder) = table.taken.get_mut(&self.id) {
            holder.waiting_since = waits.then_some(now);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.table().taken.remove(&self.id);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.set_waiting(true);
    }
}

/// What counts as one caller: an IPv4 address, or an IPv6 /64 network, since one machine may use all of that.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(place: &Place) -> bool {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        Box::pin(place.wanted()).as_mut().poll(&mut context).is_ready()
    }

    #[test]
    fn the_longest_waiting_without_a_request_makes_room() {
        let places = Arc::new(Places::new(3, 3));
        let take = |text: &str| places.take(text.parse().unwrap()).map(Arc::new);
        let (first, second, third) = (
            take("10.0.0.1").unwrap(),
            take("10.0.0.2").unwrap(),
            take("10.0.0.3").unwrap(),
        );
        let _in_hand = first.busy();
        let fourth = take("10.0.0.4").unwrap();
        assert_eq!(
            [&first, &second, &third].map(|place| wanted(place)),
            [false, true, false]
        );
        drop(second); // has left: must not give back a place that is no longer its own
        let _busy = (third.busy(), fourth.busy());
        assert!(take("10.0.0.5").is_none());
        drop(third.busy()); // answered: waits again
        assert!(take("10.0.0.5").is_some() && wanted(&third));
    }

    #[test]
    fn one_network_can_not_take_the_places_of_others() {
        let places = Arc::new(Places::new(4, 2));
        let take = |text: &str| places.take(text.parse().unwrap()).map(Arc::new);
        let other = take("10.0.0.1").unwrap();
        let held = [take("fd00::1").unwrap(), take("fd00::2").unwrap()];
        let third = take("fd00::3").unwrap();
        assert!(wanted(&held[0]) && !wanted(&other));
        let _busy = (held[1].busy(), third.busy());
        assert!(take("fd00::4").is_none());
        assert!(take("fd00:0:0:1::4").is_some(), "another /64 network");
    }
}
