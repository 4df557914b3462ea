//! The worker: the centre of plba. Here live the four verbs, what they promise, and what crosses with them. Builders that
//! make workers of plain functions, and the supervisor itself, live in the runtime.
//!
//! | file | what |
//! |---|---|
//! | `activity` | what an instance has in hand |
//! | `definition` | how a module hands a worker to the supervisor |
//! | `pace` | how often a worker runs that runs at an interval |
//! | `restart` | when an ended attempt is followed by another, and who restarts together |

mod activity;
mod definition;
mod pace;
mod restart;

use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::activity::{Activity, Busy, BusyGuard, Fate};
pub use self::definition::{HangPolicy, WorkerDefinition};
pub use self::pace::{Changed, Pace};
pub use self::restart::{Group, GroupPolicy, Restart, RestartPolicy};
use crate::BoxError;
use crate::clock::Clock;
use crate::health::Health;
use crate::services::BoxFuture;

/// One instance of a worker: something that starts, works, can be asked to stop, and says how it is.
///
/// The supervisor builds an instance by the definition's factory, calls [`start`](Self::start) once, polls the
/// [`Running`] it gets on a task of its own, and drops the instance when that ends. After a failure it builds a *fresh*
/// instance: no suspect state survives a panic, and `start` never sees a second call.
///
/// Most workers are made by the builders in `plba::worker` from plain asynchronous functions.
///
/// ```
/// use std::sync::Arc;
/// use plba_contracts::health::Health;
/// use plba_contracts::stop::StopHandle;
/// use plba_contracts::worker::{Exit, Running, StartError, Worker, WorkerContext, WorkerStatus};
///
/// struct Waits(StopHandle);
///
/// #[async_trait::async_trait]
/// impl Worker for Waits {
///     async fn start(self: Arc<Self>, _context: WorkerContext) -> Result<Running, StartError> {
///         let stop = self.0.signal();
///         Ok(Running::new(async move {
///             stop.requested().await;
///             Exit::Stopped
///         }))
///     }
///     fn stop(&self, force: bool) {
///         self.0.stop(force);
///     }
///     fn health(&self) -> Health {
///         Health::Ok
///     }
///     fn status(&self) -> WorkerStatus {
///         WorkerStatus::default()
///     }
/// }
/// ```
#[async_trait]
pub trait Worker: Send + Sync + 'static {
    /// Starts the one attempt of this instance; called once, by the supervisor, on the workers' executor.
    ///
    /// - **`Ok`**: the worker is ready to work, and dependents may start. The returned [`Running`] is the attempt
    ///   itself, not yet spawned: the supervisor polls it, and so owns abort, panic and span.
    /// - **`Err`**: the instance could not start. While the process starts, that ends the start-up with this error;
    ///   later it counts as a failed attempt.
    /// - **Panic**: caught, counts as `Err` with the panic's message.
    ///
    /// # Cancel safety
    /// Dropped at the definition's start time-out or when a forced stop arrives; whatever was opened by then must be
    /// released by `Drop`.
    async fn start(self: Arc<Self>, context: WorkerContext) -> Result<Running, StartError>;

    /// A signal, legal at any time (also before, during and after `start`) and any number of times; returns at once.
    ///
    /// Graceful (`force` false): finish what is in hand, take nothing new, then let `Running` resolve to
    /// [`Exit::Stopped`]. Force: let go of what is in hand now. If `Running` has not resolved some time after a forced
    /// stop, the supervisor drops it.
    fn stop(&self, force: bool);

    /// How this instance is. Called often, from any thread; answers from memory.
    fn health(&self) -> Health;

    /// What this instance has done and does. Called often, from any thread; answers from memory.
    fn status(&self) -> WorkerStatus;
}

/// The attempt of one instance: resolves when the instance is done, for whatever reason.
///
/// A panic inside is caught by the supervisor and is a failed attempt. Dropping it ends the attempt at its current
/// await point.
pub struct Running(BoxFuture<'static, Exit>);

impl Running {
    /// Wraps the attempt.
    pub fn new(attempt: impl Future<Output = Exit> + Send + 'static) -> Self {
        Self(Box::pin(attempt))
    }

    /// The attempt, to be polled by whoever supervises it.
    pub fn into_future(self) -> BoxFuture<'static, Exit> {
        self.0
    }
}

/// How an attempt ended.
#[derive(Debug)]
pub enum Exit {
    /// The work is complete; there is no more of it. A permanent worker is started again all the same.
    Finished,
    /// It was asked to stop and did.
    Stopped,
    /// It can't go on.
    Failed(BoxError),
}

/// Why an instance could not start.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct StartError {
    reason: String,
    #[source]
    source: Option<BoxError>,
}

impl StartError {
    /// Could not start, for a reason that tells an operator what to do.
    pub fn new(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            source: None,
        }
    }
}

impl From<BoxError> for StartError {
    fn from(error: BoxError) -> Self {
        Self {
            reason: crate::describe(error.as_ref()),
            source: Some(error),
        }
    }
}

/// What an instance is told when it starts.
#[derive(Clone)]
pub struct WorkerContext {
    /// The definition's name.
    pub name: Arc<str>,
    /// Which of the definition's instances this is, from 0.
    pub slot: u32,
    /// How often this slot has been started in this process, from 1.
    pub incarnation: u64,
    /// Where the instance says what it has in hand.
    pub activity: Activity,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// What an instance has done since it started.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkerStatus {
    /// Pieces of work that ended well.
    pub succeeded: u64,
    /// Pieces of work that ended in an error.
    pub failed: u64,
    /// When a piece of work last ended well.
    #[schemars(with = "Option<String>")]
    pub last_success: Option<Timestamp>,
    /// The latest error.
    pub last_error: Option<String>,
    /// A sentence on what it is doing, where that says more than the counts.
    pub note: Option<String>,
}
