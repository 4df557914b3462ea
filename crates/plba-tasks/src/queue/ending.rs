//! How deliveries end, and what one exchange of endings for new deliveries gives.

use std::time::Duration;

use super::{Delivery, DeliveryToken, Effect, EndError, QueueError};
use crate::task::NewTask;

/// A delivery that ended well, with what is to be done next.
#[derive(Debug)]
pub struct Completion {
    /// The delivery.
    pub token: DeliveryToken,
    /// Follow-up tasks, published in the same atomic step, to any queue of the backend.
    pub then: Vec<NewTask>,
}

/// How one delivery ends.
#[derive(Debug)]
pub struct Ending {
    /// The delivery.
    pub token: DeliveryToken,
    /// How.
    pub how: How,
}

/// The ways in which a delivery ends.
#[derive(Debug)]
pub enum How {
    /// The work is done: the task is gone.
    Ack {
        /// Run before, in the same step, while the lease is held.
        effect: Option<Effect>,
        /// Follow-up tasks, published in the same step.
        then: Vec<NewTask>,
    },
    /// The attempt failed: ready again after the delay.
    Nack {
        /// From now.
        delay: Duration,
        /// For the history.
        reason: String,
    },
    /// No further attempt: dead.
    Bury {
        /// For the history.
        reason: String,
    },
    /// Not an attempt: ready again after the delay, at the head of the queue when that is zero.
    Release {
        /// From now.
        delay: Duration,
    },
}

impl How {
    /// Done, with follow-ups.
    pub fn ack(then: Vec<NewTask>) -> Self {
        Self::Ack { effect: None, then }
    }
}

/// What an exchange gave: the two halves can fail apart from each other.
#[derive(Debug)]
pub struct Exchange {
    /// As [`TaskQueue::end`](super::TaskQueue::end) gives it: one result per ending, in order.
    pub ended: Result<Vec<Result<(), EndError>>, QueueError>,
    /// What was ready; empty when nothing was.
    pub taken: Result<Vec<Delivery>, QueueError>,
}
