//! One override: a key, its value, and who set it, when, until when and what for.

use std::fmt;

use jiff::Timestamp;
use plba_contracts::config::Origin;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A value that an operator has set. It may be a secret, so `Debug` shows its origin only.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Override {
    /// The dotted key, such as `mail_order_bot.workers`.
    pub key: String,
    /// The value.
    pub value: Value,
    /// Who set it.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// Until when it holds; without it until it is taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// What for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl Override {
    /// Whether its time is over.
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.until.is_some_and(|until| until <= now)
    }

    /// Its origin, as every value has one.
    pub fn origin(&self) -> Origin {
        Origin::Override {
            by: self.by.clone(),
            at: self.at,
            until: self.until,
            why: self.why.clone(),
        }
    }
}

impl fmt::Debug for Override {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} by {}", self.key, self.by)
    }
}
