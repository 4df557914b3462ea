//! Reads every section from the merged tree and turns what is wrong into faults with places and remedies.

use std::collections::BTreeMap;

use plba_contracts::secret::MASK;
use plba_contracts::section::{ErasedSection, Fault, FaultKind, SectionDefinition};
use serde_json::{Value, json};

use super::report::{ConfigFault, ConfigFaultKind, Located};
use super::schema::SchemaView;
use super::words;
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
                    kind: ConfigFaultKind::Unknown,
                    key: table.clone(),
                    message: format!("unknown {noun} `{table}`"),
                    remedy: Some(remedy),
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
                    kind: ConfigFaultKind::Unknown,
                    message: format!("unknown key `{last}`"),
                    remedy: Some(suggestion(&last, &known, "keys")),
                    key: dotted(&path),
                }
            }
            FaultKind::Invalid(message) => {
                let missing = message.starts_with("missing field");
                if self.partial && (node.is_none() || missing) {
                    return None;
                }
                let place = match node {
                    Some(node) if !missing => Some(node.place),
                    _ => self.nearest(&path),
                };
                Located {
                    place,
                    kind: ConfigFaultKind::Invalid,
                    message: words::plain(&self.without_secrets(message)),
                    remedy: self.remedy(&path, missing),
                    key: dotted(&path),
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

    /// What the key is for, from its documentation.
    fn remedy(&self, path: &[String], missing: bool) -> Option<String> {
        let view = self.view.at(path);
        if missing {
            return Some("add it".to_owned());
        }
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

/// "did you mean", or else what there is.
pub(crate) fn suggestion(name: &str, known: &[String], noun: &str) -> String {
    let comparable = name.chars().count() <= MAXIMUM_COMPARED;
    let near = |candidate: &&String| {
        if !comparable {
            return None;
        }
        let distance = strsim::damerau_levenshtein(&name.to_lowercase(), candidate);
        (distance <= 1 + name.chars().count() / 4).then_some(distance)
    };
    let nearest = known
        .iter()
        .filter_map(|candidate| near(&candidate).map(|distance| (distance, candidate)))
        .min();
    if let Some((_, candidate)) = nearest {
        return format!("did you mean `{candidate}`?");
    }
    if known.is_empty() {
        return "leave it out".to_owned();
    }
    let listed: Vec<&str> = known.iter().map(String::as_str).take(LISTED_KEYS).collect();
    let more = if known.len() > LISTED_KEYS { ", …" } else { "" };
    format!("the {noun} known here are {}{more}", listed.join(", "))
}
