//! Effects carried out: instances begin, hear of stops and are dropped, what moves is written down and told, and commands
//! get their answers. What a stop tells lives in `stop_report`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use plba_contracts::clock::Clock;
use plba_contracts::worker::{Activity, WorkerContext};
use tracing::Instrument;

use super::super::board::{Board, Recipe, Record};
use super::super::event::{EventStream, Note, SupervisorEvent};
use super::super::fatal::{Fatal, FatalCell};
use super::super::instance::{Instance, Obituary, Seed, run};
use super::super::machine::protocol::{Answer, Attempt, Effect, Event, Sink, SlotKey, Ticket};
use super::super::view::{AttemptEnd, SlotState};
use super::command::Reply;
use super::stop_report::Held;
use crate::children::Registry;
use crate::sync::Handle;
use crate::sync::channel::{UnboundedSender, oneshot};
use crate::sync::time::Instant;

/// Carries out what the machine wants done.
pub(in super::super) struct Carrier {
    clock: Arc<dyn Clock>,
    workers: Handle,
    pub(super) board: Arc<Board>,
    pub(super) events: EventStream,
    fatal: FatalCell,
    children: Arc<Registry>,
    reports: UnboundedSender<Event>,
    /// Called once nothing runs any more.
    pub(super) on_stopped: Box<dyn Fn() + Send>,
    /// The time of the step, on the machine's clock and by the calendar.
    now: Duration,
    pub(super) wall: Timestamp,
    pub(super) replies: HashMap<Ticket, oneshot::Sender<Reply>>,
    pub(super) start: Option<(Ticket, Instant)>,
    pub(super) stop_began: Option<Instant>,
    /// When the stop that goes on names those that are not at rest.
    pub(super) roll_call: Option<Instant>,
    /// What forced instances had in hand, for the stop report.
    pub(super) held: HashMap<SlotKey, Held>,
    /// What the definitions that come with the command in hand are built by.
    pub(super) staged: Vec<Option<Recipe>>,
}

/// Where the carrier tells what it sees and does.
pub(in super::super) struct Outlets {
    pub(in super::super) board: Arc<Board>,
    pub(in super::super) events: EventStream,
    pub(in super::super) fatal: FatalCell,
    pub(in super::super) children: Arc<Registry>,
    /// Called once nothing runs any more.
    pub(in super::super) on_stopped: Box<dyn Fn() + Send>,
}

impl Carrier {
    pub(in super::super) fn new(
        clock: Arc<dyn Clock>,
        workers: Handle,
        outlets: Outlets,
        reports: UnboundedSender<Event>,
    ) -> Self {
        Self {
            wall: clock.now(),
            clock,
            workers,
            board: outlets.board,
            events: outlets.events,
            fatal: outlets.fatal,
            children: outlets.children,
            on_stopped: outlets.on_stopped,
            reports,
            now: Duration::ZERO,
            replies: HashMap::new(),
            start: None,
            stop_began: None,
            roll_call: None,
            held: HashMap::new(),
            staged: Vec::new(),
        }
    }

    /// What is carried out from now on happens at this time.
    pub(super) fn at(&mut self, now: Duration) {
        (self.now, self.wall) = (now, self.clock.now());
    }

    pub(super) fn tell(&self, event: SupervisorEvent) {
        self.events.emit_at(self.wall, event.into());
    }

    fn staged(&mut self, recipe: u32) -> Option<Recipe> {
        self.staged.get_mut(recipe as usize)?.take()
    }

    fn begin(&self, attempt: Attempt, incarnation: u64) {
        let key = attempt.key;
        let Some(record) = self.board.get(key.worker) else {
            return;
        };
        let activity = Activity::new(Arc::clone(&self.clock));
        let context = WorkerContext {
            name: Arc::clone(&record.name),
            slot: key.slot,
            incarnation,
            activity: activity.clone(),
            clock: Arc::clone(&self.clock),
        };
        let span = tracing::info_span!(parent: None, "worker", name = %record.name, slot = key.slot);
        let instance = Instance::new(
            attempt,
            activity,
            span.id(),
            Arc::clone(&record),
            self.reports.clone(),
            Arc::clone(&self.children),
        );
        let instance = Arc::new(instance);
        let (build, services) = record.begun(key.slot, incarnation, Arc::clone(&instance), self.wall);
        let seed = Box::new(Seed {
            build,
            services,
            context,
        });
        let obituary = Obituary::new(Arc::clone(&instance));
        let task = self.workers.spawn(run(obituary, seed).instrument(span));
        instance.runs_as(task.abort_handle());
    }

    fn instance(&self, attempt: Attempt) -> Option<Arc<Instance>> {
        let record = self.board.get(attempt.key.worker)?;
        record.instance(attempt.key.slot, attempt.number)
    }

    fn signal(&mut self, attempt: Attempt, force: bool) {
        let Some(instance) = self.instance(attempt) else { return };
        if force {
            self.note_held(attempt.key, &instance);
        }
        instance.signal(force);
    }

    fn drop_attempt(&mut self, attempt: Attempt) {
        let Some(instance) = self.instance(attempt) else { return };
        self.note_held(attempt.key, &instance);
        instance.abort();
    }

    fn moved(&self, key: SlotKey, state: SlotState, until: Option<Duration>) {
        let Some(record) = self.board.get(key.worker) else {
            return;
        };
        let lasts = until.map(|until| until.saturating_sub(self.now));
        let end = lasts.and_then(|lasts| self.wall.checked_add(lasts).ok());
        let moved = record.moved(key.slot, state, self.wall, end);
        let incarnation = moved.incarnation;
        if let Some(exit_code) = moved.exit_code {
            let ended = moved.cause.as_ref().map(ToString::to_string).unwrap_or_default();
            self.fatal.declare(Fatal {
                worker: record.name.to_string(),
                slot: key.slot,
                cause: format!("was given up: attempt {incarnation} {ended}"),
                exit_code,
            });
        }
        let note = Note::Moved {
            worker: Arc::clone(&record.name),
            slot: key.slot,
            state,
            incarnation,
            lasts,
            cause: moved.cause,
        };
        self.events.emit_at(self.wall, note);
    }

    fn ended(&self, key: SlotKey, end: AttemptEnd) {
        let Some(record) = self.board.get(key.worker) else {
            return;
        };
        let incarnation = record.ended(key.slot, end.clone(), self.wall);
        let note = Note::Ended {
            worker: Arc::clone(&record.name),
            slot: key.slot,
            incarnation,
            end,
        };
        self.events.emit_at(self.wall, note);
    }

    fn answer(&mut self, ticket: Ticket, answer: Answer) {
        if let Some((_, began)) = self.start.take_if(|(start, _)| *start == ticket)
            && answer == Answer::Done
        {
            self.tell(SupervisorEvent::Started {
                workers: self.board.len(),
                took: began.elapsed(),
            });
        }
        let reply = match answer {
            Answer::Stopped(stops) => {
                let lines: Vec<_> = stops.iter().map(|stop| self.line(stop)).collect();
                self.stopped(&lines);
                Reply::Stopped(lines)
            }
            other => Reply::Answer(other),
        };
        if let Some(sender) = self.replies.remove(&ticket) {
            // Whoever asked may have gone; the answer stands all the same.
            let _ = sender.send(reply);
        }
    }
}

impl Sink for Carrier {
    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Added { worker, name, recipe } => {
                if let Some(recipe) = self.staged(recipe) {
                    self.board.insert(worker, Record::new(Arc::clone(&name), recipe));
                    self.events.emit_at(self.wall, Note::Added(name));
                }
            }
            Effect::Changed { worker, recipe } => {
                if let (Some(record), Some(recipe)) = (self.board.get(worker), self.staged(recipe)) {
                    record.replace(recipe);
                    self.board.note_change();
                    let worker = record.name.to_string();
                    self.tell(SupervisorEvent::Changed { worker });
                }
            }
            Effect::Removed { worker } => {
                if let Some(record) = self.board.remove(worker) {
                    let worker = record.name.to_string();
                    self.tell(SupervisorEvent::Removed { worker });
                }
            }
            Effect::Begin { attempt, incarnation } => self.begin(attempt, incarnation),
            Effect::Signal { attempt, force } => self.signal(attempt, force),
            Effect::Drop { attempt } => self.drop_attempt(attempt),
            Effect::State { key, state, until } => self.moved(key, state, until),
            Effect::Ended { key, end } => self.ended(key, end),
            Effect::Answer { ticket, answer } => self.answer(ticket, answer),
        }
    }
}
