//! Supervision of workers: definitions become instances, which are started in order, watched, started again and stopped
//! within a budget. What to do is decided by the pure step machine in `machine`; this folder's other files carry it out.

mod board;
mod driver;
mod error;
mod event;
mod fatal;
mod few;
pub(crate) mod instance;
mod machine;
mod race;
mod roster;
#[cfg(test)]
pub(crate) mod tests;
mod view;
mod watchdog;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use plba_contracts::clock::Clock;
use plba_contracts::services::{ServiceKey, Services};
use plba_contracts::stop::StopSignal;
use plba_contracts::worker::{Busy, HangPolicy, Restart, WorkerDefinition};

use self::board::{Board, Watched};
use self::driver::{Carrier, Command, Driver, Outlets, Reply, Request};
use self::fatal::FatalCell;
use self::machine::protocol::{Event, SlotKey};
use self::watchdog::Watchdog;
use crate::sync::channel::oneshot;
use crate::sync::{self, Handle, channel};

use crate::children::Registry;

pub use self::error::SupervisionError;
pub use self::event::{EventStream, RecordedEvent, SupervisorEvent};
pub use self::fatal::Fatal;
pub use self::machine::graph::GraphError;
pub(crate) use self::race::Race;
pub use self::view::{AttemptEnd, BusyView, ExitView, SlotState, SlotView, StopOutcome, WorkerStop, WorkerView};
pub use self::watchdog::WatchdogOptions;

/// How many commands may wait for the driver.
const COMMANDS: usize = 64;

/// Whether these fit together as all the workers of a process: each name once, and whom each starts after.
///
/// # Errors
/// They don't; the first thing that stands against it.
pub fn check_order(definitions: &[WorkerDefinition]) -> Result<(), GraphError> {
    let nodes = definitions.iter();
    let nodes: Vec<(&str, &[String])> = nodes
        .map(|definition| (definition.name.as_str(), definition.after.as_slice()))
        .collect();
    machine::graph::check(&nodes)
}

/// What a reload changes, by name.
#[derive(Debug, Default)]
pub struct DefinitionChange {
    /// Workers that are to start.
    pub added: Vec<WorkerDefinition>,
    /// Names of workers that are to drain and go.
    pub removed: Vec<String>,
    /// Workers that are to drain and start anew by these definitions; their totals stay.
    pub changed: Vec<WorkerDefinition>,
}

/// Supervises the workers of a process. Clones are handles on the same supervisor; when the last one is dropped, what
/// still runs is dropped too, without a stop.
///
/// Its one driver task runs on the executor on which it was made, and instances on the workers' executor, each attempt
/// on a task of its own. Where these are two executors, a stop keeps its budget even if workers block all their threads.
#[derive(Clone)]
pub struct WorkerSupervisor {
    shared: Arc<Shared>,
}

struct Shared {
    requests: channel::Sender<Request>,
    board: Arc<Board>,
    events: EventStream,
    watchdog: Watchdog,
    fatal: FatalCell,
    children: Arc<Registry>,
    clock: Arc<dyn Clock>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        // However the process ends, as long as it is not killed.
        self.children.close();
    }
}

impl WorkerSupervisor {
    /// A supervisor that runs its workers on the current executor. `seed` decides the jitter of restarts.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new(clock: Arc<dyn Clock>, seed: u64) -> Self {
        Self::with_workers_on(&Handle::current(), clock, seed, WatchdogOptions::default())
    }

    /// A supervisor that runs on the current executor, and its workers on `workers`.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn with_workers_on(workers: &Handle, clock: Arc<dyn Clock>, seed: u64, options: WatchdogOptions) -> Self {
        let board = Arc::new(Board::default());
        let events = EventStream::new(Arc::clone(&clock));
        // Unbounded in form only: an attempt reports at most twice, and hangs at most once.
        let (reports, inbox) = channel::unbounded();
        let fatal = FatalCell::default();
        let children = Arc::<Registry>::default();
        let watchdog = Watchdog::start(
            options,
            Arc::clone(&clock),
            workers,
            Arc::clone(&board),
            events.clone(),
            on_hang(reports.clone(), fatal.clone()),
        );
        let quit = watchdog.quitter();
        let outlets = Outlets {
            board: Arc::clone(&board),
            events: events.clone(),
            fatal: fatal.clone(),
            on_stopped: Box::new(move || quit.quit()),
            children: Arc::clone(&children),
        };
        let driver = Driver::new(
            seed,
            Carrier::new(Arc::clone(&clock), workers.clone(), outlets, reports),
        );
        let (requests, receiver) = channel::bounded(COMMANDS);
        sync::spawn(driver.run(receiver, inbox));
        Self {
            shared: Arc::new(Shared {
                requests,
                board,
                events,
                watchdog,
                fatal,
                children,
                clock,
            }),
        }
    }

    /// Starts these workers, each once those that it starts after are ready, and waits until all are.
    ///
    /// # Errors
    /// The definitions don't fit together; a worker did not start, and then nothing further is started, while those
    /// that run go on until [`stop`](Self::stop); a stop came meanwhile; or it was started before.
    ///
    /// # Cancel safety
    /// A dropped call starts the workers all the same.
    pub async fn start(&self, definitions: Vec<WorkerDefinition>, services: Services) -> Result<(), SupervisionError> {
        self.ask(Command::Start(definitions, services)).await
    }

    /// Stops everything, in reverse order, within the budget: first gracefully, then by force, and what does not let
    /// itself be dropped is left behind and named. `force` cuts it short at any time. Legal at any time, also while
    /// `start` runs; a second call joins the first and gets the same report.
    ///
    /// Each worker has a share of the budget that is left: 80 % of it to finish, 10 % to let go, 10 % to be gone.
    ///
    /// # Cancel safety
    /// A dropped call stops everything all the same, but no longer hears `force`.
    pub async fn stop(&self, budget: Duration, force: StopSignal) -> Vec<WorkerStop> {
        let Some(answer) = self.send(Command::Stop(budget)).await else {
            return Vec::new();
        };
        let forced = async {
            force.forced().await;
            // Force has no answer of its own; the stop's answer is what shows it.
            self.send(Command::Force).await;
            std::future::pending::<()>().await;
        };
        let reply = tokio::select! {
            biased;
            reply = answer => reply.ok(),
            () = forced => None,
        };
        match reply {
            Some(Reply::Stopped(report)) => report,
            _ => Vec::new(),
        }
    }

    /// Becomes what a reload asks for: added workers start, removed ones drain, changed ones drain and start anew, the
    /// rest are not touched. Waits until all of that is done.
    ///
    /// # Errors
    /// As [`start`](Self::start); if a worker did not start, the change stands and the worker is supervised like one
    /// that failed later.
    ///
    /// # Cancel safety
    /// A dropped call makes the change all the same.
    pub async fn apply(&self, change: DefinitionChange, services: Services) -> Result<(), SupervisionError> {
        self.ask(Command::Apply(change, services)).await
    }

    /// Ends all instances of a worker and starts it anew, its failures forgiven; also the way out of "given up" and of
    /// a pause. Waits until it is ready.
    ///
    /// # Errors
    /// There is no such worker, it did not start, it was overtaken by another command, or everything stops.
    pub async fn restart(&self, name: &str) -> Result<(), SupervisionError> {
        self.ask(Command::Restart(name.to_owned())).await
    }

    /// Runs `instances` instances of a worker from now on: more start at once, fewer drain from the highest. Waits until
    /// that is so.
    ///
    /// # Errors
    /// As [`restart`](Self::restart), or the number can't be had.
    pub async fn scale(&self, name: &str, instances: u32) -> Result<(), SupervisionError> {
        self.ask(Command::Scale(name.to_owned(), instances)).await
    }

    /// Judges ends of attempts of a worker by this from now on. What follows from earlier ends stays: a pause that goes on, and
    /// that it was given up.
    ///
    /// # Errors
    /// There is no such worker, or everything stops.
    pub async fn set_restart(&self, name: &str, restart: Restart) -> Result<(), SupervisionError> {
        self.ask(Command::Judge(name.to_owned(), restart)).await
    }

    /// Lets a worker drain and rest until it is resumed. Waits until it rests. What was given up or has finished stays as
    /// it is.
    ///
    /// # Errors
    /// As [`restart`](Self::restart).
    pub async fn pause(&self, name: &str) -> Result<(), SupervisionError> {
        self.ask(Command::Pause(name.to_owned(), None)).await
    }

    /// As [`pause`](Self::pause), but the rest ends by itself after this span, also if it has drained for as long. The
    /// latest pause counts: a longer or shorter one, or one without an end, takes the place of an earlier one. A resume,
    /// a restart or another definition ends it; a change of the number of instances does not, and those that are added
    /// rest with the others.
    ///
    /// # Errors
    /// As [`restart`](Self::restart).
    pub async fn pause_for(&self, name: &str, span: Duration) -> Result<(), SupervisionError> {
        self.ask(Command::Pause(name.to_owned(), Some(span))).await
    }

    /// As [`pause_for`](Self::pause_for), until a moment. How long that is, is decided now: a clock that is set later
    /// moves nothing.
    ///
    /// # Errors
    /// As [`restart`](Self::restart), or the moment is past.
    pub async fn pause_until(&self, name: &str, until: Timestamp) -> Result<(), SupervisionError> {
        let span = until.duration_since(self.shared.clock.now());
        match Duration::try_from(span) {
            Ok(span) if !span.is_zero() => self.pause_for(name, span).await,
            _ => Err(SupervisionError::PastPause(until)),
        }
    }

    /// Ends the rest of a worker. Waits until it is ready.
    ///
    /// # Errors
    /// As [`restart`](Self::restart).
    pub async fn resume(&self, name: &str) -> Result<(), SupervisionError> {
        self.ask(Command::Resume(name.to_owned())).await
    }

    /// Instances of this worker may be busy with one thing for so long from now on, before they count as hung. False if there
    /// is no such worker.
    pub fn set_stall_after(&self, name: &str, stall_after: Duration) -> bool {
        self.shared.board.set_stall_after(name, stall_after)
    }

    /// Which services the instances of each worker have asked for, by the worker's name, since its definition came or
    /// changed.
    pub(crate) fn asked_for(&self) -> Vec<(Arc<str>, Vec<ServiceKey>)> {
        self.shared.board.asked_for()
    }

    /// All workers by name, from memory; instances are asked how they are, which they answer from memory as well.
    pub fn snapshot(&self) -> Vec<WorkerView> {
        self.shared.board.views(&*self.shared.clock)
    }

    /// Everything the supervisor sees and does.
    pub fn events(&self) -> &EventStream {
        &self.shared.events
    }

    /// Waits until the process is to end on account of a worker whose definition asks for that: it was given up, or
    /// hangs. The supervisor itself goes on; whoever waits here stops it and ends the process. Gives the first reason, also
    /// to those who ask later.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn fatal(&self) -> Fatal {
        self.shared.fatal.get().await
    }

    /// For how long the workers' executor has run nothing, once that is longer than it should be. Answers from memory.
    pub fn executor_stalled_for(&self) -> Option<Duration> {
        self.shared.watchdog.executor_stalled_for()
    }

    /// For how long in all the watchdog itself did not get to run when it wanted to, because the machine was too busy or
    /// asleep. That time counts towards no verdict.
    pub fn watchdog_starved_for(&self) -> Duration {
        self.shared.watchdog.starved_for()
    }

    /// The child processes of all instances.
    pub(crate) fn children(&self) -> &Arc<Registry> {
        &self.shared.children
    }

    async fn ask(&self, command: Command) -> Result<(), SupervisionError> {
        match self.request(command).await {
            Some(Reply::Answer(answer)) => SupervisionError::check(answer),
            Some(Reply::Stopped(_)) => Ok(()),
            None => Err(SupervisionError::Stopped),
        }
    }

    /// `None` when the driver is gone with its executor.
    async fn request(&self, command: Command) -> Option<Reply> {
        self.send(command).await?.await.ok()
    }

    async fn send(&self, command: Command) -> Option<oneshot::Receiver<Reply>> {
        let (sender, receiver) = oneshot::channel();
        self.shared.requests.send((command, sender)).await.ok()?;
        Some(receiver)
    }
}

/// What the watchdog does about an instance that it has just found hung.
fn on_hang(reports: channel::UnboundedSender<Event>, fatal: FatalCell) -> impl Fn(&Watched, &Busy) + Send + 'static {
    move |one, busy| match one.on_hang {
        HangPolicy::Report => {}
        HangPolicy::Replace => {
            let (worker, slot, incarnation) = (one.worker, one.slot, one.incarnation);
            let key = SlotKey { worker, slot };
            // Nobody listens any more when the supervisor itself is gone.
            let _ = reports.send(Event::Hung { key, incarnation });
        }
        HangPolicy::EndProcess { exit_code } => fatal.declare(Fatal {
            worker: one.record.name.to_string(),
            slot: one.slot,
            cause: format!("hangs: busy with {} for more than {:?}", busy.what, one.stall_after),
            exit_code,
        }),
    }
}
