//! A Maildir on disk: what is in it, delivering and reading a message. Everything here blocks on the disk, and everything
//! expects files to vanish or move at any moment, because other programs use the same folder. What becomes of messages
//! that are done is in `finish`.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

use super::name::Name;

/// A Maildir: a directory with `new`, `cur` and `tmp`. What is in `tmp` is still being written and never looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Maildir {
    root: PathBuf,
}

/// A message file as a scan found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The part of the file name that never changes: the message's identity.
    pub key: String,
    /// Where the file was.
    pub path: PathBuf,
    /// Whether the S flag is set.
    pub seen: bool,
}

/// What became of a message that was to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// The raw message.
    Here(Bytes),
    /// The file is larger than the limit; so many bytes.
    TooLarge(u64),
    /// The file has been deleted meanwhile.
    Gone,
}

/// What became of a message that was to be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivered {
    /// It is in `new` now.
    Now,
    /// It had been delivered before.
    AlreadyThere,
}

/// Why the folder can't be used.
#[derive(Debug, thiserror::Error)]
pub enum MaildirError {
    /// There is no Maildir at this path.
    #[error("{} is no Maildir: it has no directory `{missing}`; create new, cur and tmp in it or correct the path", root.display())]
    NotAMaildir {
        /// The path of the configuration.
        root: PathBuf,
        /// The directory that is missing.
        missing: &'static str,
    },
    /// The operating system refused.
    #[error("cannot {what} {}: {source}; check that it exists and its permissions", path.display())]
    Io {
        /// What was to be done.
        what: &'static str,
        /// To what.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

pub(super) fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> MaildirError {
    let path = path.to_path_buf();
    move |source| MaildirError::Io { what, path, source }
}

impl Maildir {
    /// Uses the Maildir at `root`, which must exist.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, MaildirError> {
        let root = root.into();
        for missing in ["new", "cur", "tmp"] {
            if !root.join(missing).is_dir() {
                return Err(MaildirError::NotAMaildir { root, missing });
            }
        }
        Ok(Maildir { root })
    }

    /// Uses the Maildir at `root` and makes what is missing of it.
    pub fn create(root: impl Into<PathBuf>) -> Result<Self, MaildirError> {
        let root = root.into();
        for part in ["new", "cur", "tmp"] {
            let path = root.join(part);
            fs::create_dir_all(&path).map_err(failed("create", &path))?;
        }
        Ok(Maildir { root })
    }

    /// The path of the configuration.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The directory of delivered messages that no mail program has seen yet.
    pub fn new_dir(&self) -> PathBuf {
        self.root.join("new")
    }

    /// The directory of messages that a mail program has seen, with their flags.
    pub fn cur_dir(&self) -> PathBuf {
        self.root.join("cur")
    }

    /// Delivers a message under a name of the caller's, durably: written in `tmp`, moved to `new` when it is whole. A
    /// message that is there already under this name, read or unread, stays as it is, so that delivering again after a
    /// crash makes no second copy.
    ///
    /// `unique` becomes the message's key: no `/`, `:` or leading dot, at most 200 bytes.
    pub fn deliver(&self, unique: &str, message: &[u8]) -> Result<Delivered, MaildirError> {
        let target = self.new_dir().join(unique);
        let bad =
            unique.is_empty() || unique.len() > 200 || unique.starts_with('.') || unique.contains(['/', ':', '\0']);
        if bad {
            return Err(failed("deliver under the name", &target)(
                io::ErrorKind::InvalidInput.into(),
            ));
        }
        if target.exists() || self.is_read(unique)? {
            return Ok(Delivered::AlreadyThere);
        }
        let written = self.root.join("tmp").join(unique);
        let write = || {
            // Only the owner reads mail.
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&written)?;
            file.write_all(message)?;
            file.sync_all()
        };
        write().map_err(failed("write", &written))?;
        fs::rename(&written, &target).map_err(failed("deliver", &target))?;
        self.sync()?;
        Ok(Delivered::Now)
    }

    /// Whether a message of this key lies in `cur`, with whatever flags.
    fn is_read(&self, unique: &str) -> Result<bool, MaildirError> {
        let current = self.cur_dir();
        for entry in fs::read_dir(&current).map_err(failed("list", &current))? {
            let entry = entry.map_err(failed("list", &current))?;
            let same = |name: &str| name.split(':').next() == Some(unique);
            if entry.file_name().to_str().is_some_and(same) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// All messages in `new` and `cur`, in the order of their keys, which begin with the time of delivery by convention.
    ///
    /// A message that is moved from `new` to `cur` meanwhile is found at least once and answered once.
    pub fn scan(&self) -> Result<Vec<Entry>, MaildirError> {
        let mut found = BTreeMap::new();
        // `cur` last: a file moves from `new` to `cur`, never back, so none slips through between the two looks.
        for directory in [self.new_dir(), self.cur_dir()] {
            for entry in fs::read_dir(&directory).map_err(failed("list", &directory))? {
                let entry = entry.map_err(failed("list", &directory))?;
                // Links and pipes are not messages; following them would read what nobody delivered.
                if !entry.file_type().is_ok_and(|kind| kind.is_file()) {
                    continue;
                }
                let file_name = entry.file_name();
                let file_name = file_name.to_string_lossy();
                let name = Name::parse(&file_name);
                if name.unique.is_empty() || name.unique.starts_with('.') {
                    continue;
                }
                let key = name.unique.to_owned();
                let seen = name.is_seen();
                let path = entry.path();
                found.insert(key.clone(), Entry { key, path, seen });
            }
        }
        Ok(found.into_values().collect())
    }

    /// Reads a message of at most `largest` bytes. A file that another program has renamed is found under its new name.
    pub fn read(&self, entry: &Entry, largest: u64) -> Result<Content, MaildirError> {
        match read_file(&entry.path, largest) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => return other.map_err(failed("read", &entry.path)),
        }
        let Some(moved) = self.find(&entry.key)? else {
            return Ok(Content::Gone);
        };
        match read_file(&moved.path, largest) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Content::Gone),
            other => other.map_err(failed("read", &moved.path)),
        }
    }

    /// Those of `keys` that are really gone. A listing can miss a file that is renamed meanwhile, so that one missing from
    /// a scan is looked for once more before anything is concluded from it.
    pub fn absent(&self, keys: Vec<Arc<str>>) -> Result<Vec<Arc<str>>, MaildirError> {
        if keys.is_empty() {
            return Ok(keys);
        }
        let present = self.by_key()?;
        Ok(keys
            .into_iter()
            .filter(|key| !present.contains_key(key.as_ref()))
            .collect())
    }

    /// The first bytes of a message; `None` if it is gone.
    pub fn head(&self, entry: &Entry, bytes: u64) -> Result<Option<Vec<u8>>, MaildirError> {
        let mut head = Vec::new();
        let read = File::open(&entry.path).and_then(|file| file.take(bytes).read_to_end(&mut head));
        match read {
            Ok(_) => Ok(Some(head)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", &entry.path)(error)),
        }
    }

    /// When the file of a message was last written; `None` if it is gone.
    pub fn delivered(&self, entry: &Entry) -> Option<SystemTime> {
        fs::metadata(&entry.path).and_then(|metadata| metadata.modified()).ok()
    }

    fn find(&self, key: &str) -> Result<Option<Entry>, MaildirError> {
        for _ in 0..2 {
            if let Some(found) = self.scan()?.into_iter().find(|entry| entry.key == key) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    pub(super) fn by_key(&self) -> Result<BTreeMap<String, Entry>, MaildirError> {
        Ok(self
            .scan()?
            .into_iter()
            .map(|entry| (entry.key.clone(), entry))
            .collect())
    }

    /// Makes the new names survive a crash of the machine.
    pub(super) fn sync(&self) -> Result<(), MaildirError> {
        for directory in [self.new_dir(), self.cur_dir()] {
            File::open(&directory)
                .and_then(|handle| handle.sync_all())
                .map_err(failed("sync", &directory))?;
        }
        Ok(())
    }
}

fn read_file(path: &Path, largest: u64) -> io::Result<Content> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    if size > largest {
        return Ok(Content::TooLarge(size));
    }
    let mut bytes = Vec::with_capacity(size as usize);
    // A file that grows while it is read was not delivered properly; the limit holds all the same.
    file.take(largest.saturating_add(1)).read_to_end(&mut bytes)?;
    match bytes.len() as u64 {
        size if size > largest => Ok(Content::TooLarge(size)),
        _ => Ok(Content::Here(bytes.into())),
    }
}
