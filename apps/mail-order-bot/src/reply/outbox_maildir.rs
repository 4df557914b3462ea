//! The Maildir that replies are handed over to. Idempotent per [`OutboxId`]: the file's name is made from it, so handing
//! a reply over twice leaves one file, also when a mail program has already moved it to `cur/`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::store::OutboxId;

/// What handing over did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivered {
    /// The reply was written to this file.
    Written(PathBuf),
    /// It was there before.
    AlreadyThere(PathBuf),
}

/// A failed hand-over. Nothing was left in `new/`; trying again is safe.
#[derive(Debug, thiserror::Error)]
#[error("outbox {}: {doing}: {source}", path.display())]
pub struct OutboxMaildirError {
    /// Where.
    pub path: PathBuf,
    /// What was tried.
    pub doing: &'static str,
    /// Why it failed.
    pub source: io::Error,
}

/// A Maildir for replies. Blocking; cheap to clone; several may write to the same directory.
#[derive(Debug, Clone)]
pub struct OutboxMaildir {
    root: PathBuf,
}

impl OutboxMaildir {
    /// Opens the Maildir, making it and its three directories if needed.
    ///
    /// # Errors
    /// [`OutboxMaildirError`] when they can't be made.
    pub fn open(root: &Path) -> Result<Self, OutboxMaildirError> {
        for directory in ["tmp", "new", "cur"] {
            let path = root.join(directory);
            fs::create_dir_all(&path).map_err(|source| OutboxMaildirError {
                path,
                doing: "cannot make the directory",
                source,
            })?;
        }
        Ok(Self { root: root.to_owned() })
    }

    /// Where it is.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Hands a reply over: when this returned `Ok`, the file is in `new/` (or `cur/`) and on the disk.
    ///
    /// # Errors
    /// [`OutboxMaildirError`]; the call may be repeated.
    pub fn deliver(&self, id: &OutboxId, message: &[u8]) -> Result<Delivered, OutboxMaildirError> {
        let name = file_name(id);
        if let Some(path) = self.find(&name)? {
            return Ok(Delivered::AlreadyThere(path));
        }
        let (temporary, target) = (self.root.join("tmp").join(&name), self.root.join("new").join(&name));
        let failed = |doing| {
            let path = temporary.clone();
            move |source| OutboxMaildirError { path, doing, source }
        };
        let mut file = open_private(&temporary).map_err(failed("cannot make the file"))?;
        file.write_all(message)
            .and_then(|()| file.sync_all())
            .map_err(failed("cannot write the file"))?;
        drop(file);
        fs::rename(&temporary, &target).map_err(failed("cannot move the file to new/"))?;
        // Without this the rename may be undone by a power loss after the reply was marked as sent.
        let directory = File::open(self.root.join("new")).and_then(|directory| directory.sync_all());
        directory.map_err(failed("cannot make the move durable"))?;
        Ok(Delivered::Written(target))
    }

    /// The reply's file in `new/` or, with whatever flags, in `cur/`.
    fn find(&self, name: &str) -> Result<Option<PathBuf>, OutboxMaildirError> {
        let fresh = self.root.join("new").join(name);
        if fresh.exists() {
            return Ok(Some(fresh));
        }
        let current = self.root.join("cur");
        let failed = |source| OutboxMaildirError {
            path: current.clone(),
            doing: "cannot list",
            source,
        };
        for entry in fs::read_dir(&current).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let base = entry.file_name().to_string_lossy().split(':').next().map(str::to_owned);
            if base.as_deref() == Some(name) {
                return Ok(Some(entry.path()));
            }
        }
        Ok(None)
    }
}

fn file_name(id: &OutboxId) -> String {
    format!("reply-{id}.mail-order-bot")
}

/// A file that only its owner reads: replies name customers and prices. A left-over of an interrupted write is replaced.
fn open_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    options.open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    fn id() -> OutboxId {
        OutboxId::parse("0123456789abcdef0123456789abcdef").unwrap()
    }

    fn files(root: &Path, directory: &str) -> Vec<String> {
        let entries = fs::read_dir(root.join(directory)).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect()
    }

    #[test]
    fn handing_over_twice_leaves_one_file() {
        let scratch = Scratch::new("outbox");
        let outbox = OutboxMaildir::open(scratch.path()).unwrap();
        fs::write(
            scratch.path().join("tmp").join(file_name(&id())),
            "left over by a crash, and much longer",
        )
        .unwrap();
        let Delivered::Written(path) = outbox.deliver(&id(), b"hello").unwrap() else {
            panic!("not written")
        };
        assert_eq!(fs::read(&path).unwrap(), b"hello");
        assert_eq!(
            outbox.deliver(&id(), b"hello").unwrap(),
            Delivered::AlreadyThere(path.clone())
        );

        fs::rename(
            &path,
            scratch.path().join("cur").join(format!("{}:2,S", file_name(&id()))),
        )
        .unwrap();
        assert!(matches!(
            outbox.deliver(&id(), b"hello").unwrap(),
            Delivered::AlreadyThere(_)
        ));
        assert!(files(scratch.path(), "new").is_empty() && files(scratch.path(), "tmp").is_empty());
        assert_eq!(files(scratch.path(), "cur").len(), 1);
    }

    #[test]
    fn a_failure_names_the_place() {
        let scratch = Scratch::new("outbox-failure");
        fs::write(scratch.path().join("file"), "").unwrap();
        let error = OutboxMaildir::open(&scratch.path().join("file")).unwrap_err();
        assert!(error.to_string().contains("cannot make the directory"), "{error}");
    }
}
