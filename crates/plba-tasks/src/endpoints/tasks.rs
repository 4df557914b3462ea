//! The view of tasks that are not dead.

use plba_contracts::control::{ControlError, Endpoint, Parameters};
use plba_contracts::services::Services;

use super::parameters::{cursor, invalid, limit, text};
use super::{failed, queue};
use crate::queue::{TaskFilter, TaskPage, TaskState};
use crate::task::QueueName;

pub(super) fn endpoints() -> Vec<Endpoint> {
    let view = Endpoint::view("tasks", "Lists tasks that wait or are being carried out", list)
        .parameter("queue", "only those of this queue")
        .parameter("state", "only those that are ready, delayed, held or leased")
        .parameter("text", "only those with this text in their id, kind, key or origin")
        .parameter("limit", "how many to list at most, 1 to 1,000 (100)")
        .parameter("cursor", "where to go on: `next` of the page before");
    vec![view]
}

async fn list(services: Services, parameters: Parameters) -> Result<TaskPage, ControlError> {
    let filter = TaskFilter {
        queue: text(&parameters, "queue")?.map(QueueName::from),
        state: text(&parameters, "state")?.map(state).transpose()?,
        text: text(&parameters, "text")?.map(str::to_owned),
    };
    let (cursor, limit) = (cursor(&parameters)?, limit(&parameters)?);
    queue(&services)
        .await?
        .tasks(&filter, cursor, limit)
        .await
        .map_err(failed)
}

fn state(word: &str) -> Result<TaskState, ControlError> {
    serde_json::from_value(word.into())
        .map_err(|_| invalid(format!("a state is ready, delayed, held or leased, not \"{word}\"")))
}
