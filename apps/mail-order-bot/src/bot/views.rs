//! What the bot contributes to the control plane and the command line: `orders`, and `source.dry-run`.

use plba::control::{ControlError, Parameters};
use plba::mail::MailSource;
use plba::prelude::*;
use serde_json::Value;

use crate::domain::{Order, OrderId, OrderStatus};
use crate::store::reads::{MAX_ORDERS, OrderFilter};

use super::services::OrderFile;

/// The views.
pub fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::view::<Value, _, _>("orders", "Lists orders, the newest first", orders)
            .parameter("status", "only accepted, partly_accepted or rejected ones")
            .parameter("customer", "only those of this customer's id")
            .parameter("before", "only those with a smaller number: the next page")
            .parameter("limit", "how many at most, up to 1000; 100 when left out")
            .words("ids", "only these orders"),
        Endpoint::view::<plba::mail::Preview, _, _>(
            "source.dry-run",
            "Tells what a first connection to the source would take in; changes nothing",
            |services, _| async move {
                let source = services.get::<MailSource>().await.map_err(failed)?;
                source.preview().await.map_err(failed)
            },
        ),
    ]
}

async fn orders(services: Services, parameters: Parameters) -> Result<Value, ControlError> {
    let file = services.get::<OrderFile>().await.map_err(failed)?;
    let filter = filter(&parameters)?;
    let ids = ids(&parameters)?;
    let read = move || -> Result<Vec<Order>, BoxError> {
        let Some(reads) = file.reads()? else {
            return Ok(Vec::new());
        };
        if ids.is_empty() {
            return Ok(reads.orders(&filter)?);
        }
        let found = ids.iter().map(|id| reads.order(*id)).collect::<Result<Vec<_>, _>>()?;
        Ok(found.into_iter().flatten().collect())
    };
    let orders = tokio::task::spawn_blocking(read).await.map_err(failed)??;
    serde_json::to_value(orders).map_err(failed)
}

fn failed(error: impl Into<BoxError>) -> ControlError {
    ControlError::Failed(error.into())
}

fn filter(parameters: &Parameters) -> Result<OrderFilter, ControlError> {
    let text = |name: &str| {
        parameters
            .get(name)
            .map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    };
    let number = |name: &str, most: u64| match text(name) {
        None => Ok(None),
        Some(text) => match text.parse::<u64>() {
            Ok(number) if (1..=most).contains(&number) => Ok(Some(number)),
            _ => Err(ControlError::Invalid(format!(
                "{name} takes a number from 1 to {most}, not {text:?}"
            ))),
        },
    };
    let status = match text("status") {
        None => None,
        Some(word) => Some(OrderStatus::from_word(&word).ok_or_else(|| {
            ControlError::Invalid(format!(
                "status takes accepted, partly_accepted or rejected, not {word:?}"
            ))
        })?),
    };
    let default = OrderFilter::default();
    Ok(OrderFilter {
        status,
        customer: text("customer"),
        before: number("before", i64::MAX as u64)?.map(order_id),
        limit: number("limit", MAX_ORDERS as u64)?.map_or(default.limit, |limit| limit as usize),
    })
}

fn ids(parameters: &Parameters) -> Result<Vec<OrderId>, ControlError> {
    let words = match parameters.get("ids") {
        None => return Ok(Vec::new()),
        Some(Value::Array(words)) => words.clone(),
        Some(word) => vec![word.clone()],
    };
    if words.len() > MAX_ORDERS {
        return Err(ControlError::Invalid(format!(
            "at most {MAX_ORDERS} orders can be asked for at once"
        )));
    }
    let id = |word: &Value| {
        let number = word
            .as_u64()
            .or_else(|| word.as_str()?.parse().ok())
            .filter(|number| *number <= i64::MAX as u64);
        number
            .map(order_id)
            .ok_or_else(|| ControlError::Invalid(format!("{word} is no order's number")))
    };
    words.iter().map(id).collect()
}

fn order_id(number: u64) -> OrderId {
    OrderId(number as i64)
}
