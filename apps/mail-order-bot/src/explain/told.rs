//! An explanation as people read it: a page of plain text.

use std::fmt::Write as _;

use serde_json::Value;

use super::{Explained, ExplainedLine};
use crate::reading::explanation::Step;

/// The explanation that `value` is, as text. Writes nothing that could move a terminal's cursor.
#[must_use]
pub fn told(value: &Value) -> String {
    match serde_json::from_value::<Explained>(value.clone()) {
        Ok(explained) => page(&explained),
        Err(error) => format!("the explanation can't be shown: {error}"),
    }
}

fn page(explained: &Explained) -> String {
    let mut page = String::new();
    head(&mut page, explained);
    steps(&mut page, &explained.explanation.steps);
    if explained.explanation.untold > 0 {
        // Writing to a String can't fail.
        _ = writeln!(page, "  … and {} further steps", explained.explanation.untold);
    }
    lines(&mut page, explained);
    reply(&mut page, explained);
    page.chars().filter(|c| !c.is_control() || *c == '\n').collect()
}

fn head(page: &mut String, explained: &Explained) {
    let mail = &explained.mail;
    _ = writeln!(page, "Subject   {}", mail.subject);
    let from = match (&explained.sender.name, &explained.sender.address) {
        (Some(name), Some(address)) => format!("{name} <{address}>"),
        (None, Some(address)) => address.clone(),
        (_, None) => "nobody".to_owned(),
    };
    let known = match &explained.sender.profile {
        Some(profile) => format!("customer {profile}"),
        None => "no profile names this sender".to_owned(),
    };
    _ = writeln!(page, "From      {from} ({known})");
    if let Some(date) = &mail.date {
        _ = writeln!(page, "Date      {date}");
    }
    let made = if mail.has_message_id {
        ""
    } else {
        " (made from the content; the mail has none)"
    };
    _ = writeln!(page, "Message   {}{made}", mail.message_id);
    if let Some(nearest) = mail.references.first() {
        _ = writeln!(page, "Answers   {nearest}");
    }
    if let Some(automation) = &mail.automation {
        _ = writeln!(page, "Machine   {automation}");
    }
    if let Some(number) = &explained.order_number {
        _ = writeln!(page, "Number    {number}, the customer's own");
    }
    _ = writeln!(page, "Intent    {}", explained.intent);
    let why = explained.not_an_order.as_ref().or(explained.review.as_ref());
    let why = why.map(|why| format!(": {why}")).unwrap_or_default();
    let counts = match explained.lines.len() {
        0 => String::new(),
        all => {
            let accepted = explained.lines.iter().filter(|line| line.code.is_none()).count();
            format!(
                ", {accepted} of {}, {}",
                counted(all),
                explained.total.as_deref().unwrap_or_default()
            )
        }
    };
    let outcome = match &explained.review {
        Some(_) => "waits on the review list".to_owned(),
        None => explained.outcome.replace('_', " "),
    };
    _ = writeln!(page, "Outcome   {outcome}{why}{counts}");
}

fn steps(page: &mut String, steps: &[Step]) {
    page.push_str("\nWhat was looked at\n");
    for step in steps {
        _ = match step {
            Step::Intent { intent, why } => writeln!(page, "  {intent}: {why}"),
            Step::OrderNumber { number, place } => writeln!(page, "  order number {number}: in {place}"),
            Step::Part {
                part,
                content_type,
                verdict,
                lines,
            } => {
                let lines = if *lines > 0 {
                    format!(", {}", counted(*lines))
                } else {
                    String::new()
                };
                writeln!(page, "  {part} ({content_type}): {verdict}{lines}")
            }
            Step::Columns {
                place,
                headings,
                columns,
            } => {
                let row = headings
                    .map(|row| format!(", headings in row {row}"))
                    .unwrap_or_default();
                let told = columns
                    .iter()
                    .map(|column| format!("{} in {} by {}", column.field, column.column, column.by));
                let told: Vec<String> = told.collect();
                writeln!(page, "  columns of {place}{row}:\n    {}", told.join("\n    "))
            }
            Step::Profile { setting } => writeln!(page, "  by the profile: {setting}"),
            Step::Skipped { place, text, why } => writeln!(page, "  passed over {place}: {text:?}: {why}"),
        };
    }
}

fn lines(page: &mut String, explained: &Explained) {
    if !explained.lines.is_empty() {
        page.push_str("\nLines\n");
    }
    for (line, number) in explained.lines.iter().zip(1..) {
        _ = writeln!(page, "  {number}. {}", sentence(line));
        _ = writeln!(page, "     {}", verdict(line));
    }
    for note in &explained.notes {
        _ = writeln!(page, "\nNote: {note}");
    }
}

fn sentence(line: &ExplainedLine) -> String {
    let name = line.name.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
    let understood = line
        .quantity
        .as_ref()
        .map(|quantity| format!(", understood as {quantity}"))
        .unwrap_or_default();
    let price = line
        .price_given
        .as_ref()
        .map(|price| format!(", price {price:?}"))
        .unwrap_or_default();
    let article = if line.article.is_empty() {
        "(no article)"
    } else {
        &line.article
    };
    format!(
        "{article}{name}: {:?}{understood}{price} ({})",
        line.quantity_given, line.place
    )
}

fn verdict(line: &ExplainedLine) -> String {
    match (&line.amount, &line.reason) {
        (Some(amount), _) => format!("accepted: {amount}"),
        (None, Some(reason)) => format!("rejected: {reason}"),
        (None, None) => "accepted".to_owned(),
    }
}

/// `1 line`, `2 lines`.
fn counted(lines: usize) -> String {
    format!("{lines} {}", if lines == 1 { "line" } else { "lines" })
}

fn reply(page: &mut String, explained: &Explained) {
    let reply = &explained.reply;
    match (&reply.to, &reply.withheld) {
        (_, Some(why)) => _ = writeln!(page, "\nNo reply: {why}"),
        (Some(to), None) => {
            _ = writeln!(page, "\nReply to {to} (the order has no number until it is stored)");
            for line in reply.text.as_deref().unwrap_or_default().lines() {
                _ = writeln!(page, "  | {line}");
            }
        }
        (None, None) => {}
    }
}
