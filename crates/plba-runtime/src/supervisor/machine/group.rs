//! Groups: which other slots restart with one whose attempt ended. That it restarts, and when, is decided before.

use std::collections::BTreeSet;
use std::time::Duration;

use plba_contracts::worker::{Group, GroupPolicy};

use super::protocol::{Sink, SlotKey, WorkerId};
use super::slot::Then;
use super::{DRAIN_WINDOW, Machine};
use crate::supervisor::view::SlotState;

impl<S: Sink> Machine<S> {
    /// Ends what restarts together with this slot, which is about to, and lets those who wait for any of it wait until it
    /// is ready again. What is ending already has something else to follow, and keeps it.
    pub(super) fn take_along(&mut self, key: SlotKey, now: Duration) {
        let group = self
            .members
            .get(key.worker)
            .and_then(|member| member.spec.group.as_deref().cloned());
        let together = match group {
            Some(group) if group.policy == GroupPolicy::OneForAll => self.all_of(&group),
            Some(group) if group.policy == GroupPolicy::RestForOne => self.rest_of(&group, key.worker),
            _ => return,
        };
        let mut ending = Vec::new();
        for worker in together {
            for other in self.slots_in(worker, SlotState::restarts_with_its_group) {
                self.unready(other);
                ending.push(other);
            }
        }
        for other in ending {
            let works = |state| matches!(state, SlotState::Starting | SlotState::Running);
            if self.slot(other).is_some_and(|slot| works(slot.state)) {
                self.end_slot(other, Then::Again, now.saturating_add(DRAIN_WINDOW), now);
            }
        }
        // Nobody knows for how long it pauses, or how often: a command does not wait for that.
        self.settle_blocked(key.worker);
    }

    fn all_of(&self, group: &Group) -> BTreeSet<WorkerId> {
        let members = self.members.iter().filter(|(_, member)| member.is_in(group));
        members.map(|(worker, _)| worker).collect()
    }

    /// The worker, and those in its group that start after it.
    fn rest_of(&self, group: &Group, first: WorkerId) -> BTreeSet<WorkerId> {
        let mut rest = BTreeSet::from([first]);
        let mut path = vec![first];
        while let Some(member) = path.pop().and_then(|worker| self.members.get(worker)) {
            for &dependent in member.dependents.iter() {
                let belongs = self.members.get(dependent).is_some_and(|member| member.is_in(group));
                if belongs && rest.insert(dependent) {
                    path.push(dependent);
                }
            }
        }
        rest
    }

    /// The worker's readiness waits for this slot anew.
    fn unready(&mut self, key: SlotKey) {
        let Some(member) = self.members.get_mut(key.worker) else {
            return;
        };
        let Some(slot) = member.slots.get_mut(key.slot as usize) else {
            return;
        };
        if std::mem::replace(&mut slot.unready, true) {
            return;
        }
        member.unready += 1;
        if !std::mem::take(&mut member.ready) {
            return;
        }
        for dependent in member.dependents.clone().into_vec() {
            if let Some(dependent) = self.members.get_mut(dependent) {
                dependent.waiting_on += 1;
            }
        }
    }
}
