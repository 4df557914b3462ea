//! Overrides as a layer of the configuration: the later one lies above the earlier.

use super::origin::Override;
use crate::config::check::report::{ConfigFault, ConfigFaultKind, Located};
use crate::config::check::schema::SchemaView;
use crate::config::read::annotate::annotate;
use crate::config::read::bootstrap;
use crate::config::read::sources::{Place, SourceKind, Sources};
use crate::config::read::toml_file;
use crate::config::read::tree::Node;

/// The layer of these overrides.
pub(in crate::config) fn layer(
    overrides: &[Override],
    view: &SchemaView<'_>,
    sources: &mut Sources,
    faults: &mut Vec<ConfigFault>,
) -> Node {
    let mut layer = Node::table(Place::DEFAULT);
    for one in overrides {
        let source = sources.add(SourceKind::Override(one.origin()), String::new());
        let place = Place::new(source, 0..0);
        match toml_file::parse_key(&one.key) {
            Some(path) => layer.overlay(&Node::from_value(one.value.clone(), place).at_path(&path, place)),
            None => {
                let located = Located {
                    place: Some(place),
                    key: one.key.clone(),
                    remedy: Some("write it with dots, such as platform.logging.level".to_owned()),
                    ..Located::new(ConfigFaultKind::Syntax, "not a dotted key")
                };
                faults.push(located.report(sources));
            }
        }
    }
    annotate(&mut layer, view, sources);
    bootstrap::refuse(&mut layer, "an override", sources, faults);
    layer
}
