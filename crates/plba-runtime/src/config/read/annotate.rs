//! What the schema says about the values of a layer: which are secret, and which are paths to be resolved against the
//! directory of their file.

use std::path::{Path, PathBuf};

use plba_contracts::config::{FILE_PATH_FORMAT, LOCATION_FORMAT, Location};
use serde_json::Value;

use super::mask::sounds_secret;
use super::sources::Sources;
use super::tree::{Content, Node};
use crate::config::check::schema::SchemaView;

/// Marks and hides secrets, and resolves relative paths, in a whole layer.
pub(crate) fn annotate(layer: &mut Node, view: &SchemaView<'_>, sources: &mut Sources) {
    node(layer, view, "", false, sources);
}

fn node(node_: &mut Node, view: &SchemaView<'_>, key: &str, forced: bool, sources: &mut Sources) {
    // A key that nobody knows may be a misspelt password.
    let forced = forced || view.is_secret() || !view.is_known();
    let directory = sources.directory(node_.place.source).map(Path::to_owned);
    match &mut node_.content {
        Content::Table(entries) => {
            for (key, entry) in entries {
                node(entry, &view.child(key), key, forced, sources);
            }
            node_.secret |= view.is_secret();
        }
        Content::List(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                node(item, &view.child(&index.to_string()), key, forced, sources);
            }
            node_.secret |= view.is_secret();
        }
        Content::Scalar(value) => {
            let guessed = view.is_anything() && sounds_secret(key);
            let misplaced = !view.types().contains("string") && view.holds_secret();
            if forced || guessed || misplaced {
                node_.secret = true;
                sources.hide(node_.place);
            }
            if let (Value::String(text), Some(directory)) = (value, directory) {
                resolve(text, view, &directory);
            }
        }
    }
}

fn resolve(text: &mut String, view: &SchemaView<'_>, directory: &Path) {
    if view.has_format(FILE_PATH_FORMAT) && !text.is_empty() {
        *text = joined(directory, text);
    } else if view.has_format(LOCATION_FORMAT) {
        let location = Location::from(text.as_str());
        // A colon in front of the path is a name of its own, such as SQLite's `:memory:`.
        let relative =
            |path: &&str| !location.scheme().is_empty() && !path.starts_with(':') && Path::new(path).is_relative();
        if let Some(path) = location.path().filter(relative) {
            let query = location.rest().strip_prefix(path).unwrap_or_default();
            *text = format!("{}:{}{query}", location.scheme(), joined(directory, path));
        }
    }
}

/// `path` within `directory`, without the `.` that people write for clarity.
fn joined(directory: &Path, path: &str) -> String {
    let joined: PathBuf = directory.join(path).components().collect();
    joined.to_string_lossy().into_owned()
}
