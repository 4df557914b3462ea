//! The one task that owns the step machine: it feeds it commands, reports and time, and carries its effects out. No
//! decision is made here.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use plba_contracts::clock::Clock;
use plba_contracts::services::Services;
use plba_contracts::worker::{Activity, WorkerContext, WorkerDefinition};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tracing::Instrument;

use super::board::{Board, Record};
use super::event::{EventStream, SupervisorEvent};
use super::fatal::{Fatal, FatalCell};
use super::instance::{Instance, Obituary, Seed, run};
use super::machine::Machine;
use super::machine::protocol::{Answer, Attempt, Change, Effect, Event, SlotKey, SlotStop, Spec, Ticket};
use super::view::{AttemptEnd, SlotState, StopOutcome, WorkerStop};

/// How many reports are handled before commands and timers get a look.
const BATCH: usize = 256;

/// How often a stop names those that are not at rest, and how many of them at most.
const ROLL_CALL: Duration = Duration::from_secs(5);
const NAMED: usize = 16;

/// What the handle asks for.
pub(super) enum Command {
    Start(Vec<WorkerDefinition>, Services),
    Apply(super::DefinitionChange, Services),
    Restart(String),
    Scale(String, u32),
    Pause(String),
    Resume(String),
    Stop(Duration),
    Force,
}

/// What the handle gets back.
pub(super) enum Reply {
    Answer(Answer),
    Stopped(Vec<WorkerStop>),
}

pub(super) type Request = (Command, oneshot::Sender<Reply>);

pub(super) struct Driver {
    machine: Machine,
    origin: Instant,
    clock: Arc<dyn Clock>,
    workers: Handle,
    board: Arc<Board>,
    events: EventStream,
    on_stopped: Box<dyn Fn() + Send>,
    reports: mpsc::UnboundedSender<Event>,
    fatal: FatalCell,
    replies: HashMap<Ticket, oneshot::Sender<Reply>>,
    next_ticket: Ticket,
    start: Option<(Ticket, Instant)>,
    stop_began: Option<Instant>,
    /// When the stop that goes on names those that are not at rest.
    roll_call: Option<Instant>,
    live: HashMap<SlotKey, Live>,
    /// What forced instances had in hand, for the stop report.
    held: HashMap<SlotKey, String>,
    /// The definitions that come with the command in hand, by name.
    staged: HashMap<Arc<str>, (Arc<WorkerDefinition>, Services)>,
}

/// Where the driver tells what it sees and does.
pub(super) struct Outlets {
    pub(super) board: Arc<Board>,
    pub(super) events: EventStream,
    pub(super) fatal: FatalCell,
}

/// An attempt whose end has not been reported.
struct Live {
    number: u64,
    instance: Arc<Instance>,
    abort: AbortHandle,
}

impl Driver {
    /// `on_stopped` is called once nothing runs any more.
    pub(super) fn new(
        seed: u64,
        clock: Arc<dyn Clock>,
        workers: Handle,
        outlets: Outlets,
        reports: mpsc::UnboundedSender<Event>,
        on_stopped: Box<dyn Fn() + Send>,
    ) -> Self {
        Self {
            machine: Machine::new(seed),
            origin: Instant::now(),
            clock,
            workers,
            board: outlets.board,
            events: outlets.events,
            fatal: outlets.fatal,
            on_stopped,
            reports,
            replies: HashMap::new(),
            next_ticket: 0,
            start: None,
            stop_began: None,
            roll_call: None,
            live: HashMap::new(),
            held: HashMap::new(),
            staged: HashMap::new(),
        }
    }

    /// Runs until the last handle is gone; what still runs then is dropped.
    pub(super) async fn run(
        mut self,
        mut requests: mpsc::Receiver<Request>,
        mut inbox: mpsc::UnboundedReceiver<Event>,
    ) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let wake = self.next_wake();
            let roll_call = self.roll_call;
            tokio::select! {
                count = inbox.recv_many(&mut batch, BATCH) => {
                    debug_assert!(count > 0, "the driver holds a sender itself");
                    for event in batch.drain(..) {
                        self.step(event);
                    }
                }
                request = requests.recv() => match request {
                    Some((command, reply)) => self.command(command, reply),
                    None => break,
                },
                () = tokio::time::sleep_until(wake) => self.step(Event::Tick),
                () = tokio::time::sleep_until(roll_call.unwrap_or(wake)), if roll_call.is_some() => self.name_stragglers(),
            }
        }
        for live in self.live.values() {
            live.instance.signal(true);
            live.abort.abort();
        }
    }

    fn next_wake(&self) -> Instant {
        // Where nothing is due, or beyond what the timer can hold, looking again after a day costs nothing.
        const FAR: Duration = Duration::from_secs(24 * 3600);
        let far = Instant::now() + FAR;
        let due = self
            .machine
            .next_deadline()
            .and_then(|due| self.origin.checked_add(due));
        due.map_or(far, |due| due.min(far))
    }

    fn command(&mut self, command: Command, reply: oneshot::Sender<Reply>) {
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
            Command::Pause(worker) => Event::Pause { ticket, worker },
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
    fn stage(&mut self, definitions: Vec<WorkerDefinition>, services: &Services) -> Vec<Spec> {
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

    fn step(&mut self, event: Event) {
        let now = self.origin.elapsed();
        for effect in self.machine.step(event, now) {
            self.carry_out(effect, now);
        }
    }

    fn carry_out(&mut self, effect: Effect, now: Duration) {
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

    fn begin(&mut self, attempt: Attempt, incarnation: u64) {
        let key = attempt.key;
        let Some(record) = self.board.get(key.worker) else {
            return;
        };
        let (definition, services) = record.definition();
        let activity = Activity::new(Arc::clone(&self.clock));
        let instance = Arc::new(Instance::new(activity.clone()));
        record.begun(key.slot, incarnation, Arc::clone(&instance), self.clock.now());
        let context = WorkerContext {
            name: Arc::clone(&record.name),
            slot: key.slot,
            incarnation,
            activity,
            clock: Arc::clone(&self.clock),
        };
        let span = tracing::info_span!(parent: None, "worker", name = %record.name, slot = key.slot);
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

    fn signal(&mut self, attempt: Attempt, force: bool) {
        let Some(live) = self.live.get(&attempt.key).filter(|live| live.number == attempt.number) else {
            return;
        };
        let instance = Arc::clone(&live.instance);
        if force {
            self.note_held(attempt.key, &instance);
        }
        instance.signal(force);
    }

    fn drop_attempt(&mut self, attempt: Attempt) {
        let Some(live) = self.live.get(&attempt.key).filter(|live| live.number == attempt.number) else {
            return;
        };
        live.abort.abort();
        let instance = Arc::clone(&live.instance);
        self.note_held(attempt.key, &instance);
    }

    fn note_held(&mut self, key: SlotKey, instance: &Instance) {
        if let Some(busy) = instance.activity.current() {
            self.held.insert(key, busy.what.as_ref().to_owned());
        }
    }

    fn moved(&self, key: SlotKey, state: SlotState, until: Option<Duration>, now: Duration) {
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

    fn ended(&mut self, key: SlotKey, end: AttemptEnd) {
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

    fn answer(&mut self, ticket: Ticket, answer: Answer) {
        if let Some((_, began)) = self.start.take_if(|(start, _)| *start == ticket)
            && answer == Answer::Done
        {
            let workers = self.board.len();
            self.events.emit(SupervisorEvent::Started {
                workers,
                took: began.elapsed(),
            });
        }
        let reply = match answer {
            Answer::Stopped(stops) => {
                self.stopped(&stops);
                Reply::Stopped(stops.into_iter().map(|stop| self.line(stop)).collect())
            }
            other => Reply::Answer(other),
        };
        if let Some(sender) = self.replies.remove(&ticket) {
            // Whoever asked may have gone; the answer stands all the same.
            let _ = sender.send(reply);
        }
    }

    fn stopped(&mut self, stops: &[SlotStop]) {
        let Some(began) = self.stop_began.take() else { return };
        self.roll_call = None;
        let count = |how| stops.iter().filter(|stop| stop.how == how).count();
        self.events.emit(SupervisorEvent::StopEnded {
            drained: count(StopOutcome::Drained),
            forced: count(StopOutcome::Forced),
            abandoned: count(StopOutcome::Abandoned),
            took: began.elapsed(),
        });
        (self.on_stopped)();
    }

    fn name_stragglers(&mut self) {
        let Some(began) = self.stop_began else { return };
        let now = Instant::now();
        self.roll_call = Some(now + ROLL_CALL);
        let mut keys: Vec<SlotKey> = self.live.keys().copied().collect();
        keys.sort_unstable();
        let name = |key: &SlotKey| {
            let worker = self.board.get(key.worker)?;
            let busy = self.live.get(key)?.instance.activity.current();
            let held = busy.map(|busy| format!(" ({})", busy.what)).unwrap_or_default();
            Some(format!("{}#{}{held}", worker.name, key.slot))
        };
        self.events.emit(SupervisorEvent::Stragglers {
            count: keys.len(),
            first: keys.iter().filter_map(name).take(NAMED).collect(),
            stopping_for: now - began,
        });
    }

    fn line(&self, stop: SlotStop) -> WorkerStop {
        let held = self.held.get(&stop.key).filter(|_| stop.how != StopOutcome::Drained);
        WorkerStop {
            worker: stop.name.to_string(),
            slot: stop.key.slot,
            how: stop.how,
            held: held.cloned(),
            took: stop.took,
        }
    }
}
