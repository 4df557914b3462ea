//! Orders as a table for people: what tells one from another, on lines that fit a terminal. Programs ask for `--json`.

use serde_json::Value;

/// The widest that a customer's or a subject's cell may be, in characters.
const WIDEST: usize = 32;

const HEADINGS: [&str; 8] = ["id", "received", "status", "customer", "lines", "total", "subject", ""];

/// The orders of the view `orders`.
pub(super) fn orders(value: &Value) -> String {
    let Some(orders) = value.as_array().filter(|orders| !orders.is_empty()) else {
        return "none".to_owned();
    };
    let mut rows = vec![HEADINGS.map(str::to_owned)];
    rows.extend(orders.iter().map(row));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..HEADINGS.len()).map(width).collect();
    let line = |row: &[String; HEADINGS.len()]| {
        let cells = row.iter().zip(&widths).zip(HEADINGS);
        let padded = cells.map(|((cell, width), heading)| match heading {
            "id" | "lines" | "total" => format!("{cell:>width$}"),
            _ => format!("{cell:width$}"),
        });
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

fn row(order: &Value) -> [String; HEADINGS.len()] {
    let text = |field: &str| order[field].as_str().unwrap_or_default().to_owned();
    let customer = &order["customer"];
    let name = ["name", "address", "id"]
        .into_iter()
        .find_map(|field| customer[field].as_str().filter(|name| !name.is_empty()));
    // `2026-11-22T09:59:22Z`, to the minute.
    let received: String = text("received_at").chars().take(16).collect();
    let status = match text("state").as_str() {
        "open" => text("status").replace('_', " "),
        state => state.to_owned(),
    };
    [
        order["id"].to_string(),
        received.replace('T', " "),
        status,
        clean(name.unwrap_or_default()),
        order["lines"].as_array().map_or(0, Vec::len).to_string(),
        format!("{} {}", text("total"), text("currency")),
        clean(&text("subject")),
        remarks(order).join(", "),
    ]
}

/// What is not as with most orders.
fn remarks(order: &Value) -> Vec<String> {
    let mut remarks = Vec::new();
    if let Some(number) = order["order_number"].as_str() {
        remarks.push(format!("theirs {}", clean(number)));
    }
    if let Some(version) = order["version"].as_u64().filter(|version| *version > 1) {
        remarks.push(format!("version {version}"));
    }
    if let Some(other) = order["possible_duplicate_of"].as_i64() {
        remarks.push(format!("like order {other}"));
    }
    if let Some(why) = order["reply_withheld"].as_str() {
        remarks.push(format!("not answered: {}", clean(why)));
    }
    remarks
}

/// A stranger's text on one line, short, and without what drives a terminal.
fn clean(text: &str) -> String {
    let plain: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(WIDEST)
        .collect();
    match text.chars().nth(WIDEST) {
        Some(_) => format!("{plain}…"),
        None => plain,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_order_is_a_line_that_says_what_is_not_as_with_most() {
        let order = json!({
            "id": 7, "version": 2, "status": "partly_accepted", "state": "open", "received_at": "2026-11-22T09:59:22.5Z",
            "customer": { "id": "guest:a@b.example", "name": "\u{1b}[2JAnna", "address": "a@b.example" }, "subject": "x".repeat(50),
            "total": "53.40", "currency": "EUR", "lines": [{}, {}], "possible_duplicate_of": 1, "order_number": "B-12",
        });
        let mut other = order.clone();
        other["id"] = json!(1234);
        other["state"] = json!("cancelled");
        other["reply_withheld"] = json!("it is written by a program");
        let table = orders(&json!([order, other]));
        let lines: Vec<&str> = table.lines().collect();
        let subject = "x".repeat(32);
        assert_eq!(
            lines[0],
            format!(
                "  id  received          status           customer  lines      total  {:33}",
                "subject"
            )
            .trim_end()
        );
        assert_eq!(
            lines[1],
            format!(
                "   7  2026-11-22 09:59  partly accepted   [2JAnna      2  53.40 EUR  {subject}…  theirs B-12, version 2, like order 1"
            )
        );
        assert!(
            lines[2].starts_with("1234") && lines[2].contains("cancelled"),
            "{table}"
        );
        assert!(
            lines[2].ends_with("not answered: it is written by a program"),
            "{table}"
        );
        assert_eq!(orders(&json!([])), "none");
    }
}
