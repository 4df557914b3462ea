//! Typed sections of the configuration: what a module's table looks like, and how one is read with *all* its faults at
//! once. Layers, files and origins live in the runtime's configuration manager, which maps each fault's path to a place.

use std::any::Any;
use std::collections::BTreeSet;
use std::sync::Arc;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// How many faults of one section are reported; a section with more is beyond mending line by line.
pub const MAXIMUM_FAULTS: usize = 100;

/// The word by which a field's schema says that a changed value takes effect at the next start only; it stands in diffs and
/// warnings. Modules need it nowhere: a module whose table changes is assembled anew.
///
/// ```
/// #[derive(schemars::JsonSchema)]
/// struct Paths {
///     #[schemars(extend("x-needs-restart" = true))]
///     data: String,
/// }
/// # let schema = schemars::schema_for!(Paths);
/// # assert_eq!(schema.as_value()["properties"]["data"][plba_contracts::section::NEEDS_RESTART], true);
/// ```
pub const NEEDS_RESTART: &str = "x-needs-restart";

/// A table of the configuration as a type.
///
/// `Default` gives the built-in defaults, so a missing key is never a surprise: write `#[serde(default)]` on the type.
/// Unknown keys are found without `deny_unknown_fields`. The documentation comments of fields become the schema's
/// descriptions, which `config schema` and `config default` print.
///
/// ```
/// use plba_contracts::section::{ConfigSection, Faults};
/// use schemars::JsonSchema;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
/// #[serde(default)]
/// struct Pulse {
///     /// Beats a minute, 1 to 300.
///     rate: u32,
/// }
///
/// impl Default for Pulse {
///     fn default() -> Self {
///         Self { rate: 60 }
///     }
/// }
///
/// impl ConfigSection for Pulse {
///     fn validate(&self, faults: &mut Faults) {
///         faults.require((1..=300).contains(&self.rate), "rate", "a rate lies between 1 and 300");
///     }
/// }
/// ```
pub trait ConfigSection: DeserializeOwned + Serialize + JsonSchema + Default + Send + Sync + 'static {
    /// Checks what types can't: ranges and relations between values. Called on every load, before anything uses the
    /// section; reports every fault it finds and does no input or output.
    fn validate(&self, faults: &mut Faults) {
        let _ = faults;
    }
}

/// One fault of a section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The path from the section's table to the value, such as `["replies", "from"]`; array indices are decimal.
    pub path: Vec<String>,
    /// What is wrong.
    pub kind: FaultKind,
}

/// What is wrong with a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// No such key; the known ones beside it are listed.
    Unknown {
        /// The keys that are known there.
        known: Vec<String>,
    },
    /// The value can't be used; the sentence says why and what would do.
    Invalid(String),
}

/// Collects the faults that a section's own validation finds.
#[derive(Debug, Default)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// Reports a fault at a dotted path within the section, such as `replies.from`; an empty path is the table itself.
    pub fn report(&mut self, path: &str, message: impl Into<String>) {
        let path = path
            .split('.')
            .filter(|segment| !segment.is_empty())
            .map(str::to_owned)
            .collect();
        self.0.push(Fault {
            path,
            kind: FaultKind::Invalid(message.into()),
        });
    }

    /// Reports a fault unless `holds`.
    pub fn require(&mut self, holds: bool, path: &str, message: impl Into<String>) {
        if !holds {
            self.report(path, message);
        }
    }

    /// What was reported, in order.
    pub fn into_vec(self) -> Vec<Fault> {
        self.0
    }
}

/// A section's value, erased: an `Arc<T>` of the declared type.
pub type ErasedSection = Arc<dyn Any + Send + Sync>;

/// A declared section, with its type erased so that the manager can hold many.
#[derive(Clone)]
pub struct SectionDefinition {
    /// The table, such as `mail_order_bot` or, for the platform's own, `platform`.
    pub table: String,
    /// The name of its type, for messages.
    pub type_name: &'static str,
    schema: fn() -> Schema,
    defaults: fn() -> Value,
    parse: fn(Value) -> Result<ErasedSection, Vec<Fault>>,
}

impl SectionDefinition {
    /// The definition of a table as the type `T`.
    pub fn new<T: ConfigSection>(table: impl Into<String>) -> Self {
        Self {
            table: table.into(),
            type_name: std::any::type_name::<T>(),
            schema: schema_of::<T>,
            defaults: defaults_of::<T>,
            parse: |value| parse::<T>(value).map(|section| Arc::new(section) as ErasedSection),
        }
    }

    /// The table's JSON schema, with every part written in its place.
    pub fn schema(&self) -> Schema {
        (self.schema)()
    }

    /// The built-in defaults as a JSON object; secrets are masked.
    pub fn defaults(&self) -> Value {
        (self.defaults)()
    }

    /// Reads and validates the table. `value` is what was configured, without the defaults.
    ///
    /// # Errors
    /// All faults at once: unknown keys, values of the wrong type, and what the section's own validation finds.
    pub fn parse(&self, value: Value) -> Result<ErasedSection, Vec<Fault>> {
        (self.parse)(value)
    }
}

/// Reads a section of type `T`: [`SectionDefinition::parse`] with the type in hand.
///
/// # Errors
/// All faults at once, at most [`MAXIMUM_FAULTS`].
pub fn parse<T: ConfigSection>(value: Value) -> Result<T, Vec<Fault>> {
    let schema = schema_of::<T>();
    let mut mending = Mending {
        value,
        removed: Vec::new(),
    };
    let mut faults = Vec::new();
    let mut section = None;
    while faults.len() < MAXIMUM_FAULTS {
        let mut unknown = BTreeSet::new();
        match deserialize::<T>(mending.value.clone(), &mut unknown) {
            Ok(read) => {
                let unknown = unknown
                    .into_iter()
                    .map(|path| unknown_key(mending.original(&path), schema.as_value()));
                faults.extend(unknown);
                section = Some(read);
                break;
            }
            // Take away what is wrong and read again, so that the next fault shows as well.
            Err((path, message)) => {
                let original = mending.original(&path);
                if !mending.caused(&original, &message) {
                    faults.push(Fault {
                        path: original,
                        kind: FaultKind::Invalid(message),
                    });
                }
                if !mending.remove(&path) {
                    break;
                }
            }
        }
    }
    if let Some(section) = &section {
        let mut own = Faults::default();
        section.validate(&mut own);
        // What the type already refused stands at its default here, and would only be reported a second time.
        let own = own
            .into_vec()
            .into_iter()
            .filter(|fault| faults.iter().all(|known: &Fault| known.path != fault.path));
        faults.extend(own.collect::<Vec<_>>());
    }
    match section {
        Some(section) if faults.is_empty() => Ok(section),
        _ => Err(faults),
    }
}

/// A value from which what is wrong has been taken away, piece by piece.
struct Mending {
    value: Value,
    /// The original paths of what was taken away.
    removed: Vec<Vec<String>>,
}

impl Mending {
    /// Takes the value at `path` away; says whether there was one.
    fn remove(&mut self, path: &[String]) -> bool {
        let Some((last, parents)) = path.split_last() else {
            return false;
        };
        let original = self.original(path);
        let place = parents.iter().try_fold(&mut self.value, |place, segment| match place {
            Value::Object(table) => table.get_mut(segment),
            Value::Array(items) => segment.parse::<usize>().ok().and_then(|index| items.get_mut(index)),
            _ => None,
        });
        let removed = match place {
            Some(Value::Object(table)) => table.remove(last).is_some(),
            Some(Value::Array(items)) => match last.parse::<usize>() {
                Ok(index) if index < items.len() => {
                    items.remove(index);
                    true
                }
                _ => false,
            },
            _ => false,
        };
        self.removed.push(original);
        removed
    }

    /// The path in the value as it was configured: indices count the list's removed elements in again.
    fn original(&self, path: &[String]) -> Vec<String> {
        let mut original: Vec<String> = Vec::with_capacity(path.len());
        for segment in path {
            let restored = segment
                .parse::<usize>()
                .ok()
                .map(|index| self.original_index(&original, index).to_string());
            original.push(restored.unwrap_or_else(|| segment.clone()));
        }
        original
    }

    fn original_index(&self, list: &[String], index: usize) -> usize {
        let inside = |path: &&Vec<String>| path.len() == list.len() + 1 && path.starts_with(list);
        let mut gaps: Vec<usize> = self
            .removed
            .iter()
            .filter(inside)
            .filter_map(|path| path.last()?.parse().ok())
            .collect();
        gaps.sort_unstable();
        gaps.into_iter()
            .fold(index, |index, gap| if gap <= index { index + 1 } else { index })
    }

    /// Whether a fault only says that something is missing which was taken away here.
    fn caused(&self, parent: &[String], message: &str) -> bool {
        let field = message
            .strip_prefix("missing field `")
            .and_then(|rest| rest.split('`').next());
        field.is_some_and(|field| {
            self.removed.iter().any(|path| {
                path.split_last()
                    .is_some_and(|(last, parents)| last == field && parents == parent)
            })
        })
    }
}

/// Reads a value; an error comes with its path in this value.
fn deserialize<T: DeserializeOwned>(
    value: Value,
    unknown: &mut BTreeSet<Vec<String>>,
) -> Result<T, (Vec<String>, String)> {
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(value, &mut track);
    let read = serde_ignored::deserialize(tracked, |path| {
        unknown.insert(segments(&path));
    });
    read.map_err(|error: serde_json::Error| (track.path().iter().filter_map(segment).collect(), error.to_string()))
}

fn segment(segment: &serde_path_to_error::Segment) -> Option<String> {
    match segment {
        serde_path_to_error::Segment::Seq { index } => Some(index.to_string()),
        serde_path_to_error::Segment::Map { key } => Some(key.clone()),
        serde_path_to_error::Segment::Enum { .. } | serde_path_to_error::Segment::Unknown => None,
    }
}

fn segments(path: &serde_ignored::Path<'_>) -> Vec<String> {
    use serde_ignored::Path;
    match path {
        Path::Root => Vec::new(),
        Path::Seq { parent, index } => [segments(parent), vec![index.to_string()]].concat(),
        Path::Map { parent, key } => [segments(parent), vec![key.clone()]].concat(),
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => segments(parent),
    }
}

fn unknown_key(path: Vec<String>, schema: &Value) -> Fault {
    let parents = &path[..path.len().saturating_sub(1)];
    let mut place = Some(schema);
    for segment in parents {
        place = place.and_then(|schema| child(schema, segment));
    }
    let known = place.map(properties).unwrap_or_default();
    Fault {
        path,
        kind: FaultKind::Unknown { known },
    }
}

/// The schemas that may describe a value: the schema itself and the branches of its choices.
fn branches(schema: &Value) -> impl Iterator<Item = &Value> {
    let choices = ["anyOf", "oneOf", "allOf"]
        .into_iter()
        .filter_map(|word| schema.get(word)?.as_array())
        .flatten();
    std::iter::once(schema).chain(choices)
}

fn child<'a>(schema: &'a Value, segment: &str) -> Option<&'a Value> {
    branches(schema).find_map(|schema| {
        let property = schema.get("properties").and_then(|properties| properties.get(segment));
        let entry = schema.get("additionalProperties").filter(|entry| entry.is_object());
        let item = schema.get("items").filter(|_| segment.parse::<usize>().is_ok());
        property.or(item).or(entry)
    })
}

fn properties(schema: &Value) -> Vec<String> {
    let tables = branches(schema).filter_map(|schema| schema.get("properties")?.as_object());
    tables.flat_map(|table| table.keys().cloned()).collect()
}

fn schema_of<T: ConfigSection>() -> Schema {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<T>()
}

fn defaults_of<T: ConfigSection>() -> Value {
    // A section that can't be written as JSON has no defaults to show; reading it still works.
    serde_json::to_value(T::default()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    #[serde(default)]
    struct Bot {
        workers: u32,
        source: String,
        replies: Replies,
        rules: Vec<Rule>,
    }

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
    #[serde(default)]
    struct Replies {
        from: String,
        copies: u8,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    struct Rule {
        sender: String,
        priority: u8,
    }

    impl Default for Bot {
        fn default() -> Self {
            Self {
                workers: 4,
                source: "maildir:var/inbox".into(),
                replies: Replies::default(),
                rules: Vec::new(),
            }
        }
    }

    impl ConfigSection for Bot {
        fn validate(&self, faults: &mut Faults) {
            faults.require(self.workers > 0, "workers", "at least one worker is needed");
        }
    }

    fn faults(value: Value) -> Vec<(String, String)> {
        let faults = parse::<Bot>(value).unwrap_err();
        let text = |fault: Fault| match fault.kind {
            FaultKind::Unknown { known } => (fault.path.join("."), format!("known: {}", known.join(" "))),
            FaultKind::Invalid(message) => (fault.path.join("."), message),
        };
        faults.into_iter().map(text).collect()
    }

    #[test]
    fn an_empty_table_gives_the_defaults() {
        assert_eq!(parse::<Bot>(json!({})).unwrap(), Bot::default());
    }

    #[test]
    fn every_fault_is_reported_at_once() {
        let found = faults(json!({
            "workers": "four",
            "sorce": "imap:",
            "replies": { "from": 7, "copies": 1, "form": "x" },
            "rules": [{ "sender": "a", "priority": 1 }, { "sender": "b", "priority": 900 }],
        }));
        let paths: Vec<_> = found.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(
            paths,
            ["workers", "rules.1.priority", "replies.from", "replies.form", "sorce"],
            "{found:?}"
        );
        assert_eq!(found[3].1, "known: from copies");
        assert!(found[0].1.contains("invalid type: string \"four\""), "{found:?}");
    }

    #[test]
    fn a_sections_own_validation_speaks_too() {
        assert_eq!(
            faults(json!({ "workers": 0 })),
            [("workers".into(), "at least one worker is needed".into())]
        );
    }

    #[test]
    fn a_missing_key_without_a_default_is_named() {
        let found = faults(json!({ "rules": [{ "sender": "a" }], "workers": -1 }));
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(found[0].0, "rules.0");
        assert!(found[0].1.contains("missing field `priority`"), "{found:?}");
    }

    #[test]
    fn a_table_that_is_no_table_is_one_fault() {
        assert_eq!(faults(json!("bot")).len(), 1);
    }
}
