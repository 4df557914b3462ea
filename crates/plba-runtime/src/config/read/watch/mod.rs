//! Watches what configuration is read from, and says when it has become something else. What is done then is decided
//! elsewhere; here nothing is parsed.
//!
//! What counts is content. Notices of the system only say when to look, so an editor's rename, a swapped `..data` link, a file
//! that was only touched, or a file system that gives no notices are all the same: what is there is read, and compared with
//! what was there before.
//!
//! ```text
//! notice ───────────┐
//! 30 s (or 750 ms   ├──► look ──► the same? ──► wait
//! without notices) ─┘             another ──► look again until 100 ms are quiet, for 750 ms at most ──► tell
//! ```
//!
//! So a change is told within about a second, also while writes never cease; a writer that pauses for longer in the middle of
//! a file is read in the middle, which is why files should be written beside and renamed.

mod follow;
mod notices;
mod places;
mod stamp;

use std::path::PathBuf;
use std::time::Duration;

use plba_contracts::config::FilePath;
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

pub(crate) use self::follow::follow;
use self::notices::Notices;
pub(crate) use self::stamp::Stamp;
use super::layers::ConfigurationSources;
use super::secrets::SecretDirectory;
use crate::TARGET;
use crate::config::settings::ConfigSettings;

/// How long nothing may have happened before what is there is taken for whole.
const QUIET: Duration = Duration::from_millis(100);

/// How long quiet is waited for.
const PATIENCE: Duration = Duration::from_millis(750);

/// How often is looked where the system gives no notices, or something can't be read.
const LOOK: Duration = Duration::from_millis(750);

/// How often is looked nevertheless: some file systems give notices of what this machine does only.
const LOOK_ANYWAY: Duration = Duration::from_secs(30);

/// What is watched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Watched {
    /// Files, and directories of files in one of the known formats.
    pub(crate) files: Vec<PathBuf>,
    /// Directories whose files are secrets, each a value.
    pub(crate) secrets: Vec<PathBuf>,
}

impl Watched {
    /// What these sources are read from, by these settings.
    pub(crate) fn of(sources: &ConfigurationSources, settings: &ConfigSettings) -> Self {
        let configured = settings.secrets.as_ref().map(FilePath::as_path);
        let secrets = SecretDirectory::all(configured, sources);
        Self {
            files: sources.files.clone(),
            secrets: secrets.into_iter().map(|directory| directory.path).collect(),
        }
    }
}

/// Watches until it is dropped.
#[derive(Debug)]
pub(crate) struct FileWatch {
    watched: Watched,
    /// What was told last.
    seen: Stamp,
    /// `None` while it is looking.
    notices: Option<Notices>,
    /// Whether it was told that there are no notices.
    blind: bool,
    /// How notices are had.
    arm: Arm,
}

/// Has notices come from where the watched paths lead now.
type Arm = fn(&mut Notices, &Watched) -> Result<(), notify::Error>;

impl FileWatch {
    /// Watches these; `seen` is what was read of them, so that no change from then on is missed.
    pub(crate) fn new(watched: Watched, seen: Stamp) -> Self {
        Self {
            watched,
            seen,
            notices: Some(Notices::default()),
            blind: false,
            arm: Notices::arm,
        }
    }

    /// The same as if the system gave no notices.
    #[cfg(test)]
    pub(in crate::config) fn without_notices(mut self) -> Self {
        self.arm = |_, _| Err(notify::Error::generic("as the test has it"));
        self
    }

    /// Resolves with a path that is not what it was, once what is watched has come to rest. What comes while nobody waits is
    /// found by the next call; several changes are one.
    ///
    /// # Cancel safety
    /// A dropped call loses no change.
    pub(crate) async fn changed(&mut self) -> PathBuf {
        loop {
            let now = self.settled().await;
            if let Some(path) = now.difference(&self.seen) {
                self.seen = now;
                return path;
            }
            let pause = match self.blind || now.is_in_trouble() {
                true => LOOK,
                false => LOOK_ANYWAY,
            };
            self.noticed_within(pause).await;
        }
    }

    /// What is there, once it has come to rest.
    async fn settled(&mut self) -> Stamp {
        let began = Instant::now();
        let mut before = self.look().await;
        if before == self.seen {
            return before;
        }
        loop {
            let impatient = began.elapsed() >= PATIENCE;
            if self.noticed_within(QUIET).await && !impatient {
                continue;
            }
            let now = self.look().await;
            let writing = self.notices.as_ref().is_some_and(Notices::writing);
            if impatient || (now == before && !writing) {
                return now;
            }
            before = now;
        }
    }

    /// Waits for a notice; says whether there was one.
    async fn noticed_within(&self, span: Duration) -> bool {
        let noticed = async {
            match &self.notices {
                Some(notices) => notices.noticed().await,
                None => std::future::pending().await,
            }
        };
        timeout(span, noticed).await.is_ok()
    }

    /// Reads what is there, on a thread that may hang with its file system.
    async fn look(&mut self) -> Stamp {
        let mut notices = self.notices.take().unwrap_or_default();
        let (watched, arm) = (self.watched.clone(), self.arm);
        let looked = tokio::task::spawn_blocking(move || {
            // Notices first, so that nothing happens between the two.
            let armed = arm(&mut notices, &watched);
            (notices, armed, Stamp::read(&watched))
        });
        let Ok((notices, armed, stamp)) = looked.await else {
            return self.seen.clone();
        };
        self.notices = Some(notices);
        self.tell(armed);
        stamp
    }

    /// Says once that the system gives no notices, and once that it does again.
    fn tell(&mut self, armed: Result<(), notify::Error>) {
        let blind = armed.is_err();
        match armed {
            Err(error) if !self.blind => warn!(target: TARGET,
                "the system gives no notices of changed files ({error}), so the configuration is looked at every {} ms; \
                 fs.inotify.max_user_watches and max_user_instances may be too small",
                LOOK.as_millis()
            ),
            Ok(()) if self.blind => info!(target: TARGET, "the system gives notices of changed files again"),
            _ => {}
        }
        self.blind = blind;
    }
}
