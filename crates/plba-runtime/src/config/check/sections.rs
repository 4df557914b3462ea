//! Reads every section from the merged tree and turns what is wrong into faults with places and remedies.

use std::collections::BTreeMap;

use plba_contracts::secret::MASK;
use plba_contracts::section::{ErasedSection, Fault, FaultKind, SectionDefinition};
use serde_json::{Value, json};

use super::report::{ConfigFault, ConfigFaultKind, Located};
use super::schema::SchemaView;
use super::{advice, words};
use crate::config::read::sources::{Place, Sources};
use crate::config::read::tree::{Content, Node, dotted};

/// How long a key may be, in characters, to be compared with the known ones.
const MAXIMUM_COMPARED: usize = 64;

/// How many known keys a remedy lists.
const LISTED_KEYS: usize = 16;

/// What is checked, and against what.
pub(crate) struct Check<'a> {
    /// All layers merged, without the defaults.
    pub(crate) tree: &'a Node,
    pub(crate) definitions: &'a [SectionDefinition],
    pub(crate) view: SchemaView<'a>,
    pub(crate) sources: &'a Sources,
    /// Where a table is reported missing that stands nowhere.
    pub(crate) first_file: Option<Place>,
    /// Whether a source could not be read, so that nothing can be called missing.
    pub(crate) partial: bool,
}

/// The sections by their tables.
pub(crate) type Sections = BTreeMap<String, ErasedSection>;

impl Check<'_> {
    /// Reads all sections.
    pub(crate) fn run(&self) -> Result<Sections, Vec<ConfigFault>> {
        let mut sections = Sections::new();
        let mut faults = self.unknown_tables();
        for definition in self.definitions {
            let value = self
                .tree
                .child(&definition.table)
                .map_or_else(|| json!({}), Node::value);
            match definition.parse(value) {
                Ok(section) => {
                    sections.insert(definition.table.clone(), section);
                }
                Err(found) => faults.extend(
                    found
                        .into_iter()
                        .filter_map(|fault| self.locate(&definition.table, fault)),
                ),
            }
        }
        if faults.is_empty() {
            return Ok(sections);
        }
        faults.sort_by_key(|fault| fault.place);
        Err(faults.into_iter().map(|fault| fault.report(self.sources)).collect())
    }

    fn unknown_tables(&self) -> Vec<Located> {
        let known = |table: &str| self.definitions.iter().any(|definition| definition.table == table);
        let entries = self.tree.entries().into_iter().flatten();
        entries
            .filter(|(table, _)| !known(table))
            .map(|(table, node)| {
                let names: Vec<String> = self
                    .definitions
                    .iter()
                    .map(|definition| definition.table.clone())
                    .collect();
                let inside = names.iter().find(|name| self.view.child(name).child(table).is_known());
                let remedy = match inside {
                    Some(name) => format!("did you mean `{name}.{table}`?"),
                    None => suggestion(table, &names, "tables"),
                };
                let noun = if matches!(node.content, Content::Table(_)) {
                    "table"
                } else {
                    "key"
                };
                Located {
                    place: node.key.or(Some(node.place)),
                    key: table.clone(),
                    label: Some(format!("no such {noun}")),
                    remedy: Some(remedy),
                    ..Located::new(ConfigFaultKind::Unknown, format!("unknown {noun} `{table}`"))
                }
            })
            .collect()
    }

    fn locate(&self, table: &str, fault: Fault) -> Option<Located> {
        let path: Vec<String> = std::iter::once(table.to_owned()).chain(fault.path).collect();
        let node = self.tree.at(&path);
        Some(match fault.kind {
            FaultKind::Unknown { known } => {
                let last = path.last().cloned().unwrap_or_default();
                Located {
                    place: node.and_then(|node| node.key).or_else(|| self.nearest(&path)),
                    key: dotted(&path),
                    label: Some("no such key".to_owned()),
                    remedy: Some(suggestion(&last, &known, "keys")),
                    ..Located::new(ConfigFaultKind::Unknown, format!("unknown key `{last}`"))
                }
            }
            FaultKind::Invalid(message) => {
                let missing = message
                    .strip_prefix("missing field `")
                    .and_then(|rest| rest.split('`').next());
                if self.partial && (node.is_none() || missing.is_some()) {
                    return None;
                }
                let placed = node.filter(|_| missing.is_none());
                let view = self.view.at(&path);
                Located {
                    place: placed.map(|node| node.place).or_else(|| self.nearest(&path)),
                    key: dotted(&path),
                    label: missing.map(|_| "in this table".to_owned()),
                    note: self.note(&path).filter(|_| missing.is_none()),
                    remedy: match missing {
                        Some(field) => Some(advice::missing(field, &view.child(field))),
                        None => node.and_then(|node| advice::wrong(node, &view)),
                    },
                    ..Located::new(ConfigFaultKind::Invalid, words::plain(&self.without_secrets(message)))
                }
            }
        })
    }

    /// The place of the nearest table above what is missing: its header rather than its contents.
    fn nearest(&self, path: &[String]) -> Option<Place> {
        let lengths = (1..=path.len()).rev();
        let place = lengths
            .filter_map(|length| self.tree.at(&path[..length]))
            .map(|node| node.key.unwrap_or(node.place))
            .find(|place| *place != Place::DEFAULT);
        place.or(self.first_file)
    }

    /// What the key is for, from its documentation, and its default.
    fn note(&self, path: &[String]) -> Option<String> {
        let view = self.view.at(path);
        let description = view.description()?.split("\n\n").next()?.replace('\n', " ");
        let default = self.default(path).filter(|_| !view.is_secret());
        let default = default.filter(|value| !value.is_null() && !value.is_object());
        Some(match default {
            Some(value) => format!("{description} (default: {})", crate::config::tell::show::inline(&value)),
            None => description,
        })
    }

    fn default(&self, path: &[String]) -> Option<Value> {
        let (table, keys) = path.split_first()?;
        let definition = self.definitions.iter().find(|definition| definition.table == *table)?;
        let defaults = definition.defaults();
        keys.iter().try_fold(&defaults, |value, key| value.get(key)).cloned()
    }

    /// A message in which no secret of the tree is left: messages of types repeat the value they refuse.
    fn without_secrets(&self, message: String) -> String {
        let mut secrets = Vec::new();
        collect_secrets(self.tree, &mut secrets);
        secrets.sort_by_key(|secret: &String| std::cmp::Reverse(secret.len()));
        secrets.iter().fold(message, |message, secret| {
            let escaped = format!("{secret:?}");
            let message = message.replace(&escaped, MASK).replace(&format!("`{secret}`"), MASK);
            match secret.len() >= 4 {
                true => message.replace(secret.as_str(), MASK),
                false => message,
            }
        })
    }
}

fn collect_secrets(node: &Node, secrets: &mut Vec<String>) {
    match &node.content {
        Content::Scalar(Value::String(text)) if node.secret && !text.is_empty() => secrets.push(text.clone()),
        Content::Scalar(value) if node.secret && !value.is_null() && !value.is_string() => {
            secrets.push(value.to_string())
        }
        Content::Scalar(_) => {}
        Content::List(items) => items.iter().for_each(|item| collect_secrets(item, secrets)),
        Content::Table(entries) => entries.values().for_each(|entry| collect_secrets(entry, secrets)),
    }
}

/// The known name that is most like this one.
pub(super) fn nearest<'a>(name: &str, known: &'a [String]) -> Option<&'a String> {
    if name.chars().count() > MAXIMUM_COMPARED {
        return None;
    }
    let near = |candidate: &'a String| {
        let distance = strsim::damerau_levenshtein(&name.to_lowercase(), candidate);
        (distance <= 1 + name.chars().count() / 4).then_some((distance, candidate))
    };
    known.iter().filter_map(near).min().map(|(_, candidate)| candidate)
}

/// "did you mean", or else what there is.
pub(crate) fn suggestion(name: &str, known: &[String], noun: &str) -> String {
    if let Some(candidate) = nearest(name, known) {
        return format!("did you mean `{candidate}`?");
    }
    if known.is_empty() {
        return "leave it out".to_owned();
    }
    let listed: Vec<&str> = known.iter().map(String::as_str).take(LISTED_KEYS).collect();
    let more = if known.len() > LISTED_KEYS { ", …" } else { "" };
    format!("the {noun} known here are {}{more}", listed.join(", "))
}
