//! What goes into the step machine and what comes out of it. Plain values only: how they are carried out is the
//! driver's business.

use std::sync::Arc;
use std::time::Duration;

use plba_contracts::worker::{Group, Restart};

use super::super::view::{AttemptEnd, SlotState, StopOutcome};
use super::graph::GraphError;

/// A definition's number in this process; never used again.
pub(crate) type WorkerId = u64;

/// A command's number, chosen by whoever gives it; its one answer carries it.
pub(crate) type Ticket = u64;

/// Whoever gives a definition knows by this number what its instances are built by.
pub(crate) type Recipe = u32;

/// One slot of one definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SlotKey {
    pub(crate) worker: WorkerId,
    pub(crate) slot: u32,
}

/// One attempt of one slot. `number` is never used again, so a late report about an older attempt is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Attempt {
    pub(crate) key: SlotKey,
    pub(crate) number: u64,
}

/// What the machine has to know of a definition.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    pub(crate) name: Arc<str>,
    pub(crate) slots: u32,
    pub(crate) recipe: Recipe,
    /// Shared, since nearly all workers restart alike.
    pub(crate) restart: Arc<Restart>,
    pub(crate) group: Option<Box<Group>>,
    pub(crate) start_timeout: Duration,
    pub(crate) after: Box<[String]>,
}

/// What the definitions of a reload differ in from the running ones.
#[derive(Clone, Debug, Default)]
pub(crate) struct Change {
    pub(crate) added: Vec<Spec>,
    pub(crate) removed: Vec<String>,
    pub(crate) changed: Vec<Spec>,
}

/// Something happened.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// Start these definitions; once in the life of a machine.
    Start { ticket: Ticket, specs: Vec<Spec> },
    /// Become what a reload asks for.
    Apply { ticket: Ticket, change: Change },
    /// End all attempts of a worker and start anew; the way out of "given up".
    Restart { ticket: Ticket, worker: String },
    /// Run this many slots.
    Scale { ticket: Ticket, worker: String, slots: u32 },
    /// From now on the ends of its attempts are judged by this.
    Judge {
        ticket: Ticket,
        worker: String,
        restart: Arc<Restart>,
    },
    /// Let a worker rest until it is resumed, or this moment comes. Another pause takes the place of an earlier one.
    Pause {
        ticket: Ticket,
        worker: String,
        until: Option<Duration>,
    },
    /// End the rest.
    Resume { ticket: Ticket, worker: String },
    /// Stop everything within the budget.
    Stop { ticket: Ticket, budget: Duration },
    /// Cut the stop short.
    Force,
    /// An attempt has started.
    Ready(Attempt),
    /// An attempt is over, and nothing of it is left.
    Ended(Attempt, AttemptEnd),
    /// An instance hangs, and its worker wants it replaced.
    Hung { key: SlotKey, incarnation: u64 },
    /// Time has passed.
    Tick,
}

/// Something is to be done.
#[derive(Clone, Debug)]
pub(crate) enum Effect {
    /// A definition exists from now on.
    Added {
        worker: WorkerId,
        name: Arc<str>,
        recipe: Recipe,
    },
    /// A definition has another content from now on.
    Changed { worker: WorkerId, recipe: Recipe },
    /// Nothing of a definition is left.
    Removed { worker: WorkerId },
    /// Build an instance and start it.
    Begin { attempt: Attempt, incarnation: u64 },
    /// Ask the instance to stop.
    Signal { attempt: Attempt, force: bool },
    /// Drop the attempt wherever it is.
    Drop { attempt: Attempt },
    /// A slot is in another state; `until` when that state ends by itself.
    State {
        key: SlotKey,
        state: SlotState,
        until: Option<Duration>,
    },
    /// An attempt is over.
    Ended { key: SlotKey, end: AttemptEnd },
    /// The one answer to a command.
    Answer { ticket: Ticket, answer: Answer },
}

/// Where effects go, each at the moment at which it arises. They are carried out in this order, and nothing of what
/// follows from them is heard by the machine before the step is over.
pub(crate) trait Sink {
    fn carry_out(&mut self, effect: Effect);
}

#[cfg(test)]
impl Sink for Vec<Effect> {
    fn carry_out(&mut self, effect: Effect) {
        self.push(effect);
    }
}

/// How a command turned out.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    /// All slots are where the command wanted them.
    Done,
    /// Some slots did not start; they are supervised all the same.
    Failed(Vec<SlotFailure>),
    /// A later command wanted something else.
    Overtaken,
    /// Nothing was done.
    Refused(Refusal),
    /// Everything has come to rest, or was left behind at the end of the budget.
    Stopped(Arc<Vec<SlotStop>>),
}

/// A slot that did not start.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SlotFailure {
    pub(crate) worker: Arc<str>,
    pub(crate) slot: u32,
    pub(crate) cause: Arc<str>,
}

/// How a slot came to rest.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SlotStop {
    pub(crate) key: SlotKey,
    pub(crate) name: Arc<str>,
    pub(crate) how: StopOutcome,
    pub(crate) took: Duration,
}

/// Why a command was refused.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Refusal {
    /// `Start` was given before.
    AlreadyStarted,
    /// `Start` has not been given.
    NotStarted,
    /// A stop was asked for, or the start failed.
    Stopping,
    /// No worker of this name.
    Unknown(String),
    /// Fewer than one slot, or more than a worker may have.
    SlotCount,
    /// The definitions don't fit together.
    Graph(GraphError),
}
