//! Where configuration is read from, and reading all of it into layers that know what is secret. Merging the layers and
//! checking the result come after.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use plba_contracts::config::{ConfigBackend, ConfigProvider, ProvidedValue};

use super::mask::KnownKeys;
use super::renames::{self, Findings};
use super::secrets::SecretDirectory;
use super::sources::{Place, SourceKind, Sources};
use super::tree::Node;
use super::{annotate, assignments, bootstrap, files};
use crate::config::change::KeptFile;
use crate::config::check::report::{ConfigFault, ConfigFaultKind, Located, MAXIMUM_REPORTED};
use crate::config::check::schema::SchemaView;
use crate::config::overrides::{self, Override, Overrides};

/// Where a configuration is read from. The default is nowhere: built-in defaults only.
#[derive(Clone, Default)]
pub struct ConfigurationSources {
    /// Files and directories, in the order of their precedence, the last one winning. Default: none.
    pub files: Vec<PathBuf>,
    /// Providers, in the order of their precedence. Default: none.
    pub providers: Vec<Arc<dyn ConfigProvider>>,
    /// Who opens the database that `platform.config.database` names. Its layer lies below the providers. Default: nobody.
    pub backends: Vec<Arc<dyn ConfigBackend>>,
    /// Environment variables; those without the prefix `PLBA__` are ignored. Default: none.
    pub environment: Vec<(OsString, OsString)>,
    /// Arguments of `--set`, each `key.path=value`. Default: none.
    pub overrides: Vec<String>,
    /// What an operator sets while the process runs. Default: nothing is kept.
    pub kept: Overrides,
}

impl ConfigurationSources {
    /// Files and `--set` arguments, with the environment of this process as it is now and the overrides that are kept.
    pub fn of_process(files: Vec<PathBuf>, overrides: Vec<String>) -> Self {
        Self {
            files,
            overrides,
            environment: std::env::vars_os().collect(),
            kept: Overrides::kept(),
            ..Self::default()
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

/// What was found by what was read first.
#[derive(Default)]
pub(crate) struct Found {
    /// Directories to be read.
    pub(crate) secrets: Vec<SecretDirectory>,
    /// What providers gave, in the order of their precedence.
    pub(crate) provided: Vec<Provided>,
    /// The overrides that hold.
    pub(crate) overrides: Arc<[Override]>,
}

/// Everything that was read.
pub(crate) struct Layers {
    pub(crate) sources: Sources,
    pub(crate) faults: Vec<ConfigFault>,
    /// What is accepted, but should be written otherwise.
    pub(crate) warnings: Vec<ConfigFault>,
    /// The first file, where a fault without a better place is reported.
    pub(crate) first_file: Option<Place>,
    files: Vec<Node>,
    secrets: Vec<Node>,
    /// Those of providers, the lowest first.
    provided: Vec<Node>,
    environment: Node,
    command_line: Node,
    overrides: Option<Node>,
}

impl Layers {
    /// Reads what needs nothing else to be found: files, or what was kept of them, environment and command line.
    pub(crate) fn begin(from: &ConfigurationSources, kept: Option<&[KeptFile]>, view: &SchemaView<'_>) -> Self {
        let (mut sources, mut faults) = (Sources::default(), Vec::new());
        let keys = KnownKeys::of(view.root());
        let mut total = files::Total::default();
        let mut trees: Vec<Node> = match kept {
            None => files::list(&from.files, &mut faults)
                .iter()
                .filter_map(|path| files::read(path, &keys, &mut total, &mut sources, &mut faults))
                .collect(),
            Some(kept) => kept
                .iter()
                .filter_map(|file| {
                    files::parse(
                        &file.path,
                        file.text.clone(),
                        &keys,
                        &mut total,
                        &mut sources,
                        &mut faults,
                    )
                })
                .collect(),
        };
        let first_file = trees.first().map(|tree| Place::new(tree.place.source, 0..0));
        for tree in &mut trees {
            annotate::annotate(tree, view, &mut sources);
        }
        let mut environment = assignments::environment(&from.environment, view, &mut sources, &mut faults);
        annotate::annotate(&mut environment, view, &mut sources);
        let mut command_line = assignments::command_line(&from.overrides, view, &mut sources, &mut faults);
        annotate::annotate(&mut command_line, view, &mut sources);
        let mut layers = Self {
            sources,
            faults,
            warnings: Vec::new(),
            first_file,
            files: trees,
            secrets: Vec::new(),
            provided: Vec::new(),
            environment,
            command_line,
            overrides: None,
        };
        layers.rename(view);
        layers
    }

    /// Gives keys their new names in all layers that were read by now.
    fn rename(&mut self, view: &SchemaView<'_>) {
        let given = [&mut self.environment, &mut self.command_line];
        let elsewhere = self.secrets.iter_mut().chain(&mut self.provided);
        let trees = self
            .files
            .iter_mut()
            .chain(elsewhere)
            .chain(given)
            .chain(&mut self.overrides);
        let mut findings = Findings {
            sources: &self.sources,
            faults: &mut self.faults,
            warnings: &mut self.warnings,
        };
        trees.for_each(|tree| renames::rename(tree, view, &mut findings));
    }

    /// Adds the layers that were found by what was read first.
    pub(crate) fn complete(&mut self, found: Found, view: &SchemaView<'_>) {
        for directory in &found.secrets {
            let mut tree = directory.read(view, &mut self.sources, &mut self.faults);
            bootstrap::refuse(&mut tree, "a secret", &self.sources, &mut self.faults);
            self.secrets.push(tree);
        }
        for provided in found.provided {
            let what = provided.name.clone();
            let mut tree = self.provided(provided);
            annotate::annotate(&mut tree, view, &mut self.sources);
            bootstrap::refuse(&mut tree, &what, &self.sources, &mut self.faults);
            self.provided.push(tree);
        }
        let (sources, faults) = (&mut self.sources, &mut self.faults);
        self.overrides = Some(overrides::layer(&found.overrides, view, sources, faults));
        self.rename(view);
        let mut warnings = std::mem::take(&mut self.warnings);
        self.trees()
            .for_each(|tree| renames::warn(tree, view, &self.sources, &mut warnings));
        warnings.truncate(MAXIMUM_REPORTED);
        self.warnings = warnings;
    }

    /// The layers, lowest first, without the built-in defaults.
    pub(crate) fn trees(&self) -> impl Iterator<Item = &Node> {
        let elsewhere = self.secrets.iter().chain(&self.provided);
        let given = [&self.environment, &self.command_line];
        self.files.iter().chain(elsewhere).chain(given).chain(&self.overrides)
    }

    /// The layers merged.
    pub(crate) fn merged(&self) -> Node {
        let mut merged = Node::table(Place::DEFAULT);
        self.trees().for_each(|tree| merged.overlay(tree));
        merged
    }

    fn provided(&mut self, provided: Provided) -> Node {
        let kind = SourceKind::Provider { name: provided.name };
        let mut tree = Node::table(Place::DEFAULT);
        let mut fail = |sources: &mut Sources, place: String, message: String| {
            let width = place.len();
            let source = sources.add(kind.clone(), place);
            let located = Located {
                place: Some(Place::new(source, 0..width)),
                ..Located::new(ConfigFaultKind::Unreadable, message)
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
        tree
    }
}
