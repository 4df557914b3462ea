//! How one attempt is ended: asked, told to let go, dropped, left behind. Why it is to end is decided in the commands and
//! in `stopping`.
//!
//! A slot that is asked to end has a window: 80 % of it to finish, 10 % to let go, 10 % to be gone after it was dropped.

use std::time::Duration;

use super::Machine;
use super::answers::Settled;
use super::planted::{Bug, planted};
use super::protocol::{Attempt, Effect, Sink, SlotKey};
use super::slot::Then;
use crate::supervisor::view::{SlotState, StopOutcome};

/// The moment at which this share of the window is used up.
pub(super) fn share(from: Duration, end: Duration, percent: u32) -> Duration {
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

impl<S: Sink> Machine<S> {
    /// Wants the slot to end, whatever it does, and says what is to follow. An end that was already asked for is never
    /// put off.
    pub(super) fn end_slot(&mut self, key: SlotKey, then: Then, end: Duration, now: Duration) {
        let Some(slot) = self.slot(key) else { return };
        slot.then = then;
        match slot.state {
            SlotState::Starting if planted(Bug::LostStopDuringStart) => {}
            SlotState::Starting | SlotState::Running => {
                (slot.since, slot.from, slot.end) = (now, now, end);
                let attempt = Attempt {
                    key,
                    number: slot.attempt,
                };
                self.set_state(key, SlotState::Stopping, Some(share(now, end, 80)));
                self.sink.carry_out(Effect::Signal { attempt, force: false });
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
        self.sink.carry_out(Effect::Signal { attempt, force: true });
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
        self.sink.carry_out(Effect::Drop { attempt });
    }

    /// It is still there: leave it behind. Its slot stays taken until it has gone after all.
    pub(super) fn abandon(&mut self, key: SlotKey, now: Duration) {
        let Some(slot) = self.slot(key) else { return };
        let took = now.saturating_sub(slot.since);
        self.report(key, StopOutcome::Abandoned, took);
        self.set_state(key, SlotState::Abandoned, None);
        self.settle(key, &Settled::Stuck);
        self.settle_blocked(key.worker);
        self.after_rest(key.worker, now);
    }

    /// Nothing of the slot's attempt is left: what was to follow follows.
    pub(super) fn rest(&mut self, key: SlotKey, then: Then, now: Duration) {
        let Some(slot) = self.slot(key) else { return };
        let (was, since) = (slot.state, slot.since);
        match was {
            SlotState::Starting | SlotState::Running => self.report(key, StopOutcome::Drained, Duration::ZERO),
            SlotState::Stopping => self.report(key, StopOutcome::Drained, now.saturating_sub(since)),
            SlotState::Forced | SlotState::Dropped => {
                self.report(key, StopOutcome::Forced, now.saturating_sub(since));
            }
            _ => {}
        }
        match then {
            Then::Again => self.begin_or_wait(key, now),
            Then::Pause => {
                // One that is over ends before the step does.
                let member = self.members.get(key.worker);
                let until = member.and_then(|member| member.pause_end());
                self.set_state(key, SlotState::Paused, until);
            }
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
