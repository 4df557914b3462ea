//! The commands: what each asks of which slots. How slots are ended and in which order lives in `stopping`.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use plba_contracts::worker::Restart;

use super::definitions::check;
use super::member::Pause;
use super::planted::{Bug, planted};
use super::protocol::{Answer, Change, Refusal, Sink, SlotKey, Spec, Ticket, WorkerId};
use super::slot::{Slot, Then, Wish};
use super::{DRAIN_WINDOW, MAX_SLOTS, Machine, Phase};
use crate::supervisor::view::SlotState;

impl<S: Sink> Machine<S> {
    pub(super) fn command_start(&mut self, ticket: Ticket, specs: Vec<Spec>, now: Duration) {
        match self.phase {
            Phase::New => {}
            Phase::Starting(_) | Phase::Running => return self.refuse(ticket, Refusal::AlreadyStarted),
            Phase::Halted | Phase::Stopping | Phase::Stopped => return self.refuse(ticket, Refusal::Stopping),
        }
        if let Err(refusal) = check(specs.iter(), &specs) {
            return self.refuse(ticket, refusal);
        }
        let keys = self.add(specs);
        self.phase = Phase::Starting(ticket);
        for &key in &keys {
            self.begin_or_wait(key, now);
        }
        let watched: Vec<_> = keys.into_iter().map(|key| (key, Wish::Up)).collect();
        self.watch(ticket, &watched);
    }

    pub(super) fn command_apply(&mut self, ticket: Ticket, change: Change, now: Duration) {
        let change = merged(change);
        if let Err(refusal) = self.check_phase().and_then(|()| self.check_change(&change)) {
            return self.refuse(ticket, refusal);
        }
        let removed = change.removed.iter();
        let mut leaving: Vec<WorkerId> = removed.filter_map(|name| self.by_name.remove(name.as_str())).collect();
        leaving.sort_unstable();
        let (mut going, mut coming) = (Vec::new(), Vec::new());
        for &worker in &leaving {
            going.extend(self.slots_in(worker, |state| state != SlotState::Gone));
        }
        let mut relinked = Vec::new();
        for spec in change.changed {
            if let Some(&worker) = self.by_name.get(&spec.name) {
                let wanted = self.replace(worker, spec);
                relinked.push(worker);
                for key in self.slots_in(worker, |_| true) {
                    let list = if key.slot < wanted { &mut coming } else { &mut going };
                    list.push(key);
                }
            }
        }
        let added = self.add(change.added);
        for &worker in &relinked {
            self.link(worker);
        }
        going.retain(|&key| self.slot(key).is_some_and(|slot| slot.state != SlotState::Gone));
        let up = coming.iter().chain(&added).map(|&key| (key, Wish::Up));
        let watched: Vec<_> = going.iter().map(|&key| (key, Wish::Down)).chain(up).collect();
        self.watch(ticket, &watched);
        let end = now.saturating_add(DRAIN_WINDOW);
        for &key in &going {
            let settled = self.slot(key).is_some_and(|slot| !slot.state.is_live());
            if settled || leaving.binary_search(&key.worker).is_err() {
                self.end_slot(key, Then::Gone, end, now);
            }
        }
        self.take_turns(&leaving, Then::Gone, end, now);
        for key in coming {
            self.end_slot(key, Then::Again, end, now);
        }
        for key in added {
            // It has begun already if it waited for a namesake that was gone at once.
            if self.slot(key).is_some_and(|slot| slot.state == SlotState::Waiting) {
                self.begin_or_wait(key, now);
            }
        }
    }

    pub(super) fn command_restart(&mut self, ticket: Ticket, name: &str, now: Duration) {
        let worker = match self.find(name) {
            Ok(worker) => worker,
            Err(refusal) => return self.refuse(ticket, refusal),
        };
        let Some(member) = self.members.get_mut(worker) else {
            return;
        };
        member.set_pause(None);
        let wanted = member.wanted;
        member.slots.iter_mut().for_each(Slot::forgive);
        let keys: Vec<SlotKey> = (0..wanted).map(|slot| SlotKey { worker, slot }).collect();
        self.wish(ticket, &all(&keys, Wish::Up, Then::Again), now);
    }

    pub(super) fn command_scale(&mut self, ticket: Ticket, name: &str, slots: u32, now: Duration) {
        let worker = match self.find(name) {
            Ok(_) if slots == 0 || slots > MAX_SLOTS => return self.refuse(ticket, Refusal::SlotCount),
            Ok(worker) => worker,
            Err(refusal) => return self.refuse(ticket, refusal),
        };
        let Some(member) = self.members.get_mut(worker) else {
            return;
        };
        let before = std::mem::replace(&mut member.wanted, slots);
        member.spec.slots = slots;
        let paused = member.pause(now).is_some();
        member.fill_slots();
        let coming: Vec<SlotKey> = (before..slots).map(|slot| SlotKey { worker, slot }).collect();
        // Those that an earlier command lets drain are waited for as well.
        let mut going = self.slots_in(worker, |state| state != SlotState::Gone);
        going.retain(|key| key.slot >= slots + u32::from(planted(Bug::LeakedSlotAfterScaleDown)));
        for &key in &coming {
            // A slot that was scaled away comes back without its past.
            if let Some(slot) = self.slot(key) {
                slot.forgive();
                if slot.state == SlotState::Gone {
                    slot.state = SlotState::Waiting;
                }
            }
        }
        let (wish, then) = if paused {
            (Wish::Down, Then::Pause)
        } else {
            (Wish::Up, Then::Again)
        };
        let up = coming.iter().map(|&key| (key, wish, then));
        let wishes: Vec<_> = going
            .iter()
            .map(|&key| (key, Wish::Down, Then::Gone))
            .chain(up)
            .collect();
        self.wish(ticket, &wishes, now);
    }

    pub(super) fn command_judge(&mut self, ticket: Ticket, name: &str, restart: Arc<Restart>) {
        match self.find(name) {
            Ok(worker) => {
                if let Some(member) = self.members.get_mut(worker) {
                    member.spec.restart = restart;
                }
                self.answer(ticket, Answer::Done);
            }
            Err(refusal) => self.refuse(ticket, refusal),
        }
    }

    pub(super) fn command_pause(&mut self, ticket: Ticket, name: &str, until: Option<Duration>, now: Duration) {
        let worker = match self.find(name) {
            Ok(worker) => worker,
            Err(refusal) => return self.refuse(ticket, refusal),
        };
        let Some(member) = self.members.get_mut(worker) else {
            return;
        };
        member.set_pause(Some(Pause { until }));
        let wanted = member.wanted;
        for key in self.slots_in(worker, |state| state == SlotState::Paused) {
            self.set_state(key, SlotState::Paused, until);
        }
        let mut keys = self.slots_in(worker, |state| {
            state.is_live() || matches!(state, SlotState::Waiting | SlotState::BackingOff | SlotState::Abandoned)
        });
        keys.retain(|key| key.slot < wanted);
        self.wish(ticket, &all(&keys, Wish::Down, Then::Pause), now);
        self.settle_blocked(worker);
    }

    pub(super) fn command_resume(&mut self, ticket: Ticket, name: &str, now: Duration) {
        let worker = match self.find(name) {
            Ok(worker) => worker,
            Err(refusal) => return self.refuse(ticket, refusal),
        };
        let Some(member) = self.members.get_mut(worker) else {
            return;
        };
        if member.set_pause(None).is_none() {
            return self.answer(ticket, Answer::Done);
        }
        let wanted = member.wanted;
        let mut keys = self.slots_in(worker, |state| {
            state.is_ending() || matches!(state, SlotState::Paused | SlotState::Abandoned)
        });
        keys.retain(|key| key.slot < wanted);
        self.wish(ticket, &all(&keys, Wish::Up, Then::Again), now);
    }

    /// Lets the command wait for these slots, and ends what they do with this to follow.
    fn wish(&mut self, ticket: Ticket, wishes: &[(SlotKey, Wish, Then)], now: Duration) {
        let watched: Vec<_> = wishes.iter().map(|&(key, wish, _)| (key, wish)).collect();
        self.watch(ticket, &watched);
        for &(key, _, then) in wishes {
            self.end_slot(key, then, now.saturating_add(DRAIN_WINDOW), now);
        }
    }

    fn check_phase(&self) -> Result<(), Refusal> {
        match self.phase {
            Phase::New => Err(Refusal::NotStarted),
            Phase::Starting(_) | Phase::Running => Ok(()),
            Phase::Halted | Phase::Stopping | Phase::Stopped => Err(Refusal::Stopping),
        }
    }

    fn find(&self, name: &str) -> Result<WorkerId, Refusal> {
        self.check_phase()?;
        let known = self.by_name.get(name).copied();
        known.ok_or_else(|| Refusal::Unknown(name.to_owned()))
    }
}

/// What goes and comes under one name has changed: those that depend on it keep their place behind it.
fn merged(change: Change) -> Change {
    let removed: BTreeSet<String> = change.removed.into_iter().collect();
    let comes_back = |spec: &Spec| removed.contains(&*spec.name);
    let (back, added) = change.added.into_iter().partition::<Vec<Spec>, _>(comes_back);
    let names: HashSet<&str> = back.iter().map(|spec| &*spec.name).collect();
    let removed = removed
        .iter()
        .filter(|name| !names.contains(name.as_str()))
        .cloned()
        .collect();
    let changed = change.changed.into_iter().chain(back.iter().cloned()).collect();
    Change {
        added,
        removed,
        changed,
    }
}

fn all(keys: &[SlotKey], wish: Wish, then: Then) -> Vec<(SlotKey, Wish, Then)> {
    keys.iter().map(|&key| (key, wish, then)).collect()
}
