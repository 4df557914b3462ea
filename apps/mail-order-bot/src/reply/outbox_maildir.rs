//! The Maildir that replies are handed over to. Idempotent per [`OutboxId`]: the file's name is made from it, so handing
//! a reply over twice leaves one file, also when a mail program has already moved it to `cur/`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::store::OutboxId;

/// Ends the name of every file that is written here.
const SUFFIX: &str = ".mail-order-bot";
static NEXT_TEMPORARY: AtomicU64 = AtomicU64::new(0);

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

/// A Maildir for replies. Blocking; cheap to clone; any number of threads of one process may write to it.
#[derive(Debug, Clone)]
pub struct OutboxMaildir {
    root: PathBuf,
}

impl OutboxMaildir {
    /// Opens the Maildir, making it and its three directories if needed, and removes what interrupted writes of an
    /// earlier process left in `tmp/`.
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
        let outbox = Self { root: root.to_owned() };
        outbox.remove_leftovers().map_err(|source| OutboxMaildirError {
            path: root.join("tmp"),
            doing: "cannot remove what an interrupted write left",
            source,
        })?;
        Ok(outbox)
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
        // Two threads with the same reply write two temporary files and rename both to the one name.
        let number = NEXT_TEMPORARY.fetch_add(1, Ordering::Relaxed);
        let temporary = self.root.join("tmp").join(format!("{name}.{number}"));
        let target = self.root.join("new").join(&name);
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

    fn remove_leftovers(&self) -> io::Result<()> {
        for entry in fs::read_dir(self.root.join("tmp"))? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with("reply-") && name.contains(SUFFIX) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
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
    format!("reply-{id}{SUFFIX}")
}

/// A file that only its owner reads: replies name customers and prices.
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
        OutboxMaildir::open(scratch.path()).unwrap();
        let left_over = scratch.path().join("tmp").join(format!("{}.7", file_name(&id())));
        fs::write(left_over, "cut off by a crash").unwrap();
        let outbox = OutboxMaildir::open(scratch.path()).unwrap();
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
    fn many_threads_with_one_reply_leave_one_whole_file() {
        let scratch = Scratch::new("outbox-race");
        let outbox = OutboxMaildir::open(scratch.path()).unwrap();
        let message = vec![b'x'; 100_000];
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| outbox.deliver(&id(), &message).unwrap());
            }
        });
        assert_eq!(files(scratch.path(), "new"), [file_name(&id())]);
        assert!(files(scratch.path(), "tmp").is_empty());
        assert_eq!(
            fs::read(scratch.path().join("new").join(file_name(&id()))).unwrap(),
            message
        );
    }

    #[test]
    fn a_failure_names_the_place() {
        let scratch = Scratch::new("outbox-failure");
        fs::write(scratch.path().join("file"), "").unwrap();
        let error = OutboxMaildir::open(&scratch.path().join("file")).unwrap_err();
        assert!(error.to_string().contains("cannot make the directory"), "{error}");
    }
}
