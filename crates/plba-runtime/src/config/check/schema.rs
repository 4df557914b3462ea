//! The schemas of all sections as one, and a view that walks it beside a value: what a key means, of which type it is,
//! whether it is secret.

use std::collections::BTreeSet;

use plba_contracts::section::{NEEDS_RESTART, SectionDefinition};
use serde_json::{Map, Value, json};

use crate::config::tell::show::inline;

/// How many references and choices are followed from one schema to the next.
const MAXIMUM_STEPS: usize = 16;

/// How deep secrets are looked for within a table's schema; recursive types would never end.
const MAXIMUM_SEARCH: usize = 5;

/// The word by which a field's schema lists the names that its key had before.
pub(crate) const RENAMED_FROM: &str = "x-renamed-from";

/// The word by which a field's schema says in what its number is counted.
pub(crate) const UNIT: &str = "x-unit";

/// The schema of anything.
static ANYTHING: Value = Value::Bool(true);

/// The JSON schema of the whole configuration.
pub(crate) fn whole(definitions: &[SectionDefinition]) -> Value {
    let mut tables = Map::new();
    let mut shared = Map::new();
    for definition in definitions {
        let mut schema = definition.schema().to_value();
        prefix_references(&mut schema, &definition.table);
        if let Value::Object(schema) = &mut schema {
            schema.remove("$schema");
            if let Some(Value::Object(parts)) = schema.remove("$defs") {
                let prefixed = |(name, part)| (format!("{}.{name}", definition.table), part);
                shared.extend(parts.into_iter().map(prefixed));
            }
        }
        tables.insert(definition.table.clone(), schema);
    }
    let mut whole = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration",
        "type": "object",
        "properties": tables,
        "additionalProperties": false,
    });
    if !shared.is_empty() {
        whole["$defs"] = Value::Object(shared);
    }
    whole
}

/// Recursive types refer to parts of their schema by name; two sections may use the same name.
fn prefix_references(schema: &mut Value, table: &str) {
    match schema {
        Value::Object(entries) => {
            for (key, value) in entries {
                match value {
                    Value::String(target) if key == "$ref" => {
                        if let Some(name) = target.strip_prefix("#/$defs/") {
                            *target = format!("#/$defs/{table}.{name}");
                        }
                    }
                    value => prefix_references(value, table),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| prefix_references(item, table)),
        _ => {}
    }
}

/// The schemas that may describe the value at one path.
#[derive(Clone)]
pub(crate) struct SchemaView<'a> {
    root: &'a Value,
    branches: Vec<&'a Value>,
}

impl<'a> SchemaView<'a> {
    /// The view of the whole.
    pub(crate) fn new(root: &'a Value) -> Self {
        Self::of(root, [root])
    }

    fn of(root: &'a Value, schemas: impl IntoIterator<Item = &'a Value>) -> Self {
        let mut branches = Vec::new();
        schemas
            .into_iter()
            .for_each(|schema| expand(root, schema, 0, &mut branches));
        Self { root, branches }
    }

    /// The schema of the whole.
    pub(crate) fn root(&self) -> &'a Value {
        self.root
    }

    /// The view of an entry or element.
    pub(crate) fn child(&self, segment: &str) -> Self {
        let schemas: Vec<&Value> = self
            .branches
            .iter()
            .filter_map(|schema| step(schema, segment))
            .collect();
        Self::of(self.root, schemas)
    }

    /// The view at a path.
    pub(crate) fn at(&self, path: &[String]) -> Self {
        path.iter().fold(self.clone(), |view, segment| view.child(segment))
    }

    /// Whether any schema describes the value.
    pub(crate) fn is_known(&self) -> bool {
        !self.branches.is_empty()
    }

    /// Whether nothing is said about the value but that it may be there.
    pub(crate) fn is_anything(&self) -> bool {
        self.branches.iter().any(|schema| **schema == ANYTHING)
    }

    /// Whether the value is a secret.
    pub(crate) fn is_secret(&self) -> bool {
        let secret = |schema: &&Value| schema.get("writeOnly") == Some(&Value::Bool(true));
        self.branches.iter().any(secret) || self.has_format("password")
    }

    /// Whether a secret is, or lies within, the value.
    pub(crate) fn holds_secret(&self) -> bool {
        self.holds_secret_within(MAXIMUM_SEARCH)
    }

    fn holds_secret_within(&self, steps: usize) -> bool {
        let inside = |view: Self| view.holds_secret_within(steps - 1);
        let entries = || self.keys().iter().any(|key| inside(self.child(key)));
        let items = || self.branches.iter().any(|schema| schema.get("items").is_some()) && inside(self.child("0"));
        let others = || {
            let table = |schema: &&&Value| schema.get("additionalProperties").is_some_and(Value::is_object);
            self.branches.iter().any(|schema| table(&schema)) && inside(self.child("\u{0}"))
        };
        self.is_secret() || (steps > 0 && (entries() || items() || others()))
    }

    /// Whether what stands at a path takes effect at the next start only, by its own schema or that of a table around it.
    pub(crate) fn needs_restart(&self, path: &[String]) -> bool {
        let says = |view: &Self| {
            let says = |schema: &&Value| schema.get(NEEDS_RESTART) == Some(&Value::Bool(true));
            view.branches.iter().any(says)
        };
        let mut view = self.clone();
        says(&view)
            || path.iter().any(|segment| {
                view = view.child(segment);
                says(&view)
            })
    }

    /// Whether the value has this `format`.
    pub(crate) fn has_format(&self, format: &str) -> bool {
        let has = |schema: &&Value| schema.get("format").and_then(Value::as_str) == Some(format);
        self.branches.iter().any(has)
    }

    /// The keys of a table that have another name now: the former one and the new one.
    pub(crate) fn renames(&self) -> Vec<(String, String)> {
        let tables = self
            .branches
            .iter()
            .filter_map(|schema| schema.get("properties")?.as_object());
        let known = self.keys();
        let mut renames: Vec<(String, String)> = Vec::new();
        for (new, property) in tables.flatten() {
            for old in former_names(property) {
                // A name that is in use again is nobody's former one.
                let taken = known.iter().any(|key| key == old) || renames.iter().any(|(known, _)| known == old);
                if !taken {
                    renames.push((old.to_owned(), new.clone()));
                }
            }
        }
        renames
    }

    /// Whether the key is on its way out.
    pub(crate) fn is_deprecated(&self) -> bool {
        let deprecated = |schema: &&Value| schema.get("deprecated") == Some(&Value::Bool(true));
        self.branches.iter().any(deprecated)
    }

    /// What to do instead of using a key that is on its way out.
    pub(crate) fn deprecation(&self) -> Option<&'a str> {
        let mut branches = self.branches.iter();
        branches.find_map(|schema| schema.get("deprecationMessage")?.as_str())
    }

    /// In what a number is counted, such as `bytes`.
    pub(crate) fn unit(&self) -> Option<&'a str> {
        self.branches.iter().find_map(|schema| schema.get(UNIT)?.as_str())
    }

    /// What the value is for.
    pub(crate) fn description(&self) -> Option<&'a str> {
        self.branches
            .iter()
            .find_map(|schema| schema.get("description")?.as_str())
    }

    /// The JSON types the value may have.
    pub(crate) fn types(&self) -> BTreeSet<&'a str> {
        let mut types = BTreeSet::new();
        for schema in &self.branches {
            match schema.get("type") {
                Some(Value::String(name)) => {
                    types.insert(name.as_str());
                }
                Some(Value::Array(names)) => types.extend(names.iter().filter_map(Value::as_str)),
                _ => {}
            }
        }
        types
    }

    /// The values to choose from; empty if there is no such choice.
    pub(crate) fn choices(&self) -> Vec<&'a Value> {
        let listed = self
            .branches
            .iter()
            .filter_map(|schema| schema.get("enum")?.as_array())
            .flatten();
        let single = self.branches.iter().filter_map(|schema| schema.get("const"));
        listed.chain(single).filter(|value| !value.is_null()).collect()
    }

    /// A value of the right type in TOML, to be replaced.
    pub(crate) fn example(&self) -> String {
        if let Some(choice) = self.choices().first() {
            return inline(choice);
        }
        let given = self.branches.iter().find_map(|schema| schema.get("examples")?.get(0));
        if let Some(example) = given {
            return inline(example);
        }
        let types = self.types();
        let is = |name: &str| types.contains(name);
        let example = match () {
            () if is("string") => "\"…\"",
            () if is("integer") => "0",
            () if is("number") => "0.0",
            () if is("boolean") => "false",
            () if is("array") => "[]",
            () => "{}",
        };
        example.to_owned()
    }

    /// The keys that are known in a table, in the order of the schema.
    pub(crate) fn keys(&self) -> Vec<String> {
        let tables = self
            .branches
            .iter()
            .filter_map(|schema| schema.get("properties")?.as_object());
        let mut keys: Vec<String> = Vec::new();
        for key in tables.flat_map(|table| table.keys()) {
            if !keys.contains(key) {
                keys.push(key.clone());
            }
        }
        keys
    }

    /// The type as people say it, such as `whole number`, `text` or `one of "json", "pretty"`.
    pub(crate) fn type_name(&self) -> String {
        let choices = self.choices();
        if !choices.is_empty() {
            let list: Vec<String> = choices.iter().map(ToString::to_string).collect();
            return format!("one of {}", list.join(", "));
        }
        let name = |word: &str| match word {
            "string" if self.is_secret() => "secret text",
            "string" if self.has_format("path") => "path",
            "string" if self.has_format("location") => "location",
            "string" if self.has_format("time-span") => "span of time",
            "string" => "text",
            "integer" => "whole number",
            "number" => "number",
            "boolean" => "true or false",
            "array" => "list",
            _ => "table",
        };
        let types = self.types();
        let named: Vec<&str> = types
            .iter()
            .filter(|word| **word != "null")
            .map(|word| name(word))
            .collect();
        match named.is_empty() {
            true => "anything".to_owned(),
            false => named.join(" or "),
        }
    }
}

fn expand<'a>(root: &'a Value, schema: &'a Value, steps: usize, branches: &mut Vec<&'a Value>) {
    if steps > MAXIMUM_STEPS || *schema == Value::Bool(false) {
        return;
    }
    branches.push(schema);
    let target = schema
        .get("$ref")
        .and_then(Value::as_str)
        .and_then(|target| target.strip_prefix("#/$defs/"));
    if let Some(part) = target.and_then(|name| root.get("$defs")?.get(name)) {
        expand(root, part, steps + 1, branches);
    }
    for word in ["anyOf", "oneOf", "allOf"] {
        let choices = schema.get(word).and_then(Value::as_array).into_iter().flatten();
        choices.for_each(|choice| expand(root, choice, steps + 1, branches));
    }
}

fn step<'a>(schema: &'a Value, segment: &str) -> Option<&'a Value> {
    let index = segment.parse::<usize>().ok();
    let properties = schema.get("properties");
    // What a former name holds is what its key holds now.
    let former = || {
        let mut entries = properties?.as_object()?.values();
        entries.find(|property| former_names(property).any(|name| name == segment))
    };
    let property = properties
        .and_then(|properties| properties.get(segment))
        .or_else(former);
    let fixed = || index.and_then(|index| schema.get("prefixItems")?.get(index));
    let item = || schema.get("items").filter(|_| index.is_some());
    let entry = || {
        schema
            .get("additionalProperties")
            .filter(|entry| **entry != Value::Bool(false))
    };
    let open = || (*schema == ANYTHING).then_some(&ANYTHING);
    property.or_else(fixed).or_else(item).or_else(entry).or_else(open)
}

/// The names that a key had before.
pub(crate) fn former_names(property: &Value) -> impl Iterator<Item = &str> {
    let names = property.get(RENAMED_FROM).and_then(Value::as_array);
    names.into_iter().flatten().filter_map(Value::as_str)
}
