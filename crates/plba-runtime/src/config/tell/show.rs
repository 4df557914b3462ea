//! The effective configuration for people and programs, each value with its origin, secrets masked.

use std::fmt;

use plba_contracts::config::Origin;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::read::tree::{Content, Node, dotted};
use crate::config::snapshot::Configuration;

/// Where comments begin, at the most: longer values push theirs aside.
const MAXIMUM_COLUMN: usize = 60;

/// The effective configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shown {
    /// The number of the snapshot.
    pub generation: u64,
    /// All tables that hold values, in the order of their names.
    pub tables: Vec<ShownTable>,
}

/// One table with its values; tables within it stand on their own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShownTable {
    /// Its dotted name.
    pub table: String,
    /// Its values in the order of their keys.
    pub values: Vec<ShownValue>,
}

/// One value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShownValue {
    /// Its key within the table.
    pub key: String,
    /// The value; `null` is a key without a default that was not set. Secrets are masked.
    pub value: Value,
    /// Where it came from.
    pub origin: Origin,
}

impl Shown {
    pub(crate) fn of(configuration: &Configuration) -> Self {
        let mut shown = Self {
            generation: configuration.generation,
            tables: Vec::new(),
        };
        for (table, node) in configuration.effective.entries().into_iter().flatten() {
            shown.add(configuration, node, &mut vec![table.clone()]);
        }
        shown
    }

    fn add(&mut self, configuration: &Configuration, node: &Node, path: &mut Vec<String>) {
        let entries = || node.entries().into_iter().flatten();
        let is_table = |node: &Node| matches!(&node.content, Content::Table(entries) if !entries.is_empty());
        let values: Vec<_> = entries()
            .filter(|(_, entry)| !is_table(entry))
            .map(|(key, entry)| ShownValue {
                key: key.clone(),
                value: entry.shown(),
                origin: configuration.sources.origin(entry.place),
            })
            .collect();
        if !values.is_empty() || path.len() == 1 {
            self.tables.push(ShownTable {
                table: dotted(path),
                values,
            });
        }
        for (key, entry) in entries().filter(|(_, entry)| is_table(entry)) {
            path.push(key.clone());
            self.add(configuration, entry, path);
            path.pop();
        }
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "# generation {}", self.generation)?;
        for table in &self.tables {
            writeln!(out, "\n[{}]", table.table)?;
            let lines: Vec<String> = table.values.iter().map(line).collect();
            let widths = lines.iter().map(|line| line.chars().count());
            let column = widths.filter(|width| *width <= MAXIMUM_COLUMN).max().unwrap_or(0);
            for (line, value) in lines.iter().zip(&table.values) {
                let origin = if value.value.is_null() {
                    "not set".to_owned()
                } else {
                    value.origin.to_string()
                };
                writeln!(out, "{line:column$}  # {origin}")?;
            }
        }
        Ok(())
    }
}

fn line(value: &ShownValue) -> String {
    let key = dotted(std::slice::from_ref(&value.key));
    match &value.value {
        Value::Null => format!("# {key}"),
        other => format!("{key} = {}", inline(other)),
    }
}

/// A value in one line of TOML.
pub(crate) fn inline(value: &Value) -> String {
    match value {
        Value::Null => "\"\"".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => toml::Value::from(text.as_str()).to_string(),
        Value::Array(items) => format!("[{}]", items.iter().map(inline).collect::<Vec<_>>().join(", ")),
        Value::Object(entries) if entries.is_empty() => "{}".to_owned(),
        Value::Object(entries) => {
            let entry =
                |(key, value): (&String, &Value)| format!("{} = {}", dotted(std::slice::from_ref(key)), inline(value));
            let set = entries.iter().filter(|(_, value)| !value.is_null());
            format!("{{ {} }}", set.map(entry).collect::<Vec<_>>().join(", "))
        }
    }
}
