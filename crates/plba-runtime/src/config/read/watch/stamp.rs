//! What stood in all watched files at one time, as a hash of each: two stamps are equal if everything reads the same. What
//! can't be read has its reason for a content, so that a change of that is a change too.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::Watched;
use crate::config::read::files;
use crate::config::read::sources::Sources;

/// How many bytes of a file count: what is longer is refused whatever stands in it.
const READ: u64 = files::MAXIMUM_FILE_SIZE + 1;

/// How many files of secrets are looked at, and how deep: beyond both they are refused.
const MAXIMUM_SECRETS: usize = 512;
const MAXIMUM_DEPTH: usize = 8;

/// What was there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stamp(BTreeMap<PathBuf, Content>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    Text { hash: u64, length: u64 },
    Unreadable(io::ErrorKind),
}

impl Stamp {
    /// Reads what is there.
    pub(crate) fn read(watched: &Watched) -> Self {
        let mut faults = Vec::new();
        let listed = files::list(&watched.files, &mut faults);
        let mut found: BTreeMap<PathBuf, Content> = listed
            .into_iter()
            .map(|path| {
                let content = content(&path);
                (path, content)
            })
            .collect();
        for directory in watched.files.iter().filter(|path| path.is_dir()) {
            if let Err(error) = fs::read_dir(directory) {
                found.insert(directory.clone(), Content::Unreadable(error.kind()));
            }
        }
        for directory in &watched.secrets {
            secrets(directory, 0, &mut found);
        }
        Self(found)
    }

    /// What a configuration was read from, with the secrets as they are now.
    pub(crate) fn of(sources: &Sources, secrets: &[PathBuf]) -> Self {
        let secrets = Watched {
            files: Vec::new(),
            secrets: secrets.to_vec(),
        };
        let mut stamp = Self::read(&secrets);
        let texts = sources
            .files()
            .map(|(path, text)| (path.to_owned(), hashed(text.as_bytes())));
        stamp.0.extend(texts);
        stamp
    }

    /// The first path that is something else in `before`.
    pub(crate) fn difference(&self, before: &Self) -> Option<PathBuf> {
        let changed = self
            .0
            .iter()
            .find(|(path, content)| before.0.get(*path) != Some(content));
        let gone = || before.0.keys().find(|path| !self.0.contains_key(*path));
        changed.map(|(path, _)| path).or_else(gone).cloned()
    }

    /// Whether something could not be read for a reason that may pass without a notice, such as too many open files.
    pub(crate) fn is_in_trouble(&self) -> bool {
        let trouble = |content: &Content| match content {
            Content::Text { .. } => false,
            Content::Unreadable(kind) => *kind != io::ErrorKind::NotFound,
        };
        self.0.values().any(trouble)
    }
}

/// The files below a directory; those that begin with a dot belong to whoever mounts it.
fn secrets(directory: &Path, depth: usize, found: &mut BTreeMap<PathBuf, Content>) {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => {
            found.insert(directory.to_owned(), Content::Unreadable(error.kind()));
            return;
        }
    };
    for entry in entries.take(MAXIMUM_SECRETS).flatten() {
        let path = entry.path();
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        match path.is_dir() {
            true if depth < MAXIMUM_DEPTH => secrets(&path, depth + 1, found),
            true => {}
            false => {
                let content = content(&path);
                found.insert(path, content);
            }
        }
    }
}

fn content(path: &Path) -> Content {
    match bytes(path) {
        Ok(bytes) => hashed(bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&bytes)),
        Err(error) => Content::Unreadable(error.kind()),
    }
}

fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    // Opening a pipe would wait for a writer.
    if !fs::metadata(path)?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(READ).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The hash keeps no secret: it never leaves the process, and its key is no secret either.
fn hashed(bytes: &[u8]) -> Content {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    Content::Text {
        hash: hasher.finish(),
        length: bytes.len() as u64,
    }
}
