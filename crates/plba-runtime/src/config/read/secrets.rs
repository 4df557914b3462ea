//! Directories of secrets: each file is one value, named by its key, as Kubernetes, Docker and systemd mount them. All of
//! these values count as secret, whatever their type: whoever mounts one as a secret says so. Which directories there are is
//! found in `bootstrap`.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use plba_contracts::config::Origin;

use super::annotate::annotate;
use super::layers::ConfigurationSources;
use super::sources::{Place, SourceKind, Sources};
use super::toml_file;
use super::tree::{Content, Node};
use crate::config::check::report::{ConfigFault, ConfigFaultKind, bare};
use crate::config::check::schema::SchemaView;

/// The largest file with a secret, in bytes.
pub const MAXIMUM_SECRET_SIZE: u64 = 128 * 1024;

/// How many files a directory of secrets may have.
pub const MAXIMUM_SECRETS: usize = 256;

/// How deep directories are looked into: a directory is a table.
const MAXIMUM_DEPTH: usize = 8;

/// How often a directory is read anew that is replaced while it is being read.
const MAXIMUM_READS: usize = 4;

/// The variable by which systemd says where a unit's credentials are.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// The link by which Kubernetes replaces all files of a volume at once.
const DATA: &str = "..data";

/// A directory with secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SecretDirectory {
    pub(crate) path: PathBuf,
    /// Whether all that is in it is configuration: then a name that is no key is a fault. systemd's directory also holds what
    /// is read otherwise.
    pub(crate) whole: bool,
}

impl SecretDirectory {
    /// Those that are configured and the service manager's, in the order of their precedence.
    pub(crate) fn all(configured: Option<&Path>, from: &ConfigurationSources) -> Vec<Self> {
        let credentials = from.environment.iter().find(|(name, _)| name == CREDENTIALS);
        let configured = configured.map(|path| Self {
            path: path.to_owned(),
            whole: true,
        });
        let credentials = credentials.filter(|(_, path)| !path.is_empty()).map(|(_, path)| Self {
            path: path.into(),
            whole: false,
        });
        configured.into_iter().chain(credentials).collect()
    }

    /// The layer of the directory.
    pub(crate) fn read(&self, view: &SchemaView<'_>, sources: &mut Sources, faults: &mut Vec<ConfigFault>) -> Node {
        let mut layer = Node::table(Place::DEFAULT);
        let found = match self.found() {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.whole => return layer,
            Err(error) => {
                let remedy = "mount it, give the user that runs this process the right to read it, or leave it out";
                faults.push(fault(
                    &self.path,
                    format!("the directory of secrets can't be read: {error}"),
                    remedy,
                ));
                return layer;
            }
        };
        if found.len() > MAXIMUM_SECRETS {
            let message = format!("more than {MAXIMUM_SECRETS} secrets in this directory");
            faults.push(fault(&self.path, message, "name a directory that holds nothing else"));
            return layer;
        }
        for (name, content) in found {
            let path = self.path.join(&name);
            let Some(key) = key(&name) else {
                if self.whole {
                    let remedy = "name it by its key, such as mail_order_bot.password";
                    faults.push(fault(&path, "the name of this file is no key".to_owned(), remedy));
                }
                continue;
            };
            if !self.whole && !view.child(&key[0]).is_known() {
                continue;
            }
            match content {
                Ok(text) => layer.overlay(&node(path, &key, &text, view, sources)),
                Err(message) => {
                    let remedy = "a secret is a readable file with a text in UTF-8";
                    faults.push(fault(&path, message, remedy));
                }
            }
        }
        annotate(&mut layer, view, sources);
        hide(&mut layer);
        layer
    }

    /// All files with what is in them, of one moment: who replaces the directory meanwhile is noticed.
    fn found(&self) -> io::Result<Vec<(PathBuf, Result<String, String>)>> {
        let target = || fs::read_link(self.path.join(DATA)).ok();
        let mut reads = 0;
        loop {
            reads += 1;
            let before = target();
            let root = match &before {
                Some(target) => self.path.join(target),
                None => self.path.clone(),
            };
            let mut found = Vec::new();
            let listed = list(&root, Path::new(""), 0, &mut found);
            if before == target() || reads == MAXIMUM_READS {
                listed?;
                found.sort_by(|(one, _), (other, _)| one.cmp(other));
                return Ok(found);
            }
        }
    }
}

/// The files below a directory, named from its root. What begins with a dot belongs to whoever mounts it.
fn list(root: &Path, below: &Path, depth: usize, found: &mut Vec<(PathBuf, Result<String, String>)>) -> io::Result<()> {
    for entry in fs::read_dir(root.join(below))? {
        let name = entry?.file_name();
        let hidden = name.as_encoded_bytes().starts_with(b".");
        if hidden || found.len() > MAXIMUM_SECRETS {
            continue;
        }
        let (name, path) = (below.join(&name), root.join(below).join(&name));
        match path.is_dir() {
            true if depth < MAXIMUM_DEPTH => list(root, &name, depth + 1, found)?,
            true => {}
            false => found.push((name, text(&path))),
        }
    }
    Ok(())
}

fn text(path: &Path) -> Result<String, String> {
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    };
    // Opening a pipe would wait for a writer.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err("not a regular file".to_owned());
    }
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAXIMUM_SECRET_SIZE + 1).read_to_end(&mut bytes));
    read.map_err(unreadable)?;
    if bytes.len() as u64 > MAXIMUM_SECRET_SIZE {
        return Err(format!("larger than {} KiB", MAXIMUM_SECRET_SIZE / 1024));
    }
    let text = String::from_utf8(bytes).map_err(|_| "not UTF-8".to_owned())?;
    // Files made by `echo` or an editor end in a line end that is no part of the secret.
    let text = text
        .strip_suffix('\n')
        .map_or(text.as_str(), |text| text.strip_suffix('\r').unwrap_or(text));
    match text.is_empty() {
        // Whoever mounts it may not be done yet.
        true => Err("the file is empty".to_owned()),
        false => Ok(text.to_owned()),
    }
}

/// The key that a file's name is: a directory is a table, and so is what stands before a dot.
fn key(name: &Path) -> Option<Vec<String>> {
    let part = |part: &OsStr| toml_file::parse_key(part.to_str()?);
    let parts: Option<Vec<Vec<String>>> = name.iter().map(part).collect();
    parts.map(|parts| parts.concat()).filter(|key| !key.is_empty())
}

/// Text where the schema wants text, to the last quote; else a TOML value.
fn node(path: PathBuf, key: &[String], text: &str, view: &SchemaView<'_>, sources: &mut Sources) -> Node {
    let place = Place::new(sources.add(SourceKind::Secret(path), String::new()), 0..0);
    let types = view.at(key);
    let types = types.types();
    let textual = types.contains("string") && types.iter().all(|name| matches!(*name, "string" | "null"));
    let parsed = toml_file::parse_value(text, place).filter(|_| !textual);
    let node = parsed.unwrap_or_else(|| Node::from_value(text.into(), place));
    node.at_path(key, place)
}

fn hide(node: &mut Node) {
    match &mut node.content {
        Content::Scalar(_) => node.secret = true,
        Content::List(items) => items.iter_mut().for_each(hide),
        Content::Table(entries) => entries.values_mut().for_each(hide),
    }
}

fn fault(path: &Path, message: String, remedy: &str) -> ConfigFault {
    ConfigFault {
        origin: Some(Origin::File {
            path: path.to_owned(),
            line: 1,
            column: 1,
        }),
        remedy: Some(remedy.to_owned()),
        ..bare(ConfigFaultKind::Unreadable, message)
    }
}
