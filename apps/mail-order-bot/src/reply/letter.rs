//! What stands in a letter: the facts that templates may name, as plain values. A stranger's words are shortened and stand
//! on one line. The wording and layout of the built-in templates are such that the bot doesn't take its own answer for an
//! order when a customer quotes it; [`reads_as_order`] tells that of any letter.

use serde_json::{Value, json};

use super::templates::Letter;
use crate::domain::{CustomerProfile, LineStatus, Order, OrderLine, RejectReason};
use crate::reading::columns::ANSWER_HEADING;
use crate::reading::{self, ReadingLimits, WorkbookParser};

/// Longest piece of a stranger's text that is sent back, in characters.
const MAX_ECHO: usize = 60;
/// Lines that are listed one by one; a longer order is summed up.
const MAX_LISTED: usize = 500;

/// What the letter about an order may name.
#[must_use]
pub fn about(order: &Order) -> Value {
    // A guest's display name is anybody's text; only a profile's name is ours.
    let guest = order.customer.id.starts_with("guest:");
    json!({
        "order": {
            // An order that is only explained has none.
            "number": (order.id.0 != 0).then_some(order.id),
            "version": order.version,
            "status": order.status,
            "state": order.state,
            "total": order.total.to_string(),
            "currency": order.currency,
            "customers_number": order.order_number.as_deref().map(echo),
            "possible_duplicate_of": order.possible_duplicate_of,
            "notes": order.notes,
            "lines": order.lines.iter().take(MAX_LISTED).map(line).collect::<Vec<_>>(),
            "hidden": order.lines.len().saturating_sub(MAX_LISTED),
        },
        "customer": {
            "name": (!guest).then(|| echo(&order.customer.name)),
            "id": order.customer.id,
            "address": order.customer.address,
        },
        "answer_heading": ANSWER_HEADING,
    })
}

/// What the letter about a mail without an order may name.
#[must_use]
pub fn about_nothing() -> Value {
    json!({ "answer_heading": ANSWER_HEADING })
}

fn line(line: &OrderLine) -> Value {
    let (price, amount, reason) = match &line.status {
        LineStatus::Accepted { unit_price, amount } => (Some(unit_price.to_string()), Some(amount.to_string()), None),
        LineStatus::Rejected { reason } => (None, None, Some(reason)),
    };
    json!({
        "position": line.position,
        "article": echo(&line.article),
        "name": line.name.as_deref().map(echo),
        "title": title(line),
        "quantity": line.quantity.map(|quantity| quantity.to_string()),
        "unit": line.unit,
        "amount_ordered": amount_ordered(line),
        "accepted": reason.is_none(),
        "price": price,
        "amount": amount,
        "our_price": reason.and_then(our_price),
        "reason": reason,
        "reason_text": reason.map(ToString::to_string),
    })
}

/// The catalogue's price, where that is why a line is rejected.
fn our_price(reason: &RejectReason) -> Option<String> {
    match reason {
        RejectReason::PriceMismatch { catalogue, .. } => Some(catalogue.to_string()),
        _ => None,
    }
}

fn title(line: &OrderLine) -> String {
    match &line.name {
        Some(name) if !line.article.is_empty() => format!("{} {}", echo(&line.article), echo(name)),
        Some(name) => echo(name),
        None => echo(&line.article),
    }
}

fn amount_ordered(line: &OrderLine) -> String {
    match (line.quantity, &line.unit) {
        (Some(quantity), Some(unit)) => format!("{quantity} {unit}"),
        (Some(quantity), None) => quantity.to_string(),
        (None, _) if line.quantity_given.is_empty() => String::new(),
        (None, _) => format!("\"{}\"", echo(&line.quantity_given)),
    }
}

/// A stranger's words, on one line and short.
fn echo(text: &str) -> String {
    let plain: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MAX_ECHO)
        .collect();
    if text.chars().nth(MAX_ECHO).is_some() {
        format!("{plain}…")
    } else {
        plain
    }
}

/// What of a letter, quoted back without any quotation marks, would be taken for an order line, and where; `known` says
/// which articles there are.
#[must_use]
pub fn reads_as_order(letter: &Letter, known: &dyn Fn(&str) -> bool) -> Option<String> {
    let forms = [("text/plain", &letter.text), ("text/html", &letter.html)];
    forms.into_iter().find_map(|(content_type, body)| {
        let raw = format!("From: jane@example.com\r\nContent-Type: {content_type}; charset=utf-8\r\n\r\n{body}");
        let limits = ReadingLimits::default();
        let quoting = reading::read(raw.as_bytes(), &limits).ok()?;
        let profile = CustomerProfile::default();
        let found = reading::extract(&quoting, &profile, known, &limits, &WorkbookParser::here()).ok()?;
        let line = found.lines.into_iter().next()?;
        Some(format!(
            "{} of {} ({}, {content_type})",
            line.quantity.text, line.article, line.place
        ))
    })
}
