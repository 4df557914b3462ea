//! The actions on dead letters, singly and in bulk, at a pace. A call answers within seconds: what is left by then is in
//! the answer's `continue`, with which the caller goes on; the command line does so by itself.

use std::time::Duration;

use jiff::Timestamp;
use plba_contracts::clock::Clock;
use plba_contracts::control::{ControlError, Endpoint, Parameters};
use plba_contracts::services::Services;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::Instant;

use super::dead::{filter, filtered};
use super::parameters::{cursor, flag, ids, invalid, moment, text};
use super::{failed, queue};
use crate::queue::{Cursor, DeadFilter, TaskQueue};
use crate::queue_rules::RateText;
use crate::task::TaskId;

/// How long a call works before it answers, well within the time that the control plane waits.
const SPAN: Duration = Duration::from_secs(4);

/// How many dead letters are changed at a time when there is no pace to keep.
const CHUNK: usize = 500;

/// The answer of actions on dead letters.
#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Changed {
    /// How many dead letters this call changed.
    pub count: usize,
    /// What is to be called next to go on; nothing when all is done.
    #[serde(rename = "continue", default, skip_serializing_if = "Option::is_none")]
    pub go_on: Option<GoOn>,
}

/// How to go on with what a call did not finish.
#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GoOn {
    /// After how many milliseconds, to keep the pace.
    pub after_ms: u64,
    /// The parameters of the next call, in the place of the ones before.
    pub parameters: Parameters,
}

#[derive(Clone, Copy)]
enum Change {
    Retry,
    Drop,
}

pub(super) fn endpoints() -> Vec<Endpoint> {
    let retry = "Makes dead letters ready again, with their attempts at zero";
    let discard = "Forgets dead letters for good";
    let retry = Endpoint::action("dead.retry", retry, |services, parameters| {
        change(services, parameters, Change::Retry)
    });
    let discard = Endpoint::action("dead.drop", discard, |services, parameters| {
        change(services, parameters, Change::Drop)
    });
    vec![selecting(retry), selecting(discard)]
}

fn selecting(endpoint: Endpoint) -> Endpoint {
    let endpoint = endpoint
        .words("ids", "the ids of dead letters, as `dead list` shows them")
        .flag("all", "all dead letters, instead of ids or a filter");
    filtered(endpoint)
        .parameter(
            "rate",
            "how many in a span of time at most, such as 100/1s; without it as fast as possible",
        )
        .parameter(
            "died-before",
            "only those that died before this moment, such as 2026-11-22T06:30:00Z",
        )
        .parameter("cursor", "where to go on, as `continue` of the answer before says")
}

/// Which dead letters are left.
enum Left {
    Named(Vec<TaskId>),
    Chosen {
        filter: DeadFilter,
        died_before: Timestamp,
        cursor: Option<Cursor>,
    },
}

async fn change(services: Services, parameters: Parameters, change: Change) -> Result<Changed, ControlError> {
    let queue = queue(&services).await?;
    let rate = text(&parameters, "rate")?.map(str::parse::<RateText>).transpose();
    let rate = rate.map_err(|error| invalid(error.to_string()))?;
    let mut left = select(&services, &parameters).await?;
    let named = match &left {
        // Of a call that goes on, some were changed before.
        Left::Named(_) if parameters.contains_key("cursor") => None,
        Left::Named(ids) => Some(ids.iter().map(|id| id.as_str().to_owned()).collect::<Vec<_>>()),
        Left::Chosen { .. } => None,
    };
    let began = Instant::now();
    let (mut count, mut touched) = (0, 0_u32);
    loop {
        let ids = left.take(queue.as_ref(), chunk(rate)).await?;
        touched = touched.saturating_add(u32::try_from(ids.len()).unwrap_or(u32::MAX));
        count += match change {
            Change::Retry => queue.retry_dead(&ids).await,
            Change::Drop => queue.drop_dead(&ids).await,
        }
        .map_err(failed)?;
        if left.is_empty() {
            break;
        }
        // What follows may begin when the pace allows it.
        let turn = rate.map_or(began, |rate| began + rate.0.interval().saturating_mul(touched));
        if turn.max(Instant::now()) > began + SPAN {
            let after = turn.saturating_duration_since(Instant::now());
            let go_on = left.go_on(after, parameters);
            return Ok(Changed {
                count,
                go_on: Some(go_on),
            });
        }
        tokio::time::sleep_until(turn).await;
    }
    match named {
        Some(ids) if count == 0 => {
            let ids = ids.join(", ");
            Err(invalid(format!("no dead letter has the id {ids}; see `dead list`")))
        }
        _ => Ok(Changed { count, go_on: None }),
    }
}

/// How many at a time: of a pace, about a quarter of a second's worth.
fn chunk(rate: Option<RateText>) -> usize {
    let Some(RateText(rate)) = rate else { return CHUNK };
    let quarter = f64::from(rate.count) / rate.per.as_secs_f64() / 4.0;
    (quarter as usize).clamp(1, CHUNK)
}

async fn select(services: &Services, parameters: &Parameters) -> Result<Left, ControlError> {
    let (ids, filter, all) = (ids(parameters)?, filter(parameters)?, flag(parameters, "all")?);
    let ways = [!ids.is_empty(), all, !filter.is_empty()];
    if ways.iter().filter(|way| **way).count() != 1 {
        return Err(invalid(
            "choose dead letters in one way: by their ids, as `dead list` shows them, by --queue, --kind or --text, or --all",
        ));
    }
    if !ids.is_empty() {
        return Ok(Left::Named(ids));
    }
    // What is retried may soon be dead again, and is then not meant.
    let died_before = match moment(parameters, "died-before")? {
        Some(moment) => moment,
        None => services.get::<dyn Clock>().await.map_err(failed)?.now(),
    };
    let cursor = cursor(parameters)?;
    Ok(Left::Chosen {
        filter,
        died_before,
        cursor,
    })
}

impl Left {
    /// Takes the next ones.
    async fn take(&mut self, queue: &dyn TaskQueue, most: usize) -> Result<Vec<TaskId>, ControlError> {
        match self {
            Self::Named(ids) => {
                let rest = ids.split_off(most.min(ids.len()));
                Ok(std::mem::replace(ids, rest))
            }
            Self::Chosen {
                filter,
                died_before,
                cursor,
            } => {
                let page = queue.dead_letters(filter, cursor.take(), most).await.map_err(failed)?;
                let old = page.letters.into_iter().filter(|letter| letter.died <= *died_before);
                let ids = old.map(|letter| letter.id).collect();
                match page.next {
                    Some(next) => *cursor = Some(next),
                    None => *self = Self::Named(Vec::new()),
                }
                Ok(ids)
            }
        }
    }

    fn is_empty(&self) -> bool {
        matches!(self, Self::Named(ids) if ids.is_empty())
    }

    fn go_on(self, after: Duration, mut parameters: Parameters) -> GoOn {
        match self {
            Self::Named(ids) => {
                let ids: Vec<_> = ids.iter().map(TaskId::as_str).collect();
                parameters.insert("ids".into(), json!(ids));
                parameters.insert("cursor".into(), json!("ids"));
            }
            Self::Chosen {
                died_before, cursor, ..
            } => {
                parameters.insert("died-before".into(), json!(died_before.to_string()));
                parameters.insert("cursor".into(), json!(cursor.map(|cursor| cursor.0)));
            }
        }
        GoOn {
            after_ms: u64::try_from(after.as_millis()).unwrap_or(u64::MAX),
            parameters,
        }
    }
}
