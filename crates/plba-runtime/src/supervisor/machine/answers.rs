//! The one answer to each command: which slots it waits for, and what became of them. What commands do lives in
//! `commands`.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::protocol::{Answer, Effect, Refusal, Sink, SlotFailure, SlotKey, Ticket, WorkerId};
use super::slot::{Slot, Wish};
use super::{Machine, Phase};
use crate::supervisor::view::SlotState;

/// A command that waits for its answer.
pub(super) struct Pending {
    pub(super) outstanding: usize,
    pub(super) failures: Vec<SlotFailure>,
    pub(super) overtaken: bool,
}

/// What became of a slot that a command watches.
pub(super) enum Settled {
    Up,
    Down,
    Failed(Arc<str>),
    /// Its attempt does not let itself be ended.
    Stuck,
}

impl<S: Sink> Machine<S> {
    pub(super) fn answer(&mut self, ticket: Ticket, answer: Answer) {
        self.sink.carry_out(Effect::Answer { ticket, answer });
    }

    pub(super) fn refuse(&mut self, ticket: Ticket, refusal: Refusal) {
        self.answer(ticket, Answer::Refused(refusal));
    }

    /// From now on the command waits for these slots; with none, it is answered at once.
    pub(super) fn watch(&mut self, ticket: Ticket, watched: &[(SlotKey, Wish)]) {
        let mut outstanding = 0;
        for (key, wish) in watched {
            if let Some(slot) = self.slot(*key) {
                slot.watchers.push(ticket, *wish);
                outstanding += 1;
            }
        }
        let pending = Pending {
            outstanding,
            failures: Vec::new(),
            overtaken: false,
        };
        self.pending.insert(ticket, pending);
        if outstanding == 0 {
            self.complete(ticket);
        }
    }

    /// Tells everyone who watches the slot what became of it.
    pub(super) fn settle(&mut self, key: SlotKey, settled: &Settled) {
        let Some(member) = self.members.get_mut(key.worker) else {
            return;
        };
        let Some(slot) = member.slots.get_mut(key.slot as usize) else {
            return;
        };
        if slot.watchers.is_empty() {
            return;
        }
        let name = Arc::clone(&member.spec.name);
        for (ticket, wish) in std::mem::take(&mut slot.watchers) {
            let Some(pending) = self.pending.get_mut(&ticket) else {
                continue;
            };
            pending.outstanding -= 1;
            match (settled, wish) {
                (Settled::Up, Wish::Up) | (Settled::Down, Wish::Down) => {}
                // What was to go down and fell down by itself is down.
                (Settled::Failed(_), Wish::Down) => {}
                (Settled::Up, Wish::Down) | (Settled::Down, Wish::Up) => pending.overtaken = true,
                (Settled::Failed(cause), Wish::Up) => pending.failures.push(failure(&name, key, Arc::clone(cause))),
                (Settled::Stuck, _) => {
                    pending
                        .failures
                        .push(failure(&name, key, "its running attempt does not end".into()));
                }
            }
            let failed_start = !pending.failures.is_empty() && self.phase == Phase::Starting(ticket);
            if pending.outstanding == 0 || failed_start {
                self.complete(ticket);
            }
        }
    }

    /// Those who wait for a worker that did not start will not start for now.
    pub(super) fn settle_blocked(&mut self, worker: WorkerId) {
        if self.pending.is_empty() {
            return;
        }
        let mut seen = BTreeSet::new();
        let mut blocked = vec![worker];
        while let Some(worker) = blocked.pop() {
            let Some(member) = self.members.get(worker).filter(|member| !member.ready) else {
                continue;
            };
            let cause: Arc<str> = format!("waits for worker \"{}\", which did not start", member.spec.name).into();
            for dependent in member.dependents.clone().into_vec() {
                if seen.insert(dependent) {
                    for key in self.slots_in(dependent, |state| state == SlotState::Waiting) {
                        self.settle(key, &Settled::Failed(Arc::clone(&cause)));
                    }
                    blocked.push(dependent);
                }
            }
        }
    }

    /// A command that watches a slot which has come to wait gets its answer now if what the slot waits for will not
    /// come about by itself.
    pub(super) fn settle_if_held_up(&mut self, key: SlotKey) {
        let watched = self.slot(key).is_some_and(|slot| !slot.watchers.is_empty());
        if !self.may_start() || !watched {
            return;
        }
        let mut seen = BTreeSet::new();
        let mut path = vec![key.worker];
        while let Some(member) = path.pop().and_then(|worker| self.members.get(worker)) {
            for dependency in member.after.iter() {
                let Some(waited_for) = self.members.get(*dependency).filter(|member| !member.ready) else {
                    continue;
                };
                let holds_up = |slot: &Slot| slot.unready && slot.state.does_not_start_by_itself();
                if waited_for.slots.iter().any(holds_up) {
                    let cause = format!("waits for worker \"{}\", which is not ready", waited_for.spec.name);
                    return self.settle(key, &Settled::Failed(cause.into()));
                }
                if seen.insert(*dependency) {
                    path.push(*dependency);
                }
            }
        }
    }

    pub(super) fn complete(&mut self, ticket: Ticket) {
        let Some(pending) = self.pending.remove(&ticket) else {
            return;
        };
        let start = self.phase == Phase::Starting(ticket);
        let answer = if !pending.failures.is_empty() {
            Answer::Failed(pending.failures)
        } else if pending.overtaken {
            Answer::Overtaken
        } else {
            Answer::Done
        };
        if start {
            self.phase = match answer {
                Answer::Failed(_) => Phase::Halted,
                _ => Phase::Running,
            };
        }
        self.answer(ticket, answer);
        if self.phase == Phase::Halted {
            for overtaken in std::mem::take(&mut self.pending).into_keys() {
                self.refuse(overtaken, Refusal::Stopping);
            }
        }
    }
}

fn failure(name: &Arc<str>, key: SlotKey, cause: Arc<str>) -> SlotFailure {
    SlotFailure {
        worker: Arc::clone(name),
        slot: key.slot,
        cause,
    }
}
