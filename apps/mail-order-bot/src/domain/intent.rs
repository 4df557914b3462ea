//! What the writer of a mail wants: to order, to change an order, or to take one back. How that is recognised is
//! `reading`'s; which order is meant, and what follows, is the desk's.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a mail is about. Serialised `order`, `amendment`, `cancellation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Intent {
    /// An order of its own. What nothing else is said about.
    #[default]
    Order,
    /// A change of an earlier order: its lines are what is to be added or to be different.
    Amendment,
    /// An earlier order is taken back: the lines that are named, or all of it where none is.
    Cancellation,
}

impl Intent {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Order, Self::Amendment, Self::Cancellation];

    /// The stored and serialised word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Order => "order",
            Self::Amendment => "amendment",
            Self::Cancellation => "cancellation",
        }
    }

    /// The intent with this word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|intent| intent.as_str() == word)
    }
}

impl fmt::Display for Intent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_is_what_is_serialised() {
        for intent in Intent::ALL {
            assert_eq!(serde_json::to_value(intent).unwrap(), intent.as_str());
            assert_eq!(Intent::from_word(intent.as_str()), Some(intent));
        }
        assert_eq!(Intent::from_word("Order"), None);
    }
}
