//! What changed from one configuration to another, key by key. Where the values came from doesn't count; whether a change
//! is allowed, and what becomes of it, is decided elsewhere.

use std::collections::BTreeSet;
use std::fmt;

use plba_contracts::config::Origin;
use plba_contracts::secret::MASK;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::read::tree::{Content, Node, dotted};
use crate::config::snapshot::Configuration;
use crate::config::tell::show::inline;

/// How many changed keys a diff names.
pub const MAXIMUM_CHANGES: usize = 500;

/// How many characters of a value a diff shows.
const MAXIMUM_SHOWN: usize = 500;

/// One key whose value is another one now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigChange {
    /// The dotted key, such as `mail_order_bot.workers`; elements of lists of tables go by their index.
    pub key: String,
    /// The value before; `null` if there was none. Secrets are masked, long values cut.
    pub before: Value,
    /// The value now; `null` if there is none any more. Secrets are masked, long values cut.
    pub after: Value,
    /// Where the value of now came from.
    pub origin: Origin,
    /// Whether a secret changed, so that what is shown may be the same before and after.
    pub secret: bool,
    /// Whether the value takes effect at the next start only.
    pub needs_restart: bool,
}

/// All that changed, in the order of keys.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigDiff {
    /// The changes, at most [`MAXIMUM_CHANGES`].
    pub changes: Vec<ConfigChange>,
    /// How many more there are.
    pub omitted: usize,
}

impl ConfigDiff {
    /// What is different in `after`. Tables are compared key by key and lists of tables element by element; other lists
    /// are one value each.
    pub fn between(before: &Configuration, after: &Configuration) -> Self {
        let mut walk = Walk {
            after,
            path: Vec::new(),
            diff: Self::default(),
        };
        walk.compare(Some(&before.effective), Some(&after.effective));
        walk.diff
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The keys whose values take effect at the next start only.
    pub fn needs_restart(&self) -> impl Iterator<Item = &str> {
        let waiting = self.changes.iter().filter(|change| change.needs_restart);
        waiting.map(|change| change.key.as_str())
    }
}

struct Walk<'a> {
    after: &'a Configuration,
    path: Vec<String>,
    diff: ConfigDiff,
}

impl Walk<'_> {
    fn compare(&mut self, before: Option<&Node>, after: Option<&Node>) {
        let (before, after) = (before.filter(is_set), after.filter(is_set));
        if let Some(keys) = common_keys(before, after) {
            for key in keys {
                let (before, after) = (
                    before.and_then(|node| node.child(&key)),
                    after.and_then(|node| node.child(&key)),
                );
                self.within(key, before, after);
            }
        } else if let (Some(before), Some(after)) = (tables(before), tables(after)) {
            self.compare_lists(before, after);
        } else if value(before) != value(after) {
            self.push(before, after);
        }
    }

    /// What is equal at the beginning and at the end has stayed, so that an element that comes in shifts no others.
    fn compare_lists(&mut self, before: &[Node], after: &[Node]) {
        let same = |(before, after): &(&Node, &Node)| before.value() == after.value();
        let head = before.iter().zip(after).take_while(same).count();
        let (before, after) = (&before[head..], &after[head..]);
        let tail = before.iter().rev().zip(after.iter().rev()).take_while(same).count();
        let (before, after) = (&before[..before.len() - tail], &after[..after.len() - tail]);
        for at in 0..before.len().max(after.len()) {
            self.within((head + at).to_string(), before.get(at), after.get(at));
        }
    }

    fn within(&mut self, segment: String, before: Option<&Node>, after: Option<&Node>) {
        self.path.push(segment);
        self.compare(before, after);
        self.path.pop();
    }

    fn push(&mut self, before: Option<&Node>, after: Option<&Node>) {
        if self.diff.changes.len() == MAXIMUM_CHANGES {
            self.diff.omitted += 1;
            return;
        }
        let nodes = || before.into_iter().chain(after);
        let whole = nodes().any(|node| node.secret);
        let shown = |node: Option<&Node>| match node {
            None => Value::Null,
            Some(_) if whole => MASK.into(),
            Some(node) => clipped(node.shown()),
        };
        let origin = after.map_or(Origin::Default, |node| self.after.sources.origin(node.place));
        self.diff.changes.push(ConfigChange {
            key: dotted(&self.path),
            before: shown(before),
            after: shown(after),
            origin,
            secret: whole || nodes().any(|node| node.shown() != node.value()),
            needs_restart: self.after.view().needs_restart(&self.path),
        });
    }
}

/// An option that is not set reads as null.
fn is_set(node: &&Node) -> bool {
    !matches!(node.content, Content::Scalar(Value::Null))
}

/// The keys of both, if both are tables or absent, and there is something in them.
fn common_keys(before: Option<&Node>, after: Option<&Node>) -> Option<BTreeSet<String>> {
    let mut keys = BTreeSet::new();
    for node in before.into_iter().chain(after) {
        keys.extend(node.entries().filter(|_| !node.secret)?.keys().cloned());
    }
    Some(keys).filter(|keys| !keys.is_empty())
}

/// The elements of a list of tables.
fn tables(node: Option<&Node>) -> Option<&[Node]> {
    match node {
        Some(Node {
            content: Content::List(items),
            secret: false,
            ..
        }) if items.iter().all(|item| item.entries().is_some()) => Some(items),
        _ => None,
    }
}

fn value(node: Option<&Node>) -> Value {
    node.map(Node::value).unwrap_or_default()
}

/// A value as it is, or the beginning of its text if that is long.
fn clipped(value: Value) -> Value {
    let text = match &value {
        Value::String(text) => text.clone(),
        Value::Array(_) | Value::Object(_) => inline(&value),
        _ => return value,
    };
    match text.char_indices().nth(MAXIMUM_SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]).into(),
        None => value,
    }
}

impl fmt::Display for ConfigChange {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said = |value: &Value| match value {
            Value::Null => "not set".to_owned(),
            value => inline(value),
        };
        write!(out, "{}: {} → {}", self.key, said(&self.before), said(&self.after))?;
        if self.secret && self.before == self.after {
            out.write_str(" (another secret)")?;
        }
        write!(out, "  # {}", self.origin)?;
        match self.needs_restart {
            true => out.write_str("; takes effect at the next start"),
            false => Ok(()),
        }
    }
}

impl fmt::Display for ConfigDiff {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.changes.iter().try_for_each(|change| writeln!(out, "{change}"))?;
        match self.omitted {
            0 => Ok(()),
            omitted => writeln!(out, "and {omitted} more"),
        }
    }
}
