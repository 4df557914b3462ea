//! What a delivery's token says here: where the task lies, which delivery of it this is, and which locks its end needs. It
//! is written when a task is taken, and read by all that end or extend.

use plba_tasks::queue::DeliveryToken;
use plba_tasks::task::{QueueName, TaskId};

/// Fences are places and random numbers up to this, added.
const RANDOM: i64 = 1 << 61;

/// No task lies there.
const NOWHERE: i64 = i64::MIN;

/// A number that makes the deliveries of one batch others than all there ever were, even those that the server forgot.
pub(super) fn random_fence() -> i64 {
    fastrand::i64(1..RANDOM)
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) place: i64,
    pub(super) fence: i64,
    /// Of its key and its unique key.
    pub(super) locks: [Option<i32>; 2],
}

impl Held {
    /// As a token.
    pub(super) fn token(&self, queue: QueueName, task: TaskId) -> DeliveryToken {
        let place = match self.locks {
            [None, None] => self.place.to_string(),
            [Some(one), None] | [None, Some(one)] => format!("{},{one}", self.place),
            [Some(one), Some(other)] => format!("{},{one},{other}", self.place),
        };
        DeliveryToken {
            queue,
            task,
            fence: self.fence.cast_unsigned(),
            place: Some(place.into()),
        }
    }

    /// Reads a token; one that another backend made holds nothing here.
    pub(super) fn read(token: &DeliveryToken) -> Self {
        let mut parts = token.place.as_deref().unwrap_or_default().split(',');
        let place = parts.next().and_then(|place| place.parse().ok());
        let mut lock = || parts.next().and_then(|lock| lock.parse().ok());
        Self {
            place: place.unwrap_or(NOWHERE),
            fence: token.fence.cast_signed(),
            locks: [lock(), lock()],
        }
    }

    /// The locks that its end needs.
    pub(super) fn locks(&self) -> impl Iterator<Item = i32> + use<> {
        self.locks.into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_says_what_was_written_and_a_foreign_one_nothing() {
        for locks in [[None, None], [Some(3), None], [Some(3), Some(1_023)]] {
            let held = Held {
                place: 1 << 58,
                fence: (1 << 58) + 17,
                locks,
            };
            let token = held.token(QueueName::from("orders"), TaskId::from("a"));
            assert_eq!(Held::read(&token), held);
            let foreign = DeliveryToken { place: None, ..token };
            assert_eq!(Held::read(&foreign).place, NOWHERE);
        }
    }
}
