//! What must be known before all layers can be read: where state, secrets and the database of settings are. It is read from
//! files, environment and command line alone; a layer that it leads to can't say where it is to be found.

use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::sources::{Place, Sources};
use super::tree::{Content, Node, dotted};
use crate::config::check::report::{ConfigFault, ConfigFaultKind, Located};
use crate::config::settings::ConfigSettings;

/// The tables and keys that are read before everything else.
pub(crate) const BOOTSTRAP_KEYS: [&[&str]; 2] = [&["platform", "config"], &["platform", "state_dir"]];

/// What is read first.
#[derive(Clone, Debug)]
pub(crate) struct Bootstrap {
    /// The state directory; `None` where nobody has declared one.
    pub(crate) state_dir: Option<PathBuf>,
    /// The section `[platform.config]`; a value that can't be used has its default here, and is reported with all others.
    pub(crate) config: ConfigSettings,
    /// Where the location of the database stands.
    pub(crate) database_place: Option<Place>,
}

impl Bootstrap {
    /// From defaults, files, environment and command line, merged.
    pub(crate) fn of(tree: &Node) -> Self {
        let platform = tree.child("platform");
        let state_dir = platform.and_then(|platform| text(platform.child("state_dir")?));
        let config = platform.and_then(|platform| platform.child("config"));
        let place = |config: &Node| config.child("database").map(|node| node.place);
        Self {
            state_dir: state_dir.filter(|path| !path.is_empty()).map(PathBuf::from),
            config: config.map(usable).unwrap_or_default(),
            database_place: config.and_then(place),
        }
    }
}

fn text(node: &Node) -> Option<String> {
    match &node.content {
        Content::Scalar(Value::String(text)) => Some(text.clone()),
        _ => None,
    }
}

/// A table without those values that can't be used.
pub(crate) fn usable<T: DeserializeOwned + Default>(table: &Node) -> T {
    let read = |entries: Map<String, Value>| serde_json::from_value::<T>(Value::Object(entries));
    let Value::Object(entries) = table.value() else {
        return T::default();
    };
    let alone = |(key, value): &(String, Value)| read(Map::from_iter([(key.clone(), value.clone())])).is_ok();
    read(entries.into_iter().filter(alone).collect()).unwrap_or_default()
}

/// Takes what is read first out of a layer that comes later, and reports it.
pub(crate) fn refuse(layer: &mut Node, what: &str, sources: &Sources, faults: &mut Vec<ConfigFault>) {
    for path in BOOTSTRAP_KEYS {
        let path: Vec<String> = path.iter().map(|segment| (*segment).to_owned()).collect();
        let Some(taken) = layer.remove(&path) else { continue };
        let message = format!("`{}` can't be set by {what}: it is read before it", dotted(&path));
        let located = Located {
            place: Some(taken.key.unwrap_or(taken.place)),
            key: dotted(&path),
            remedy: Some("set it in a file, in the environment or on the command line".to_owned()),
            ..Located::new(ConfigFaultKind::Invalid, message)
        };
        faults.push(located.report(sources));
    }
}
