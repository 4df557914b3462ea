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
use super::failed;
use super::letters::{Change, Letters, Named};
use super::parameters::{cursor, flag, ids, invalid, moment, text};
use crate::queue::{Cursor, DeadFilter};
use crate::queue_rules::RateText;
use crate::task::{QueueName, TaskId};

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
    Named {
        queue: Option<QueueName>,
        ids: Vec<TaskId>,
    },
    Chosen {
        filter: DeadFilter,
        died_before: Timestamp,
        cursor: Option<Cursor>,
    },
    None,
}

async fn change(services: Services, parameters: Parameters, change: Change) -> Result<Changed, ControlError> {
    let letters = Letters::of(&services).await?;
    let clock = services.get::<dyn Clock>().await.map_err(failed)?;
    let rate = text(&parameters, "rate")?.map(str::parse::<RateText>).transpose();
    let rate = rate.map_err(|error| invalid(error.to_string()))?;
    let mut left = select(&parameters, clock.now())?;
    let named = match &left {
        // Of a call that goes on, some were changed before.
        Left::Named { ids, .. } if !parameters.contains_key("cursor") => {
            Some(ids.iter().map(|id| id.as_str().to_owned()).collect::<Vec<_>>())
        }
        _ => None,
    };
    let began = Instant::now();
    let (mut count, mut touched) = (0, 0_u32);
    loop {
        let chosen = left.take(&letters, chunk(rate)).await?;
        touched = touched.saturating_add(u32::try_from(chosen.len()).unwrap_or(u32::MAX));
        count += letters.change(change, chosen, clock.now()).await?;
        if matches!(left, Left::None) {
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

fn select(parameters: &Parameters, now: Timestamp) -> Result<Left, ControlError> {
    let (ids, filter, all) = (ids(parameters)?, filter(parameters)?, flag(parameters, "all")?);
    if !ids.is_empty() {
        let queue = filter.queue.clone();
        let narrowed = filter
            != DeadFilter {
                queue: queue.clone(),
                ..DeadFilter::default()
            };
        if all || narrowed {
            return Err(one_way());
        }
        return Ok(Left::Named { queue, ids });
    }
    if all != filter.is_empty() {
        return Err(one_way());
    }
    // What is retried may soon be dead again, and is then not meant.
    let died_before = moment(parameters, "died-before")?.unwrap_or(now);
    let cursor = cursor(parameters)?;
    Ok(Left::Chosen {
        filter,
        died_before,
        cursor,
    })
}

fn one_way() -> ControlError {
    invalid(
        "choose dead letters in one way: by their ids, as `dead list` shows them (with --queue where two queues have one \
         id), by --queue, --kind or --text, or --all",
    )
}

impl Left {
    /// Takes the next ones.
    async fn take(&mut self, letters: &Letters, most: usize) -> Result<Vec<Named>, ControlError> {
        let (taken, over) = match self {
            Self::None => (Vec::new(), true),
            Self::Named { queue, ids } => {
                let rest = ids.split_off(most.min(ids.len()));
                let chosen = std::mem::replace(ids, rest);
                (letters.named(queue.as_ref(), &chosen).await?, ids.is_empty())
            }
            Self::Chosen {
                filter,
                died_before,
                cursor,
            } => {
                let page = letters.page(filter, cursor.take(), most).await?;
                let old = page.letters.into_iter().filter(|letter| letter.died <= *died_before);
                *cursor = page.next;
                (old.map(Named::from).collect(), cursor.is_none())
            }
        };
        if over {
            *self = Self::None;
        }
        Ok(taken)
    }

    fn go_on(self, after: Duration, mut parameters: Parameters) -> GoOn {
        match self {
            Self::None => {}
            Self::Named { ids, .. } => {
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
