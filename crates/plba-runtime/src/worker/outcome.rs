//! How one run of a routine turned out: what it may return, and errors of any kind with what they mean. What follows
//! from an outcome lives in the other files of this folder.

use std::fmt;

use plba_contracts::BoxError;

/// What a successful run says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There was work.
    Worked,
    /// There was none; asking less often is enough for now.
    Idle,
}

/// There was nothing to do: `Ok(Idle)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Idle;

/// What a routine may return in `Ok`: `()`, [`Idle`], or an [`Outcome`] where it is now this, now that.
pub trait IntoOutcome: Send + 'static {
    /// The outcome.
    fn into_outcome(self) -> Outcome;
}

impl IntoOutcome for () {
    fn into_outcome(self) -> Outcome {
        Outcome::Worked
    }
}

impl IntoOutcome for Idle {
    fn into_outcome(self) -> Outcome {
        Outcome::Idle
    }
}

impl IntoOutcome for Outcome {
    fn into_outcome(self) -> Outcome {
        self
    }
}

/// What an error means for the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// It may go better next time: the worker waits and tries again.
    Transient,
    /// It can't go better: the attempt ends, and the restart policy decides.
    Fatal,
}

/// An error of a routine. Any error converts by `?`, so it is deliberately not an error type itself.
pub struct RoutineError {
    source: BoxError,
    severity: Option<Severity>,
}

impl RoutineError {
    /// An error that is only a sentence.
    pub fn new(message: impl Into<String>) -> Self {
        Self::from_boxed(BoxError::from(message.into()))
    }

    /// An error that is boxed already; `?` can't convert it by itself.
    pub fn from_boxed(source: BoxError) -> Self {
        Self { source, severity: None }
    }

    /// Ends the attempt, whatever the worker's classification says.
    #[must_use]
    pub fn fatal(mut self) -> Self {
        self.severity = Some(Severity::Fatal);
        self
    }

    /// Is tried again, whatever the worker's classification says.
    #[must_use]
    pub fn transient(mut self) -> Self {
        self.severity = Some(Severity::Transient);
        self
    }

    /// The error itself.
    pub fn as_error(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
        self.source.as_ref()
    }

    pub(super) fn severity(&self) -> Option<Severity> {
        self.severity
    }

    pub(super) fn into_boxed(self) -> BoxError {
        self.source
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for RoutineError {
    fn from(error: E) -> Self {
        Self::from_boxed(Box::new(error))
    }
}

impl fmt::Debug for RoutineError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&plba_contracts::describe(self.source.as_ref()))
    }
}

impl fmt::Display for RoutineError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, out)
    }
}
