//! The order as it is stored and listed, and its lines. How it comes about is `checking`; how it is kept is `store`.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::customer::Customer;
use super::money::Money;
use super::quantity::Quantity;
use super::reason::RejectReason;

/// The number of an order in its store, counting from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OrderId(pub i64);

impl fmt::Display for OrderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The outcome for a whole order. Serialised `accepted`, `partly_accepted`, `rejected`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderStatus {
    /// Every line is accepted.
    Accepted,
    /// Some lines are accepted, or a part of the mail could not be read.
    PartlyAccepted,
    /// No line is accepted.
    Rejected,
}

impl OrderStatus {
    /// All of them, in the order of a summary.
    pub const ALL: [Self; 3] = [Self::Accepted, Self::PartlyAccepted, Self::Rejected];

    /// The stored and serialised word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::PartlyAccepted => "partly_accepted",
            Self::Rejected => "rejected",
        }
    }

    /// The status with this word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word)
    }
}

impl fmt::Display for OrderStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Where an order stands on its way through the business. Serialised `open`, `exported`, `shipped`, `cancelled`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderState {
    /// It may still be amended or cancelled by mail.
    #[default]
    Open,
    /// It was handed on to another system, which has to be asked for changes.
    Exported,
    /// It is on its way.
    Shipped,
    /// The customer does not want it any more.
    Cancelled,
}

impl OrderState {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Open, Self::Exported, Self::Shipped, Self::Cancelled];

    /// The stored and serialised word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Exported => "exported",
            Self::Shipped => "shipped",
            Self::Cancelled => "cancelled",
        }
    }

    /// The state with this word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }
}

impl fmt::Display for OrderState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The outcome for one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum LineStatus {
    /// It will be delivered.
    Accepted {
        /// The price per unit.
        unit_price: Money,
        /// Price times quantity.
        amount: Money,
    },
    /// It will not.
    Rejected {
        /// Why.
        reason: RejectReason,
    },
}

/// One line of an order, checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderLine {
    /// Position in the mail, from 1.
    pub position: u32,
    /// The article as the customer named it; the catalogue's number when it was found.
    pub article: String,
    /// The catalogue's name of it, else what the customer wrote beside it.
    pub name: Option<String>,
    /// The quantity, when it could be read.
    pub quantity: Option<Quantity>,
    /// The quantity as the customer wrote it.
    pub quantity_given: String,
    /// The unit the article is sold in.
    pub unit: Option<String>,
    /// The price as the customer wrote it, if any.
    pub price_given: Option<String>,
    /// Where in the mail it stands: `text line 4`, `orders.xlsx, row 7`.
    pub place: String,
    /// Accepted with its amount, or rejected with a reason.
    #[serde(flatten)]
    pub status: LineStatus,
}

impl OrderLine {
    /// The reason, if it is rejected.
    #[must_use]
    pub fn reason(&self) -> Option<&RejectReason> {
        match &self.status {
            LineStatus::Rejected { reason } => Some(reason),
            LineStatus::Accepted { .. } => None,
        }
    }

    /// The amount, if it is accepted.
    #[must_use]
    pub fn amount(&self) -> Option<Money> {
        match self.status {
            LineStatus::Accepted { amount, .. } => Some(amount),
            LineStatus::Rejected { .. } => None,
        }
    }
}

/// A stored order. Its JSON is what `mail-order-bot orders --json` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Its number.
    pub id: OrderId,
    /// Counts from 1; each amendment replaces the one before.
    #[serde(default = "first")]
    pub version: u32,
    /// The outcome.
    pub status: OrderStatus,
    /// Where it stands.
    #[serde(default)]
    pub state: OrderState,
    /// Who ordered.
    pub customer: Customer,
    /// The Message-ID of the mail, without angle brackets; made from its content when it had none.
    pub message_id: String,
    /// The subject of the mail.
    pub subject: String,
    /// When the mail was taken in.
    pub received_at: Timestamp,
    /// When it came to this version and state.
    #[serde(default)]
    pub changed_at: Timestamp,
    /// The sum of the accepted lines, in hundredths of `currency`.
    pub total: Money,
    /// The catalogue's currency.
    pub currency: String,
    /// The customer's own number of it, as the mail gives it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub order_number: Option<String>,
    /// An order of the same customer in another mail: with the same number of theirs, or a recent one with the same lines.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub possible_duplicate_of: Option<OrderId>,
    /// What concerns the order as a whole, such as an attachment that could not be read.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub notes: Vec<String>,
    /// Why no reply was prepared, if none was.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reply_withheld: Option<String>,
    /// Its lines in the order of the mail.
    pub lines: Vec<OrderLine>,
}

fn first() -> u32 {
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_written_as_scripts_expect_them() {
        for (status, word) in OrderStatus::ALL
            .into_iter()
            .zip(["accepted", "partly_accepted", "rejected"])
        {
            assert_eq!(serde_json::to_value(status).unwrap(), word);
            assert_eq!(status.to_string(), word);
            assert_eq!(OrderStatus::from_word(word), Some(status));
        }
        assert_eq!(OrderStatus::from_word("Accepted"), None);
    }
}
