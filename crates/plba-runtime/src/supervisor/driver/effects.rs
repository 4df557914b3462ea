//! Effects carried out: instances begin, hear of stops and are dropped, and what moves is written down and told.

use std::sync::Arc;
use std::time::Duration;

use plba_contracts::worker::{Activity, WorkerContext};
use tokio::task::AbortHandle;
use tracing::Instrument;

use super::super::board::Record;
use super::super::event::SupervisorEvent;
use super::super::fatal::Fatal;
use super::super::instance::{Instance, Obituary, Seed, run};
use super::super::machine::protocol::{Attempt, Effect, SlotKey};
use super::super::view::{AttemptEnd, SlotState};
use super::Driver;

/// An attempt whose end has not been reported.
pub(super) struct Live {
    pub(super) number: u64,
    pub(super) instance: Arc<Instance>,
    pub(super) abort: AbortHandle,
}

impl Driver {
    pub(super) fn carry_out(&mut self, effect: Effect, now: Duration) {
        match effect {
            Effect::Added { worker, name } => {
                if let Some((definition, services)) = self.staged.remove(&name) {
                    self.board.insert(worker, Record::new(definition, services));
                    self.events.emit(SupervisorEvent::Added {
                        worker: name.to_string(),
                    });
                }
            }
            Effect::Changed { worker } => {
                let Some(record) = self.board.get(worker) else { return };
                if let Some((definition, services)) = self.staged.remove(&record.name) {
                    record.replace(definition, services);
                    self.events.emit(SupervisorEvent::Changed {
                        worker: record.name.to_string(),
                    });
                }
            }
            Effect::Removed { worker } => {
                if let Some(record) = self.board.remove(worker) {
                    self.events.emit(SupervisorEvent::Removed {
                        worker: record.name.to_string(),
                    });
                }
            }
            Effect::Begin { attempt, incarnation } => self.begin(attempt, incarnation),
            Effect::Signal { attempt, force } => self.signal(attempt, force),
            Effect::Drop { attempt } => self.drop_attempt(attempt),
            Effect::State { key, state, until } => self.moved(key, state, until, now),
            Effect::Ended { key, end } => self.ended(key, end),
            Effect::Answer { ticket, answer } => self.answer(ticket, answer),
        }
    }

    pub(super) fn begin(&mut self, attempt: Attempt, incarnation: u64) {
        let key = attempt.key;
        let Some(record) = self.board.get(key.worker) else {
            return;
        };
        let (definition, services) = record.definition();
        let activity = Activity::new(Arc::clone(&self.clock));
        let span = tracing::info_span!(parent: None, "worker", name = %record.name, slot = key.slot);
        let instance = Arc::new(Instance::new(activity.clone(), span.id()));
        record.begun(key.slot, incarnation, Arc::clone(&instance), self.clock.now());
        let context = WorkerContext {
            name: Arc::clone(&record.name),
            slot: key.slot,
            incarnation,
            activity,
            clock: Arc::clone(&self.clock),
        };
        let obituary = Obituary {
            attempt,
            instance: Arc::clone(&instance),
            record,
            reports: self.reports.clone(),
            end: None,
        };
        let seed = Box::new(Seed {
            definition,
            services,
            context,
        });
        let task = self.workers.spawn(run(obituary, seed).instrument(span));
        let abort = task.abort_handle();
        self.live.insert(
            key,
            Live {
                number: attempt.number,
                instance,
                abort,
            },
        );
    }

    pub(super) fn signal(&mut self, attempt: Attempt, force: bool) {
        let Some(live) = self.live.get(&attempt.key).filter(|live| live.number == attempt.number) else {
            return;
        };
        let instance = Arc::clone(&live.instance);
        if force {
            self.note_held(attempt.key, &instance);
        }
        instance.signal(force);
    }

    pub(super) fn drop_attempt(&mut self, attempt: Attempt) {
        let Some(live) = self.live.get(&attempt.key).filter(|live| live.number == attempt.number) else {
            return;
        };
        live.abort.abort();
        let instance = Arc::clone(&live.instance);
        self.note_held(attempt.key, &instance);
    }

    pub(super) fn moved(&self, key: SlotKey, state: SlotState, until: Option<Duration>, now: Duration) {
        let Some(record) = self.board.get(key.worker) else {
            return;
        };
        let lasts = until.map(|until| until.saturating_sub(now));
        let wall = self.clock.now();
        let end = lasts.and_then(|lasts| wall.checked_add(lasts).ok());
        let (incarnation, exit) = record.moved(key.slot, state, wall, end);
        let (definition, _) = record.definition();
        if let (SlotState::GivenUp, Some(exit_code)) = (state, definition.exit_when_given_up) {
            let ended = exit.as_ref().map(ToString::to_string).unwrap_or_default();
            self.fatal.declare(Fatal {
                worker: record.name.to_string(),
                slot: key.slot,
                cause: format!("was given up: attempt {incarnation} {ended}"),
                exit_code,
            });
        }
        let caused = matches!(state, SlotState::BackingOff | SlotState::GivenUp | SlotState::Finished);
        self.events.emit(SupervisorEvent::Moved {
            worker: record.name.to_string(),
            slot: key.slot,
            state,
            incarnation,
            lasts,
            cause: exit.filter(|_| caused),
        });
    }

    pub(super) fn ended(&mut self, key: SlotKey, end: AttemptEnd) {
        self.live.remove(&key);
        let Some(record) = self.board.get(key.worker) else {
            return;
        };
        let incarnation = record.ended(key.slot, end.clone(), self.clock.now());
        self.events.emit(SupervisorEvent::Ended {
            worker: record.name.to_string(),
            slot: key.slot,
            incarnation,
            end,
        });
    }
}
