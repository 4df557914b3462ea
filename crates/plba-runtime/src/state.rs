//! The state directory: made, checked and locked at start, so that one process owns it at a time; and how others find
//! out who that is. What is kept in it belongs to those who keep it.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

/// The file whose lock says who owns the directory.
const LOCK: &str = "lock.json";

/// The version of the directory's layout; a newer one is refused.
const VERSION: u32 = 1;

/// Who owns a state directory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Owner {
    /// Version of the directory's layout.
    pub version: u32,
    /// The application.
    pub application: String,
    /// Its process.
    pub pid: u32,
    /// When it took the directory.
    pub since: Timestamp,
    /// Where its control plane listens, once it does.
    pub control: Option<String>,
    /// Whether it is a command that gives the directory back in a moment.
    #[serde(default)]
    pub passing: bool,
}

/// How long a directory is waited for that a passing command owns.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is tried when the lock is taken by somebody who has not said yet who it is.
const LOCKING: &str = "locking";

/// How often it is asked for meanwhile.
const LOOK: Duration = Duration::from_millis(20);

/// A state directory, owned until this is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct StateDirectory {
    path: PathBuf,
    lock: File,
    owner: Owner,
}

/// Why the state directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another process owns it.
    #[error(
        "the state directory {} is in use by {} (process {}, since {}); stop that process, or choose another directory with \
         `--set platform.state_dir=DIRECTORY`", path.display(), owner.application, owner.pid, owner.since
    )]
    InUse {
        /// The directory.
        path: PathBuf,
        /// Who owns it.
        owner: Box<Owner>,
    },
    /// A newer program has written it.
    #[error(
        "the state directory {} was written by a newer version of this program (layout {found}, this program knows {VERSION}); \
         use that version, or choose another directory with `--set platform.state_dir=DIRECTORY`", path.display()
    )]
    Newer {
        /// The directory.
        path: PathBuf,
        /// The layout's version found.
        found: u32,
    },
    /// It can't be made, read or written.
    #[error(
        "the state directory can't be used: {doing} {}: {source}; make it writable for this user, or choose another directory \
         with `--set platform.state_dir=DIRECTORY`", path.display()
    )]
    Unusable {
        /// What was tried.
        doing: &'static str,
        /// The path concerned.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl StateDirectory {
    /// Makes the directory if need be, and takes it for as long as this process runs. A command that owns it for a
    /// moment is waited for, up to 10 s.
    ///
    /// # Errors
    /// Somebody else owns it, a newer program wrote it, or it can't be written.
    pub async fn lock(path: &Path, application: &str, now: Timestamp) -> Result<Self, StateError> {
        Self::wait(path, application, now, false).await
    }

    /// Takes the directory for one command: who wants to run on it waits that long.
    ///
    /// # Errors
    /// As [`lock`](Self::lock).
    pub async fn lock_passing(path: &Path, application: &str, now: Timestamp) -> Result<Self, StateError> {
        Self::wait(path, application, now, true).await
    }

    async fn wait(path: &Path, application: &str, now: Timestamp, passing: bool) -> Result<Self, StateError> {
        let limit = tokio::time::Instant::now() + PATIENCE;
        let mut looks = 0;
        loop {
            match Self::try_lock(path, application, now, passing) {
                Err(StateError::InUse { owner, .. }) if owner.passing && tokio::time::Instant::now() < limit => {}
                // Who only looks who the owner is holds the lock as well, for a moment.
                Err(StateError::InUse { .. }) if looks < 3 => {}
                // Who has just taken the lock writes its name next.
                Err(StateError::Unusable { doing: LOCKING, .. }) if looks < 10 => {}
                outcome => return outcome,
            }
            looks += 1;
            tokio::time::sleep(LOOK).await;
        }
    }

    fn try_lock(path: &Path, application: &str, now: Timestamp, passing: bool) -> Result<Self, StateError> {
        let unusable = |doing, path: &Path| {
            let path = path.to_owned();
            move |source| StateError::Unusable { doing, path, source }
        };
        // Orders, mails and tokens are nobody else's business. A directory that exists keeps the rights it has.
        let mut making = fs::DirBuilder::new();
        making
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(unusable("making", path))?;
        let file = path.join(LOCK);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o644);
        let mut lock = options.open(&file).map_err(unusable("opening", &file))?;
        let found = read(&mut lock);
        if let Err(error) = flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            return Err(match (error, found) {
                (rustix::io::Errno::WOULDBLOCK, Some(owner)) => StateError::InUse {
                    path: path.to_owned(),
                    owner: Box::new(owner),
                },
                (error, _) => unusable(LOCKING, &file)(error.into()),
            });
        }
        if let Some(found) = found.map(|owner| owner.version).filter(|version| *version > VERSION) {
            return Err(StateError::Newer {
                path: path.to_owned(),
                found,
            });
        }
        let application = application.to_owned();
        let owner = Owner {
            version: VERSION,
            application,
            pid: std::process::id(),
            since: now,
            control: None,
            passing,
        };
        let mut state = Self {
            path: path.to_owned(),
            lock,
            owner,
        };
        state.write().map_err(unusable("writing", &file))?;
        Ok(state)
    }

    /// Who owns the directory, if a live process does.
    pub fn owner(path: &Path) -> Option<Owner> {
        let mut lock = File::open(path.join(LOCK)).ok()?;
        match flock(&lock, FlockOperation::NonBlockingLockShared) {
            Err(rustix::io::Errno::WOULDBLOCK) => read(&mut lock),
            _ => None,
        }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Tells others where the control plane listens.
    ///
    /// # Errors
    /// The lock file can't be written.
    pub fn announce(&mut self, control: &str) -> std::io::Result<()> {
        self.owner.control = Some(control.to_owned());
        self.write()
    }

    fn write(&mut self) -> std::io::Result<()> {
        let text = serde_json::to_vec(&self.owner)?;
        // Never empty in between: somebody may be reading who the owner is. What is left of a longer text goes last.
        self.lock.rewind()?;
        self.lock.write_all(&text)?;
        self.lock.set_len(text.len() as u64)
    }
}

fn read(lock: &mut File) -> Option<Owner> {
    let mut text = String::new();
    lock.take(64 * 1024).read_to_string(&mut text).ok()?;
    // The first value counts; a longer text from before may not have been cut off yet.
    serde_json::Deserializer::from_str(&text).into_iter().next()?.ok()
}

/// Writes a file that only this user may read, whole or not at all.
///
/// # Errors
/// The file can't be written.
pub fn write_private(path: &Path, content: &[u8]) -> std::io::Result<()> {
    write_whole(path, content, 0o600)
}

/// Writes a file whole or not at all: readers see the old content or the new.
///
/// # Errors
/// The file can't be written.
pub fn write_public(path: &Path, content: &[u8]) -> std::io::Result<()> {
    write_whole(path, content, 0o644)
}

fn write_whole(path: &Path, content: &[u8], mode: u32) -> std::io::Result<()> {
    let draft = path.with_extension("new");
    // A draft left by a killed process may have other rights than the ones asked for here.
    let _ = fs::remove_file(&draft);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&draft)?;
    file.write_all(content)?;
    file.sync_data()?;
    fs::rename(&draft, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("plba-state-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        path
    }

    #[test]
    fn a_second_owner_is_told_who_the_first_is() {
        let path = directory("second");
        let mut first = StateDirectory::try_lock(&path, "bot", Timestamp::UNIX_EPOCH, false).unwrap();
        first.announce("http://127.0.0.1:8080").unwrap();
        let refused = StateDirectory::try_lock(&path, "bot", Timestamp::UNIX_EPOCH, false)
            .unwrap_err()
            .to_string();
        assert!(
            refused.contains(&format!("in use by bot (process {}", std::process::id())),
            "{refused}"
        );
        let owner = StateDirectory::owner(&path).unwrap();
        assert_eq!(owner.control.as_deref(), Some("http://127.0.0.1:8080"));
        drop(first);
        assert_eq!(StateDirectory::owner(&path), None);
        StateDirectory::try_lock(&path, "bot", Timestamp::UNIX_EPOCH, false).unwrap();
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn a_newer_layout_is_refused() {
        let path = directory("newer");
        fs::create_dir_all(&path).unwrap();
        let newer = r#"{"version":99,"application":"bot","pid":1,"since":"2026-01-01T00:00:00Z","control":null}"#;
        fs::write(path.join(LOCK), newer).unwrap();
        let refused = StateDirectory::try_lock(&path, "bot", Timestamp::UNIX_EPOCH, false)
            .unwrap_err()
            .to_string();
        assert!(refused.contains("newer version"), "{refused}");
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn a_path_that_is_a_file_is_one_clear_error() {
        let path = directory("file");
        fs::write(&path, "").unwrap();
        let refused = StateDirectory::try_lock(&path, "bot", Timestamp::UNIX_EPOCH, false)
            .unwrap_err()
            .to_string();
        assert!(
            refused.contains("making") && refused.contains("platform.state_dir"),
            "{refused}"
        );
        fs::remove_file(path).unwrap();
    }

    #[tokio::test]
    async fn somebody_who_only_looks_is_no_owner() {
        let path = directory("looking");
        drop(StateDirectory::try_lock(&path, "bot", Timestamp::UNIX_EPOCH, false).unwrap());
        let looking = File::open(path.join(LOCK)).unwrap();
        flock(&looking, FlockOperation::NonBlockingLockShared).unwrap();
        let mut taking = std::pin::pin!(StateDirectory::lock(&path, "bot", Timestamp::UNIX_EPOCH));
        assert!(futures_util::poll!(taking.as_mut()).is_pending());
        drop(looking);
        taking.await.unwrap();
        fs::remove_dir_all(&path).unwrap();
    }

    #[tokio::test]
    async fn a_passing_command_is_waited_for() {
        let path = directory("passing");
        let command = StateDirectory::lock_passing(&path, "bot", Timestamp::UNIX_EPOCH)
            .await
            .unwrap();
        let waiting = StateDirectory::lock(&path, "bot", Timestamp::UNIX_EPOCH);
        let mut waiting = std::pin::pin!(waiting);
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        drop(command);
        waiting.await.unwrap();
        fs::remove_dir_all(&path).unwrap();
    }
}
