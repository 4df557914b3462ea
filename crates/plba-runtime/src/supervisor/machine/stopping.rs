//! Many workers stopped in reverse order within one budget. How one attempt is ended lives in `ending`.
//!
//! In a stop of the process the window of a worker is the rest of the budget divided by the number of levels that still
//! have to stop, its own included; what one level does not use, the next ones have.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::ending::share;
use super::protocol::{Answer, Refusal, Sink, SlotKey, SlotStop, Ticket, WorkerId};
use super::slot::Then;
use super::{Machine, Phase};
use crate::supervisor::view::{SlotState, StopOutcome};

/// A stop of the process.
pub(super) struct Stopping {
    tickets: Vec<Ticket>,
    end: Duration,
    budget: Duration,
    report: Arc<Vec<SlotStop>>,
}

/// A worker's part in a stop or removal.
pub(super) struct Turn {
    pub(super) then: Then,
    end: Duration,
    /// How many workers deep the longest chain from this one down is, itself included.
    level: u32,
    /// Workers that have to be down before it is asked.
    blockers: usize,
    told: bool,
    pub(super) down: bool,
}

impl<S: Sink> Machine<S> {
    pub(super) fn command_stop(&mut self, ticket: Ticket, budget: Duration, now: Duration) {
        let end = now.saturating_add(budget);
        match (&mut self.stopping, self.phase) {
            (Some(stopping), Phase::Stopped) => {
                let report = Arc::clone(&stopping.report);
                self.answer(ticket, Answer::Stopped(report));
            }
            (Some(stopping), _) => {
                stopping.tickets.push(ticket);
                if end < stopping.end {
                    stopping.end = end;
                    self.shorten(end, now);
                }
            }
            (None, _) => self.begin_stop(ticket, budget, end, now),
        }
    }

    fn begin_stop(&mut self, ticket: Ticket, budget: Duration, end: Duration, now: Duration) {
        self.phase = Phase::Stopping;
        for overtaken in std::mem::take(&mut self.pending).into_keys() {
            self.refuse(overtaken, Refusal::Stopping);
        }
        self.stopping = Some(Stopping {
            tickets: vec![ticket],
            end,
            budget,
            report: Arc::default(),
        });
        let workers = self.members.workers();
        for &worker in &workers {
            for key in self.slots_in(worker, |state| {
                matches!(state, SlotState::Waiting | SlotState::BackingOff)
            }) {
                self.set_state(key, SlotState::Stopped, None);
            }
            for key in self.slots_in(worker, |state| matches!(state, SlotState::GivenUp | SlotState::Paused)) {
                self.set_timer(key, None);
            }
            for key in self.slots_in(worker, |state| state == SlotState::Abandoned) {
                self.report(key, StopOutcome::Abandoned, Duration::ZERO);
                if let Some(slot) = self.slot(key) {
                    slot.then = Then::Stop;
                }
            }
        }
        self.take_turns(&workers, Then::Stop, end, now);
        self.check_quiescent();
    }

    /// A later stop asks for an earlier end.
    fn shorten(&mut self, end: Duration, now: Duration) {
        let workers = self.members.workers();
        for worker in workers {
            let Some(turn) = self.members.get_mut(worker).and_then(|member| member.turn.as_mut()) else {
                continue;
            };
            turn.end = end;
            let (told, window) = (turn.told, window_end(turn, now));
            if told {
                for key in self.slots_in(worker, SlotState::is_live) {
                    self.end_slot(key, Then::Stop, window, now);
                }
            }
        }
    }

    /// Cuts a stop short: everyone is told to let go now, in no order, within a fifth of the budget.
    pub(super) fn force_all(&mut self, now: Duration) {
        let Some(stopping) = self.stopping.as_mut().filter(|_| self.phase == Phase::Stopping) else {
            return;
        };
        stopping.end = stopping.end.min(now.saturating_add(stopping.budget / 5));
        let end = stopping.end;
        let half = share(now, end, 50);
        let workers = self.members.workers();
        for worker in workers {
            if let Some(turn) = self.members.get_mut(worker).and_then(|member| member.turn.as_mut()) {
                turn.end = end;
            }
            for key in self.slots_in(worker, SlotState::is_live) {
                let Some(slot) = self.slot(key) else { continue };
                let (state, timer) = (slot.state, slot.timer.unwrap_or(end));
                if !state.is_ending() {
                    slot.since = now;
                }
                (slot.from, slot.end, slot.then) = (now, end, Then::Stop);
                match state {
                    SlotState::Forced => self.set_timer(key, Some(timer.min(half))),
                    SlotState::Dropped => self.set_timer(key, Some(timer.min(end))),
                    _ => self.force_until(key, half),
                }
            }
        }
    }

    /// Asks these workers, by number, to end, each once all that depend on it are down.
    pub(super) fn take_turns(&mut self, workers: &[WorkerId], then: Then, end: Duration, now: Duration) {
        for &worker in workers {
            if let Some(member) = self.members.get_mut(worker) {
                member.turn = Some(Box::new(Turn {
                    then,
                    end,
                    level: 1,
                    blockers: 0,
                    told: false,
                    down: false,
                }));
            }
        }
        self.level(workers);
        let mut free = Vec::new();
        for &worker in workers {
            let Some(member) = self.members.get(worker) else {
                continue;
            };
            let above = member.stops_after().iter();
            let blockers = above.filter(|&&dependent| self.is_on_its_way_out(dependent)).count();
            if let Some(turn) = self.members.get_mut(worker).and_then(|member| member.turn.as_mut()) {
                turn.blockers = blockers;
            }
            if blockers == 0 {
                free.push(worker);
            }
        }
        self.tell(free, now);
    }

    fn is_on_its_way_out(&self, worker: WorkerId) -> bool {
        let turn = self.members.get(worker).and_then(|member| member.turn.as_ref());
        turn.is_some_and(|turn| !turn.down)
    }

    /// Asks workers that nobody holds up any more; those with nothing to end are down at once and free others.
    fn tell(&mut self, mut free: Vec<WorkerId>, now: Duration) {
        while let Some(worker) = free.pop() {
            let Some(member) = self.members.get_mut(worker) else {
                continue;
            };
            let Some(turn) = member.turn.as_mut() else { continue };
            turn.told = true;
            let (then, window) = (turn.then, window_end(turn, now));
            if member.live > 0 {
                for key in self.slots_in(worker, SlotState::is_live) {
                    self.end_slot(key, then, window, now);
                }
            } else {
                free.extend(self.down(worker));
                self.purge(worker, now);
            }
        }
    }

    /// The worker is down; gives those that it held up as the last.
    fn down(&mut self, worker: WorkerId) -> Vec<WorkerId> {
        let Some(member) = self.members.get_mut(worker) else {
            return Vec::new();
        };
        match member.turn.as_mut() {
            Some(turn) if turn.told && !turn.down => turn.down = true,
            _ => return Vec::new(),
        }
        let mut free = Vec::new();
        for dependency in member.stops_before().clone().into_vec() {
            let turn = self.members.get_mut(dependency).and_then(|member| member.turn.as_mut());
            if let Some(turn) = turn.filter(|turn| turn.blockers > 0) {
                turn.blockers -= 1;
                if turn.blockers == 0 {
                    free.push(dependency);
                }
            }
        }
        free
    }

    pub(super) fn after_rest(&mut self, worker: WorkerId, now: Duration) {
        if self.members.get(worker).is_some_and(|member| member.live == 0) {
            let free = self.down(worker);
            self.tell(free, now);
            self.purge(worker, now);
        }
        self.check_quiescent();
    }

    pub(super) fn report(&mut self, key: SlotKey, how: StopOutcome, took: Duration) {
        let Some(stopping) = self.stopping.as_mut().filter(|_| self.phase == Phase::Stopping) else {
            return;
        };
        if let Some(member) = self.members.get(key.worker) {
            let name = Arc::clone(&member.spec.name);
            Arc::make_mut(&mut stopping.report).push(SlotStop { key, name, how, took });
        }
    }

    fn check_quiescent(&mut self) {
        if self.phase != Phase::Stopping || self.live > 0 {
            return;
        }
        self.phase = Phase::Stopped;
        if let Some(stopping) = self.stopping.as_mut() {
            let (tickets, report) = (std::mem::take(&mut stopping.tickets), Arc::clone(&stopping.report));
            for ticket in tickets {
                self.answer(ticket, Answer::Stopped(Arc::clone(&report)));
            }
        }
    }

    /// Says of each of these workers how deep the longest chain from it down is, in dependency order.
    fn level(&mut self, within: &[WorkerId]) {
        let inside = |worker: &WorkerId| within.binary_search(worker).is_ok();
        let mut missing = HashMap::new();
        let mut known = Vec::new();
        for &worker in within {
            let Some(member) = self.members.get(worker) else {
                continue;
            };
            match member.after.iter().filter(|dependency| inside(dependency)).count() {
                0 if member.dependents.is_empty() => {}
                0 => known.push(worker),
                below => {
                    missing.insert(worker, below);
                }
            }
        }
        while let Some(worker) = known.pop() {
            let Some(member) = self.members.get(worker) else {
                continue;
            };
            let next = member.turn.as_ref().map_or(1, |turn| turn.level) + 1;
            for dependent in member.dependents.clone().into_vec() {
                let turn = self.members.get_mut(dependent).and_then(|member| member.turn.as_mut());
                let (Some(missing), Some(turn)) = (missing.get_mut(&dependent), turn) else {
                    continue;
                };
                turn.level = turn.level.max(next);
                *missing -= 1;
                if *missing == 0 {
                    known.push(dependent);
                }
            }
        }
    }
}

/// Until when a worker that is asked now may take.
fn window_end(turn: &Turn, now: Duration) -> Duration {
    now.saturating_add(turn.end.saturating_sub(now) / turn.level.max(1))
}
