//! One definition as the machine has it: its slots, its place in the order, and its part in a stop. Transitions are made
//! elsewhere.

use std::time::Duration;

use plba_contracts::worker::Group;

use super::super::few::{Few, OneOrMore};
use super::planted::{Bug, planted};
use super::protocol::{Spec, WorkerId};
use super::slot::Slot;
use super::stopping::Turn;

/// One definition.
pub(super) struct Member {
    pub(super) spec: Spec,
    pub(super) slots: OneOrMore<Slot>,
    /// How many slots are wanted; those above are gone or going.
    pub(super) wanted: u32,
    /// That an operator lets it rest; one that is over counts as none.
    paused: Option<Pause>,
    pub(super) after: Few<WorkerId>,
    pub(super) dependents: Few<WorkerId>,
    /// Every slot was ready once since the definition came or changed.
    pub(super) ready: bool,
    /// Slots that were not.
    pub(super) unready: u32,
    /// How many it waits for before it starts: dependencies that are not ready, and namesakes.
    pub(super) waiting_on: u32,
    /// Removed workers of the same name that are not gone; it waits for them.
    pub(super) namesakes: u32,
    pub(super) live: u32,
    /// Its part in a stop or removal.
    pub(super) turn: Option<Box<Turn>>,
}

/// A rest that an operator wants, and when it ends by itself, where it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pause {
    pub(super) until: Option<Duration>,
}

impl Member {
    pub(super) fn new(spec: Spec) -> Self {
        let wanted = spec.slots.max(1);
        let mut member = Self {
            spec,
            slots: OneOrMore::default(),
            wanted,
            paused: None,
            after: Few::default(),
            dependents: Few::default(),
            ready: false,
            unready: 0,
            waiting_on: 0,
            namesakes: 0,
            live: 0,
            turn: None,
        };
        member.fill_slots();
        member
    }

    /// The pause that goes on, if one does.
    pub(super) fn pause(&self, now: Duration) -> Option<Pause> {
        self.paused.filter(|pause| pause.until.is_none_or(|until| until > now))
    }

    /// When the latest pause ends or ended by itself.
    pub(super) fn pause_end(&self) -> Option<Duration> {
        self.paused.and_then(|pause| pause.until)
    }

    /// Has this pause or none from now on; gives the one that it had.
    pub(super) fn set_pause(&mut self, pause: Option<Pause>) -> Option<Pause> {
        std::mem::replace(&mut self.paused, pause)
    }

    /// Whether it belongs to the group, whatever its own ends mean for it. What is on its way out does not.
    pub(super) fn is_in(&self, group: &Group) -> bool {
        self.turn.is_none() && self.spec.group.as_ref().is_some_and(|own| own.name == group.name)
    }

    /// Makes the slots that are wanted and not there yet. A worker that was ready stays so while it grows.
    pub(super) fn fill_slots(&mut self) {
        while self.slots.len() < self.wanted as usize {
            self.slots.push(Slot::new(!self.ready));
            self.unready += u32::from(!self.ready);
        }
    }

    /// Those that have to be down before it is asked.
    pub(super) fn stops_after(&self) -> &Few<WorkerId> {
        match planted(Bug::WrongReverseOrder) {
            true => &self.after,
            false => &self.dependents,
        }
    }

    /// Those that are asked once it is down.
    pub(super) fn stops_before(&self) -> &Few<WorkerId> {
        match planted(Bug::WrongReverseOrder) {
            true => &self.dependents,
            false => &self.after,
        }
    }
}
