//! What can go wrong with a queue: one error per verb, whose variants say what the caller does next.

use plba_contracts::BoxError;

use crate::task::QueueName;

/// Why tasks were not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// It will never be accepted as it is; the sentence says what would be.
    #[error("task \"{kind}\" for queue \"{queue}\" can't be published: {reason}")]
    Refused {
        /// The queue it was for.
        queue: QueueName,
        /// Its kind.
        kind: String,
        /// Why, and what would do.
        reason: String,
    },
    /// Whether it was published is unknown; publish again with the same ids.
    #[error("it is unknown whether the tasks were published, publish them again with the same ids: {source}")]
    Unknown {
        /// What happened.
        source: BoxError,
    },
}

/// The backend did not answer, or could not do what was asked. Back off and try again.
#[derive(Debug, thiserror::Error)]
#[error("the task queue can't be used now, try again later: {source}")]
pub struct QueueError {
    /// What happened.
    pub source: BoxError,
}

impl QueueError {
    /// Wraps what happened.
    pub fn new(source: impl Into<BoxError>) -> Self {
        Self { source: source.into() }
    }
}

/// Why a delivery was not ended or extended.
#[derive(Debug, thiserror::Error)]
pub enum EndError {
    /// The lease ran out, or the delivery was ended before. Nothing changed; drop the work, somebody else has the task.
    #[error("the lease is lost: it ran out, or the delivery was ended before")]
    LeaseLost,
    /// The effect failed; nothing changed, the lease is still held. End the delivery as a failed attempt.
    #[error("the effect of the completion failed: {}", plba_contracts::describe(.0.as_ref()))]
    Effect(BoxError),
    /// A follow-up can't be published as it is; nothing changed, the lease is still held.
    #[error("a follow-up task is refused: {0}")]
    Refused(String),
    /// Whether it took effect is unknown; end it again with the same token.
    #[error(transparent)]
    Queue(#[from] QueueError),
}
