//! Writes the default configuration file: every key with what it is for, its type, its unit and its default; what has no
//! default is commented out.

use std::fmt::Write;

use plba_contracts::section::SectionDefinition;
use serde_json::Value;

use super::show::inline;
use crate::config::check::schema::SchemaView;
use crate::config::read::tree::dotted;

/// How deep tables are written out; recursive types would never end.
const MAXIMUM_DEPTH: usize = 8;

const HEAD: &str = "\
# Every key with its default. Keys that are commented out have none.
#
# Editors complete and check keys by the schema that `config schema` prints. Saved as configuration.schema.json beside this
# file, it is found by a first line `#:schema ./configuration.schema.json` in TOML (Even Better TOML), by
# `# yaml-language-server: $schema=configuration.schema.json` in YAML, and by a key \"$schema\" in JSON.
";

/// The file as TOML.
pub(crate) fn toml(definitions: &[SectionDefinition], schema: &Value) -> String {
    let mut file = String::from(HEAD);
    let root = SchemaView::new(schema);
    for definition in definitions {
        let defaults = definition.defaults();
        let mut path = vec![definition.table.clone()];
        table(&mut file, &root.child(&definition.table), &defaults, &mut path, false);
    }
    file
}

fn table(file: &mut String, view: &SchemaView<'_>, defaults: &Value, path: &mut Vec<String>, unset: bool) {
    let mark = if unset { "# " } else { "" };
    file.push('\n');
    describe(file, view);
    push_line(file, &format!("{mark}[{}]", dotted(path)));
    let mut keys = view.keys();
    // A table without a schema of its own has the keys of its default.
    for key in defaults.as_object().into_iter().flat_map(|entries| entries.keys()) {
        if !keys.contains(key) {
            keys.push(key.clone());
        }
    }
    let mut tables = Vec::new();
    for key in keys {
        let entry = view.child(&key);
        let default = defaults.get(&key).filter(|value| !value.is_null());
        let is_table = match default {
            Some(value) => value
                .as_object()
                .is_some_and(|entries| !entries.is_empty() || !entry.keys().is_empty()),
            None => !entry.keys().is_empty() && !entry.types().contains("string"),
        };
        if is_table && path.len() < MAXIMUM_DEPTH {
            tables.push((key, entry, default));
            continue;
        }
        describe(file, &entry);
        push_line(file, &format!("# {}", facts(&entry, default)));
        let name = dotted(std::slice::from_ref(&key));
        // The default of a secret is masked, and a mask is no password.
        match default.filter(|_| !entry.is_secret()) {
            Some(value) => push_line(file, &format!("{mark}{name} = {}", inline(value))),
            None => push_line(file, &format!("# {name} = {}", entry.example())),
        }
    }
    for (key, entry, default) in tables {
        path.push(key);
        table(
            file,
            &entry,
            default.unwrap_or(&Value::Null),
            path,
            unset || default.is_none(),
        );
        path.pop();
    }
}

/// Type, unit, default, and when a change counts.
fn facts(view: &SchemaView<'_>, default: Option<&Value>) -> String {
    let mut facts = view.type_name();
    if let Some(unit) = view.unit() {
        facts.push_str(&format!(" in {unit}"));
    }
    match default.filter(|_| !view.is_secret()) {
        Some(value) => facts.push_str(&format!("; default {}", inline(value))),
        None => facts.push_str("; no default"),
    }
    if view.needs_restart(&[]) {
        facts.push_str("; takes effect at the next start");
    }
    if view.is_deprecated() {
        let instead = view.deprecation().unwrap_or("don't use it anew");
        facts.push_str(&format!("; on its way out: {instead}"));
    }
    let mut characters = facts.chars();
    let first = characters.next().map(|first| first.to_uppercase().to_string());
    format!("{}{}.", first.unwrap_or_default(), characters.as_str())
}

fn push_line(file: &mut String, line: &str) {
    // Writing to a string can't fail.
    let _ = writeln!(file, "{line}");
}

fn describe(file: &mut String, view: &SchemaView<'_>) {
    for line in view.description().into_iter().flat_map(str::lines) {
        push_line(file, format!("# {line}").trim_end());
    }
}
