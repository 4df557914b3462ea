//! What a stop tells: what forced instances had in hand, who is not at rest every few seconds, and the report at its end.

use std::time::Duration;

use plba_contracts::worker::Activity;

use super::super::event::SupervisorEvent;
use super::super::instance::Instance;
use super::super::machine::protocol::{SlotKey, SlotStop};
use super::super::view::{StopOutcome, WorkerStop};
use super::Carrier;
use crate::sync::time::Instant;

/// How often a stop names those that are not at rest, and how many of them at most.
const ROLL_CALL: Duration = Duration::from_secs(5);
const NAMED: usize = 16;

/// What a forced instance had in hand.
pub(super) struct Held {
    what: String,
    /// Where the instance says what became of it.
    activity: Activity,
}

impl Carrier {
    pub(super) fn stop_begins(&mut self, budget: Duration) {
        if self.stop_began.is_none() {
            let now = Instant::now();
            (self.stop_began, self.roll_call) = (Some(now), Some(now + ROLL_CALL));
            self.events.emit(SupervisorEvent::StopBegan { budget });
        }
    }

    pub(super) fn stop_is_forced(&self) {
        if self.stop_began.is_some() {
            self.events.emit(SupervisorEvent::StopForced);
        }
    }

    pub(super) fn note_held(&mut self, key: SlotKey, instance: &Instance) {
        if let Some(busy) = instance.activity.current() {
            let (what, activity) = (busy.what.as_ref().to_owned(), instance.activity.clone());
            self.held.insert(key, Held { what, activity });
        }
    }

    pub(super) fn stopped(&mut self, stops: &[WorkerStop]) {
        let Some(began) = self.stop_began.take() else { return };
        self.roll_call = None;
        let count = |how| stops.iter().filter(|stop| stop.how == how).count();
        self.tell(SupervisorEvent::StopEnded {
            drained: count(StopOutcome::Drained),
            forced: count(StopOutcome::Forced),
            abandoned: count(StopOutcome::Abandoned),
            took: began.elapsed(),
        });
        (self.on_stopped)();
    }

    pub(super) fn name_stragglers(&mut self) {
        let Some(began) = self.stop_began else { return };
        let now = Instant::now();
        self.roll_call = Some(now + ROLL_CALL);
        let instances = self.board.instances();
        let first = instances.iter().take(NAMED).map(|(key, record, instance)| {
            let busy = instance.activity.current();
            let held = busy.map(|busy| format!(" ({})", busy.what)).unwrap_or_default();
            format!("{}[{}]{held}", record.name, key.slot)
        });
        self.events.emit(SupervisorEvent::Stragglers {
            count: instances.len(),
            first: first.collect(),
            stopping_for: now - began,
        });
    }

    pub(super) fn line(&self, stop: &SlotStop) -> WorkerStop {
        let held = self.held.get(&stop.key).filter(|_| stop.how != StopOutcome::Drained);
        // Who is gone and still busy has left a thread behind, which nobody could drop.
        let is_busy = held.is_some_and(|held| held.activity.current().is_some());
        WorkerStop {
            worker: stop.name.to_string(),
            slot: stop.key.slot,
            how: if is_busy { StopOutcome::Abandoned } else { stop.how },
            held: held.map(|held| held.what.clone()),
            became: held.map(|held| held.activity.fate()),
            took: stop.took,
        }
    }
}
