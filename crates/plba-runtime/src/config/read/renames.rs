//! Keys that are called otherwise now, and keys that are on their way out. Which these are, the schema says: a field with
//! `x-renamed-from` takes the place of the keys that it lists, and a `deprecated` one is still read, with a warning.
//!
//! A layer that names a key by its former name is read as if it named the new one, so that layers lie over each other as
//! always; one that gives both is refused, because only its author knows which one is meant.

use super::sources::Sources;
use super::tree::{Content, Node, dotted};
use crate::config::check::report::{ConfigFault, ConfigFaultKind, Located};
use crate::config::check::schema::SchemaView;

/// What is found on the way.
pub(crate) struct Findings<'a> {
    pub(crate) sources: &'a Sources,
    pub(crate) faults: &'a mut Vec<ConfigFault>,
    pub(crate) warnings: &'a mut Vec<ConfigFault>,
}

/// Gives keys their new names, in a whole layer. A second time there is nothing left to do.
pub(crate) fn rename(layer: &mut Node, view: &SchemaView<'_>, findings: &mut Findings<'_>) {
    walk(layer, view, &mut Vec::new(), findings);
}

fn walk(node: &mut Node, view: &SchemaView<'_>, path: &mut Vec<String>, findings: &mut Findings<'_>) {
    match &mut node.content {
        Content::Table(entries) => {
            for (old, new) in view.renames() {
                let Some(former) = entries.remove(&old) else { continue };
                path.push(old.clone());
                let key = dotted(path);
                path.pop();
                let place = former.key.unwrap_or(former.place);
                match entries.get(&new) {
                    Some(given) => {
                        let located = Located {
                            place: Some(place),
                            key,
                            label: Some("the former name".to_owned()),
                            remedy: Some(format!("take `{old}` out; `{new}` is its name now")),
                            related: vec![(given.key.unwrap_or(given.place), "the same by its name".to_owned())],
                            ..Located::new(
                                ConfigFaultKind::Invalid,
                                format!("`{old}` and `{new}` are the same key, and both are given"),
                            )
                        };
                        findings.faults.push(located.report(findings.sources));
                    }
                    None => {
                        let located = Located {
                            place: Some(place),
                            key,
                            label: Some("the former name".to_owned()),
                            remedy: Some(format!("write `{new}`")),
                            ..Located::new(ConfigFaultKind::Deprecated, format!("`{old}` is called `{new}` now"))
                        };
                        findings.warnings.push(located.report(findings.sources));
                        entries.insert(new, former);
                    }
                }
            }
            for (key, entry) in entries {
                path.push(key.clone());
                walk(entry, &view.child(key), path, findings);
                path.pop();
            }
        }
        Content::List(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                path.push(index.to_string());
                walk(item, &view.child(&index.to_string()), path, findings);
                path.pop();
            }
        }
        Content::Scalar(_) => {}
    }
}

/// Warns of every key of a layer that is on its way out.
pub(crate) fn warn(layer: &Node, view: &SchemaView<'_>, sources: &Sources, warnings: &mut Vec<ConfigFault>) {
    outgoing(layer, view, &mut Vec::new(), &mut |node, path, view| {
        let located = Located {
            place: Some(node.key.unwrap_or(node.place)),
            key: dotted(path),
            note: view.description().map(str::to_owned),
            remedy: view.deprecation().map(str::to_owned),
            ..Located::new(ConfigFaultKind::Deprecated, "this key is on its way out")
        };
        warnings.push(located.report(sources));
    });
}

fn outgoing(
    node: &Node,
    view: &SchemaView<'_>,
    path: &mut Vec<String>,
    found: &mut dyn FnMut(&Node, &[String], &SchemaView<'_>),
) {
    if view.is_deprecated() {
        return found(node, path, view);
    }
    let entries: Vec<(String, &Node)> = match &node.content {
        Content::Table(entries) => entries.iter().map(|(key, entry)| (key.clone(), entry)).collect(),
        Content::List(items) => items
            .iter()
            .enumerate()
            .map(|(index, item)| (index.to_string(), item))
            .collect(),
        Content::Scalar(_) => Vec::new(),
    };
    for (key, entry) in entries {
        let child = view.child(&key);
        path.push(key);
        outgoing(entry, &child, path, found);
        path.pop();
    }
}
