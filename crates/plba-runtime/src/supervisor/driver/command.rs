//! What the handle asks for, on its way into the machine: definitions are kept until the machine says which of them exist.

use std::sync::Arc;
use std::time::Duration;

use plba_contracts::services::Services;
use plba_contracts::worker::WorkerDefinition;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::super::DefinitionChange;
use super::super::event::SupervisorEvent;
use super::super::machine::protocol::{Answer, Change, Event, Spec};
use super::super::view::WorkerStop;
use super::Driver;
use super::stop_report::ROLL_CALL;

/// What the handle asks for.
pub(in super::super) enum Command {
    Start(Vec<WorkerDefinition>, Services),
    Apply(DefinitionChange, Services),
    Restart(String),
    Scale(String, u32),
    /// For this long, or until it is resumed.
    Pause(String, Option<Duration>),
    Resume(String),
    Stop(Duration),
    Force,
}

/// What the handle gets back.
pub(in super::super) enum Reply {
    Answer(Answer),
    Stopped(Vec<WorkerStop>),
}

pub(in super::super) type Request = (Command, oneshot::Sender<Reply>);

impl Driver {
    pub(super) fn command(&mut self, command: Command, reply: oneshot::Sender<Reply>) {
        self.next_ticket += 1;
        let ticket = self.next_ticket;
        self.replies.insert(ticket, reply);
        let event = match command {
            Command::Start(definitions, services) => {
                self.start = Some((ticket, Instant::now()));
                Event::Start {
                    ticket,
                    specs: self.stage(definitions, &services),
                }
            }
            Command::Apply(change, services) => {
                let added = self.stage(change.added, &services);
                let changed = self.stage(change.changed, &services);
                let removed = change.removed;
                Event::Apply {
                    ticket,
                    change: Change {
                        added,
                        removed,
                        changed,
                    },
                }
            }
            Command::Restart(worker) => Event::Restart { ticket, worker },
            Command::Scale(worker, slots) => Event::Scale { ticket, worker, slots },
            Command::Pause(worker, span) => Event::Pause {
                ticket,
                worker,
                until: span.map(|span| self.origin.elapsed().saturating_add(span)),
            },
            Command::Resume(worker) => Event::Resume { ticket, worker },
            Command::Stop(budget) => {
                if self.stop_began.is_none() {
                    let now = Instant::now();
                    (self.stop_began, self.roll_call) = (Some(now), Some(now + ROLL_CALL));
                    self.events.emit(SupervisorEvent::StopBegan { budget });
                }
                Event::Stop { ticket, budget }
            }
            Command::Force => {
                self.replies.remove(&ticket);
                if self.stop_began.is_some() {
                    self.events.emit(SupervisorEvent::StopForced);
                }
                Event::Force
            }
        };
        self.step(event);
        self.staged.clear();
    }

    /// Keeps definitions until the machine says which of them exist.
    pub(super) fn stage(&mut self, definitions: Vec<WorkerDefinition>, services: &Services) -> Vec<Spec> {
        let mut specs = Vec::with_capacity(definitions.len());
        for definition in definitions {
            let name: Arc<str> = definition.name.as_str().into();
            specs.push(Spec {
                name: Arc::clone(&name),
                slots: definition.concurrency,
                restart: definition.restart.clone(),
                group: definition.group.clone(),
                start_timeout: definition.start_timeout,
                after: definition.after.clone(),
            });
            self.staged.insert(name, (Arc::new(definition), services.clone()));
        }
        specs
    }
}
