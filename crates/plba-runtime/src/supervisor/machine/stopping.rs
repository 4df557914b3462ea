//! How attempts are ended: one slot through its stages, and many workers in reverse order within one budget. Why they
//! are to end is decided in the commands.
//!
//! A slot that is asked to end has a window: 80 % of it to finish, 10 % to let go, 10 % to be gone after it was dropped.
//! In a stop of the process the window of a worker is the rest of the budget divided by the number of levels that still
//! have to stop, its own included; what one level does not use, the next ones have.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::planted::{Bug, planted};
use super::protocol::{Answer, Attempt, Effect, Refusal, SlotKey, SlotStop, Ticket, WorkerId};
use super::slot::Then;
use super::{Machine, Member, Phase, Settled};
use crate::supervisor::view::{SlotState, StopOutcome};

/// A stop of the process.
pub(super) struct Stopping {
    tickets: Vec<Ticket>,
    end: Duration,
    budget: Duration,
    report: Vec<SlotStop>,
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

/// The moment at which this share of the window is used up.
fn share(from: Duration, end: Duration, percent: u32) -> Duration {
    let window = end.saturating_sub(from);
    let part = window
        .checked_mul(percent)
        .map_or_else(|| window / 100 * percent, |window| window / 100);
    from.saturating_add(part)
}

/// When the stage that a slot is in ends, in a window.
fn stage_end(state: SlotState, from: Duration, end: Duration) -> Duration {
    match state {
        SlotState::Stopping => share(from, end, 80),
        SlotState::Forced => share(from, end, 90),
        _ => end,
    }
}

impl Machine {
    pub(super) fn command_stop(&mut self, ticket: Ticket, budget: Duration, now: Duration) {
        let end = now.saturating_add(budget);
        match (&mut self.stopping, self.phase) {
            (Some(stopping), Phase::Stopped) => {
                let report = stopping.report.clone();
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
            report: Vec::new(),
        });
        let workers: BTreeSet<WorkerId> = self.members.keys().copied().collect();
        for &worker in &workers {
            for key in self.slots_in(worker, |state| {
                matches!(state, SlotState::Waiting | SlotState::BackingOff)
            }) {
                self.set_state(key, SlotState::Stopped, None);
            }
            for key in self.slots_in(worker, |state| state == SlotState::GivenUp) {
                self.set_timer(key, None);
            }
            for key in self.slots_in(worker, |state| state == SlotState::Abandoned) {
                self.report(key, StopOutcome::Abandoned, Duration::ZERO);
                if let Some(slot) = self.slot(key) {
                    slot.then = Then::Stop;
                }
            }
        }
        self.take_turns(workers, Then::Stop, end, now);
        self.check_quiescent();
    }

    /// A later stop asks for an earlier end.
    fn shorten(&mut self, end: Duration, now: Duration) {
        let workers: Vec<WorkerId> = self.members.keys().copied().collect();
        for worker in workers {
            let Some(turn) = self.members.get_mut(&worker).and_then(|member| member.turn.as_mut()) else {
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
        let workers: Vec<WorkerId> = self.members.keys().copied().collect();
        for worker in workers {
            if let Some(turn) = self.members.get_mut(&worker).and_then(|member| member.turn.as_mut()) {
                turn.end = end;
            }
            for key in self.slots_in(worker, SlotState::is_live) {
                let Some(slot) = self.slot(key) else { continue };
                let (state, timer) = (slot.state, slot.timer.unwrap_or(end));
                if !state.is_ending() {
                    slot.asked_at = now;
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

    /// Asks these workers to end, each once all that depend on it are down.
    pub(super) fn take_turns(&mut self, workers: BTreeSet<WorkerId>, then: Then, end: Duration, now: Duration) {
        let levels = self.levels(&workers);
        for (&worker, &level) in &levels {
            if let Some(member) = self.members.get_mut(&worker) {
                member.turn = Some(Turn {
                    then,
                    end,
                    level,
                    blockers: 0,
                    told: false,
                    down: false,
                });
            }
        }
        let mut free = Vec::new();
        for worker in levels.into_keys() {
            let Some(member) = self.members.get(&worker) else {
                continue;
            };
            let blockers = member
                .stops_after()
                .iter()
                .filter(|&&dependent| self.is_on_its_way_out(dependent))
                .count();
            if let Some(turn) = self.members.get_mut(&worker).and_then(|member| member.turn.as_mut()) {
                turn.blockers = blockers;
            }
            if blockers == 0 {
                free.push(worker);
            }
        }
        self.tell(free, now);
    }

    fn is_on_its_way_out(&self, worker: WorkerId) -> bool {
        let turn = self.members.get(&worker).and_then(|member| member.turn.as_ref());
        turn.is_some_and(|turn| !turn.down)
    }

    /// Asks workers that nobody holds up any more; those with nothing to end are down at once and free others.
    fn tell(&mut self, mut free: Vec<WorkerId>, now: Duration) {
        while let Some(worker) = free.pop() {
            let Some(member) = self.members.get_mut(&worker) else {
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
        let Some(member) = self.members.get_mut(&worker) else {
            return Vec::new();
        };
        match member.turn.as_mut() {
            Some(turn) if turn.told && !turn.down => turn.down = true,
            _ => return Vec::new(),
        }
        let mut free = Vec::new();
        for dependency in member.stops_before().clone() {
            let turn = self
                .members
                .get_mut(&dependency)
                .and_then(|member| member.turn.as_mut());
            if let Some(turn) = turn.filter(|turn| turn.blockers > 0) {
                turn.blockers -= 1;
                if turn.blockers == 0 {
                    free.push(dependency);
                }
            }
        }
        free
    }

    /// Wants the slot to end, whatever it does, and says what is to follow. An end that was already asked for is never
    /// put off.
    pub(super) fn end_slot(&mut self, key: SlotKey, then: Then, end: Duration, now: Duration) {
        let Some(slot) = self.slot(key) else { return };
        slot.then = then;
        match slot.state {
            SlotState::Starting if planted(Bug::LostStopDuringStart) => {}
            SlotState::Starting | SlotState::Running => {
                (slot.asked_at, slot.from, slot.end) = (now, now, end);
                let attempt = Attempt {
                    key,
                    number: slot.attempt,
                };
                self.set_state(key, SlotState::Stopping, Some(share(now, end, 80)));
                self.effects.push(Effect::Signal { attempt, force: false });
            }
            state @ (SlotState::Stopping | SlotState::Forced | SlotState::Dropped) => {
                slot.from = now;
                slot.end = slot.end.min(end);
                let timer = stage_end(state, now, slot.end);
                let timer = slot.timer.map_or(timer, |old| old.min(timer));
                self.set_timer(key, Some(timer));
            }
            SlotState::Abandoned if planted(Bug::DoubleStart) => self.rest(key, then, now),
            SlotState::Abandoned => self.settle(key, &Settled::Stuck),
            SlotState::Waiting | SlotState::BackingOff => self.rest(key, then, now),
            SlotState::Finished | SlotState::GivenUp | SlotState::Paused | SlotState::Stopped | SlotState::Gone => {
                if matches!(then, Then::Again | Then::Gone) {
                    self.rest(key, then, now);
                }
            }
        }
    }

    /// The time to finish is over: let go.
    pub(super) fn force(&mut self, key: SlotKey) {
        let Some(slot) = self.slot(key) else { return };
        let until = stage_end(SlotState::Forced, slot.from, slot.end);
        self.force_until(key, until);
    }

    pub(super) fn force_until(&mut self, key: SlotKey, until: Duration) {
        let Some(slot) = self.slot(key) else { return };
        let attempt = Attempt {
            key,
            number: slot.attempt,
        };
        self.set_state(key, SlotState::Forced, Some(until));
        self.effects.push(Effect::Signal { attempt, force: true });
    }

    /// The time to let go is over: take it away.
    pub(super) fn drop_attempt(&mut self, key: SlotKey) {
        let Some(slot) = self.slot(key) else { return };
        let (attempt, end) = (
            Attempt {
                key,
                number: slot.attempt,
            },
            match planted(Bug::BudgetWaitedTwice) {
                true => slot.end + (slot.end - slot.from),
                false => slot.end,
            },
        );
        self.set_state(key, SlotState::Dropped, Some(end));
        self.effects.push(Effect::Drop { attempt });
    }

    /// It is still there: leave it behind. Its slot stays taken until it has gone after all.
    pub(super) fn abandon(&mut self, key: SlotKey, now: Duration) {
        let Some(slot) = self.slot(key) else { return };
        let took = now.saturating_sub(slot.asked_at);
        self.report(key, StopOutcome::Abandoned, took);
        self.set_state(key, SlotState::Abandoned, None);
        self.settle(key, &Settled::Stuck);
        self.settle_blocked(key.worker);
        self.after_rest(key.worker, now);
    }

    /// Nothing of the slot's attempt is left: what was to follow follows.
    pub(super) fn rest(&mut self, key: SlotKey, then: Then, now: Duration) {
        let Some(slot) = self.slot(key) else { return };
        let (was, asked_at) = (slot.state, slot.asked_at);
        match was {
            SlotState::Starting | SlotState::Running => self.report(key, StopOutcome::Drained, Duration::ZERO),
            SlotState::Stopping => self.report(key, StopOutcome::Drained, now.saturating_sub(asked_at)),
            SlotState::Forced | SlotState::Dropped => {
                self.report(key, StopOutcome::Forced, now.saturating_sub(asked_at));
            }
            _ => {}
        }
        match then {
            Then::Again => self.begin_or_wait(key, now),
            Then::Pause => self.set_state(key, SlotState::Paused, None),
            Then::Gone => self.set_state(key, SlotState::Gone, None),
            Then::Stop | Then::Retry | Then::Replace => self.set_state(key, SlotState::Stopped, None),
        }
        if then != Then::Again {
            self.settle(key, &Settled::Down);
        }
        match then {
            Then::Gone => self.mark_ready(key, now),
            // Those who wait for it wait until it is resumed.
            Then::Pause => self.settle_blocked(key.worker),
            Then::Again | Then::Stop | Then::Retry | Then::Replace => {}
        }
        if was.is_live() || was == SlotState::Abandoned {
            self.after_rest(key.worker, now);
        }
    }

    fn after_rest(&mut self, worker: WorkerId, now: Duration) {
        if self.members.get(&worker).is_some_and(|member| member.live == 0) {
            let free = self.down(worker);
            self.tell(free, now);
            self.purge(worker, now);
        }
        self.check_quiescent();
    }

    fn report(&mut self, key: SlotKey, how: StopOutcome, took: Duration) {
        let Some(stopping) = self.stopping.as_mut().filter(|_| self.phase == Phase::Stopping) else {
            return;
        };
        if let Some(member) = self.members.get(&key.worker) {
            let name = Arc::clone(&member.spec.name);
            stopping.report.push(SlotStop { key, name, how, took });
        }
    }

    fn check_quiescent(&mut self) {
        if self.phase != Phase::Stopping || self.live > 0 {
            return;
        }
        self.phase = Phase::Stopped;
        if let Some(stopping) = self.stopping.as_mut() {
            let (tickets, report) = (std::mem::take(&mut stopping.tickets), stopping.report.clone());
            for ticket in tickets {
                self.answer(ticket, Answer::Stopped(report.clone()));
            }
        }
    }

    /// How deep the longest chain beneath each of these workers is, in dependency order.
    fn levels(&self, within: &BTreeSet<WorkerId>) -> BTreeMap<WorkerId, u32> {
        let mut levels: BTreeMap<WorkerId, u32> = within.iter().map(|&worker| (worker, 1)).collect();
        let mut missing = BTreeMap::new();
        let mut known = Vec::new();
        for &worker in within {
            let Some(member) = self.members.get(&worker) else {
                continue;
            };
            let dependencies = member
                .after
                .iter()
                .filter(|dependency| within.contains(dependency))
                .count();
            if dependencies == 0 {
                known.push(worker);
            }
            missing.insert(worker, dependencies);
        }
        while let Some(worker) = known.pop() {
            let Some(member) = self.members.get(&worker) else {
                continue;
            };
            let next = levels.get(&worker).map_or(1, |level| level + 1);
            for dependent in &member.dependents {
                let (Some(missing), Some(level)) = (missing.get_mut(dependent), levels.get_mut(dependent)) else {
                    continue;
                };
                *level = (*level).max(next);
                *missing -= 1;
                if *missing == 0 {
                    known.push(*dependent);
                }
            }
        }
        levels
    }
}

impl Member {
    /// Those that have to be down before it is asked.
    fn stops_after(&self) -> &Vec<WorkerId> {
        match planted(Bug::WrongReverseOrder) {
            true => &self.after,
            false => &self.dependents,
        }
    }

    /// Those that are asked once it is down.
    fn stops_before(&self) -> &Vec<WorkerId> {
        match planted(Bug::WrongReverseOrder) {
            true => &self.dependents,
            false => &self.after,
        }
    }
}

/// Until when a worker that is asked now may take.
fn window_end(turn: &Turn, now: Duration) -> Duration {
    now.saturating_add(turn.end.saturating_sub(now) / turn.level.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_a_window_never_overflow() {
        let secs = Duration::from_secs;
        assert_eq!(share(secs(10), secs(20), 80), secs(18));
        assert_eq!(share(secs(20), secs(10), 80), secs(20));
        assert!(share(Duration::ZERO, Duration::MAX, 90) < Duration::MAX);
    }
}
