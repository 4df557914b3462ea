//! What the handle asks for, on its way into the machine: definitions are kept until the machine says which of them exist.

use std::sync::Arc;
use std::time::Duration;

use plba_contracts::services::Services;
use plba_contracts::worker::{Restart, WorkerDefinition};

use super::super::DefinitionChange;
use super::super::board::Recipe;
use super::super::machine::protocol::{Answer, Change, Event, Spec};
use super::super::view::WorkerStop;
use super::Driver;
use crate::sync::channel::oneshot;
use crate::sync::time::Instant;

/// What the handle asks for.
pub(in super::super) enum Command {
    Start(Vec<WorkerDefinition>, Services),
    Apply(DefinitionChange, Services),
    Restart(String),
    Scale(String, u32),
    Judge(String, Restart),
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
        self.machine.sink.replies.insert(ticket, reply);
        let event = match command {
            Command::Start(definitions, services) => {
                self.machine.sink.start = Some((ticket, Instant::now()));
                self.machine.sink.board.reserve(definitions.len());
                Event::Start {
                    ticket,
                    specs: self.stage(definitions, &Arc::new(services)),
                }
            }
            Command::Apply(change, services) => {
                let services = Arc::new(services);
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
            Command::Judge(worker, restart) => Event::Judge {
                ticket,
                worker,
                restart: Arc::new(restart),
            },
            Command::Pause(worker, span) => Event::Pause {
                ticket,
                worker,
                until: span.map(|span| self.origin.elapsed().saturating_add(span)),
            },
            Command::Resume(worker) => Event::Resume { ticket, worker },
            Command::Stop(budget) => {
                self.machine.sink.stop_begins(budget);
                Event::Stop { ticket, budget }
            }
            Command::Force => {
                // Force has no answer of its own.
                self.machine.sink.replies.remove(&ticket);
                self.machine.sink.stop_is_forced();
                Event::Force
            }
        };
        self.step(event);
        self.machine.sink.staged = Vec::new();
    }

    /// Keeps what definitions are built by until the machine says which of them exist.
    fn stage(&mut self, definitions: Vec<WorkerDefinition>, services: &Arc<Services>) -> Vec<Spec> {
        let staged = &mut self.machine.sink.staged;
        staged.reserve_exact(definitions.len());
        let mut specs = Vec::with_capacity(definitions.len());
        let mut restart: Arc<Restart> = Arc::default();
        for definition in definitions {
            if *restart != definition.restart {
                restart = Arc::new(definition.restart.clone());
            }
            staged.push(Some(Recipe::new(&definition, Arc::clone(services))));
            specs.push(Spec {
                name: definition.name.into(),
                slots: definition.concurrency,
                recipe: staged.len() as u32 - 1,
                restart: Arc::clone(&restart),
                group: definition.group.map(Box::new),
                start_timeout: definition.start_timeout,
                after: definition.after.into(),
            });
        }
        specs
    }
}
