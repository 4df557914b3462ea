//! Who holds what, and until when: leases in a slab whose slots are linked in the order of their deadlines, so that
//! granting, ending, extending and finding the next deadline each take constant time.

use std::time::Duration;

use super::entry::Entry;
use super::holders::{Holder, Holders};
use crate::queue::ConsumerId;

const NONE: u32 = u32::MAX;
/// A fence is a slot's number below, and above a count that tells the slot's holders apart.
const SLOT_BITS: u32 = 28;

/// The leases of one named queue.
#[derive(Default)]
pub(super) struct Leases {
    slots: Vec<Slot>,
    free: Vec<u32>,
    head: Link,
    tail: Link,
    count: usize,
    grants: u64,
    holders: Holders,
}

struct Slot {
    fence: u64,
    entry: Option<Entry>,
    deadline: Duration,
    holder: Holder,
    pinned: bool,
    previous: Link,
    next: Link,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Link(u32);

impl Default for Link {
    fn default() -> Self {
        Self(NONE)
    }
}

impl Leases {
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Notes who is about to be granted leases.
    pub(super) fn holder(&mut self, consumer: &ConsumerId) -> Holder {
        self.holders.of(consumer)
    }

    /// Leases an entry. Deadlines must not go back: the next one is never before the last one.
    pub(super) fn grant(&mut self, entry: Entry, deadline: Duration, holder: Holder) -> (u64, &Entry) {
        self.grants += 1;
        self.holders.takes(holder);
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot {
                fence: 0,
                entry: None,
                deadline,
                holder,
                pinned: false,
                previous: Link::default(),
                next: Link::default(),
            });
            (self.slots.len() - 1) as u32
        });
        let fence = (self.grants << SLOT_BITS) | u64::from(index);
        let slot = &mut self.slots[index as usize];
        slot.fence = fence;
        slot.deadline = deadline;
        slot.holder = holder;
        slot.pinned = false;
        self.count += 1;
        self.link(index);
        (fence, self.slots[index as usize].entry.insert(entry))
    }

    /// What is leased, until when and to whom.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Entry, Duration, Option<&ConsumerId>)> {
        self.slots.iter().filter_map(|slot| {
            let entry = slot.entry.as_ref()?;
            Some((entry, slot.deadline, self.holders.get(slot.holder)))
        })
    }

    /// The entry under this fence, if the lease is held.
    pub(super) fn get(&mut self, fence: u64) -> Option<&mut Entry> {
        let index = self.index(fence)?;
        self.slots[index as usize].entry.as_mut()
    }

    /// Ends a lease, pinned or not.
    pub(super) fn take(&mut self, fence: u64) -> Option<Entry> {
        let index = self.index(fence)?;
        if !self.slots[index as usize].pinned {
            self.unlink(index);
        }
        let slot = &mut self.slots[index as usize];
        slot.fence = 0;
        slot.pinned = false;
        self.holders.leaves(slot.holder);
        self.free.push(index);
        self.count -= 1;
        slot.entry.take()
    }

    /// The lease can't run out until it is extended or taken. False when it isn't held, or is pinned by somebody else.
    pub(super) fn pin(&mut self, fence: u64) -> bool {
        let Some(index) = self.index(fence) else { return false };
        if self.slots[index as usize].pinned {
            return false;
        }
        self.unlink(index);
        self.slots[index as usize].pinned = true;
        true
    }

    /// The lease runs until `deadline`, which must not be before that of any other lease; lifts a pin.
    pub(super) fn unpin(&mut self, fence: u64, deadline: Duration) {
        let Some(index) = self.index(fence) else { return };
        let slot = &mut self.slots[index as usize];
        if std::mem::take(&mut slot.pinned) {
            slot.deadline = deadline;
            self.link(index);
        }
    }

    /// Extends a held lease; a pinned one needs no extending.
    pub(super) fn extend(&mut self, fence: u64, deadline: Duration) -> bool {
        let Some(index) = self.index(fence) else { return false };
        if !self.slots[index as usize].pinned {
            self.unlink(index);
            self.slots[index as usize].deadline = deadline;
            self.link(index);
        }
        true
    }

    /// When the next lease runs out.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        (self.head.0 != NONE).then(|| self.slots[self.head.0 as usize].deadline)
    }

    /// Ends the lease that has run out longest, if any has.
    pub(super) fn expire(&mut self, now: Duration) -> Option<Entry> {
        if self.next_deadline()? > now {
            return None;
        }
        let fence = self.slots[self.head.0 as usize].fence;
        self.take(fence)
    }

    fn index(&self, fence: u64) -> Option<u32> {
        let index = (fence & ((1 << SLOT_BITS) - 1)) as u32;
        let slot = self.slots.get(index as usize)?;
        (slot.fence == fence && fence != 0).then_some(index)
    }

    fn link(&mut self, index: u32) {
        let last = self.tail;
        self.slots[index as usize].previous = last;
        self.slots[index as usize].next = Link::default();
        match self.slots.get_mut(last.0 as usize) {
            Some(slot) => slot.next = Link(index),
            None => self.head = Link(index),
        }
        self.tail = Link(index);
    }

    fn unlink(&mut self, index: u32) {
        let (previous, next) = (self.slots[index as usize].previous, self.slots[index as usize].next);
        match self.slots.get_mut(previous.0 as usize) {
            Some(slot) => slot.next = next,
            None => self.head = next,
        }
        match self.slots.get_mut(next.0 as usize) {
            Some(slot) => slot.previous = previous,
            None => self.tail = previous,
        }
    }
}
