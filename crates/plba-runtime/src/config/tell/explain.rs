//! Explains one key: what it is for, and its value in every layer.

use std::fmt;

use plba_contracts::config::Origin;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::show::inline;
use crate::config::read::toml_file;
use crate::config::read::tree::dotted;
use crate::config::snapshot::Configuration;

/// What there is to know about a key. Secrets are masked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// The dotted key.
    pub key: String,
    /// What it is for, from the documentation of the section's field.
    pub description: Option<String>,
    /// Its type in words, such as `whole number`.
    pub type_name: String,
    /// The effective value.
    pub value: Value,
    /// Where the effective value came from.
    pub origin: Origin,
    /// The built-in default; `null` if there is none.
    pub default: Value,
    /// Whether a change takes effect at the next start only.
    pub needs_restart: bool,
    /// The value in every layer that sets it, the winning one first.
    pub layers: Vec<LayerValue>,
}

/// A key's value in one layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerValue {
    /// Where it stands.
    pub origin: Origin,
    /// The value.
    pub value: Value,
    /// Whether it is the effective one. Tables are merged, so each layer contributes.
    pub wins: bool,
}

/// There is nothing to explain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExplainError {
    /// The key can't be read.
    #[error("`{key}` is no key; write it with dots, such as platform.control.listen")]
    Malformed {
        /// What was given.
        key: String,
    },
    /// There is no such key.
    #[error("there is no key `{key}`; {hint}")]
    Unknown {
        /// The key.
        key: String,
        /// What was meant, or what there is.
        hint: String,
    },
}

pub(crate) fn explain(configuration: &Configuration, key: &str) -> Result<Explanation, ExplainError> {
    let path = toml_file::parse_key(key).ok_or_else(|| ExplainError::Malformed { key: key.to_owned() })?;
    let view = configuration.view().at(&path);
    let effective = configuration.effective.at(&path);
    if !view.is_known() && effective.is_none() {
        return Err(unknown(configuration, &path));
    }
    let default = configuration.defaults.at(&path);
    let set = configuration.layers.iter().rev().filter_map(|layer| layer.at(&path));
    let layers = set.chain(default).enumerate().map(|(index, node)| LayerValue {
        origin: configuration.sources.origin(node.place),
        value: node.shown(),
        wins: index == 0 || node.entries().is_some(),
    });
    Ok(Explanation {
        key: dotted(&path),
        description: view.description().map(str::to_owned),
        type_name: view.type_name(),
        value: effective.map(|node| node.shown()).unwrap_or_default(),
        origin: effective.map_or(Origin::Default, |node| configuration.sources.origin(node.place)),
        default: default.map(|node| node.shown()).unwrap_or_default(),
        needs_restart: configuration.view().needs_restart(&path),
        layers: layers.collect(),
    })
}

fn unknown(configuration: &Configuration, path: &[String]) -> ExplainError {
    let mut view = configuration.view();
    let mut known = 0;
    for segment in path {
        let next = view.child(segment);
        if !next.is_known() {
            break;
        }
        view = next;
        known += 1;
    }
    ExplainError::Unknown {
        key: dotted(path),
        hint: crate::config::check::sections::suggestion(&path[known], &view.keys(), "keys"),
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said = |value: &Value| {
            if value.is_null() {
                "not set".to_owned()
            } else {
                inline(value)
            }
        };
        writeln!(out, "{} = {}", self.key, said(&self.value))?;
        for line in self.description.iter().flat_map(|description| description.lines()) {
            writeln!(out, "  {line}")?;
        }
        writeln!(out, "  type: {}", self.type_name)?;
        writeln!(out, "  default: {}", said(&self.default))?;
        if self.needs_restart {
            writeln!(out, "  a change takes effect at the next start")?;
        }
        writeln!(out, "  layers, the highest first:")?;
        for layer in &self.layers {
            let mark = if layer.wins { '*' } else { ' ' };
            writeln!(out, "  {mark} {}  # {}", said(&layer.value), layer.origin)?;
        }
        Ok(())
    }
}
