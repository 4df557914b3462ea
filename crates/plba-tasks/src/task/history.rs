//! What became of a task's attempts, as far as it is remembered.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How many ended attempts a task remembers; of more, the first one and the latest are kept.
pub const MAXIMUM_HISTORY: usize = 25;

/// How many bytes of an attempt's reason are kept.
pub const MAXIMUM_REASON: usize = 2_000;

/// An attempt that has ended without success.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EndedAttempt {
    /// When it ended.
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// How it ended.
    pub how: AttemptEnd,
    /// Why, in a sentence; at most [`MAXIMUM_REASON`] bytes.
    pub reason: String,
}

/// How an attempt ended without success.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AttemptEnd {
    /// The handler failed, panicked or took too long.
    Failed,
    /// The handler rejected the task, or its attempts are used up.
    Rejected,
    /// Whoever held the task disappeared with it: the process died, or the lease ran out.
    Crashed,
    /// The time for carrying it out had passed before it was handed out.
    Expired,
}

impl EndedAttempt {
    /// An ended attempt; a long reason is cut.
    pub fn new(at: Timestamp, how: AttemptEnd, reason: impl Into<String>) -> Self {
        let mut reason = reason.into();
        if reason.len() > MAXIMUM_REASON {
            let end = reason.floor_char_boundary(MAXIMUM_REASON);
            reason.truncate(end);
        }
        Self { at, how, reason }
    }
}

/// Adds an ended attempt to a history, and keeps it within [`MAXIMUM_HISTORY`]: the first attempt stays, because it often
/// tells the cause, and then the latest ones.
pub fn remember(history: &mut Vec<EndedAttempt>, attempt: EndedAttempt) {
    if history.len() >= MAXIMUM_HISTORY {
        history.remove(1);
    }
    history.push(attempt);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_keeps_the_first_attempt_and_the_latest() {
        let mut history = Vec::new();
        for number in 0..100 {
            let attempt = EndedAttempt::new(Timestamp::UNIX_EPOCH, AttemptEnd::Failed, number.to_string());
            remember(&mut history, attempt);
        }
        assert_eq!(history.len(), MAXIMUM_HISTORY);
        assert_eq!(history[0].reason, "0");
        assert_eq!(history[1].reason, "76");
        assert_eq!(history[MAXIMUM_HISTORY - 1].reason, "99");
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let attempt = EndedAttempt::new(Timestamp::UNIX_EPOCH, AttemptEnd::Failed, "€".repeat(1_000));
        assert_eq!(attempt.reason.len(), 1_998);
    }
}
