//! Values from environment variables and from `--set`: names turned into paths, texts into values.

use std::ffi::OsString;

use super::sources::{Place, SourceKind, Sources};
use super::toml_file;
use super::tree::{Content, Node};
use crate::config::check::report::{ConfigFault, ConfigFaultKind, Located};
use crate::config::check::schema::SchemaView;

/// What the name of a variable begins with to be read as configuration.
pub const ENVIRONMENT_PREFIX: &str = "PLBA__";

/// The layer of the environment.
pub(crate) fn environment(
    variables: &[(OsString, OsString)],
    view: &SchemaView<'_>,
    sources: &mut Sources,
    faults: &mut Vec<ConfigFault>,
) -> Node {
    let named = |(name, value): &(OsString, OsString)| {
        let name = name.to_str()?.to_owned();
        name.starts_with(ENVIRONMENT_PREFIX).then(|| (name, value.clone()))
    };
    let mut variables: Vec<_> = variables.iter().filter_map(named).collect();
    variables.sort();
    let mut layer = Node::table(Place::DEFAULT);
    for (name, value) in variables {
        let path: Vec<String> = name[ENVIRONMENT_PREFIX.len()..]
            .to_lowercase()
            .split("__")
            .map(str::to_owned)
            .collect();
        let mut refuse = |sources: &mut Sources, message: &str, remedy: &str| {
            let source = sources.add(SourceKind::Environment(name.clone()), name.clone());
            let place = Place::new(source, 0..name.len());
            faults.push(refused(place, message.to_owned(), remedy, sources));
        };
        let Some(value) = value.to_str() else {
            refuse(sources, "the value is not UTF-8", "set it to text in UTF-8");
            continue;
        };
        if path.iter().any(String::is_empty) {
            refuse(
                sources,
                "the name has an empty part",
                "part names by two underscores: PLBA__TABLE__KEY",
            );
            continue;
        }
        let assignment = Assignment {
            path: &path,
            prefix: "",
            key: &name,
            value,
        };
        layer.overlay(&assignment.node(SourceKind::Environment(name.clone()), view, sources));
    }
    layer
}

/// The layer of the command line; later arguments win.
pub(crate) fn command_line(
    arguments: &[String],
    view: &SchemaView<'_>,
    sources: &mut Sources,
    faults: &mut Vec<ConfigFault>,
) -> Node {
    let mut layer = Node::table(Place::DEFAULT);
    for argument in arguments {
        let parsed = argument
            .split_once('=')
            .and_then(|(key, value)| Some((toml_file::parse_key(key)?, key, value)));
        match parsed {
            Some((path, key, value)) => {
                let assignment = Assignment {
                    path: &path,
                    prefix: "--set ",
                    key,
                    value,
                };
                layer.overlay(&assignment.node(SourceKind::CommandLine, view, sources));
            }
            None => {
                // What can't be read may be a secret: only what looks like a key is shown.
                let key = |character: &char| character.is_alphanumeric() || "_-.".contains(*character);
                let shown: String = argument.chars().take_while(key).take(80).collect();
                let text = format!("--set {shown}…");
                let place = 6..text.len();
                let source = sources.add(SourceKind::CommandLine, text);
                let message = "not of the form KEY=VALUE with a dotted key".to_owned();
                let remedy = "write --set table.key=value";
                faults.push(refused(Place::new(source, place), message, remedy, sources));
            }
        }
    }
    layer
}

fn refused(place: Place, message: String, remedy: &str, sources: &Sources) -> ConfigFault {
    let located = Located {
        place: Some(place),
        remedy: Some(remedy.to_owned()),
        ..Located::new(ConfigFaultKind::Syntax, message)
    };
    located.report(sources)
}

struct Assignment<'a> {
    path: &'a [String],
    prefix: &'a str,
    key: &'a str,
    value: &'a str,
}

impl Assignment<'_> {
    fn node(&self, kind: SourceKind, view: &SchemaView<'_>, sources: &mut Sources) -> Node {
        let start = self.prefix.len();
        let equals = start + self.key.len();
        let source = sources.add(kind, format!("{}{}={}", self.prefix, self.key, self.value));
        let place = Place::new(source, equals + 1..equals + 1 + self.value.len());
        let node = value_of(self.value, place, &view.at(self.path));
        node.at_path(self.path, Place::new(source, start..equals))
    }
}

/// A TOML value, else text. Where the schema wants text, `12345` and `true` are text too: a password may look like that.
pub(crate) fn value_of(text: &str, place: Place, view: &SchemaView<'_>) -> Node {
    let types = view.types();
    let textual = types.contains("string") && types.iter().all(|name| matches!(*name, "string" | "null"));
    let parsed = toml_file::parse_value(text, place);
    let is_text = |node: &Node| matches!(&node.content, Content::Scalar(value) if value.is_string());
    parsed
        .filter(|node| !textual || is_text(node))
        .unwrap_or_else(|| Node::from_value(text.into(), place))
}
