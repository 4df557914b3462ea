//! Waiting and leased tasks as people see them: a filter, a page, and a summary of each.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Cursor;
use crate::task::{EndedAttempt, Origin, Priority, QueueName, TaskId};

/// Where a task that is not dead is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// The next consumer may get it.
    Ready,
    /// Ready later.
    Delayed,
    /// Behind an earlier task of its ordered key, or over the number of leases of its key.
    Held,
    /// In the hands of a consumer.
    Leased,
}

/// Which tasks to list; an empty filter is all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TaskFilter {
    /// Those of this queue.
    pub queue: Option<QueueName>,
    /// Those in this state.
    pub state: Option<TaskState>,
    /// Those with this text in their id, kind, key, or origin's source or key; upper and lower case differ.
    pub text: Option<String>,
}

/// A task without its payload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TaskSummary {
    /// Which task.
    pub id: TaskId,
    /// The queue it is in.
    pub queue: QueueName,
    /// What is to be done.
    pub kind: String,
    /// Where it is.
    pub state: TaskState,
    /// Which of two ready tasks comes first.
    pub priority: Priority,
    /// What it is ordered or limited by.
    pub key: Option<String>,
    /// Where it came from.
    pub origin: Option<Origin>,
    /// When it was published.
    #[schemars(with = "String")]
    pub published: Timestamp,
    /// For a delayed task, when it is ready; for a leased one, when its lease runs out unless it is extended.
    #[schemars(with = "Option<String>")]
    pub due: Option<Timestamp>,
    /// How many attempts the handler ended.
    pub attempts: u32,
    /// How often it was handed out.
    pub deliveries: u32,
    /// How many bytes it takes.
    pub bytes: u64,
    /// Who has it in hand.
    pub holder: Option<String>,
    /// Its latest attempt that ended.
    pub last: Option<EndedAttempt>,
}

/// A page of tasks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TaskPage {
    /// The tasks.
    pub tasks: Vec<TaskSummary>,
    /// Where the next page begins; `None` on the last one.
    pub next: Option<Cursor>,
}

impl TaskFilter {
    /// Those of one queue.
    pub fn of_queue(queue: impl Into<QueueName>) -> Self {
        Self {
            queue: Some(queue.into()),
            ..Self::default()
        }
    }

    /// Whether a task passes. Backends that can't ask their store do this for each.
    pub fn matches(&self, task: &TaskSummary) -> bool {
        self.queue.as_ref().is_none_or(|queue| *queue == task.queue)
            && self.state.is_none_or(|state| state == task.state)
            && self.text.as_ref().is_none_or(|text| {
                task.id.as_str().contains(text)
                    || task.kind.contains(text)
                    || task.key.as_ref().is_some_and(|key| key.contains(text))
                    || task.origin.as_ref().is_some_and(|origin| origin.contains(text))
            })
    }
}
