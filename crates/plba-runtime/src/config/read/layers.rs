//! Where configuration is read from, and reading all of it into layers that know what is secret. Merging the layers and
//! checking the result come after.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use plba_contracts::config::{ConfigProvider, ProvidedValue};

use super::mask::KnownKeys;
use super::sources::{Place, SourceKind, Sources};
use super::tree::Node;
use super::{annotate, assignments, files};
use crate::config::check::report::{ConfigFault, ConfigFaultKind, Located};
use crate::config::check::schema::SchemaView;

/// Where a configuration is read from. The default is nowhere: built-in defaults only.
#[derive(Clone, Default)]
pub struct ConfigurationSources {
    /// Files and directories, in the order of their precedence, the last one winning. Default: none.
    pub files: Vec<PathBuf>,
    /// Providers, in the order of their precedence. Default: none.
    pub providers: Vec<Arc<dyn ConfigProvider>>,
    /// Environment variables; those without the prefix `PLBA__` are ignored. Default: none.
    pub environment: Vec<(OsString, OsString)>,
    /// Arguments of `--set`, each `key.path=value`. Default: none.
    pub overrides: Vec<String>,
}

impl ConfigurationSources {
    /// Files and `--set` arguments, with the environment of this process as it is now.
    pub fn of_process(files: Vec<PathBuf>, overrides: Vec<String>) -> Self {
        Self {
            files,
            overrides,
            environment: std::env::vars_os().collect(),
            providers: Vec::new(),
        }
    }
}

/// Values may be secrets, so only what is countable is shown.
impl fmt::Debug for ConfigurationSources {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("ConfigurationSources")
            .field("files", &self.files)
            .field("providers", &self.providers.len())
            .field("overrides", &self.overrides.len())
            .finish_non_exhaustive()
    }
}

/// What a provider gave, or why it gave nothing.
pub(crate) struct Provided {
    pub(crate) name: String,
    pub(crate) values: Result<Vec<ProvidedValue>, String>,
}

/// Everything that was read.
pub(crate) struct Layers {
    pub(crate) sources: Sources,
    /// The layers, lowest first, without the built-in defaults.
    pub(crate) trees: Vec<Node>,
    pub(crate) faults: Vec<ConfigFault>,
    /// The first file, where a fault without a better place is reported.
    pub(crate) first_file: Option<Place>,
}

impl Layers {
    /// Reads all sources; providers were asked before.
    pub(crate) fn read(from: &ConfigurationSources, provided: Vec<Provided>, view: &SchemaView<'_>) -> Self {
        let mut layers = Self {
            sources: Sources::default(),
            trees: Vec::new(),
            faults: Vec::new(),
            first_file: None,
        };
        let keys = KnownKeys::of(view.root());
        for path in files::list(&from.files, &mut layers.faults) {
            if let Some(tree) = files::read(&path, &keys, &mut layers.sources, &mut layers.faults) {
                layers.first_file.get_or_insert(Place::new(tree.place.source, 0..0));
                layers.trees.push(tree);
            }
        }
        for provided in provided {
            layers.add_provided(provided);
        }
        let (sources, faults) = (&mut layers.sources, &mut layers.faults);
        layers
            .trees
            .push(assignments::environment(&from.environment, view, sources, faults));
        layers
            .trees
            .push(assignments::command_line(&from.overrides, view, sources, faults));
        for tree in &mut layers.trees {
            annotate::annotate(tree, view, &mut layers.sources);
        }
        layers
    }

    fn add_provided(&mut self, provided: Provided) {
        let kind = SourceKind::Provider { name: provided.name };
        let mut tree = Node::table(Place::DEFAULT);
        let mut fail = |sources: &mut Sources, place: String, message: String| {
            let width = place.len();
            let source = sources.add(kind.clone(), place);
            let located = Located {
                place: Some(Place::new(source, 0..width)),
                kind: ConfigFaultKind::Unreadable,
                key: String::new(),
                message,
                remedy: None,
            };
            self.faults.push(located.report(sources));
        };
        match provided.values {
            Err(message) => fail(&mut self.sources, "the whole layer".to_owned(), message),
            Ok(values) => {
                for value in values {
                    if value.path.is_empty() {
                        fail(&mut self.sources, value.place, "a value without a path".to_owned());
                        continue;
                    }
                    let width = value.place.len();
                    let source = self.sources.add(kind.clone(), value.place);
                    let place = Place::new(source, 0..width);
                    tree.overlay(&Node::from_value(value.value, place).at_path(&value.path, place));
                }
            }
        }
        self.trees.push(tree);
    }

    /// The layers merged.
    pub(crate) fn merged(&self) -> Node {
        let mut merged = Node::table(Place::DEFAULT);
        self.trees.iter().for_each(|tree| merged.overlay(tree));
        merged
    }
}
