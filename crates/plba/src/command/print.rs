//! Answers for people and for programs: tables and trees from the same JSON values. What is told is decided elsewhere.

use std::io::Write;

use serde_json::{Map, Value};

/// The widest a cell may be; longer text is cut.
const WIDEST: usize = 60;

/// The widest the last cell of a row may be, with which nothing has to line up.
const WIDEST_LAST: usize = 240;

/// Prints an answer: as JSON, or as people read it.
pub(crate) fn answer(value: &Value, json: bool) {
    if json {
        text(&serde_json::to_string_pretty(value).unwrap_or_default());
    } else {
        text(&readable(value));
    }
}

/// Prints text, ending the line. A reader that has gone away is no error of ours.
pub(crate) fn text(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out
        .write_all(text.trim_end().as_bytes())
        .and_then(|()| out.write_all(b"\n"))
        .and_then(|()| out.flush());
}

/// Prints a piece of a document as it is.
pub(crate) fn piece(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Prints how far something has come, beside the answer that follows.
pub(crate) fn progress(message: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{message}");
}

/// Prints an error, with the application's name before it.
pub(crate) fn error(name: &str, message: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{name}: {}", message.trim_end());
}

fn readable(value: &Value) -> String {
    match value {
        Value::Array(rows) if rows.is_empty() => "none\n".to_owned(),
        Value::Array(rows) if rows.iter().all(Value::is_object) => table(rows),
        Value::Object(fields) => record(fields),
        Value::String(whole) => format!("{}\n", clean(whole)),
        other => format!("{}\n", cell(other, WIDEST)),
    }
}

/// Plain fields first, a line each; then tables, each under its name.
fn record(fields: &Map<String, Value>) -> String {
    let is_table = |value: &Value| value.as_array().is_some_and(|rows| rows.iter().all(Value::is_object));
    let says_nothing = |value: &Value| value.is_null() || value.as_str() == Some("");
    let plain = fields
        .iter()
        .filter(|(_, value)| !is_table(value) && !says_nothing(value));
    let width = plain.clone().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for (name, value) in plain {
        let shown = match value {
            Value::String(whole) if whole.trim_end().contains('\n') => {
                let line = |line: &str| format!("\n  {}", clean(line));
                whole.trim_end().lines().map(line).collect()
            }
            Value::String(whole) => clean(&whole_seconds(whole)),
            // Nothing has to line up behind it.
            other => cell(other, WIDEST_LAST),
        };
        text.push_str(&format!("{name:width$}  {shown}\n"));
    }
    for (name, value) in fields.iter().filter(|(_, value)| is_table(value)) {
        text.push_str(&format!("\n{name}\n{}", readable(value)));
    }
    text
}

fn table(rows: &[Value]) -> String {
    let mut columns: Vec<&str> = Vec::new();
    for row in rows.iter().filter_map(Value::as_object) {
        for name in row.keys() {
            if !columns.contains(&name.as_str()) {
                columns.push(name);
            }
        }
    }
    // A column that says nothing in any row only takes room.
    columns.retain(|name| {
        rows.iter()
            .any(|row| row.get(*name).is_some_and(|value| !cell(value, WIDEST).is_empty()))
    });
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            columns
                .iter()
                .enumerate()
                .map(|(index, name)| {
                    let widest = if index + 1 == columns.len() {
                        WIDEST_LAST
                    } else {
                        WIDEST
                    };
                    row.get(*name).map(|value| cell(value, widest)).unwrap_or_default()
                })
                .collect()
        })
        .collect();
    let widths: Vec<usize> = columns
        .iter()
        .enumerate()
        .map(|(index, name)| {
            let widest = cells.iter().map(|row| row[index].chars().count()).max().unwrap_or(0);
            widest.max(name.chars().count())
        })
        .collect();
    let line = |row: Vec<&str>| {
        let padded = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect::<Vec<_>>();
        format!("{}\n", padded.join("  ").trim_end())
    };
    let mut text = line(columns.clone());
    for row in &cells {
        text.push_str(&line(row.iter().map(String::as_str).collect()));
    }
    text
}

/// One value on one line, cut to a width.
fn cell(value: &Value, widest: usize) -> String {
    let part = |value: &Value| cell(value, WIDEST);
    let text = match value {
        Value::Null => String::new(),
        Value::String(text) => whole_seconds(text),
        Value::Array(items) if items.iter().any(Value::is_object) => items.len().to_string(),
        Value::Array(items) => items.iter().map(part).collect::<Vec<_>>().join(", "),
        Value::Object(fields) => {
            let told: Vec<_> = fields.iter().filter(|(_, value)| !value.is_null()).collect();
            match told.as_slice() {
                // The only field there is needs no name: `{"state": "ok"}` is `ok`.
                [(_, only)] if fields.len() == 1 => cell(only, widest),
                told => told
                    .iter()
                    .map(|(name, value)| format!("{name} {}", part(value)))
                    .collect::<Vec<_>>()
                    .join(", "),
            }
        }
        Value::Number(number) if number.is_f64() => {
            let thousandths = format!("{:.3}", number.as_f64().unwrap_or_default());
            thousandths.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        other => other.to_string(),
    };
    let clean = clean(&text);
    match clean.char_indices().nth(widest) {
        Some((end, _)) => format!("{}…", &clean[..end]),
        None => clean,
    }
}

/// Text without control characters: they would let a mail's subject move the reader's cursor.
fn clean(text: &str) -> String {
    let shown = |char: char| if char.is_control() { ' ' } else { char };
    text.chars().map(shown).collect()
}

/// A time without the fraction of its second; other text as it is.
fn whole_seconds(text: &str) -> String {
    let fraction = text.strip_suffix('Z').and_then(|time| time.split_once('.'));
    let is_time = |whole: &str, fraction: &str| {
        whole.len() == 19 && whole.as_bytes()[10] == b'T' && fraction.bytes().all(|byte| byte.is_ascii_digit())
    };
    match fraction {
        Some((whole, fraction)) if is_time(whole, fraction) => format!("{whole}Z"),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rows_become_a_table_and_empty_columns_are_left_out() {
        let rows = json!([{ "id": 1, "note": null, "status": "accepted" }, { "id": 20, "note": null, "status": "x\u{1b}[2J" }]);
        assert_eq!(readable(&rows), "id  status\n1   accepted\n20  x [2J\n");
    }

    #[test]
    fn a_record_shows_its_tables_last_and_drives_no_terminal() {
        let record = json!({ "reason": "no\u{1b}[2J", "parts": [{ "name": "a" }], "pid": 7 });
        assert_eq!(readable(&record), "reason  no [2J\npid     7\n\nparts\nname\na\n");
    }

    #[test]
    fn cells_say_no_more_than_they_have_to() {
        let row = json!([{ "health": { "state": "ok" }, "at": "2026-11-22T01:33:43.776343772Z", "slots": [{}, {}] }]);
        assert_eq!(
            readable(&row),
            "health  at                    slots\nok      2026-11-22T01:33:43Z  2\n"
        );
        assert_eq!(readable(&json!({ "next": null, "letters": [] })), "\nletters\nnone\n");
    }

    #[test]
    fn text_of_several_lines_stands_below_its_name_and_the_last_column_has_room() {
        let record = json!({ "payload": "Subject: tea\r\n\u{7}2 pounds\n", "history": [{ "how": "failed", "why": "x".repeat(100) }] });
        let why = "x".repeat(100);
        let shown = format!("payload  \n  Subject: tea\n   2 pounds\n\nhistory\nhow     why\nfailed  {why}\n");
        assert_eq!(readable(&record), shown);
    }

    #[test]
    fn one_field_of_several_keeps_its_name() {
        let row = json!([{ "rules": { "concurrency": 4, "rate": null } }]);
        assert_eq!(readable(&row), "rules\nconcurrency 4\n");
    }

    #[test]
    fn numbers_have_no_more_digits_than_they_need() {
        let row = json!([{ "none": 0.0, "tenth": 13.1, "ten": 10.0, "little": 0.0004, "third": 1.0 / 3.0 }]);
        assert_eq!(
            readable(&row),
            "none  tenth  ten  little  third\n0     13.1   10   0       0.333\n"
        );
    }

    #[test]
    fn nothing_is_said_in_a_word() {
        assert_eq!(readable(&json!([])), "none\n");
    }
}
