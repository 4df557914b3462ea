//! Rows made into values: each checked, and all against each other. Every fault names its row and what to do; what a value
//! is, which may be a secret, is in none.

use std::fmt;

use plba_contracts::config::ProvidedValue;
use serde_json::Value;

use super::{MAXIMUM_BYTES, MAXIMUM_KEY, MAXIMUM_ROWS, MAXIMUM_VALUE, SHOWN, key};

/// How many faults are told; there may be thousands.
const TOLD: usize = 10;

/// A row, as the database gave it: no more of it than is allowed.
pub(crate) struct Row {
    /// One byte more than is allowed, if it is longer.
    pub(crate) key: String,
    /// `None` where it is missing or too long.
    pub(crate) value: Option<String>,
    /// What it takes, whether it was read or not.
    pub(crate) bytes: u64,
    pub(crate) by: Option<String>,
    pub(crate) at: Option<String>,
    pub(crate) note: Option<String>,
}

/// What rows can't be configuration for.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", Joined(.0))]
pub(crate) struct LayerError(Vec<String>);

struct Joined<'a>(&'a [String]);

impl fmt::Display for Joined<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0[..self.0.len().min(TOLD)].join("; "))?;
        match self.0.len().saturating_sub(TOLD) {
            0 => Ok(()),
            more => write!(out, "; and {more} more"),
        }
    }
}

/// The values of these rows, outer ones before those within them.
///
/// # Errors
/// Every row that won't do.
pub(crate) fn layer(rows: Vec<Row>) -> Result<Vec<ProvidedValue>, LayerError> {
    if rows.len() > MAXIMUM_ROWS {
        return Err(LayerError(vec![format!(
            "there are more than {MAXIMUM_ROWS} rows; delete those that are no configuration"
        )]));
    }
    within_bytes(&rows)?;
    let (mut values, mut faults) = (Vec::new(), Vec::new());
    for row in rows {
        match row.value() {
            Ok(value) => values.push((row.key, value)),
            Err(fault) => faults.push(fault),
        }
    }
    values.sort_by(|(_, one), (_, other)| one.path.cmp(&other.path));
    compare(&values, &mut faults);
    if faults.is_empty() {
        Ok(values.into_iter().map(|(_, value)| value).collect())
    } else {
        Err(LayerError(faults))
    }
}

fn within_bytes(rows: &[Row]) -> Result<(), LayerError> {
    let mut bytes = 0;
    for row in rows {
        if row.is_long() {
            // It has a fault of its own.
            continue;
        }
        bytes += row.bytes + row.key.len() as u64;
        if bytes > MAXIMUM_BYTES as u64 {
            return Err(LayerError(vec![format!(
                "the rows up to {:?} take more than {} MiB together; keep large values in files, and their paths here",
                row.key,
                MAXIMUM_BYTES >> 20
            )]));
        }
    }
    Ok(())
}

impl Row {
    fn is_long(&self) -> bool {
        self.bytes > MAXIMUM_VALUE as u64
    }

    fn value(&self) -> Result<ProvidedValue, String> {
        let name = format!("row {:?}", self.key);
        if self.key.len() > MAXIMUM_KEY {
            let start: String = self.key.chars().take(60).collect();
            return Err(format!(
                "row {start:?}…: its key takes more than {MAXIMUM_KEY} bytes; choose a shorter one"
            ));
        }
        let path = key::parse(&self.key).map_err(|fault| {
            format!("{name}: its key {fault}; write it as in a file: table.key, or table.\"any key\" in quotes")
        })?;
        if self.is_long() {
            return Err(format!(
                "{name}: its value takes {} bytes, and {} MiB are allowed; keep it in a file, and its path here",
                self.bytes,
                MAXIMUM_VALUE >> 20
            ));
        }
        let Some(text) = &self.value else {
            return Err(format!("{name}: it has no value; give it one, or delete the row"));
        };
        let value = serde_json::from_str(text).map_err(|error| {
            format!("{name}: its value can't be read as JSON: {error}; a text needs double quotes: '\"text\"'")
        })?;
        let place = self.place();
        Ok(ProvidedValue { path, value, place })
    }

    /// Where it stands, for people: the row, and who wrote it when and what for.
    fn place(&self) -> String {
        let mut place = format!("row {:?}", self.key);
        for (word, text) in [(" by ", &self.by), (" at ", &self.at), (": ", &self.note)] {
            if let Some(text) = text.as_deref().filter(|text| !text.is_empty()) {
                place.push_str(word);
                // It goes into logs and on terminals.
                place.extend(text.chars().take(SHOWN).map(|character| match character {
                    character if character.is_control() => ' ',
                    character => character,
                }));
            }
        }
        place
    }
}

/// Looks for rows that say different things of one key. They are in the order of their paths.
fn compare(values: &[(String, ProvidedValue)], faults: &mut Vec<String>) {
    let mut around: Vec<&(String, ProvidedValue)> = Vec::new();
    for row in values {
        let (key, value) = row;
        while around
            .pop_if(|(_, outer)| !value.path.starts_with(&outer.path))
            .is_some()
        {}
        if let Some((other, outer)) = around.last() {
            if outer.path == value.path {
                faults.push(format!(
                    "rows {other:?} and {key:?} are the same key; delete one of them"
                ));
            } else if !makes_room(&outer.value, &value.path[outer.path.len()..]) {
                faults.push(format!(
                    "row {key:?} lies within row {other:?}, which has no table there; delete one of them"
                ));
            }
        }
        around.push(row);
    }
}

/// Whether a value of this path can lie within another value.
fn makes_room(outer: &Value, path: &[String]) -> bool {
    match (outer, path) {
        (_, []) => true,
        (Value::Object(entries), [first, rest @ ..]) => entries.get(first).is_none_or(|inner| makes_room(inner, rest)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(key: &str, value: &str) -> Row {
        Row {
            key: key.to_owned(),
            value: Some(value.to_owned()),
            bytes: value.len() as u64,
            by: None,
            at: None,
            note: None,
        }
    }

    #[test]
    fn a_row_is_a_value_with_its_place() {
        let told = Row {
            by: Some("alice".to_owned()),
            at: Some("2026-11-22T10:00:00Z".to_owned()),
            note: Some("the sale\n\u{1b}[31mred".to_owned()),
            ..row("bot.workers", "8")
        };
        let values = layer(vec![told, row("bot", r#"{"name": "x", "workers": 1}"#)]).unwrap();
        assert_eq!(
            (&values[0].path[..], &values[0].place[..]),
            (&["bot".to_owned()][..], "row \"bot\"")
        );
        assert_eq!((values[1].path.len(), &values[1].value), (2, &8.into()));
        assert_eq!(
            values[1].place,
            "row \"bot.workers\" by alice at 2026-11-22T10:00:00Z: the sale  [31mred"
        );
    }

    #[test]
    fn what_will_not_do_is_named_with_its_row_and_without_its_value() {
        let long = "k".repeat(MAXIMUM_KEY + 1);
        let large = Row {
            value: None,
            bytes: 2 << 20,
            ..row("large", "")
        };
        let missing = Row {
            value: None,
            bytes: 0,
            ..row("missing", "")
        };
        let deep = "[".repeat(1_000) + &"]".repeat(1_000);
        for (rows, says) in [
            (
                vec![row("a..b", "1")],
                "row \"a..b\": its key has an empty part; write it as in a file",
            ),
            (vec![row(&long, "1")], "takes more than 500 bytes"),
            (vec![row("a", "hunter2")], "row \"a\": its value can't be read as JSON"),
            (
                vec![row("a", &deep)],
                "row \"a\": its value can't be read as JSON: recursion limit",
            ),
            (vec![row("a", "1e999")], "number out of range"),
            (
                vec![large],
                "row \"large\": its value takes 2097152 bytes, and 1 MiB are allowed",
            ),
            (vec![missing], "row \"missing\": it has no value"),
            (vec![row("a.b", "1"), row("a.\"b\"", "1")], "are the same key"),
            (
                vec![row("a", "1"), row("a.b", "1")],
                "row \"a.b\" lies within row \"a\"",
            ),
            (
                vec![row("a", r#"{"b": 1}"#), row("a-x", "1"), row("a.b.c", "1")],
                "row \"a.b.c\" lies within row \"a\"",
            ),
            (vec![row("a", "[1]"), row("a.0", "1")], "which has no table there"),
        ] {
            let refused = layer(rows).unwrap_err().to_string();
            assert!(refused.contains(says), "{refused}");
            assert!(!refused.contains("hunter2"), "{refused}");
        }
    }

    #[test]
    fn there_is_an_end_to_rows_to_bytes_and_to_faults() {
        let many = |count: usize| {
            (0..count)
                .map(|number| row(&format!("k{number}"), "1"))
                .collect::<Vec<_>>()
        };
        assert_eq!(layer(many(MAXIMUM_ROWS)).unwrap().len(), MAXIMUM_ROWS);
        let refused = layer(many(MAXIMUM_ROWS + 1)).unwrap_err().to_string();
        assert!(refused.contains("more than 10000 rows; delete"), "{refused}");
        let large = format!("\"{}\"", "x".repeat(MAXIMUM_VALUE - 2));
        assert!(layer((0..3).map(|number| row(&format!("k{number}"), &large)).collect()).is_ok());
        let refused = layer((0..5).map(|number| row(&format!("k{number}"), &large)).collect());
        let refused = refused.unwrap_err().to_string();
        assert!(
            refused.contains("the rows up to \"k3\" take more than 4 MiB"),
            "{refused}"
        );
        let wrong = (0..100).map(|number| row(&format!("k{number}"), "?")).collect();
        let refused = layer(wrong).unwrap_err().to_string();
        assert!(refused.ends_with("; and 90 more"), "{refused}");
    }

    #[test]
    fn a_row_within_a_table_needs_room_there() {
        let fits = |outer: &str, key: &str| layer(vec![row("a", outer), row(key, "1")]).is_ok();
        assert!(fits("{}", "a.b.c"));
        assert!(fits(r#"{"b": {"d": 1}}"#, "a.b.c"));
        assert!(fits(r#"{"b": 7}"#, "a.b"));
        assert!(!fits(r#"{"b": 7}"#, "a.b.c"));
        assert!(!fits("null", "a.b"));
    }
}
