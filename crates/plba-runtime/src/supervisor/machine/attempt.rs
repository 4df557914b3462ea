//! One attempt of one slot, from its beginning to what the restart policy makes of its end. Ends that somebody asks for
//! live in `ending`.

use std::sync::Arc;
use std::time::Duration;

use plba_contracts::worker::RestartPolicy;

use super::Machine;
use super::answers::Settled;
use super::planted::{Bug, planted};
use super::protocol::{Attempt, Effect, Sink, SlotKey, WorkerId};
use super::slot::{Then, Verdict};
use crate::supervisor::view::{AttemptEnd, SlotState};

/// How long an attempt that was dropped because its start took too long may take to be gone.
const DROP_PATIENCE: Duration = Duration::from_secs(5);

impl<S: Sink> Machine<S> {
    pub(super) fn on_ready(&mut self, attempt: Attempt, now: Duration) {
        let Some(slot) = self.slot_of(attempt) else { return };
        // An attempt that was asked to stop while it started runs on as one that stops.
        if slot.state != SlotState::Starting {
            return;
        }
        slot.since = now;
        self.set_state(attempt.key, SlotState::Running, None);
        self.settle(attempt.key, &Settled::Up);
        self.mark_ready(attempt.key, now);
    }

    pub(super) fn on_ended(&mut self, attempt: Attempt, end: AttemptEnd, now: Duration) {
        let Some(slot) = self.slot_of(attempt) else { return };
        let (state, then) = (slot.state, slot.then);
        let key = attempt.key;
        if state.is_live() || state == SlotState::Abandoned {
            let asked = state != SlotState::Starting && state != SlotState::Running;
            let end = match then {
                Then::Retry if asked => AttemptEnd::StartTimedOut(self.start_timeout(key)),
                Then::Replace if asked => AttemptEnd::Hung,
                _ => end,
            };
            self.sink.carry_out(Effect::Ended { key, end: end.clone() });
            match state {
                SlotState::Starting | SlotState::Running => self.after_end(key, &end, now),
                _ if matches!(then, Then::Retry | Then::Replace) => self.after_end(key, &end, now),
                _ => {
                    // What an earlier command wanted to follow does not, once the worker is on its way out.
                    let turn = self.members.get(key.worker).and_then(|member| member.turn.as_ref());
                    let then = turn.map_or(then, |turn| turn.then);
                    self.rest(key, then, now);
                }
            }
        }
    }

    /// An attempt ended though nobody asked it to: the restart policy decides.
    pub(super) fn after_end(&mut self, key: SlotKey, end: &AttemptEnd, now: Duration) {
        let starting = self.may_start();
        let Some(member) = self.members.get_mut(key.worker) else {
            return;
        };
        if let Some(turn) = member.turn.as_ref().filter(|_| !planted(Bug::RestartAfterStop)) {
            let then = turn.then;
            return self.rest(key, then, now);
        }
        let restart = Arc::clone(&member.spec.restart);
        let Some(slot) = member.slots.get_mut(key.slot as usize) else {
            return;
        };
        let ran = (slot.state == SlotState::Running).then(|| now.saturating_sub(slot.since));
        let failed = end.is_failure();
        let verdict = match starting {
            true => slot.judge(&restart, failed, ran, now),
            false if failed => Verdict::GivenUp,
            false => Verdict::Finished,
        };
        match verdict {
            Verdict::Finished => self.set_state(key, SlotState::Finished, None),
            Verdict::GivenUp => {
                let again = restart
                    .cool_down
                    .filter(|_| starting && restart.policy != RestartPolicy::Never);
                let until = again.map(|pause| now.saturating_add(pause));
                self.set_state(key, SlotState::GivenUp, until);
            }
            Verdict::Again(pause) => {
                let spread = pause.as_secs_f64() * (0.8 + 0.4 * self.random.f64());
                let pause = Duration::try_from_secs_f64(spread).unwrap_or(Duration::MAX);
                let pause = pause.min(restart.maximum_delay);
                self.set_state(key, SlotState::BackingOff, Some(now.saturating_add(pause)));
            }
        }
        if failed {
            self.settle(key, &Settled::Failed(end.to_string().into()));
            if self.slot(key).is_some_and(|slot| slot.unready) {
                self.settle_blocked(key.worker);
            }
        } else {
            self.settle(key, &Settled::Up);
            self.mark_ready(key, now);
        }
        if matches!(verdict, Verdict::Again(_)) && self.may_start() {
            self.take_along(key, now);
        }
    }

    /// Long enough ago that it was given up: it is tried again, or rests if that is wanted by now.
    pub(super) fn cooled_down(&mut self, key: SlotKey, now: Duration) {
        if let Some(slot) = self.slot(key) {
            slot.forgive();
        }
        let member = self.members.get(key.worker);
        match member.and_then(|member| member.pause(now)) {
            Some(pause) => self.set_state(key, SlotState::Paused, pause.until),
            None => self.begin_or_wait(key, now),
        }
    }

    pub(super) fn start_timed_out(&mut self, key: SlotKey, now: Duration) {
        let end = AttemptEnd::StartTimedOut(self.start_timeout(key));
        if let Some(slot) = self.slot(key) {
            slot.then = Then::Retry;
            (slot.since, slot.from, slot.end) = (now, now, now.saturating_add(DROP_PATIENCE));
        }
        self.drop_attempt(key);
        // The answer does not wait for the attempt to be gone: whoever blocks a thread may never be.
        self.settle(key, &Settled::Failed(end.to_string().into()));
        self.settle_blocked(key.worker);
    }

    /// Lets the instance go, unless it is another one by now or is ending already.
    pub(super) fn on_hung(&mut self, key: SlotKey, incarnation: u64, now: Duration) {
        let Some(slot) = self.slot(key) else { return };
        if slot.incarnation != incarnation || slot.state != SlotState::Running {
            return;
        }
        slot.then = Then::Replace;
        (slot.since, slot.from, slot.end) = (now, now, now.saturating_add(DROP_PATIENCE * 2));
        self.force_until(key, now.saturating_add(DROP_PATIENCE));
    }

    pub(super) fn start_timeout(&self, key: SlotKey) -> Duration {
        self.members
            .get(key.worker)
            .map_or(Duration::ZERO, |member| member.spec.start_timeout)
    }

    /// Starts the slot, or lets it wait for what its worker waits for.
    pub(super) fn begin_or_wait(&mut self, key: SlotKey, now: Duration) {
        let allowed = self.may_start();
        let Some(member) = self.members.get_mut(key.worker) else {
            return;
        };
        if !allowed || member.waiting_on > 0 {
            self.set_state(key, SlotState::Waiting, None);
            return self.settle_if_held_up(key);
        }
        let timeout = member.spec.start_timeout;
        let Some(slot) = member.slots.get_mut(key.slot as usize) else {
            return;
        };
        self.next_attempt += 1;
        slot.attempt = self.next_attempt;
        slot.incarnation += 1;
        let (attempt, incarnation) = (
            Attempt {
                key,
                number: slot.attempt,
            },
            slot.incarnation,
        );
        self.set_state(key, SlotState::Starting, Some(now.saturating_add(timeout)));
        self.sink.carry_out(Effect::Begin { attempt, incarnation });
    }

    /// The slot counts as ready; if it was the last of its worker, those who wait for the worker may start.
    pub(super) fn mark_ready(&mut self, key: SlotKey, now: Duration) {
        let Some(member) = self.members.get_mut(key.worker) else {
            return;
        };
        let Some(slot) = member.slots.get_mut(key.slot as usize) else {
            return;
        };
        if !std::mem::take(&mut slot.unready) {
            return;
        }
        member.unready -= 1;
        if member.unready == 0 && !member.ready {
            member.ready = true;
            for dependent in member.dependents.clone().into_vec() {
                self.release(dependent, now);
            }
        }
    }

    /// One of the things that the worker waits for is there.
    pub(super) fn release(&mut self, worker: WorkerId, now: Duration) {
        let Some(member) = self.members.get_mut(worker) else {
            return;
        };
        member.waiting_on -= 1;
        if member.waiting_on > 0 || !self.may_start() {
            return;
        }
        for key in self.slots_in(worker, |state| state == SlotState::Waiting) {
            self.begin_or_wait(key, now);
        }
    }
}
