//! The port of task sources: whatever brings work in from outside. How a source hands work on is [`crate::intake`]; the
//! worker that runs a source is [`crate::source_worker`].

use async_trait::async_trait;
use jiff::Timestamp;
use plba_contracts::BoxError;
use plba_contracts::health::Health;
use plba_contracts::stop::StopSignal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::intake::Intake;

/// Brings work in from outside and publishes it, and tells upstream what is done.
///
/// A source worker builds a source once and calls [`run`](Self::run), one call at a time, on the workers' executor. On
/// the way the source:
///
/// 1. publishes what the ledger holds as pending ([`Intake::pending`]) and tells upstream of what is done but unsettled
///    ([`Intake::unsettled`]): that is what a killed process left over;
/// 2. publishes what is new ([`Intake::publish`], which waits while the queue is full) and then moves its cursor;
/// 3. all the while carries out completions ([`Intake::completions`]): tells upstream, then [`Intake::settle`]s.
///
/// - **`Ok`**: after the stop signal, the ordinary end; without one, the source has nothing more to bring, ever.
/// - **`Err`**: transient errors are shown as degraded health and followed by a new `run` after a back-off; fatal ones end
///   the attempt, and the supervisor restarts the worker within its limits.
/// - **Panic**: ends the attempt as failed.
///
/// # Cancel safety
/// `run` is dropped on a forced stop; whatever was not settled by then is told again after the next start.
///
/// ```
/// use plba_contracts::stop::StopSignal;
/// use plba_tasks::intake::{Arrival, Intake};
/// use plba_tasks::source::{SourceError, SourceStatus, TaskSource};
/// use plba_tasks::task::NewTask;
///
/// /// Brings one thing, and waits until it is done.
/// struct Once;
///
/// #[async_trait::async_trait]
/// impl TaskSource for Once {
///     async fn run(&self, intake: Intake, stop: StopSignal) -> Result<(), SourceError> {
///         let task = NewTask::new("orders", "order.received", "2 x ART-001");
///         intake.publish(vec![Arrival { key: "1".into(), task }]).await?;
///         tokio::select! {
///             done = intake.completions(1) => Ok(intake.settle(&done?).await?),
///             () = stop.requested() => Ok(()),
///         }
///     }
///     fn status(&self) -> SourceStatus {
///         SourceStatus::default()
///     }
/// }
/// ```
#[async_trait]
pub trait TaskSource: Send + Sync + 'static {
    /// Works until told to stop.
    async fn run(&self, intake: Intake, stop: StopSignal) -> Result<(), SourceError>;

    /// How it is, from memory; called often, from any thread.
    fn status(&self) -> SourceStatus;
}

/// How a source is, as it sees itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SourceStatus {
    /// Its health.
    pub health: Health,
    /// When it last got through to upstream.
    #[schemars(with = "Option<String>")]
    pub last_success: Option<Timestamp>,
    /// What it has published.
    pub published: u64,
    /// What it has told upstream to be done.
    pub settled: u64,
    /// Errors it got over.
    pub errors: u64,
    /// What it is doing, in a sentence.
    pub note: Option<String>,
}

/// Why a source can't go on.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It may pass: the network, the server. Run again after a back-off.
    #[error("{}", plba_contracts::describe(.0.as_ref()))]
    Transient(#[source] BoxError),
    /// It won't pass by itself: credentials, a folder that isn't there. The message says what to do.
    #[error("{}", plba_contracts::describe(.0.as_ref()))]
    Fatal(#[source] BoxError),
}

impl SourceError {
    /// An error that may pass.
    pub fn transient(source: impl Into<BoxError>) -> Self {
        Self::Transient(source.into())
    }

    /// An error that won't pass by itself.
    pub fn fatal(source: impl Into<BoxError>) -> Self {
        Self::Fatal(source.into())
    }
}
