//! A tree of values in which every node knows its place, and how one layer is laid over another. What a key means is
//! the schema's business.

use std::collections::BTreeMap;

use plba_contracts::secret::MASK;
use serde_json::Value;

use super::sources::Place;

/// A value with its place.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// What it holds.
    pub(crate) content: Content,
    /// Where the value stands.
    pub(crate) place: Place,
    /// Where its key stands; lists' elements and roots have none.
    pub(crate) key: Option<Place>,
    /// Whether the value must not be shown.
    pub(crate) secret: bool,
}

/// What a node holds.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// A single value: null, a boolean, a number or text.
    Scalar(Value),
    /// A list.
    List(Vec<Node>),
    /// A table.
    Table(BTreeMap<String, Node>),
}

impl Node {
    /// A node at a place.
    pub(crate) fn new(content: Content, place: Place) -> Self {
        Self {
            content,
            place,
            key: None,
            secret: false,
        }
    }

    /// An empty table.
    pub(crate) fn table(place: Place) -> Self {
        Self::new(Content::Table(BTreeMap::new()), place)
    }

    /// A value all of whose parts stand at one place.
    pub(crate) fn from_value(value: Value, place: Place) -> Self {
        let content = match value {
            Value::Array(items) => Content::List(items.into_iter().map(|item| Self::from_value(item, place)).collect()),
            Value::Object(entries) => {
                let entry = |(key, value)| (key, Self::from_value(value, place).keyed(place));
                Content::Table(entries.into_iter().map(entry).collect())
            }
            scalar => Content::Scalar(scalar),
        };
        Self::new(content, place)
    }

    /// The same node with the place of its key.
    pub(crate) fn keyed(mut self, key: Place) -> Self {
        self.key = Some(key);
        self
    }

    /// Wraps a node in a table for each segment of `path`, outermost first.
    pub(crate) fn at_path(self, path: &[String], key: Place) -> Self {
        path.iter().rev().fold(self, |node, segment| {
            let entries = BTreeMap::from([(segment.clone(), node.keyed(key))]);
            Self::new(Content::Table(entries), key)
        })
    }

    /// The entries of a table.
    pub(crate) fn entries(&self) -> Option<&BTreeMap<String, Node>> {
        match &self.content {
            Content::Table(entries) => Some(entries),
            _ => None,
        }
    }

    /// How many values there are in it, itself among them.
    pub(crate) fn count(&self) -> usize {
        match &self.content {
            Content::Scalar(_) => 1,
            Content::List(items) => 1 + items.iter().map(Self::count).sum::<usize>(),
            Content::Table(entries) => 1 + entries.values().map(Self::count).sum::<usize>(),
        }
    }

    /// The entry or element by that name or index.
    pub(crate) fn child(&self, segment: &str) -> Option<&Node> {
        match &self.content {
            Content::Table(entries) => entries.get(segment),
            Content::List(items) => items.get(segment.parse::<usize>().ok()?),
            Content::Scalar(_) => None,
        }
    }

    /// The node at a path.
    pub(crate) fn at(&self, path: &[String]) -> Option<&Node> {
        path.iter().try_fold(self, |node, segment| node.child(segment))
    }

    /// Takes out the node at a path.
    pub(crate) fn remove(&mut self, path: &[String]) -> Option<Node> {
        let (last, above) = path.split_last()?;
        let mut node = self;
        for segment in above {
            let Content::Table(entries) = &mut node.content else {
                return None;
            };
            node = entries.get_mut(segment)?;
        }
        match &mut node.content {
            Content::Table(entries) => entries.remove(last),
            _ => None,
        }
    }

    /// Lays `upper` over this node: tables are merged key by key, everything else is replaced.
    pub(crate) fn overlay(&mut self, upper: &Node) {
        match (&mut self.content, &upper.content) {
            (Content::Table(lower), Content::Table(entries)) => {
                for (key, entry) in entries {
                    match lower.get_mut(key) {
                        Some(below) => below.overlay(entry),
                        None => {
                            lower.insert(key.clone(), entry.clone());
                        }
                    }
                }
                // A table is where it was first written; defaults are nowhere.
                if self.place == Place::DEFAULT {
                    self.place = upper.place;
                    self.key = upper.key;
                }
                self.secret |= upper.secret;
            }
            _ => *self = upper.clone(),
        }
    }

    /// The value, with secrets as they are.
    pub(crate) fn value(&self) -> Value {
        self.render(false)
    }

    /// The value, with secrets masked.
    pub(crate) fn shown(&self) -> Value {
        self.render(true)
    }

    fn render(&self, masked: bool) -> Value {
        match &self.content {
            Content::Scalar(Value::Null) => Value::Null,
            _ if masked && self.secret => Value::from(MASK),
            Content::Scalar(Value::String(text)) if masked => super::mask::without_credentials(text).into(),
            Content::Scalar(value) => value.clone(),
            Content::List(items) => items.iter().map(|item| item.render(masked)).collect(),
            Content::Table(entries) => {
                let entry = |(key, node): (&String, &Node)| (key.clone(), node.render(masked));
                Value::Object(entries.iter().map(entry).collect())
            }
        }
    }
}

/// A path as people write it: `mail_order_bot.replies.from`, with quotes where a key needs them.
pub(crate) fn dotted(path: &[String]) -> String {
    let bare = |segment: &str| {
        !segment.is_empty()
            && segment
                .chars()
                .all(|character| character.is_alphanumeric() || "_-".contains(character))
    };
    let quoted = |segment: &String| match bare(segment) {
        true => segment.clone(),
        false => format!("{segment:?}"),
    };
    path.iter().map(quoted).collect::<Vec<_>>().join(".")
}
