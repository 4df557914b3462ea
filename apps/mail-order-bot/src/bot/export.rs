//! Orders for other systems: CSV or JSON, in the order of their numbers, page by page, so that neither side holds more
//! than a page.
//!
//! # CSV
//!
//! RFC 4180: UTF-8 without a mark, commas, CRLF, the column names in the first line. One line per order line; an order
//! without lines has one with the line's columns empty. New columns are added at the end.
//!
//! | column | what |
//! |---|---|
//! | `order`, `version` | number and version of the order |
//! | `state` | `open`, `exported`, `shipped`, `cancelled` |
//! | `status` | `accepted`, `partly_accepted`, `rejected` |
//! | `received_at`, `changed_at` | UTC, RFC 3339 |
//! | `customer_id`, `customer_name`, `customer_address` | who ordered |
//! | `subject`, `message_id` | of the mail |
//! | `currency`, `total` | of the whole order; money is decimal text with a point |
//! | `line` | position, from 1 |
//! | `line_status` | `accepted`, `rejected` |
//! | `article`, `name` | the catalogue's, where it was found |
//! | `quantity`, `quantity_given`, `unit` | as a number, as the customer wrote it, and in what |
//! | `unit_price`, `amount` | of accepted lines |
//! | `reason` | of rejected lines: a word such as `unknown_article` |
//! | `notes` | what concerns the whole order, separated by ` / ` |
//! | `order_number` | the customer's own, where the mail gives one |
//! | `possible_duplicate_of` | the order that this one may repeat |
//!
//! What strangers wrote can't become a formula: text that begins like one has a `'` before it ([`formula`]), and control
//! characters are blanks.
//!
//! # JSON
//!
//! An array of orders as `mail-order-bot orders --json` shows them: money as decimal text.

use jiff::Timestamp;
use plba::BoxError;
use plba::control::{ControlError, Endpoint, Parameters};
use plba::services::Services;
use serde_json::{Value, json};

use super::parameters::{number, order_state, order_status, text, time};
use super::services::OrderPlace;
use crate::desk::shown;
use crate::domain::{LineStatus, Order, OrderId, OrderLine};
use crate::formula;

/// Orders in one piece.
const PAGE: usize = 200;

const COLUMNS: [&str; 26] = [
    "order",
    "version",
    "state",
    "status",
    "received_at",
    "changed_at",
    "customer_id",
    "customer_name",
    "customer_address",
    "subject",
    "message_id",
    "currency",
    "total",
    "line",
    "line_status",
    "article",
    "name",
    "quantity",
    "quantity_given",
    "unit",
    "unit_price",
    "amount",
    "reason",
    "notes",
    "order_number",
    "possible_duplicate_of",
];

/// The view.
pub fn endpoint() -> Endpoint {
    Endpoint::view::<Value, _, _>(
        "export",
        "Writes orders as CSV or JSON, in the order of their numbers",
        export,
    )
    .parameter("format", "csv, which is the default, or json")
    .parameter(
        "since",
        "only orders that came or changed at this time or later, such as 2026-11-22T08:00:00Z",
    )
    .parameter("status", "only accepted, partly_accepted or rejected ones")
    .parameter("state", "only those that are open, exported, shipped or cancelled")
    .parameter("after", "only those with a larger number")
    .parameter("piece", "how many pieces came before; for whoever asks piece by piece")
}

/// What a piece of an export is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Csv,
    Json,
}

async fn export(services: Services, parameters: Parameters) -> Result<Value, ControlError> {
    let format = match text(&parameters, "format").as_deref() {
        None | Some("csv") => Format::Csv,
        Some("json") => Format::Json,
        Some(other) => return Err(ControlError::Invalid(format!("format is csv or json, not {other:?}"))),
    };
    let (status, state) = (order_status(&parameters)?, order_state(&parameters)?);
    let since: Option<Timestamp> = time(&parameters, "since")?;
    let after = number(&parameters, "after", i64::MAX as u64)?.unwrap_or(0);
    let piece = number(&parameters, "piece", u64::MAX)?.unwrap_or(0);
    let place = services.get::<OrderPlace>().await.map_err(failed)?;
    let read = move || -> Result<Vec<Order>, BoxError> {
        let Some(reads) = place.reads()? else {
            return Ok(Vec::new());
        };
        Ok(reads.orders_after(OrderId(after as i64), status, state, since, PAGE)?)
    };
    let orders = tokio::task::spawn_blocking(read).await.map_err(failed)??;
    let last = orders.last().map(|order| order.id).filter(|_| orders.len() == PAGE);
    let print = match format {
        Format::Csv => csv(&orders, piece == 0).map_err(failed)?,
        Format::Json => json_piece(&orders, piece == 0, last.is_none()),
    };
    let next = last.map(|last| {
        let mut next = parameters;
        next.insert("after".to_owned(), last.to_string().into());
        next.insert("piece".to_owned(), (piece + 1).to_string().into());
        json!({ "after_ms": 0, "parameters": next })
    });
    Ok(json!({ "count": orders.len(), "print": print, "continue": next }))
}

fn failed(error: impl Into<BoxError>) -> ControlError {
    ControlError::Failed(error.into())
}

fn csv(orders: &[Order], with_names: bool) -> Result<String, csv::Error> {
    let mut writer = csv::WriterBuilder::new()
        .terminator(csv::Terminator::CRLF)
        .from_writer(Vec::new());
    if with_names {
        writer.write_record(COLUMNS)?;
    }
    for order in orders {
        if order.lines.is_empty() {
            writer.write_record(record(order, None))?;
        }
        for line in &order.lines {
            writer.write_record(record(order, Some(line)))?;
        }
    }
    let bytes = writer.into_inner().map_err(|error| error.into_error())?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn record(order: &Order, line: Option<&OrderLine>) -> [String; COLUMNS.len()] {
    let of = |text: Option<String>| text.unwrap_or_default();
    let (mut line_status, mut price, mut amount, mut reason) = Default::default();
    match line.map(|line| &line.status) {
        Some(LineStatus::Accepted {
            unit_price,
            amount: whole,
        }) => (line_status, price, amount) = ("accepted", unit_price.to_string(), whole.to_string()),
        Some(LineStatus::Rejected { reason: why }) => (line_status, reason) = ("rejected", why.code()),
        None => {}
    }
    [
        order.id.to_string(),
        order.version.to_string(),
        order.state.to_string(),
        order.status.to_string(),
        order.received_at.to_string(),
        order.changed_at.to_string(),
        harmless(&order.customer.id),
        harmless(&order.customer.name),
        harmless(&order.customer.address),
        harmless(&order.subject),
        harmless(&order.message_id),
        harmless(&order.currency),
        order.total.to_string(),
        of(line.map(|line| line.position.to_string())),
        str::to_owned(line_status),
        of(line.map(|line| harmless(&line.article))),
        of(line.and_then(|line| line.name.as_deref()).map(harmless)),
        of(line.and_then(|line| line.quantity).map(|quantity| quantity.to_string())),
        of(line.map(|line| harmless(&line.quantity_given))),
        of(line.and_then(|line| line.unit.as_deref()).map(harmless)),
        price,
        amount,
        str::to_owned(reason),
        harmless(&order.notes.join(" / ")),
        of(order.order_number.as_deref().map(harmless)),
        of(order.possible_duplicate_of.map(|other| other.to_string())),
    ]
}

/// A stranger's text on one line, which no spreadsheet takes for a formula.
fn harmless(text: &str) -> String {
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    formula::harmless(&plain).into_owned()
}

fn json_piece(orders: &[Order], first: bool, last: bool) -> String {
    let mut piece = String::from(if first { "[" } else { "" });
    for (index, order) in orders.iter().enumerate() {
        piece.push_str(if first && index == 0 { "\n" } else { ",\n" });
        piece.push_str(&shown(order).to_string());
    }
    if last {
        piece.push_str("\n]\n");
    }
    piece
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(article: &str, notes: &[&str]) -> Order {
        serde_json::from_value(json!({
            "id": 7, "status": "partly_accepted", "message_id": "1@example.org", "subject": "=cmd|' /C calc'!A0",
            "currency": "EUR", "customer": { "id": "c1", "name": "Jane, \"the\" Buyer", "address": "jane@example.org" },
            "received_at": "2026-11-22T00:00:00Z", "total": 5340, "notes": notes,
            "order_number": "=47-11", "possible_duplicate_of": 3,
            "lines": [{
                "position": 1, "article": article, "name": "Tea", "quantity": "2", "quantity_given": "-2\r\n=1",
                "unit": "pcs", "place": "text line 1", "status": "accepted", "unit_price": 2670, "amount": 5340
            }, {
                "position": 2, "article": "@SUM(A1)", "name": null, "quantity": null, "quantity_given": "some",
                "unit": null, "place": "text line 2", "status": "rejected", "reason": { "code": "unknown_article" }
            }]
        }))
        .unwrap()
    }

    #[test]
    fn csv_has_every_column_and_no_formula() {
        let text = csv(&[order("ART-001", &["a", "b"])], true).unwrap();
        let mut lines = text.split_terminator("\r\n");
        assert_eq!(lines.next().unwrap(), COLUMNS.join(","));
        assert_eq!(
            lines.next().unwrap(),
            "7,1,open,partly_accepted,2026-11-22T00:00:00Z,1970-01-01T00:00:00Z,c1,\"Jane, \"\"the\"\" Buyer\",\
             jane@example.org,'=cmd|' /C calc'!A0,1@example.org,EUR,53.40,1,accepted,ART-001,Tea,2,'-2  =1,pcs,26.70,53.40,\
             ,a / b,'=47-11,3"
        );
        assert!(
            lines
                .next()
                .unwrap()
                .contains(",2,rejected,'@SUM(A1),,,some,,,,unknown_article,")
        );
        assert_eq!(lines.next(), None);
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        assert!(reader.records().all(|record| record.unwrap().len() == COLUMNS.len()));
    }

    #[test]
    fn pieces_of_json_are_one_document() {
        let orders = [order("A", &[]), order("B", &[])];
        for cuts in [&[(0, 2)][..], &[(0, 1), (1, 2)], &[(0, 2), (2, 2)], &[(0, 0)]] {
            let last = cuts.len() - 1;
            let text: String = cuts
                .iter()
                .enumerate()
                .map(|(at, (from, to))| json_piece(&orders[*from..*to], at == 0, at == last))
                .collect();
            let whole: Vec<Value> = serde_json::from_str(&text).unwrap();
            assert_eq!(
                whole.len(),
                cuts.iter().map(|(from, to)| to - from).sum::<usize>(),
                "{text}"
            );
            assert!(whole.iter().all(|order| order["total"] == "53.40"));
        }
    }

    #[test]
    fn an_order_without_lines_has_a_row_too() {
        let mut bare = order("A", &["unreadable"]);
        bare.lines.clear();
        let text = csv(&[bare], false).unwrap();
        assert_eq!(text.matches("\r\n").count(), 1);
        assert!(text.ends_with(",53.40,,,,,,,,,,,unreadable,'=47-11,3\r\n"), "{text}");
    }
}
