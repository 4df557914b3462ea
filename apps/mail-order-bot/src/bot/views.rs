//! What the bot contributes to the control plane and the command line: `orders`. The views of its sources are plba's.

use plba::control::{ControlError, Parameters};
use plba::prelude::*;
use serde_json::Value;

use crate::domain::{Money, Order, OrderId, OrderStatus};
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
    orders.iter().map(shown).collect::<Result<Value, _>>().map_err(failed)
}

/// An order with its money as people write it, `53.40`, and not in hundredths.
fn shown(order: &Order) -> serde_json::Result<Value> {
    let in_units = |value: &mut Value| {
        if let Some(minor) = value.as_i64() {
            *value = Money::from_minor(minor).to_string().into();
        }
    };
    let mut order = serde_json::to_value(order)?;
    order.get_mut("total").map(in_units);
    for line in order
        .get_mut("lines")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        for name in ["unit_price", "amount"] {
            line.get_mut(name).map(in_units);
        }
    }
    Ok(order)
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn money_is_shown_as_people_write_it() {
        let order: Order = serde_json::from_value(json!({
            "id": 1, "status": "accepted", "message_id": "1@example.org", "subject": "", "currency": "EUR",
            "customer": { "id": "guest", "name": "Guest", "address": "guest@example.org" },
            "received_at": "2026-11-22T00:00:00Z", "total": 5340, "notes": [],
            "lines": [{
                "position": 1, "article": "ART-001", "name": "Tea", "quantity": "2", "quantity_given": "2",
                "unit": "pcs", "place": "text line 1", "status": "accepted", "unit_price": 2670, "amount": 5340
            }]
        }))
        .unwrap();
        let shown = shown(&order).unwrap();
        let line = &shown["lines"][0];
        assert_eq!(
            (&shown["total"], &line["unit_price"], &line["amount"], &shown["id"]),
            (&json!("53.40"), &json!("26.70"), &json!("53.40"), &json!(1))
        );
    }
}
