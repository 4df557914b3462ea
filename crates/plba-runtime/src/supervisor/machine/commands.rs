//! The commands: what each asks of which slots. How slots are ended and in which order lives in `stopping`.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use plba_contracts::worker::Group;

use super::graph;
use super::planted::{Bug, planted};
use super::protocol::{Answer, Change, Effect, Refusal, SlotKey, Spec, Ticket, WorkerId};
use super::slot::{Slot, Then, Wish};
use super::{DRAIN_WINDOW, MAX_SLOTS, Machine, Member, Phase};
use crate::supervisor::view::SlotState;

impl Machine {
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
        let leaving: BTreeSet<WorkerId> = removed.filter_map(|name| self.by_name.remove(name.as_str())).collect();
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
            if settled || !leaving.contains(&key.worker) {
                self.end_slot(key, Then::Gone, end, now);
            }
        }
        self.take_turns(leaving, Then::Gone, end, now);
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
        let Some(member) = self.members.get_mut(&worker) else {
            return;
        };
        member.paused = false;
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
        let Some(member) = self.members.get_mut(&worker) else {
            return;
        };
        let before = std::mem::replace(&mut member.wanted, slots);
        member.spec.slots = slots;
        let paused = member.paused;
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

    pub(super) fn command_pause(&mut self, ticket: Ticket, name: &str, now: Duration) {
        let worker = match self.find(name) {
            Ok(worker) => worker,
            Err(refusal) => return self.refuse(ticket, refusal),
        };
        let Some(member) = self.members.get_mut(&worker) else {
            return;
        };
        member.paused = true;
        let wanted = member.wanted;
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
        let Some(member) = self.members.get_mut(&worker) else {
            return;
        };
        if !std::mem::take(&mut member.paused) {
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

    // === definitions ===

    fn add(&mut self, specs: Vec<Spec>) -> Vec<SlotKey> {
        let first = self.next_worker;
        let mut keys = Vec::new();
        for spec in specs {
            let worker = self.next_worker;
            self.next_worker += 1;
            let name = Arc::clone(&spec.name);
            self.effects.push(Effect::Added {
                worker,
                name: Arc::clone(&name),
            });
            let member = Member::new(spec);
            keys.extend((0..member.wanted).map(|slot| SlotKey { worker, slot }));
            self.members.insert(worker, Box::new(member));
            self.by_name.insert(name, worker);
        }
        if first > 0 {
            self.wait_for_namesakes(first);
        }
        for worker in first..self.next_worker {
            self.link(worker);
        }
        keys
    }

    /// Those that were added from `first` on wait until removed workers of the same name are gone.
    fn wait_for_namesakes(&mut self, first: WorkerId) {
        let earlier = self.members.range(..first).map(|(_, member)| &member.spec.name);
        let successors = earlier.filter_map(|name| self.by_name.get(name).copied());
        let successors: Vec<WorkerId> = successors.filter(|&worker| worker >= first).collect();
        for worker in successors {
            if let Some(member) = self.members.get_mut(&worker) {
                member.namesakes += 1;
            }
        }
    }

    /// Puts the edges of a worker as its definition says, and counts what it waits for.
    fn link(&mut self, worker: WorkerId) {
        let Some(member) = self.members.get(&worker) else {
            return;
        };
        let names = member.spec.after.iter();
        let mut after: Vec<WorkerId> = names
            .filter_map(|name| self.by_name.get(name.as_str()).copied())
            .collect();
        after.sort_unstable();
        after.dedup();
        let mut missing = member.namesakes;
        for dependency in &after {
            if let Some(dependency) = self.members.get_mut(dependency) {
                dependency.dependents.push(worker);
                missing += usize::from(!dependency.ready);
            }
        }
        if let Some(member) = self.members.get_mut(&worker) {
            member.after = after;
            member.waiting_on = missing;
        }
    }

    fn unlink(&mut self, worker: WorkerId) {
        let Some(member) = self.members.get_mut(&worker) else {
            return;
        };
        for dependency in std::mem::take(&mut member.after) {
            if let Some(dependency) = self.members.get_mut(&dependency) {
                dependency.dependents.retain(|&dependent| dependent != worker);
            }
        }
    }

    /// Gives a worker another definition; its edges are to be linked anew. Gives the number of slots wanted.
    fn replace(&mut self, worker: WorkerId, spec: Spec) -> u32 {
        self.unlink(worker);
        let Some(member) = self.members.get_mut(&worker) else {
            return 0;
        };
        let was_ready = std::mem::take(&mut member.ready);
        member.wanted = spec.slots.max(1);
        member.paused = false;
        member.spec = spec;
        member.fill_slots();
        let wanted = member.wanted as usize;
        member.unready = wanted;
        for (number, slot) in member.slots.iter_mut().enumerate() {
            slot.unready = number < wanted;
            slot.forgive();
            if number < wanted && slot.state == SlotState::Gone {
                slot.state = SlotState::Waiting;
            }
        }
        if was_ready {
            for dependent in member.dependents.clone() {
                if let Some(dependent) = self.members.get_mut(&dependent) {
                    dependent.waiting_on += 1;
                }
            }
        }
        self.effects.push(Effect::Changed { worker });
        self.members.get(&worker).map_or(0, |member| member.wanted)
    }

    /// Forgets a removed worker once nothing of it is left.
    pub(super) fn purge(&mut self, worker: WorkerId, now: Duration) {
        let Some(member) = self.members.get(&worker) else {
            return;
        };
        let removed = member
            .turn
            .as_ref()
            .is_some_and(|turn| turn.then == Then::Gone && turn.down);
        if !removed || member.slots.iter().any(|slot| slot.state != SlotState::Gone) {
            return;
        }
        let name = Arc::clone(&member.spec.name);
        let dependents = member.dependents.clone();
        self.unlink(worker);
        self.members.remove(&worker);
        for dependent in dependents {
            if let Some(dependent) = self.members.get_mut(&dependent) {
                dependent.after.retain(|&dependency| dependency != worker);
            }
        }
        self.effects.push(Effect::Removed { worker });
        let Some(&successor) = self.by_name.get(&name) else {
            return;
        };
        if let Some(member) = self.members.get_mut(&successor).filter(|member| member.namesakes > 0) {
            member.namesakes -= 1;
            self.release(successor, now);
        }
    }

    // === checks ===

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

    fn check_change(&self, change: &Change) -> Result<(), Refusal> {
        let changed = change.changed.iter().map(|spec| &*spec.name);
        for name in change.removed.iter().map(String::as_str).chain(changed) {
            if !self.by_name.contains_key(name) {
                return Err(Refusal::Unknown(name.to_owned()));
            }
        }
        let changed = change.changed.iter().map(|spec| &*spec.name);
        let gone: HashSet<&str> = change.removed.iter().map(String::as_str).chain(changed).collect();
        let current = self.by_name.values().filter_map(|worker| self.members.get(worker));
        let kept = current
            .map(|member| &member.spec)
            .filter(|spec| !gone.contains(&*spec.name));
        let fresh: Vec<Spec> = change.changed.iter().chain(&change.added).cloned().collect();
        check(kept.chain(&fresh), &fresh)
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

fn check<'a>(all: impl Iterator<Item = &'a Spec>, fresh: &[Spec]) -> Result<(), Refusal> {
    if fresh.iter().any(|spec| spec.slots > MAX_SLOTS) {
        return Err(Refusal::SlotCount);
    }
    let mut nodes: Vec<(&str, &[String])> = all.map(|spec| (&*spec.name, spec.after.as_slice())).collect();
    // The order decides which of several faults is named; it must not come from a hash map.
    nodes.sort_unstable();
    graph::check(&nodes).map_err(Refusal::Graph)
}

impl Member {
    fn new(spec: Spec) -> Self {
        let wanted = spec.slots.max(1);
        let mut member = Self {
            spec,
            slots: Vec::with_capacity(wanted as usize),
            wanted,
            paused: false,
            after: Vec::new(),
            dependents: Vec::new(),
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

    /// Whether it belongs to the group, whatever its own ends mean for it. What is on its way out does not.
    pub(super) fn is_in(&self, group: &Group) -> bool {
        self.turn.is_none() && self.spec.group.as_ref().is_some_and(|own| own.name == group.name)
    }

    /// Makes the slots that are wanted and not there yet. A worker that was ready stays so while it grows.
    fn fill_slots(&mut self) {
        while self.slots.len() < self.wanted as usize {
            self.slots.push(Slot::new(!self.ready));
            self.unready += usize::from(!self.ready);
        }
    }
}
