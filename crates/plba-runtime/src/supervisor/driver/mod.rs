//! The one task that owns the step machine: it feeds it commands, reports and time, and carries its effects out. No
//! decision is made here.

mod command;
mod effects;
mod stop_report;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use plba_contracts::clock::Clock;
use plba_contracts::services::Services;
use plba_contracts::worker::WorkerDefinition;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use self::effects::Live;
use super::board::Board;
use super::event::{EventStream, SupervisorEvent};
use super::fatal::FatalCell;
use super::machine::Machine;
use super::machine::protocol::{Answer, Event, SlotKey, Ticket};

pub(super) use self::command::{Command, Reply, Request};

/// How many reports are handled before commands and timers get a look.
const BATCH: usize = 256;

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

    fn step(&mut self, event: Event) {
        let now = self.origin.elapsed();
        for effect in self.machine.step(event, now) {
            self.carry_out(effect, now);
        }
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
}
