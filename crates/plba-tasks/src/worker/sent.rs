//! Endings on their way to the queue, and what is remembered of them until it has answered.

use std::sync::Arc;

use super::ending::fail;
use crate::queue::{Delivery, DeliveryToken, Ending, How};
use crate::retry::RetryPolicy;
use crate::task::Task;

/// A delivery that is to be ended.
pub(super) struct Finished {
    pub(super) ending: Ending,
    pub(super) task: Arc<Task>,
    pub(super) attempt: u32,
}

impl Finished {
    pub(super) fn new(delivery: Delivery, how: How) -> Self {
        let Delivery {
            task, token, attempt, ..
        } = delivery;
        let ending = Ending { token, how };
        Self { ending, task, attempt }
    }
}

/// A delivery whose ending is under way. Its token, which went along, can be made again: copying one for every ending
/// would cost more than a quick handler.
pub(super) struct Sent {
    pub(super) task: Arc<Task>,
    pub(super) fence: u64,
    pub(super) place: Option<Arc<str>>,
    pub(super) attempt: u32,
    pub(super) ack: bool,
    pub(super) copy: Option<Box<Ending>>,
}

impl Sent {
    pub(super) fn again(self) -> Option<Finished> {
        let Self {
            task, attempt, copy, ..
        } = self;
        copy.map(|ending| Finished {
            ending: *ending,
            task,
            attempt,
        })
    }

    pub(super) fn instead(self, how: How) -> Finished {
        let token = DeliveryToken {
            queue: self.task.queue.clone(),
            task: self.task.id.clone(),
            fence: self.fence,
            place: self.place,
        };
        Finished {
            ending: Ending { token, how },
            task: self.task,
            attempt: self.attempt,
        }
    }

    pub(super) fn fail(self, policy: &RetryPolicy, reason: String, random: &mut fastrand::Rng) -> Finished {
        let how = fail(policy, self.attempt, reason, None, random);
        self.instead(how)
    }
}
