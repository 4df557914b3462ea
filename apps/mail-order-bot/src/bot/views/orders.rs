//! Orders: the list with its search, one of them with all that belongs to it, and what a person does to them.

use plba::control::{ControlError, Endpoint, Parameters};
use plba::services::Services;
use serde_json::{Value, json};

use super::{announce, at_the_desk, decided, failed, listing, reading, source_mail};
use crate::authentication::Verdict;
use crate::bot::orders::tell;
use crate::bot::parameters::{invalid, number, numbers, order_state, order_status, text, time};
use crate::desk::shown;
use crate::domain::{OrderId, OrderState};
use crate::store::reads::{MAX_ORDERS, OrderFilter};
use crate::store::{OrderReads, OutboxRow};

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::view::<Value, _, _>("orders", "Lists orders, the newest first", list)
            .parameter("status", "only accepted, partly_accepted or rejected ones")
            .parameter("state", "only those that are open, exported, shipped or cancelled")
            .parameter("customer", "only those of this customer's id")
            .parameter(
                "text",
                "only those with this text in customer, order number, subject, Message-ID or an article",
            )
            .parameter("since", "only those that came or changed at this time or later")
            .parameter("before", "only those with a smaller number: the next page")
            .parameter("limit", "how many at most, up to 1000; 100 when left out")
            .words("ids", "only these orders")
            .told(listing::orders),
        Endpoint::view::<Value, _, _>(
            "orders.show",
            "Shows one order with its versions, its mails as text, and what was sent about it",
            show,
        )
        .words("ids", "the number of an order"),
        Endpoint::action::<Value, _, _>(
            "orders.close",
            "Marks orders as handed on: mails don't change them any more",
            close,
        )
        .words("ids", "the numbers of orders")
        .parameter("up-to", "all orders up to this number: the last one of an export")
        .parameter("as", "exported, which is the default, or shipped"),
        Endpoint::action::<Value, _, _>(
            "orders.reprocess",
            "Reads the source mail of an order once more, with today's catalogue and profiles",
            reprocess,
        )
        .words("ids", "the number of an order"),
    ]
}

async fn list(services: Services, parameters: Parameters) -> Result<Value, ControlError> {
    let filter = filter(&parameters)?;
    let ids = numbers(&parameters, "ids")?;
    let orders = reading(&services, Vec::new(), move |reads| {
        if ids.is_empty() {
            return reads.orders(&filter).map_err(failed);
        }
        let found = ids.iter().map(|id| reads.order(OrderId(*id)));
        let found = found.collect::<Result<Vec<_>, _>>().map_err(failed)?;
        Ok(found.into_iter().flatten().collect())
    });
    Ok(orders.await?.iter().map(shown).collect())
}

fn filter(parameters: &Parameters) -> Result<OrderFilter, ControlError> {
    let least_one = |name: &str, most: u64| match number(parameters, name, most)? {
        Some(0) => Err(invalid(format!("{name} takes a number from 1 to {most}, not 0"))),
        number => Ok(number),
    };
    let default = OrderFilter::default();
    Ok(OrderFilter {
        status: order_status(parameters)?,
        state: order_state(parameters)?,
        customer: text(parameters, "customer"),
        text: text(parameters, "text").filter(|text| !text.is_empty()),
        since: time(parameters, "since")?,
        before: least_one("before", i64::MAX as u64)?.map(|before| OrderId(before as i64)),
        limit: least_one("limit", MAX_ORDERS as u64)?.map_or(default.limit, |limit| limit as usize),
    })
}

fn one(parameters: &Parameters) -> Result<OrderId, ControlError> {
    match numbers(parameters, "ids")?.as_slice() {
        [id] => Ok(OrderId(*id)),
        _ => Err(invalid("name one order by its number, as `orders` shows it")),
    }
}

async fn show(services: Services, parameters: Parameters) -> Result<Value, ControlError> {
    let id = one(&parameters)?;
    let found = reading(&services, None, move |reads| whole(&reads, id));
    found
        .await?
        .ok_or_else(|| invalid(format!("there is no order {id}; see `orders`")))
}

fn whole(reads: &OrderReads, id: OrderId) -> Result<Option<Value>, ControlError> {
    let Some(order) = reads.order(id).map_err(failed)? else {
        return Ok(None);
    };
    let earlier = reads.earlier_versions(id).map_err(failed)?;
    let mails = reads.mails_of(id).map_err(failed)?;
    let files = reads.attachments_of(id).map_err(failed)?;
    let sent = reads.sent_about(id).map_err(failed)?;
    let verdicts = reads.verdicts_of(id).map_err(failed)?;
    let mut whole = shown(&order);
    if let Some(fields) = whole.as_object_mut() {
        let version = |version: &crate::store::reads::EarlierVersion| {
            json!({
                "version": version.order.version,
                "status": version.order.status,
                "total": version.order.total.to_string(),
                "lines": version.order.lines.len(),
                "replaced_at": version.replaced_at,
                "replaced_by": version.replaced_by,
            })
        };
        let file = |file: &crate::store::Attachment| json!({ "name": file.file_name, "type": file.content_type, "bytes": file.content.len() });
        fields.insert("earlier_versions".to_owned(), earlier.iter().map(version).collect());
        fields.insert("attachments".to_owned(), files.iter().map(file).collect());
        fields.insert("authentication".to_owned(), verdicts.iter().map(verdict).collect());
        fields.insert("sent".to_owned(), sent.iter().map(sent_row).collect());
        let texts: Vec<String> = mails.iter().map(|(_, raw)| source_mail::as_text(raw)).collect();
        fields.insert("mails".to_owned(), texts.join("\n\n").into());
    }
    Ok(Some(whole))
}

/// Who sent one of its mails, as far as that was found out.
fn verdict((message_id, verdict): &(String, Verdict)) -> Value {
    json!({ "message_id": message_id, "says": verdict.to_string(), "verdict": verdict })
}

pub(super) fn sent_row(row: &OutboxRow) -> Value {
    json!({
        "id": row.id,
        "channel": row.channel,
        "order": row.order_id,
        "to": row.recipient,
        "bytes": row.message.len(),
        "created_at": row.created_at,
        "sent_at": row.sent_at,
    })
}

async fn close(services: Services, parameters: Parameters) -> Result<Value, ControlError> {
    let ids: Vec<OrderId> = numbers(&parameters, "ids")?.into_iter().map(OrderId).collect();
    let up_to = number(&parameters, "up-to", i64::MAX as u64)?.map(|last| OrderId(last as i64));
    let state = match text(&parameters, "as").as_deref() {
        None | Some("exported") => OrderState::Exported,
        Some("shipped") => OrderState::Shipped,
        Some(other) => return Err(invalid(format!("as takes exported or shipped, not {other:?}"))),
    };
    if ids.is_empty() && up_to.is_none() {
        return Err(invalid("name orders by their numbers, or all up to one by --up-to"));
    }
    let closed = at_the_desk(&services, move |desk, now| {
        desk.store().close_orders(&ids, up_to, state, now).map_err(failed)
    });
    Ok(json!({ "count": closed.await?.len(), "state": state }))
}

async fn reprocess(services: Services, parameters: Parameters) -> Result<Value, ControlError> {
    let id = one(&parameters)?;
    let done = at_the_desk(&services, move |desk, now| desk.reprocess(id, now).map_err(decided)).await?;
    let Some(done) = done else {
        return Ok(json!({ "order": id, "changed": false }));
    };
    tell(&done.processed);
    announce(&services, std::slice::from_ref(&done)).await?;
    Ok(json!({ "order": id, "changed": true, "outcome": source_mail::outcome(&done.processed) }))
}
