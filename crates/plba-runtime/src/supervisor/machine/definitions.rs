//! The definitions as they come, change and go: whether they fit together, and what waits for what. What a reload does
//! with running slots lives in `commands`.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::graph;
use super::member::Member;
use super::protocol::{Change, Effect, Refusal, Sink, SlotKey, Spec, WorkerId};
use super::slot::Then;
use super::{MAX_SLOTS, Machine};
use crate::supervisor::view::SlotState;

impl<S: Sink> Machine<S> {
    pub(super) fn add(&mut self, specs: Vec<Spec>) -> Vec<SlotKey> {
        let first = self.next_worker;
        self.members.reserve(specs.len());
        self.by_name.reserve(specs.len());
        let slots = specs.iter().map(|spec| spec.slots.max(1) as usize).sum();
        let mut keys = Vec::with_capacity(slots);
        for spec in specs {
            let worker = self.next_worker;
            self.next_worker += 1;
            let name = Arc::clone(&spec.name);
            self.sink.carry_out(Effect::Added {
                worker,
                name: Arc::clone(&name),
                recipe: spec.recipe,
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
    pub(super) fn wait_for_namesakes(&mut self, first: WorkerId) {
        let earlier = self.members.iter().take_while(|(worker, _)| *worker < first);
        let earlier = earlier.map(|(_, member)| &member.spec.name);
        let successors = earlier.filter_map(|name| self.by_name.get(name).copied());
        let successors: Vec<WorkerId> = successors.filter(|&worker| worker >= first).collect();
        for worker in successors {
            if let Some(member) = self.members.get_mut(worker) {
                member.namesakes += 1;
            }
        }
    }

    /// Puts the edges of a worker as its definition says, and counts what it waits for.
    pub(super) fn link(&mut self, worker: WorkerId) {
        let Some(member) = self.members.get(worker) else {
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
            if let Some(dependency) = self.members.get_mut(*dependency) {
                dependency.dependents.push(worker);
                missing += u32::from(!dependency.ready);
            }
        }
        if let Some(member) = self.members.get_mut(worker) {
            member.after = after.into();
            member.waiting_on = missing;
        }
    }

    pub(super) fn unlink(&mut self, worker: WorkerId) {
        let Some(member) = self.members.get_mut(worker) else {
            return;
        };
        for dependency in std::mem::take(&mut member.after).into_vec() {
            if let Some(dependency) = self.members.get_mut(dependency) {
                dependency.dependents.retain(|&dependent| dependent != worker);
            }
        }
    }

    /// Gives a worker another definition; its edges are to be linked anew. Gives the number of slots wanted.
    pub(super) fn replace(&mut self, worker: WorkerId, spec: Spec) -> u32 {
        self.unlink(worker);
        let Some(member) = self.members.get_mut(worker) else {
            return 0;
        };
        let was_ready = std::mem::take(&mut member.ready);
        member.wanted = spec.slots.max(1);
        member.set_pause(None);
        let recipe = spec.recipe;
        member.spec = spec;
        member.fill_slots();
        let wanted = member.wanted as usize;
        member.unready = member.wanted;
        for (number, slot) in member.slots.iter_mut().enumerate() {
            slot.unready = number < wanted;
            slot.forgive();
            if number < wanted && slot.state == SlotState::Gone {
                slot.state = SlotState::Waiting;
            }
        }
        if was_ready {
            for dependent in member.dependents.clone().into_vec() {
                if let Some(dependent) = self.members.get_mut(dependent) {
                    dependent.waiting_on += 1;
                }
            }
        }
        self.sink.carry_out(Effect::Changed { worker, recipe });
        self.members.get(worker).map_or(0, |member| member.wanted)
    }

    /// Forgets a removed worker once nothing of it is left.
    pub(super) fn purge(&mut self, worker: WorkerId, now: Duration) {
        let Some(member) = self.members.get(worker) else {
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
        let dependents = member.dependents.to_vec();
        self.unlink(worker);
        self.members.remove(worker);
        for dependent in dependents {
            if let Some(dependent) = self.members.get_mut(dependent) {
                dependent.after.retain(|&dependency| dependency != worker);
            }
        }
        self.sink.carry_out(Effect::Removed { worker });
        let Some(&successor) = self.by_name.get(&name) else {
            return;
        };
        if let Some(member) = self.members.get_mut(successor).filter(|member| member.namesakes > 0) {
            member.namesakes -= 1;
            self.release(successor, now);
        }
    }

    pub(super) fn check_change(&self, change: &Change) -> Result<(), Refusal> {
        let changed = change.changed.iter().map(|spec| &*spec.name);
        for name in change.removed.iter().map(String::as_str).chain(changed) {
            if !self.by_name.contains_key(name) {
                return Err(Refusal::Unknown(name.to_owned()));
            }
        }
        let changed = change.changed.iter().map(|spec| &*spec.name);
        let gone: HashSet<&str> = change.removed.iter().map(String::as_str).chain(changed).collect();
        let current = self.by_name.values().filter_map(|worker| self.members.get(*worker));
        let kept = current
            .map(|member| &member.spec)
            .filter(|spec| !gone.contains(&*spec.name));
        let fresh: Vec<Spec> = change.changed.iter().chain(&change.added).cloned().collect();
        check(kept.chain(&fresh), &fresh)
    }
}

pub(super) fn check<'a>(all: impl Iterator<Item = &'a Spec>, fresh: &[Spec]) -> Result<(), Refusal> {
    if fresh.iter().any(|spec| spec.slots > MAX_SLOTS) {
        return Err(Refusal::SlotCount);
    }
    let mut nodes: Vec<(&str, &[String])> = all.map(|spec| (&*spec.name, &*spec.after)).collect();
    graph::check(&nodes).or_else(|_| {
        // The order decides which of several faults is named; it must not come from a hash map.
        nodes.sort_unstable();
        graph::check(&nodes).map_err(Refusal::Graph)
    })
}
