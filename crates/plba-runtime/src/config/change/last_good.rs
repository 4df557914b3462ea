//! The last good configuration, kept for a start that finds a wrong one: the texts of the files and what providers gave. It is
//! `config-last-good.json` in the state directory. When it is kept is told by `records`, when it is used by `start`.
//!
//! Environment, command line, secrets mounted as files and overrides are not in it: they are read anew, as they belong to the
//! start, or are kept elsewhere. What files and providers hold of secrets is in it as it stands there, so only this user may
//! read it, and it isn't read if others may write it.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use plba_contracts::config::ProvidedValue;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::read::sources::SourceKind;
use crate::config::read::tree::{Content, Node};
use crate::config::settings::OnInvalidStart;
use crate::config::snapshot::Configuration;

/// The file in the state directory.
pub(crate) const FILE: &str = "config-last-good.json";

/// The version of its form; a newer one is not read.
const VERSION: u32 = 1;

/// The largest configuration that is kept, in bytes as it is written.
pub(crate) const MAXIMUM_KEPT: u64 = 16 * 1024 * 1024;

/// A configuration with which the process has worked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct LastGood {
    version: u32,
    /// Whose it is.
    pub(crate) application: String,
    /// Since when it has been the last good one.
    pub(crate) at: Timestamp,
    /// What is to be done at a start whose files can't even tell that.
    pub(crate) on_invalid_start: OnInvalidStart,
    /// The files, in the order in which they were read.
    pub(crate) files: Vec<KeptFile>,
    /// What providers gave, in the order of their layers.
    pub(crate) providers: Vec<KeptLayer>,
    /// The one that was taken back for it last, and may still be what is written.
    #[serde(default)]
    taken_back: Option<TakenBack>,
}

/// A configuration that has failed its probation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct TakenBack {
    at: Timestamp,
    reason: String,
    files: Vec<KeptFile>,
    providers: Vec<KeptLayer>,
}

/// A file as it was read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct KeptFile {
    /// As it was named.
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

/// What one provider gave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct KeptLayer {
    pub(crate) name: String,
    values: Vec<KeptValue>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct KeptValue {
    path: Vec<String>,
    value: Value,
    place: String,
}

/// Why the last good configuration can't be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LastGoodError {
    /// There is none.
    #[error("there is none yet: {} is written once the process has worked with one", .0.display())]
    Missing(PathBuf),
    /// It can't be read.
    #[error("{} can't be read: {reason}", path.display())]
    Unreadable { path: PathBuf, reason: String },
}

impl LastGood {
    /// What of a configuration is kept. `roots` are the files and directories it was read from.
    pub(crate) fn of(
        configuration: &Configuration,
        roots: &[PathBuf],
        application: &str,
        on_invalid_start: OnInvalidStart,
        at: Timestamp,
    ) -> Self {
        Self {
            version: VERSION,
            application: application.to_owned(),
            at,
            on_invalid_start,
            files: files_of(configuration, roots),
            providers: providers_of(configuration),
            taken_back: None,
        }
    }

    /// The same, and that `failed` was taken back for it.
    pub(crate) fn instead_of(&self, failed: &Configuration, roots: &[PathBuf], reason: &str, at: Timestamp) -> Self {
        let taken_back = TakenBack {
            at,
            reason: reason.to_owned(),
            files: files_of(failed, roots),
            providers: providers_of(failed),
        };
        Self {
            taken_back: Some(taken_back),
            ..self.clone()
        }
    }

    /// When and why this configuration was taken back, if it was: then files and providers say what they said then.
    pub(crate) fn took_back(&self, configuration: &Configuration, roots: &[PathBuf]) -> Option<String> {
        let taken_back = self.taken_back.as_ref()?;
        let same =
            taken_back.files == files_of(configuration, roots) && taken_back.providers == providers_of(configuration);
        same.then(|| format!("it was taken back at {:.0}: {}", taken_back.at, taken_back.reason))
    }

    /// Whether the other one says the same.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        let at = self.at;
        *self == Self { at, ..other.clone() }
    }

    /// As it is written.
    ///
    /// # Errors
    /// It is too large, or the name of a file is no text.
    pub(crate) fn encoded(&self) -> Result<Vec<u8>, String> {
        let text = serde_json::to_vec(self).map_err(|error| error.to_string())?;
        match text.len() as u64 > MAXIMUM_KEPT {
            true => Err(format!("it is larger than {} MiB", MAXIMUM_KEPT / 1024 / 1024)),
            false => Ok(text),
        }
    }

    /// Reads the one in this state directory.
    ///
    /// # Errors
    /// There is none, or it isn't one that this program and this user may trust.
    pub(crate) fn read(directory: &Path, application: &str) -> Result<Self, LastGoodError> {
        let path = directory.join(FILE);
        let unreadable = |reason: String| LastGoodError::Unreadable {
            path: path.clone(),
            reason,
        };
        let text = match text(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(LastGoodError::Missing(path)),
            text => text.map_err(|error| unreadable(error.to_string()))?,
        };
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let versioned: Versioned = serde_json::from_slice(&text).map_err(|error| unreadable(error.to_string()))?;
        if versioned.version > VERSION {
            let found = versioned.version;
            return Err(unreadable(format!(
                "a newer version of this program has written it (form {found}, this program knows {VERSION})"
            )));
        }
        let kept: Self = serde_json::from_slice(&text).map_err(|error| unreadable(error.to_string()))?;
        match kept.application == application {
            true => Ok(kept),
            false => Err(unreadable(format!("it is that of {}", kept.application))),
        }
    }

    /// What providers gave, by their names.
    pub(crate) fn provided(&self) -> Vec<(String, Vec<ProvidedValue>)> {
        let value = |kept: &KeptValue| ProvidedValue {
            path: kept.path.clone(),
            value: kept.value.clone(),
            place: kept.place.clone(),
        };
        let layer = |layer: &KeptLayer| (layer.name.clone(), layer.values.iter().map(value).collect());
        self.providers.iter().map(layer).collect()
    }
}

fn files_of(configuration: &Configuration, roots: &[PathBuf]) -> Vec<KeptFile> {
    let named = |path: &Path| {
        let within = |root: &PathBuf| root == path || path.parent() == Some(root.as_path());
        roots.iter().any(within)
    };
    let files = configuration.sources.files().filter(|(path, _)| named(path));
    let files = files.map(|(path, text)| KeptFile {
        path: path.to_owned(),
        text: text.to_owned(),
    });
    files.collect()
}

fn providers_of(configuration: &Configuration) -> Vec<KeptLayer> {
    let mut providers = Vec::new();
    for layer in &configuration.layers {
        collect(layer, configuration, &mut Vec::new(), &mut providers);
    }
    providers
}

/// Collects what providers gave, value by value.
fn collect(node: &Node, configuration: &Configuration, path: &mut Vec<String>, providers: &mut Vec<KeptLayer>) {
    if let Content::Table(entries) = &node.content
        && !entries.is_empty()
    {
        for (key, entry) in entries {
            path.push(key.clone());
            collect(entry, configuration, path, providers);
            path.pop();
        }
        return;
    }
    let SourceKind::Provider { name } = configuration.sources.kind(node.place.source) else {
        return;
    };
    let value = KeptValue {
        path: path.clone(),
        value: node.value(),
        place: configuration.sources.text(node.place.source).to_owned(),
    };
    match providers.iter_mut().find(|layer| layer.name == *name) {
        Some(layer) => layer.values.push(value),
        None => providers.push(KeptLayer {
            name: name.clone(),
            values: vec![value],
        }),
    }
}

/// The file's content, if nobody but this user can have written it.
fn text(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let found = file.metadata()?;
    let own = found.uid() == rustix::process::geteuid().as_raw();
    if !own || found.mode() & 0o022 != 0 {
        return Err(io::Error::other("others than this user may write it"));
    }
    if !found.is_file() || found.len() > MAXIMUM_KEPT {
        return Err(io::Error::other("it is not what this program writes"));
    }
    let mut text = Vec::new();
    file.by_ref().take(MAXIMUM_KEPT).read_to_end(&mut text)?;
    Ok(text)
}
