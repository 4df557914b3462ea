//! A task in the hands of a consumer, and the token that proves it.

use std::sync::Arc;
use std::time::Duration;

use crate::task::{QueueName, Task, TaskId};

/// After how many crashes a task is a suspect. Processes mostly end for reasons of their own: whatever they had in hand is
/// innocent until it was in hand at a second end. With more than two tasks to a process one that ends it makes suspects of
/// its neighbours too, but takes none of them down a third time, since suspects go one at a time.
pub const SUSPECT_CRASHES: u32 = 2;

/// Whether what was granted at least `since` ago comes too late to be handed out: less than half of its lease may be left, and
/// whoever carries it out renews after a third. For backends, whose servers, networks and processes may stand still between.
pub fn is_late(since: Duration, lease: Duration) -> bool {
    since >= lease / 2
}

/// Proves who holds a delivery. Meaningless outside the backend that made it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DeliveryToken {
    /// The named queue.
    pub queue: QueueName,
    /// The task.
    pub task: TaskId,
    /// Tells this delivery from every other one of the backend.
    pub fence: u64,
    /// Where the backend keeps the task, if that takes more than the id.
    pub place: Option<Arc<str>>,
}

/// A task in the hands of a consumer.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The task.
    pub task: Arc<Task>,
    /// What ends or extends this delivery.
    pub token: DeliveryToken,
    /// How often the task has been handed out, this time included.
    pub deliveries: u32,
    /// Which attempt this is: 1 plus the attempts that the handler ended.
    pub attempt: u32,
    /// How long the task had been ready before it was handed out.
    pub waited: Duration,
}
