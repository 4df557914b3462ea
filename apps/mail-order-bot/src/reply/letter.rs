//! What the answer says, in plain text and as a simple HTML page. The wording and layout are such that the bot doesn't
//! take its own answer for an order when a customer quotes it (a test reads it back).

use std::fmt::Write as _;

use crate::domain::{LineStatus, Order, OrderLine, OrderStatus};
use crate::reading::columns::ANSWER_HEADING;

/// Longest piece of a stranger's text that is sent back, in characters.
const MAX_ECHO: usize = 60;
/// Lines that are listed one by one; a longer order is summed up.
const MAX_LISTED: usize = 500;

pub(super) struct Letter {
    pub(super) text: String,
    pub(super) html: String,
}

/// The answer to an order.
pub(super) fn for_order(order: &Order) -> Letter {
    let opening = opening(order);
    let remarks = remarks(order);
    let total = (order.status != OrderStatus::Rejected)
        .then(|| format!("Total of the accepted lines: {} {}", order.total, order.currency));
    let hidden = order.lines.len().saturating_sub(MAX_LISTED);
    let more = (hidden > 0).then(|| format!("… and {hidden} further lines."));

    let mut text = format!("{}\n\n{opening}\n", greeting(order));
    if !order.lines.is_empty() {
        text.push('\n');
    }
    for line in order.lines.iter().take(MAX_LISTED) {
        // Writing to a String can't fail.
        _ = writeln!(text, "  Line {}: {}", line.position, sentence(line, &order.currency));
    }
    for paragraph in more.iter().chain(&total).chain(&remarks) {
        _ = write!(text, "\n{paragraph}\n");
    }
    _ = write!(text, "\n{CLOSING}\n");

    let mut html = format!(
        "<html><body><p>{}</p><p>{}</p>",
        escaped(&greeting(order)),
        escaped(&opening)
    );
    if !order.lines.is_empty() {
        html.push_str(&table(order));
    }
    for paragraph in more.iter().chain(&total).chain(&remarks) {
        _ = write!(html, "<p>{}</p>", escaped(paragraph));
    }
    _ = write!(html, "<p>{}</p></body></html>", escaped(CLOSING));
    Letter { text, html }
}

/// The answer to a message in which no order was found.
pub(super) fn for_unrecognised() -> Letter {
    let body = "we found no order in your mail. You can send an order as lines of text (quantity, then \"x\", then the \
                article number), as a table, or as a CSV or XLSX file with columns for article and quantity.";
    Letter {
        text: format!("Hello,\n\n{body}\n\n{CLOSING}\n"),
        html: format!(
            "<html><body><p>Hello,</p><p>{}</p><p>{}</p></body></html>",
            escaped(body),
            escaped(CLOSING)
        ),
    }
}

const CLOSING: &str = "This answer was written automatically. Reply to this mail to reach us.";

fn greeting(order: &Order) -> String {
    // A guest's display name is anybody's text; only a profile's name is ours.
    if order.customer.id.starts_with("guest:") {
        "Hello,".to_owned()
    } else {
        format!("Hello {},", echo(&order.customer.name))
    }
}

fn opening(order: &Order) -> String {
    let verdict = match order.status {
        OrderStatus::Accepted => "All its lines are accepted.",
        OrderStatus::PartlyAccepted => "We can accept a part of it; please see below.",
        OrderStatus::Rejected => "We are sorry that we cannot accept it; please see below.",
    };
    format!("thank you for your order. Its number is {}. {verdict}", order.id)
}

fn remarks(order: &Order) -> Vec<String> {
    let mut remarks: Vec<String> = order.notes.clone();
    if let Some(earlier) = order.possible_duplicate_of {
        remarks.push(format!(
            "Please note: your order {earlier} asks for the same. If you did not want it twice, please tell us."
        ));
    }
    remarks
}

fn sentence(line: &OrderLine, currency: &str) -> String {
    let article = article(line);
    let quantity = quantity(line);
    match &line.status {
        LineStatus::Accepted { unit_price, amount } => {
            format!("{article}: {quantity} at {unit_price} {currency} = {amount} {currency}")
        }
        LineStatus::Rejected { reason } => format!("{article}: {quantity} - not accepted: {reason}"),
    }
}

fn table(order: &Order) -> String {
    let mut html = format!(
        "<table border=\"1\" cellpadding=\"4\"><tr><th>Article</th><th>Quantity</th><th>Price</th><th>Amount</th>\
         <th>{ANSWER_HEADING}</th></tr>"
    );
    for line in order.lines.iter().take(MAX_LISTED) {
        let (price, amount, result) = match &line.status {
            LineStatus::Accepted { unit_price, amount } => {
                (unit_price.to_string(), amount.to_string(), "accepted".to_owned())
            }
            LineStatus::Rejected { reason } => (String::new(), String::new(), format!("not accepted: {reason}")),
        };
        let cells = [article(line), quantity(line), price, amount, result].map(|cell| escaped(&cell));
        _ = write!(html, "<tr><td>{}</td></tr>", cells.join("</td><td>"));
    }
    html.push_str("</table>");
    html
}

fn article(line: &OrderLine) -> String {
    match &line.name {
        Some(name) if !line.article.is_empty() => format!("{} {}", echo(&line.article), echo(name)),
        Some(name) => echo(name),
        None if line.article.is_empty() => "(no article)".to_owned(),
        None => echo(&line.article),
    }
}

fn quantity(line: &OrderLine) -> String {
    match (line.quantity, &line.unit) {
        (Some(quantity), Some(unit)) => format!("{quantity} {unit}"),
        (Some(quantity), None) => quantity.to_string(),
        (None, _) if line.quantity_given.is_empty() => "(no quantity)".to_owned(),
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

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
