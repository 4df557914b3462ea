//! What became of a message, as values: for logs, tasks and people.

use crate::domain::{OrderId, OrderState, OrderStatus};
use crate::reading::ReadError;
use crate::store::{OutboxId, Queued, ReviewId, ReviewReason, StoreError};

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Processed {
    /// A new order is stored.
    Stored {
        /// Its number.
        order_id: OrderId,
        /// Its outcome.
        status: OrderStatus,
        /// The reply in the outbox; `None` when it must not be answered.
        outbox_id: Option<OutboxId>,
        /// A recent order of the same customer for the same.
        possible_duplicate_of: Option<OrderId>,
    },
    /// An order that is there was amended or cancelled.
    Changed {
        /// Its number.
        order_id: OrderId,
        /// Its version.
        version: u32,
        /// Its outcome now.
        status: OrderStatus,
        /// Where it stands now.
        state: OrderState,
        /// The reply in the outbox; `None` when it must not be answered.
        outbox_id: Option<OutboxId>,
    },
    /// The message was processed before; nothing was changed.
    Duplicate {
        /// The order it became; `None` when it was not an order.
        order_id: Option<OrderId>,
        /// Its reply, if that still waits in the outbox: relay it again, the hand-over is idempotent.
        pending_reply: Option<OutboxId>,
    },
    /// The message is not an order; that is recorded.
    NotAnOrder {
        /// Why not.
        reason: NotAnOrder,
        /// The reply in the outbox, where the options want one.
        outbox_id: Option<OutboxId>,
    },
    /// The message waits for somebody to look at it.
    Review {
        /// Its number on the review list, unless the desk did not get as far as to know it.
        review: Option<ReviewId>,
        /// Why.
        reason: ReviewReason,
        /// In words.
        detail: String,
    },
}

/// What was recorded, and what of it is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// What became of the message.
    pub processed: Processed,
    /// What waits in the outbox because of it.
    pub queued: Vec<Queued>,
}

/// Why a message is not an order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAnOrder {
    /// It has no sender that could be a customer.
    #[error("it names no sender")]
    NoSender,
    /// It comes from the bot's own address.
    #[error("it comes from our own address")]
    OwnMail,
    /// It is machine mail that can't be an order.
    #[error("it is {0}")]
    Automatic(&'static str),
    /// No order lines were found.
    #[error("there are no order lines in it")]
    NoLines,
}

/// A message that could not be processed. Nothing was recorded.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The message can't be read; unless that is transient, reject it, so that it is kept as a dead letter.
    #[error(transparent)]
    Unreadable(#[from] ReadError),
    /// The store failed; [`ProcessError::is_transient`] says whether to try again.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ProcessError {
    /// Whether the same message may be processed later: the database was locked or the disk full.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreadable(error) => error.is_transient(),
            Self::Store(error) => error.is_transient(),
        }
    }
}
