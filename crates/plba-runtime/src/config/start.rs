//! Which configuration a start takes when the one that is written is wrong, and that nothing which was deleted goes unnoticed.
//! The last good one itself is kept in `change`; drawing a plan from either is the blueprint's.
//!
//! `platform.config.on_invalid_start` decides, and `strict` is what counts unless something says otherwise: first what can be
//! read of files, environment and command line; then, where a file can't be read that might have said it, the last good
//! configuration itself.
//!
//! A file that the last good configuration was read from and that is gone makes a start invalid too, as far as settings would
//! fall back to their defaults by it: whoever deletes a file must not turn off what it turned on. A file that is there but is
//! named no more was left out on purpose. So was one that is gone while `config-last-good.json` is gone too. The same holds
//! for a process that runs: it takes such a change when somebody asks for it, not by watching.
//!
//! So is a configuration that was taken back before and is still what is written, where the last good one may stand in for it.
//! Where it may not, it is tried again, and told of.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use plba_contracts::section::SectionDefinition;

use super::change::{LastGood, LastGoodError};
use super::check::report::{ConfigFault, ConfigFaultKind, ConfigReport, Consequence, bare};
use super::check::schema::SchemaView;
use super::read::files;
use super::read::layers::ConfigurationSources;
use super::read::mask::KnownKeys;
use super::read::reader::Reader;
use super::read::sources::Sources;
use super::read::tree::{Content, Node, dotted};
use super::settings::OnInvalidStart;
use super::snapshot::Configuration;

/// How many settings a report names that a deleted file takes along.
const MAXIMUM_NAMED: usize = 5;

/// What a person should know of a start's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartDoubt {
    /// It is the last good one, because this is wrong with the one that is written.
    LastGood(String),
    /// It is the one that is written, though it was taken back before; this is when and why.
    TakenBack(String),
}

/// What can be known of a start before its configuration is valid.
pub(crate) struct FirstLook {
    /// The last good configuration.
    pub(crate) last_good: Result<Arc<LastGood>, LastGoodError>,
    policy: Option<OnInvalidStart>,
    /// Whether a source that might name the policy can't be read.
    incomplete: bool,
    state_dir: PathBuf,
}

impl FirstLook {
    /// Looks at what can be read, and for the last good configuration in the state directory that this names.
    pub(crate) async fn at(
        definitions: Vec<SectionDefinition>,
        sources: ConfigurationSources,
        application: &str,
    ) -> Self {
        let application = application.to_owned();
        let look = tokio::task::spawn_blocking(move || {
            let (layers, bootstrap) = Reader::new(definitions, sources).begin(None);
            let state_dir = bootstrap.state_dir.unwrap_or_default();
            let path = ["platform", "config", "on_invalid_start"].map(str::to_owned);
            let written = layers.merged().at(&path).map(|_| bootstrap.config.on_invalid_start);
            Self {
                last_good: LastGood::read(&state_dir, &application).map(Arc::new),
                policy: written,
                incomplete: !layers.faults.is_empty(),
                state_dir,
            }
        });
        look.await.unwrap_or_else(|_| Self {
            last_good: Err(LastGoodError::Missing(PathBuf::new())),
            policy: None,
            incomplete: false,
            state_dir: PathBuf::new(),
        })
    }

    /// What to do if the configuration is wrong.
    pub(crate) fn policy(&self) -> OnInvalidStart {
        let kept = self.last_good.as_ref().ok().filter(|_| self.incomplete);
        let kept = kept.map(|kept| kept.on_invalid_start);
        self.policy.or(kept).unwrap_or_default()
    }

    /// Compares the configuration that is written with the last good one: whether a file is gone without which settings are
    /// lost, and whether it is what was taken back. Gives the latter as a doubt where the policy doesn't make it an error.
    ///
    /// # Errors
    /// What is wrong, and what to do.
    pub(crate) fn compare(
        &self,
        configuration: &Configuration,
        roots: &[PathBuf],
    ) -> Result<Option<StartDoubt>, ConfigReport> {
        let Ok(kept) = &self.last_good else { return Ok(None) };
        let files = kept.files.iter().map(|file| (file.path.as_path(), file.text.as_str()));
        let remedy = format!(
            "put it back, or set them elsewhere; if it is meant to be gone, remove {}",
            self.state_dir.join(super::change::LAST_GOOD_FILE).display()
        );
        let mut faults = lost(files, configuration, &remedy);
        let taken_back = kept.took_back(configuration, roots);
        if let (Some(when), OnInvalidStart::LastGood) = (&taken_back, self.policy()) {
            let remedy = "change it; to try it all the same, start with --set platform.config.on_invalid_start=strict";
            faults.push(ConfigFault {
                remedy: Some(remedy.to_owned()),
                ..bare(
                    ConfigFaultKind::Vetoed,
                    format!("this configuration has failed before: {when}"),
                )
            });
        }
        match faults.is_empty() {
            true => Ok(taken_back.map(StartDoubt::TakenBack)),
            false => Err(ConfigReport::new(faults, Consequence::NothingStarted)),
        }
    }
}

/// The files that are gone since `before` was read and took settings along, as faults. Whoever asks for a reload deliberately
/// knows of it; a watcher, a provider or an override that is over doesn't.
pub(in crate::config) async fn lost_since(before: &Arc<Configuration>, now: &Arc<Configuration>) -> Vec<ConfigFault> {
    let (before, now) = (Arc::clone(before), Arc::clone(now));
    let remedy = "put it back, or set them elsewhere; if it is meant to be gone, reload by SIGHUP or `config reload`";
    let looked = tokio::task::spawn_blocking(move || lost(before.sources.files(), &now, remedy));
    looked.await.unwrap_or_default()
}

/// The files that are gone and took settings along, as faults.
fn lost<'a>(files: impl Iterator<Item = (&'a Path, &'a str)>, now: &Configuration, remedy: &str) -> Vec<ConfigFault> {
    let gone = files.filter(|(path, _)| now.sources.files().all(|(there, _)| there != *path) && !path.exists());
    let faults = gone.filter_map(|(path, text)| {
        let keys = KnownKeys::default();
        let (mut total, mut sources) = (files::Total::default(), Sources::default());
        let tree = files::parse(path, text.to_owned(), &keys, &mut total, &mut sources, &mut Vec::new())?;
        let mut keys = Vec::new();
        collect(&tree, now, &now.view(), &mut Vec::new(), &mut keys);
        (!keys.is_empty()).then(|| fault(path, &keys, remedy))
    });
    faults.collect()
}

/// Collects the settings of a file that nothing sets any more, and that were others than their defaults.
fn collect(node: &Node, now: &Configuration, view: &SchemaView<'_>, path: &mut Vec<String>, lost: &mut Vec<String>) {
    if let Content::Table(entries) = &node.content {
        for (key, entry) in entries {
            path.push(key.clone());
            collect(entry, now, &view.child(key), path, lost);
            path.pop();
        }
        return;
    }
    let is_set = || now.layers.iter().any(|layer| layer.at(path).is_some());
    let default = || now.defaults.at(path).map(Node::value).unwrap_or_default();
    if view.is_known() && !is_set() && node.value() != default() {
        lost.push(dotted(path));
    }
}

fn fault(path: &Path, keys: &[String], remedy: &str) -> ConfigFault {
    let named = keys.iter().take(MAXIMUM_NAMED).map(String::as_str);
    let mut named = named.collect::<Vec<_>>().join(", ");
    if let Some(more @ 1..) = keys.len().checked_sub(MAXIMUM_NAMED) {
        named += &format!(" and {more} more");
    }
    let message = format!("the file is gone, and without it these settings are lost: {named}");
    files::unreadable(path, message, remedy)
}
