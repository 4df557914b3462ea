//! The JSON schema as editors and other programs get it: draft 7, which Even Better TOML, yaml-language-server and every
//! editor of JSON understand, with the default of each key, its unit, and the former names of keys marked as outgoing.

use plba_contracts::section::SectionDefinition;
use serde_json::{Map, Value, json};

use crate::config::check::schema::{RENAMED_FROM, UNIT, former_names};
use crate::config::read::files::SCHEMA_KEY;

/// The schema of the whole configuration, made from the one that it is checked by.
pub(crate) fn schema(whole: &Value, definitions: &[SectionDefinition]) -> Value {
    let mut published = whole.clone();
    let defaults = definitions
        .iter()
        .map(|definition| (definition.table.clone(), definition.defaults()));
    let defaults = Value::Object(defaults.collect());
    publish(&mut published, Some(&defaults));
    published["$schema"] = "http://json-schema.org/draft-07/schema#".into();
    published["properties"][SCHEMA_KEY] = json!({
        "type": "string",
        "description": "Where this schema is, for editors.",
    });
    if let Some(table) = published.as_object_mut() {
        table.remove("default");
        if let Some(parts) = table.remove("$defs") {
            table.insert("definitions".to_owned(), parts);
        }
    }
    published
}

fn publish(schema: &mut Value, default: Option<&Value>) {
    let entries = match schema {
        Value::Object(entries) => entries,
        Value::Array(items) => return items.iter_mut().for_each(|item| publish(item, None)),
        _ => return,
    };
    describe(entries, default);
    if let Some(Value::Object(properties)) = entries.get_mut("properties") {
        for (key, property) in properties.iter_mut() {
            publish(property, default.and_then(|default| default.get(key)));
        }
        former(properties);
    }
    for (word, part) in entries.iter_mut() {
        match (word.as_str(), part) {
            ("items" | "prefixItems" | "additionalProperties" | "anyOf" | "oneOf" | "allOf", part) => {
                publish(part, None)
            }
            ("$defs", Value::Object(parts)) => parts.values_mut().for_each(|part| publish(part, None)),
            ("$ref", Value::String(target)) => *target = target.replace("#/$defs/", "#/definitions/"),
            _ => {}
        }
    }
    if let Some(items) = entries.remove("prefixItems") {
        entries.insert("items".to_owned(), items);
    }
}

/// Writes down the default, but for secrets, and the unit.
fn describe(entries: &mut Map<String, Value>, default: Option<&Value>) {
    let secret = entries.get("writeOnly") == Some(&Value::Bool(true));
    let is_table = entries.contains_key("properties");
    if let Some(default) = default.filter(|value| !value.is_null()) {
        entries.insert("default".to_owned(), default.clone());
    }
    // A table's default is that of its keys, and TOML has no null.
    if secret || is_table || entries.get("default").is_some_and(Value::is_null) {
        entries.remove("default");
    }
    let unit = entries.get(UNIT).and_then(Value::as_str).map(str::to_owned);
    if let Some(unit) = unit {
        let description = entries.get("description").and_then(Value::as_str).unwrap_or_default();
        let description = format!("{description}\n\nIn {unit}.").trim().to_owned();
        entries.insert("description".to_owned(), description.into());
    }
}

/// Adds the former names of keys, so that editors don't call them unknown but say what they are called now.
fn former(properties: &mut Map<String, Value>) {
    let mut added = Map::new();
    for (key, property) in properties.iter() {
        for name in former_names(property).filter(|name| !properties.contains_key(*name)) {
            let mut property = property.clone();
            property["deprecated"] = true.into();
            property["deprecationMessage"] = format!("`{name}` is called `{key}` now").into();
            if let Some(property) = property.as_object_mut() {
                property.remove("default");
                property.remove(RENAMED_FROM);
            }
            added.insert(name.to_owned(), property);
        }
    }
    properties.extend(added);
}
