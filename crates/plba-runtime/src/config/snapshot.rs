//! One configuration as it was read: immutable, numbered, with typed sections and the origin of every value. How it is
//! printed and explained lives beside; how it is read and replaced in `manager`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use plba_contracts::config::{ConfigProvider, Origin};
use plba_contracts::secret::MASK;
use plba_contracts::section::{ConfigSection, ErasedSection, SectionDefinition};
use serde_json::Value;

use crate::config::check::report::{ConfigFault, ConfigFaultKind, Located};
use crate::config::check::schema::SchemaView;
use crate::config::check::sections::Sections;
use crate::config::overrides::Override;
use crate::config::read::annotate::annotate;
use crate::config::read::assignments;
use crate::config::read::bootstrap::Bootstrap;
use crate::config::read::providers::ProviderLayer;
use crate::config::read::reader::OpenDatabase;
use crate::config::read::sources::{Place, Sources};
use crate::config::read::toml_file;
use crate::config::read::tree::{Node, dotted};
use crate::config::settings::ConfigSettings;
use crate::config::tell::default_file;
use crate::config::tell::explain::{self, ExplainError, Explanation};
use crate::config::tell::published;
use crate::config::tell::show::Shown;

/// A snapshot of the configuration.
///
/// `Debug` shows the generation only.
pub struct Configuration {
    pub(in crate::config) generation: u64,
    pub(in crate::config) sections: Sections,
    pub(in crate::config) definitions: Arc<[SectionDefinition]>,
    pub(in crate::config) schema: Arc<Value>,
    pub(in crate::config) sources: Sources,
    /// The built-in defaults.
    pub(in crate::config) defaults: Node,
    /// The layers above the defaults, lowest first.
    pub(in crate::config) layers: Vec<Node>,
    /// All layers and the defaults, merged.
    pub(in crate::config) effective: Node,
    /// What is accepted, but should be written otherwise.
    pub(in crate::config) warnings: Vec<ConfigFault>,
    /// The schema as others get it, once somebody has asked.
    pub(in crate::config) published: OnceLock<Value>,
    /// What was read first.
    pub(in crate::config) bootstrap: Bootstrap,
    /// What providers gave for it, the database's first.
    pub(in crate::config) provided: Vec<ProviderLayer>,
    /// The database that gave a layer.
    pub(in crate::config) database: Option<OpenDatabase>,
    /// The overrides that it was read with.
    pub(in crate::config) overrides: Arc<[Override]>,
    /// The directories of secrets that it was read from.
    pub(in crate::config) secrets: Vec<PathBuf>,
}

impl Configuration {
    /// Counts the configurations of this process: 1 at start, one more with each reload.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The state directory; `None` where no section has one.
    pub fn state_dir(&self) -> Option<&Path> {
        self.bootstrap.state_dir.as_deref()
    }

    /// The section `[platform.config]`, as it was read before the other layers.
    pub fn settings(&self) -> &ConfigSettings {
        &self.bootstrap.config
    }

    /// The provider of the database that `platform.config.database` names.
    pub fn database(&self) -> Option<&Arc<dyn ConfigProvider>> {
        self.database.as_ref().map(|database| &database.provider)
    }

    /// The overrides in it, the highest last.
    pub fn overrides(&self) -> &[Override] {
        &self.overrides
    }

    /// The directories of secrets that it was read from, for whoever watches them.
    pub fn secret_directories(&self) -> &[PathBuf] {
        &self.secrets
    }

    /// A value as it may be shown, were it that of this key; what belongs to no key may be a misspelt password.
    pub fn masked(&self, key: &str, value: &Value) -> Value {
        let Some(path) = toml_file::parse_key(key) else {
            return MASK.into();
        };
        let mut node = Node::from_value(value.clone(), Place::DEFAULT).at_path(&path, Place::DEFAULT);
        annotate(&mut node, &self.view(), &mut Sources::default());
        node.at(&path).map(Node::shown).unwrap_or_default()
    }

    /// The key and the value of `KEY=VALUE`: a TOML value, or text where the key wants text; `None` for what is no such
    /// assignment.
    pub fn assignment(&self, text: &str) -> Option<(String, Value)> {
        let (key, value) = text.split_once('=')?;
        let path = toml_file::parse_key(key)?;
        let node = assignments::value_of(value, Place::DEFAULT, &self.view().at(&path));
        Some((dotted(&path), node.value()))
    }

    /// The section of a table with its type erased, for handing to the module that declared it.
    pub fn section(&self, table: &str) -> Option<ErasedSection> {
        self.sections.get(table).cloned()
    }

    /// The section of a table.
    ///
    /// # Errors
    /// No such table was declared, or it was declared as another type.
    pub fn typed<T: ConfigSection>(&self, table: &str) -> Result<Arc<T>, SectionError> {
        let section = self.section(table).ok_or_else(|| SectionError::Undeclared {
            table: table.to_owned(),
        })?;
        section.downcast::<T>().map_err(|_| SectionError::OtherType {
            table: table.to_owned(),
            asked: std::any::type_name::<T>(),
        })
    }

    /// Every value's key and origin, in the order of keys. Lists count as one value.
    pub fn origins(&self) -> Vec<(String, Origin)> {
        let mut origins = Vec::new();
        self.collect_origins(&self.effective, &mut Vec::new(), &mut origins);
        origins
    }

    fn collect_origins(&self, node: &Node, path: &mut Vec<String>, origins: &mut Vec<(String, Origin)>) {
        match node.entries() {
            Some(entries) => {
                for (key, entry) in entries {
                    path.push(key.clone());
                    self.collect_origins(entry, path, origins);
                    path.pop();
                }
            }
            None => origins.push((dotted(path), self.sources.origin(node.place))),
        }
    }

    /// What was accepted, but should be written otherwise: former names of keys, and keys that are on their way out. Each is
    /// drawn as a fault is.
    pub fn warnings(&self) -> &[ConfigFault] {
        &self.warnings
    }

    /// The effective values with their origins, secrets masked: `Display` is TOML-like text, serialised it is JSON.
    pub fn show(&self) -> Shown {
        Shown::of(self)
    }

    /// Explains one key, such as `mail_order_bot.workers`: its value in every layer and which of them wins.
    ///
    /// # Errors
    /// No such key; the error suggests the nearest one.
    pub fn explain(&self, key: &str) -> Result<Explanation, ExplainError> {
        explain::explain(self, key)
    }

    /// The JSON schema of the whole configuration, for editors and other programs: draft 7, with the default and the unit of
    /// each key, and with former names of keys marked as deprecated.
    pub fn schema(&self) -> &Value {
        let published = || published::schema(&self.schema, &self.definitions);
        self.published.get_or_init(published)
    }

    /// A configuration file in TOML with every key, its description and its default.
    pub fn default_toml(&self) -> String {
        default_file::toml(&self.definitions, &self.schema)
    }

    /// Whether the table has another value than in `other`; origins don't count.
    pub fn differs_in(&self, other: &Self, table: &str) -> bool {
        let value = |configuration: &Self| configuration.effective.child(table).map(Node::value);
        value(self) != value(other)
    }

    /// Whether every value is the same as in `other`; origins don't count.
    pub fn has_values_of(&self, other: &Self) -> bool {
        self.effective.value() == other.effective.value()
    }

    /// The tables that have other values than in `other`, in the order of their declaration.
    pub fn tables_unlike(&self, other: &Self) -> Vec<String> {
        let tables = self.definitions.iter().map(|definition| &definition.table);
        tables.filter(|table| self.differs_in(other, table)).cloned().collect()
    }

    /// The same under another number.
    pub(in crate::config) fn numbered(self, generation: u64) -> Self {
        Self { generation, ..self }
    }

    /// Takes the sections over from `other` that have the same values there, so that whoever follows one sees by the pointer
    /// whether it has changed.
    pub(in crate::config) fn keeping_sections_of(mut self, other: &Self) -> Self {
        let changed = self.tables_unlike(other);
        let kept = other.sections.iter().filter(|(table, _)| !changed.contains(table));
        let kept = kept.map(|(table, section)| (table.clone(), Arc::clone(section)));
        self.sections.extend(kept);
        self
    }

    /// A fault of this key, with its place. For what can only be found once modules have assembled.
    pub(crate) fn fault(&self, path: &[&str], kind: ConfigFaultKind, message: String, remedy: String) -> ConfigFault {
        let path: Vec<String> = path.iter().map(|segment| (*segment).to_owned()).collect();
        let node = self.effective.at(&path);
        let fault = Located {
            place: node.map(|node| node.key.unwrap_or(node.place)),
            key: dotted(&path),
            remedy: Some(remedy),
            ..Located::new(kind, message)
        };
        fault.report(&self.sources)
    }

    /// The texts that it was read from.
    pub(in crate::config) fn sources(&self) -> &Sources {
        &self.sources
    }

    pub(in crate::config) fn view(&self) -> SchemaView<'_> {
        SchemaView::new(&self.schema)
    }
}

impl fmt::Debug for Configuration {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Configuration")
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

/// A section can't be handed out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SectionError {
    /// Nobody declared the table.
    #[error("no module has declared the table `{table}`; declare it before the configuration is loaded")]
    Undeclared {
        /// The table.
        table: String,
    },
    /// The table was declared as another type.
    #[error("the table `{table}` was not declared as {asked}; ask for the declared type")]
    OtherType {
        /// The table.
        table: String,
        /// The type that was asked for.
        asked: &'static str,
    },
}
