//! What the supervisor tells: plain data for status, events and the stop report. How it comes about lives in the
//! machine, the board and the watchdog.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use plba_contracts::health::{Criticality, Health};
use plba_contracts::worker::{Fate, WorkerStatus};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a slot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SlotState {
    /// Waits until the workers it starts after are ready.
    Waiting,
    /// Is being built or started.
    Starting,
    /// Works.
    Running,
    /// Its attempt ended; it is started again after a pause.
    BackingOff,
    /// Was asked to stop and finishes what it has in hand.
    Stopping,
    /// Was told to drop what it has in hand.
    Forced,
    /// Its attempt was dropped and is not gone yet.
    Dropped,
    /// Did not let itself be dropped, and was left behind.
    Abandoned,
    /// Has completed its work.
    Finished,
    /// Failed more often than is put up with; only an operator or a reload starts it again.
    GivenUp,
    /// Rests until it is resumed, or its pause ends by itself.
    Paused,
    /// Has stopped.
    Stopped,
    /// Is not wanted any more.
    Gone,
}

impl SlotState {
    /// One word, such as `backing_off`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::BackingOff => "backing_off",
            Self::Stopping => "stopping",
            Self::Forced => "forced",
            Self::Dropped => "dropped",
            Self::Abandoned => "abandoned",
            Self::Finished => "finished",
            Self::GivenUp => "given_up",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
            Self::Gone => "gone",
        }
    }

    /// Whether an attempt exists that the stop order has to wait for.
    pub(crate) fn is_live(self) -> bool {
        matches!(self, Self::Starting | Self::Running) || self.is_ending()
    }

    /// Whether an attempt has been asked to end and has not yet.
    pub(crate) fn is_ending(self) -> bool {
        matches!(self, Self::Stopping | Self::Forced | Self::Dropped)
    }

    /// Whether a slot here starts again when its group does.
    pub(crate) fn restarts_with_its_group(self) -> bool {
        matches!(self, Self::Starting | Self::Running | Self::BackingOff)
    }

    /// Whether it takes a command, or the end of a pause, to get a slot that was never ready to start.
    pub(crate) fn does_not_start_by_itself(self) -> bool {
        matches!(self, Self::BackingOff | Self::GivenUp | Self::Paused | Self::Abandoned)
    }

    /// How much an operator should look at it; the state of a worker is the highest of its slots.
    pub(crate) fn urgency(self) -> u8 {
        match self {
            Self::Gone => 0,
            Self::Stopped => 1,
            Self::Finished => 2,
            Self::Paused => 3,
            Self::Running => 4,
            Self::Waiting => 5,
            Self::Starting => 6,
            Self::Stopping => 7,
            Self::Forced => 8,
            Self::Dropped => 9,
            Self::BackingOff => 10,
            Self::Abandoned => 11,
            Self::GivenUp => 12,
        }
    }
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "how", content = "cause", rename_all = "snake_case")]
pub enum AttemptEnd {
    /// It completed its work.
    Finished,
    /// It stopped.
    Stopped,
    /// It could not go on.
    Failed(String),
    /// It panicked.
    Panicked(String),
    /// Its instance could not be built.
    NotBuilt(String),
    /// Its instance could not start.
    NotStarted(String),
    /// Its start took longer than this.
    StartTimedOut(
        #[serde(with = "crate::seconds")]
        #[schemars(with = "f64")]
        Duration,
    ),
    /// It was busy with one thing for too long, and its worker wants such instances replaced.
    Hung,
    /// The supervisor dropped it, or the executor was shut down under it.
    Dropped,
}

impl AttemptEnd {
    /// Whether the restart policy treats it as a failure.
    pub fn is_failure(&self) -> bool {
        !matches!(self, Self::Finished | Self::Stopped)
    }
}

impl fmt::Display for AttemptEnd {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished => out.write_str("finished"),
            Self::Stopped => out.write_str("stopped"),
            Self::Failed(cause) => write!(out, "failed: {cause}"),
            Self::Panicked(message) => write!(out, "panicked: {message}"),
            Self::NotBuilt(cause) => write!(out, "could not be built: {cause}"),
            Self::NotStarted(cause) => write!(out, "could not start: {cause}"),
            Self::StartTimedOut(limit) => write!(out, "took longer than {limit:?} to start"),
            Self::Hung => out.write_str("hung"),
            Self::Dropped => out.write_str("was dropped"),
        }
    }
}

/// How a worker came to rest when the process stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StopOutcome {
    /// It finished what it had in hand.
    Drained,
    /// It had to drop what it had in hand.
    Forced,
    /// It, or a thread of it, did not end and was left behind.
    Abandoned,
}

/// One line of the stop report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkerStop {
    /// The worker.
    pub worker: String,
    /// Which of its instances.
    pub slot: u32,
    /// How it came to rest.
    pub how: StopOutcome,
    /// What it had in hand when it was forced.
    pub held: Option<String>,
    /// What became of that.
    #[serde(default)]
    pub became: Option<Fate>,
    /// From being asked to being at rest, in seconds.
    #[serde(with = "crate::seconds")]
    #[schemars(with = "f64")]
    pub took: Duration,
}

/// A worker as status shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkerView {
    /// Its name.
    pub name: String,
    /// The state of the slot that most needs looking at.
    pub state: SlotState,
    /// The worse of what the instances and the supervisor say.
    pub health: Health,
    /// What its being unhealthy means for the whole.
    pub criticality: Criticality,
    /// Whether a hung instance makes the process not live.
    pub liveness: bool,
    /// What all its instances have done in this process, those that are gone included.
    pub status: WorkerStatus,
    /// How often its slots were started again after an attempt had ended.
    pub restarts: u64,
    /// Its slots, by number.
    pub slots: Vec<SlotView>,
}

impl WorkerView {
    /// Whether one of its instances is hung.
    pub fn is_hung(&self) -> bool {
        self.slots.iter().any(|slot| slot.hung)
    }
}

/// A slot as status shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SlotView {
    /// Its number, from 0.
    pub slot: u32,
    /// Where it is.
    pub state: SlotState,
    /// Since when.
    #[schemars(with = "String")]
    pub since: Timestamp,
    /// When this state ends by itself, where it does.
    #[schemars(with = "Option<String>")]
    pub until: Option<Timestamp>,
    /// How often it has been started in this process.
    pub incarnation: u64,
    /// What it has in hand.
    pub busy: Option<BusyView>,
    /// Whether it has had that in hand for longer than the worker allows.
    pub hung: bool,
    /// How its latest ended attempt ended.
    pub last_exit: Option<ExitView>,
}

/// What an instance has in hand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BusyView {
    /// What, such as a task's id.
    pub what: String,
    /// Since when.
    #[schemars(with = "String")]
    pub since: Timestamp,
    /// The innermost span that is open there, once it counts as hung.
    pub span: Option<String>,
    /// For how long, in seconds.
    #[serde(with = "crate::seconds")]
    #[schemars(with = "f64")]
    pub duration: Duration,
}

/// How and when an attempt ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExitView {
    /// When.
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// How.
    #[serde(flatten)]
    pub end: AttemptEnd,
}
