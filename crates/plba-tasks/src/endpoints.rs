//! What the toolkit contributes to the control plane: the view of queues, and dead letters listed, retried and dropped. All
//! of it asks the service `dyn TaskQueue`, so it works for every backend.

use plba_contracts::control::{ControlError, Endpoint, Parameters};
use plba_contracts::services::Services;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ledger::{LedgerStats, SourceLedger};
use crate::queue::{Cursor, DeadFilter, DeadPage, Durability, QueueStats, TaskQueue};
use crate::task::TaskId;

/// How many dead letters a page has unless told otherwise.
const PAGE: usize = 100;
/// How many dead letters `--all` takes at most; ask again for more.
const ALL: usize = 100_000;

/// The answer of the view `queues`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct QueuesView {
    /// What the backend's tasks survive.
    pub durability: Durability,
    /// The named queues.
    pub queues: Vec<QueueStats>,
    /// The sources, as their ledger knows them.
    pub sources: Vec<LedgerStats>,
}

/// The answer of actions on dead letters.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Changed {
    /// How many dead letters it concerned.
    pub count: usize,
}

/// `queues`, `dead.list`, `dead.retry` and `dead.drop`.
pub fn endpoints() -> Vec<Endpoint> {
    let list = Endpoint::view(
        "dead.list",
        "Lists dead letters, oldest first, with their history",
        list,
    )
    .parameter("limit", "how many to list at most, 1 to 1,000 (100)")
    .parameter("cursor", "where to go on: `next` of the page before");
    let retry = "Makes dead letters ready again, with their attempts at zero";
    let discard = "Forgets dead letters for good";
    vec![
        Endpoint::view("queues", "Counts the tasks of every queue, by state", queues),
        list,
        selecting(Endpoint::action("dead.retry", retry, |services, parameters| {
            change(services, parameters, Change::Retry)
        })),
        selecting(Endpoint::action("dead.drop", discard, |services, parameters| {
            change(services, parameters, Change::Drop)
        })),
    ]
}

fn selecting(endpoint: Endpoint) -> Endpoint {
    let endpoint = endpoint.words("ids", "the ids of dead letters, as `dead list` shows them");
    endpoint.flag("all", "all dead letters, instead of ids")
}

async fn queues(services: Services, _: Parameters) -> Result<QueuesView, ControlError> {
    let queue = queue(&services).await?;
    let stats = queue.stats().await.map_err(failed)?;
    // A program without sources has no ledger.
    let sources = match services.get::<dyn SourceLedger>().await {
        Ok(ledger) => ledger.stats().await.map_err(failed)?,
        Err(_) => Vec::new(),
    };
    Ok(QueuesView {
        durability: queue.durability(),
        queues: stats,
        sources,
    })
}

async fn list(services: Services, parameters: Parameters) -> Result<DeadPage, ControlError> {
    let limit = match parameters.get("limit") {
        None => PAGE,
        Some(value) => number(value)
            .filter(|limit| (1..=1_000).contains(limit))
            .ok_or_else(|| ControlError::Invalid(format!("limit is a whole number from 1 to 1,000, not {value}")))?,
    };
    let cursor = parameters
        .get("cursor")
        .and_then(Value::as_str)
        .map(|cursor| Cursor(cursor.to_owned()));
    queue(&services)
        .await?
        .dead_letters(&DeadFilter::default(), cursor, limit)
        .await
        .map_err(failed)
}

#[derive(Clone, Copy)]
enum Change {
    Retry,
    Drop,
}

async fn change(services: Services, parameters: Parameters, change: Change) -> Result<Changed, ControlError> {
    let queue = queue(&services).await?;
    let all = asks_for_all(&parameters)?;
    let mut ids = ids(&parameters)?;
    if all != ids.is_empty() {
        let either = "name either the ids of dead letters, as `dead list` shows them, or --all";
        return Err(ControlError::Invalid(either.into()));
    }
    if all {
        ids = every_id(queue.as_ref()).await?;
    }
    let mut count = 0;
    for chunk in ids.chunks(500) {
        count += match change {
            Change::Retry => queue.retry_dead(chunk).await,
            Change::Drop => queue.drop_dead(chunk).await,
        }
        .map_err(failed)?;
    }
    if count == 0 && !all {
        let ids: Vec<_> = ids.iter().map(TaskId::as_str).collect();
        let text = format!("no dead letter has the id {}; see `dead list`", ids.join(", "));
        return Err(ControlError::Invalid(text));
    }
    Ok(Changed { count })
}

/// All ids are gathered before the first one is touched: what is retried may soon be dead again.
async fn every_id(queue: &dyn TaskQueue) -> Result<Vec<TaskId>, ControlError> {
    let (mut ids, mut cursor) = (Vec::new(), None);
    loop {
        let page = queue
            .dead_letters(&DeadFilter::default(), cursor, 1_000)
            .await
            .map_err(failed)?;
        ids.extend(page.letters.into_iter().map(|letter| letter.id));
        cursor = page.next;
        if cursor.is_none() || ids.len() >= ALL {
            return Ok(ids);
        }
    }
}

fn asks_for_all(parameters: &Parameters) -> Result<bool, ControlError> {
    match parameters.get("all") {
        None | Some(Value::Bool(false)) => Ok(false),
        Some(Value::Bool(true)) => Ok(true),
        Some(Value::String(word)) if word.is_empty() || word == "true" => Ok(true),
        Some(Value::String(word)) if word == "false" => Ok(false),
        Some(other) => Err(ControlError::Invalid(format!("all is true or false, not {other}"))),
    }
}

fn ids(parameters: &Parameters) -> Result<Vec<TaskId>, ControlError> {
    let id = |value: &Value| value.as_str().map(TaskId::from);
    match parameters.get("ids") {
        None => Ok(Vec::new()),
        Some(Value::String(one)) => Ok(vec![TaskId::from(one.as_str())]),
        Some(Value::Array(words)) => words
            .iter()
            .map(|word| id(word).ok_or_else(|| ControlError::Invalid(format!("an id is a text, not {word}"))))
            .collect(),
        Some(other) => Err(ControlError::Invalid(format!("ids are a list of texts, not {other}"))),
    }
}

fn number(value: &Value) -> Option<usize> {
    let number = value.as_u64().or_else(|| value.as_str()?.parse().ok())?;
    usize::try_from(number).ok()
}

async fn queue(services: &Services) -> Result<std::sync::Arc<dyn TaskQueue>, ControlError> {
    services.get::<dyn TaskQueue>().await.map_err(failed)
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> ControlError {
    ControlError::Failed(error.into())
}
