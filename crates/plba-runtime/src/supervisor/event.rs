//! Everything the supervisor sees and does, as values of one closed type. Whoever wants to know consumes them: the log
//! and a bounded history here, others by [`EventStream::subscribe`]. Nothing is decided here.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use plba_contracts::clock::Clock;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing::{debug, error, info, warn};

use super::view::{AttemptEnd, SlotState};
use crate::sync::{Mutex, MutexGuard, RwLock};

/// How many events the history holds.
const HISTORY: usize = 1024;

/// Something the supervisor saw or did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum SupervisorEvent {
    /// A worker was registered.
    Added {
        /// Which.
        worker: String,
    },
    /// A worker has another definition.
    Changed {
        /// Which.
        worker: String,
    },
    /// Nothing of a worker is left.
    Removed {
        /// Which.
        worker: String,
    },
    /// A slot is in another state.
    Moved {
        /// Of which worker.
        worker: String,
        /// Which slot.
        slot: u32,
        /// Where it is now.
        state: SlotState,
        /// How often it has been started.
        incarnation: u64,
        /// How long the state lasts if nothing else happens, in seconds.
        #[serde(with = "crate::seconds::optional")]
        #[schemars(with = "Option<f64>")]
        lasts: Option<Duration>,
        /// What brought it there, where that was the end of an attempt.
        cause: Option<AttemptEnd>,
    },
    /// An attempt is over.
    Ended {
        /// Of which worker.
        worker: String,
        /// Which slot.
        slot: u32,
        /// Which of its attempts.
        incarnation: u64,
        /// How.
        end: AttemptEnd,
    },
    /// An instance has had the same thing in hand for longer than its worker allows.
    Hung {
        /// Of which worker.
        worker: String,
        /// Which slot.
        slot: u32,
        /// What it has in hand.
        busy_with: String,
        /// The innermost span that is open there, such as `price_list`; none where no span is.
        #[serde(default)]
        span: Option<String>,
        /// Since when.
        #[serde(default)]
        #[schemars(with = "String")]
        since: Timestamp,
        /// For how long, in seconds.
        #[serde(with = "crate::seconds")]
        #[schemars(with = "f64")]
        duration: Duration,
    },
    /// A hung instance got on.
    Unhung {
        /// Of which worker.
        worker: String,
        /// Which slot.
        slot: u32,
    },
    /// The workers' executor runs nothing.
    ExecutorStalled {
        /// For how long, in seconds.
        #[serde(with = "crate::seconds")]
        #[schemars(with = "f64")]
        duration: Duration,
    },
    /// The workers' executor runs again.
    ExecutorMoves,
    /// Every worker is ready.
    Started {
        /// How many workers.
        workers: usize,
        /// In what time, in seconds.
        #[serde(with = "crate::seconds")]
        #[schemars(with = "f64")]
        took: Duration,
    },
    /// A stop was asked for.
    StopBegan {
        /// How long it may take, in seconds.
        #[serde(with = "crate::seconds")]
        #[schemars(with = "f64")]
        budget: Duration,
    },
    /// The stop is cut short.
    StopForced,
    /// A stop goes on, and these instances are not at rest; told every few seconds.
    Stragglers {
        /// How many instances.
        count: usize,
        /// The first of them, with what they have in hand, such as `orders[0] (task 17)`; at most 16.
        first: Vec<String>,
        /// For how long the stop has gone on, in seconds.
        #[serde(with = "crate::seconds")]
        #[schemars(with = "f64")]
        stopping_for: Duration,
    },
    /// Everything is at rest, or left behind.
    StopEnded {
        /// Instances that finished what they had in hand.
        drained: usize,
        /// Instances that had to drop it.
        forced: usize,
        /// Instances that were left behind.
        abandoned: usize,
        /// In what time, in seconds.
        #[serde(with = "crate::seconds")]
        #[schemars(with = "f64")]
        took: Duration,
    },
}

/// An event with its time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RecordedEvent {
    /// When.
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// What.
    #[serde(flatten)]
    pub event: SupervisorEvent,
}

type Consumer = Arc<dyn Fn(&RecordedEvent) + Send + Sync>;

/// An event as it arises. What arises by the ten thousand, when many workers start or stop, becomes a [`SupervisorEvent`]
/// only where somebody looks.
#[derive(Clone)]
pub(super) enum Note {
    Moved {
        worker: Arc<str>,
        slot: u32,
        state: SlotState,
        incarnation: u64,
        lasts: Option<Duration>,
        cause: Option<AttemptEnd>,
    },
    Added(Arc<str>),
    Ended {
        worker: Arc<str>,
        slot: u32,
        incarnation: u64,
        end: AttemptEnd,
    },
    Other(Box<SupervisorEvent>),
}

impl Note {
    fn event(&self) -> SupervisorEvent {
        match self.clone() {
            Self::Moved {
                worker,
                slot,
                state,
                incarnation,
                lasts,
                cause,
            } => SupervisorEvent::Moved {
                worker: worker.to_string(),
                slot,
                state,
                incarnation,
                lasts,
                cause,
            },
            Self::Added(worker) => SupervisorEvent::Added {
                worker: worker.to_string(),
            },
            Self::Ended {
                worker,
                slot,
                incarnation,
                end,
            } => SupervisorEvent::Ended {
                worker: worker.to_string(),
                slot,
                incarnation,
                end,
            },
            Self::Other(event) => *event,
        }
    }

    /// Whether the log has it at `debug` only.
    fn is_quiet(&self) -> bool {
        match self {
            Self::Added(_) | Self::Ended { .. } => true,
            Self::Moved { state, incarnation, .. } => match state {
                SlotState::Running => *incarnation == 1,
                SlotState::BackingOff
                | SlotState::GivenUp
                | SlotState::Forced
                | SlotState::Dropped
                | SlotState::Abandoned
                | SlotState::Paused => false,
                _ => true,
            },
            Self::Other(_) => false,
        }
    }
}

impl From<SupervisorEvent> for Note {
    fn from(event: SupervisorEvent) -> Self {
        Self::Other(Box::new(event))
    }
}

/// Where events go. Clones share history and consumers.
#[derive(Clone)]
pub struct EventStream {
    clock: Arc<dyn Clock>,
    history: Arc<Mutex<VecDeque<(Timestamp, Note)>>>,
    consumers: Arc<RwLock<Vec<Consumer>>>,
}

impl EventStream {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            history: Arc::new(Mutex::new(VecDeque::new())),
            consumers: Arc::new(RwLock::new(Vec::new())),
        }
    }

    /// Hands every event from now on to `consumer`, in order of time for one worker, on whatever thread it arises. It
    /// must return at once; a panic in it is caught.
    pub fn subscribe(&self, consumer: impl Fn(&RecordedEvent) + Send + Sync + 'static) {
        let mut consumers = self.consumers.write().unwrap_or_else(PoisonError::into_inner);
        consumers.push(Arc::new(consumer));
    }

    /// The latest events, oldest first; at most 1024.
    pub fn history(&self) -> Vec<RecordedEvent> {
        let latest: Vec<(Timestamp, Note)> = self.lock().iter().cloned().collect();
        let recorded = |(at, note): (Timestamp, Note)| RecordedEvent {
            at,
            event: note.event(),
        };
        latest.into_iter().map(recorded).collect()
    }

    pub(super) fn emit(&self, event: SupervisorEvent) {
        self.emit_at(self.clock.now(), event.into());
    }

    /// As [`emit`](Self::emit), at a moment that was read for many of them.
    pub(super) fn emit_at(&self, at: Timestamp, note: Note) {
        let consumers = self.consumers.read().unwrap_or_else(PoisonError::into_inner).clone();
        let logged = !note.is_quiet() || tracing::enabled!(tracing::Level::DEBUG);
        if logged || !consumers.is_empty() {
            let event = note.event();
            if logged {
                write_log(&event);
            }
            let recorded = RecordedEvent { at, event };
            for consumer in consumers {
                if std::panic::catch_unwind(AssertUnwindSafe(|| consumer(&recorded))).is_err() {
                    warn!("a consumer of the supervisor's events panicked");
                }
            }
        }
        let mut history = self.lock();
        let oldest = (history.len() == HISTORY).then(|| history.pop_front());
        history.push_back((at, note));
        drop(history);
        drop(oldest);
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(Timestamp, Note)>> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One calm line for what an operator should see; what goes well is left to `debug`.
fn write_log(event: &SupervisorEvent) {
    match event {
        SupervisorEvent::Added { worker } => debug!(worker, "worker registered"),
        SupervisorEvent::Changed { worker } => info!(worker, "worker changed; it starts anew"),
        SupervisorEvent::Removed { worker } => info!(worker, "worker removed"),
        SupervisorEvent::Moved { .. } => write_move(event),
        SupervisorEvent::Ended { worker, slot, end, .. } => debug!(worker, slot, "attempt {end}"),
        SupervisorEvent::Hung {
            worker,
            slot,
            busy_with,
            span,
            since,
            duration,
        } => {
            let span = span
                .as_ref()
                .map(|span| format!(", in span {span}"))
                .unwrap_or_default();
            warn!(
                worker,
                slot, "hung: busy with {busy_with}{span} for {duration:.0?}, since {since:.0}"
            );
        }
        SupervisorEvent::Unhung { worker, slot } => info!(worker, slot, "no longer hung"),
        SupervisorEvent::ExecutorStalled { duration } => {
            error!("the workers' executor has run nothing for {duration:.0?}; a worker blocks its threads");
        }
        SupervisorEvent::ExecutorMoves => info!("the workers' executor runs again"),
        SupervisorEvent::Started { workers, took } => info!("{workers} workers ready after {took:.1?}"),
        SupervisorEvent::StopBegan { budget } => info!("stopping workers within {budget:.0?}"),
        SupervisorEvent::StopForced => warn!("stop forced: workers drop what they have in hand"),
        SupervisorEvent::Stragglers {
            count,
            first,
            stopping_for,
        } => {
            let more = if *count > first.len() { ", …" } else { "" };
            let first = first.join(", ");
            warn!("{count} instances are not at rest after {stopping_for:.0?}: {first}{more}");
        }
        SupervisorEvent::StopEnded {
            drained,
            forced,
            abandoned,
            took,
        } => {
            info!(drained, forced, abandoned, "workers stopped after {took:.1?}");
        }
    }
}

fn write_move(event: &SupervisorEvent) {
    let SupervisorEvent::Moved {
        worker,
        slot,
        state,
        incarnation,
        lasts,
        cause,
    } = event
    else {
        return;
    };
    let cause = cause.as_ref().map(ToString::to_string).unwrap_or_default();
    match state {
        SlotState::BackingOff => {
            let pause = lasts.unwrap_or_default();
            warn!(
                worker,
                slot, "attempt {incarnation} {cause}; it starts again in {pause:.1?}"
            );
        }
        SlotState::GivenUp => {
            let next = match lasts {
                Some(lasts) => format!("it is tried again in {lasts:.1?}"),
                None => format!("`worker restart {worker}` starts it again"),
            };
            error!(
                worker,
                slot, "given up after attempt {incarnation}, which {cause}; {next}"
            );
        }
        SlotState::Running if *incarnation > 1 => info!(worker, slot, "running again, attempt {incarnation}"),
        SlotState::Forced => warn!(worker, slot, "did not finish in time: told to drop what it has in hand"),
        SlotState::Dropped => warn!(worker, slot, "neither started nor ended in time: dropped"),
        SlotState::Abandoned => error!(worker, slot, "does not let itself be dropped: left behind"),
        SlotState::Paused => match lasts {
            Some(lasts) => info!(worker, slot, "paused for {lasts:.0?}"),
            None => info!(worker, slot, "paused"),
        },
        _ => debug!(worker, slot, "{}", state.word()),
    }
}
