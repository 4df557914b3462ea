//! Reads whole configurations: what is needed first, then those who provide values from elsewhere, then everything merged
//! and checked. It knows what runs only to go on with what was opened for it; publishing is the manager's.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use plba_contracts::config::{ConfigProvider, FilePath, Location, Origin};
use plba_contracts::section::SectionDefinition;
use serde_json::Value;

use super::annotate::annotate;
use super::bootstrap::Bootstrap;
use super::layers::{ConfigurationSources, Found, Layers};
use super::providers::{Answers, Outages};
use super::secrets::SecretDirectory;
use super::sources::{Place, Sources};
use super::tree::Node;
use crate::config::change::LastGood;
use crate::config::check::report::{ConfigFault, ConfigFaultKind, Located, bare};
use crate::config::check::schema::{self, SchemaView};
use crate::config::check::sections::Check;
use crate::config::overrides::Override;
use crate::config::snapshot::Configuration;

/// The provider of the configured database, and where it was configured to be.
#[derive(Clone)]
pub(crate) struct OpenDatabase {
    pub(crate) location: Location,
    pub(crate) provider: Arc<dyn ConfigProvider>,
}

/// Reads snapshots; knows nothing of the current one but what it is told.
pub(crate) struct Reader {
    pub(crate) definitions: Arc<[SectionDefinition]>,
    pub(crate) schema: Arc<Value>,
    pub(crate) sources: ConfigurationSources,
    pub(crate) outages: Outages,
}

impl Reader {
    pub(crate) fn new(definitions: Vec<SectionDefinition>, sources: ConfigurationSources) -> Self {
        Self {
            schema: Arc::new(schema::whole(&definitions)),
            definitions: definitions.into(),
            sources,
            outages: Outages::default(),
        }
    }

    /// Reads and checks everything. A provider that is down is stood in for by what it gave for `running`. A database that `running` has open, at the same location, is asked again; another one
    /// is opened.
    pub(crate) async fn read(
        self: &Arc<Self>,
        generation: u64,
        running: Option<&Configuration>,
    ) -> Result<Configuration, Vec<ConfigFault>> {
        self.read_from(None, generation, running).await
    }

    /// Reads and checks what was kept of files and providers, with all else as it is now. Providers aren't asked, but the
    /// database is opened for the next reload.
    pub(crate) async fn read_kept(self: &Arc<Self>, kept: Arc<LastGood>) -> Result<Configuration, Vec<ConfigFault>> {
        self.read_from(Some(kept), 1, None).await
    }

    async fn read_from(
        self: &Arc<Self>,
        kept: Option<Arc<LastGood>>,
        generation: u64,
        running: Option<&Configuration>,
    ) -> Result<Configuration, Vec<ConfigFault>> {
        // The state directory is locked for as long as a process runs, whatever a file says by now.
        let state_dir = running.and_then(Configuration::state_dir).map(Path::to_owned);
        let (reader, files) = (Arc::clone(self), kept.clone());
        let (mut layers, bootstrap, overrides) = blocking(move || {
            let (mut layers, bootstrap) = reader.begin(files.as_deref());
            let overrides = reader.overrides(state_dir.or(bootstrap.state_dir.clone()), &mut layers);
            (layers, bootstrap, overrides)
        })
        .await?;
        let database = self.database(&mut layers, &bootstrap, running);
        let providers = database.iter().map(|database| &database.provider);
        let providers = providers.chain(&self.sources.providers).cloned().collect();
        let before = running.map_or(&[][..], |running| &running.provided);
        let Answers {
            provided,
            layers: given,
        } = match &kept {
            Some(kept) => Answers::kept(providers, kept.provided()),
            None => self.outages.ask(providers, before).await,
        };
        let found = Found {
            secrets: SecretDirectory::all(bootstrap.config.secrets.as_ref().map(FilePath::as_path), &self.sources),
            provided,
            overrides,
        };
        let reader = Arc::clone(self);
        blocking(move || {
            let mut configuration = reader.assemble(layers, found, bootstrap, generation)?;
            configuration.database = database;
            configuration.provided = given;
            Ok(configuration)
        })
        .await?
    }

    /// What can be read without asking anybody, as far as it can be used: also of a configuration that is wrong.
    pub(crate) fn glimpse(&self) -> (Node, Bootstrap) {
        let (mut layers, bootstrap) = self.begin(None);
        let found = Found {
            secrets: SecretDirectory::all(bootstrap.config.secrets.as_ref().map(FilePath::as_path), &self.sources),
            provided: Vec::new(),
            overrides: self.overrides(bootstrap.state_dir.clone(), &mut layers),
        };
        let view = SchemaView::new(&self.schema);
        layers.complete(found, &view);
        let mut tree = self.defaults(&view);
        tree.overlay(&layers.merged());
        (tree, bootstrap)
    }

    /// Reads what needs nothing else to be found.
    pub(crate) fn begin(&self, kept: Option<&LastGood>) -> (Layers, Bootstrap) {
        let view = SchemaView::new(&self.schema);
        let layers = Layers::begin(&self.sources, kept.map(|kept| kept.files.as_slice()), &view);
        let mut tree = self.defaults(&view);
        tree.overlay(&layers.merged());
        (layers, Bootstrap::of(&tree))
    }

    /// The overrides that hold; what can't be read is a fault.
    fn overrides(&self, state_dir: Option<PathBuf>, layers: &mut Layers) -> Arc<[Override]> {
        let read = state_dir.map(|directory| self.sources.kept.in_effect(&directory));
        read.unwrap_or_else(|| Ok(Arc::default())).unwrap_or_else(|error| {
            layers.faults.push(ConfigFault {
                origin: Some(Origin::File {
                    path: error.path().to_owned(),
                    line: 1,
                    column: 1,
                }),
                remedy: Some(error.remedy().to_owned()),
                ..bare(ConfigFaultKind::Unreadable, error.to_string())
            });
            Arc::default()
        })
    }

    /// The provider of the configured database; what can't be opened is a fault.
    fn database(
        &self,
        layers: &mut Layers,
        bootstrap: &Bootstrap,
        running: Option<&Configuration>,
    ) -> Option<OpenDatabase> {
        let location = bootstrap.config.database.as_ref()?;
        let open = running.and_then(|running| running.database.as_ref());
        if let Some(open) = open.filter(|open| open.location == *location) {
            return Some(open.clone());
        }
        let opened = self.open(location);
        let refused = |(message, remedy): (String, String)| Located {
            place: bootstrap.database_place,
            key: "platform.config.database".to_owned(),
            remedy: Some(remedy),
            ..Located::new(ConfigFaultKind::Invalid, message)
        };
        match opened.map_err(refused) {
            Ok(provider) => Some(OpenDatabase {
                location: location.clone(),
                provider,
            }),
            Err(located) => {
                layers.faults.push(located.report(&layers.sources));
                None
            }
        }
    }

    /// Opens a database by its scheme, or says what is wrong and what would do.
    fn open(&self, location: &Location) -> Result<Arc<dyn ConfigProvider>, (String, String)> {
        let backends = &self.sources.backends;
        let scheme = location.scheme();
        let backend = backends.iter().find(|backend| backend.schemes().contains(&scheme));
        let schemes = backends.iter().flat_map(|backend| backend.schemes());
        let schemes: Vec<String> = schemes.map(|scheme| format!("`{scheme}:`")).collect();
        let remedy = match schemes.is_empty() {
            true => "this program was built without databases for settings; leave it out".to_owned(),
            false => format!("a location begins with its scheme; there are {}", schemes.join(", ")),
        };
        let Some(backend) = backend else {
            let message = match scheme {
                "" => "this is no location: its scheme is missing".to_owned(),
                scheme => format!("no database is known by the scheme `{scheme}:`"),
            };
            return Err((message, remedy));
        };
        let refused = |error: plba_contracts::BoxError| (plba_contracts::describe(error.as_ref()), remedy);
        backend.open(location).map_err(refused)
    }

    /// Merges and checks what was read.
    pub(crate) fn assemble(
        &self,
        mut layers: Layers,
        found: Found,
        bootstrap: Bootstrap,
        generation: u64,
    ) -> Result<Configuration, Vec<ConfigFault>> {
        let view = SchemaView::new(&self.schema);
        let overrides = Arc::clone(&found.overrides);
        let secrets = found.secrets.iter().map(|directory| directory.path.clone()).collect();
        layers.complete(found, &view);
        let merged = layers.merged();
        let check = Check {
            tree: &merged,
            definitions: &self.definitions,
            view: view.clone(),
            sources: &layers.sources,
            first_file: layers.first_file,
            partial: !layers.faults.is_empty(),
        };
        let mut faults = layers.faults.clone();
        let sections = check.run().map_err(|found| faults.extend(found)).ok();
        let Some(sections) = sections.filter(|_| faults.is_empty()) else {
            if !self.sources.kept.is_proposed() {
                faults.iter_mut().for_each(tell_of_unset);
            }
            return Err(faults);
        };
        let defaults = self.defaults(&view);
        let mut effective = defaults.clone();
        effective.overlay(&merged);
        Ok(Configuration {
            generation,
            sections,
            definitions: Arc::clone(&self.definitions),
            schema: Arc::clone(&self.schema),
            defaults,
            layers: layers.trees().cloned().collect(),
            sources: layers.sources,
            effective,
            warnings: layers.warnings,
            published: OnceLock::new(),
            bootstrap,
            database: None,
            provided: Vec::new(),
            overrides,
            secrets,
        })
    }

    fn defaults(&self, view: &SchemaView<'_>) -> Node {
        let tables = self.definitions.iter();
        let tables = tables
            .map(|definition| (definition.table.clone(), definition.defaults()))
            .collect();
        let mut defaults = Node::from_value(Value::Object(tables), Place::DEFAULT);
        annotate(&mut defaults, view, &mut Sources::default());
        defaults
    }
}

/// An override that is wrong by itself, such as after an update of the program, is not in any file that could be mended.
fn tell_of_unset(fault: &mut ConfigFault) {
    if matches!(fault.origin, Some(Origin::Override { .. })) {
        let how = "`config overrides` lists what was set, `config unset KEY` takes it back";
        fault.remedy = Some(match fault.remedy.take() {
            Some(remedy) => format!("{remedy}; {how}"),
            None => how.to_owned(),
        });
    }
}

/// Runs where a hanging file system stops nothing else. A section's own validation may panic; that must not take a running
/// process down.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Vec<ConfigFault>> {
    let panicked = |_| {
        vec![bare(
            ConfigFaultKind::Invalid,
            "a section's validation panicked".to_owned(),
        )]
    };
    tokio::task::spawn_blocking(work).await.map_err(panicked)
}

#[cfg(test)]
pub(in crate::config) mod tests_support {
    //! Reading without an executor, for tests that read thousands of configurations.

    use super::*;
    use crate::config::check::report::{ConfigReport, Consequence};

    /// Reads a configuration as a first load does, without providers.
    pub(in crate::config) fn assemble_by(reader: &Reader) -> Result<Configuration, ConfigReport> {
        let (layers, bootstrap) = reader.begin(None);
        reader
            .assemble(layers, Found::default(), bootstrap, 1)
            .map_err(|faults| ConfigReport::new(faults, Consequence::NothingStarted))
    }
}
