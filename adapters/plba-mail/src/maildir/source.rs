//! A Maildir as a source of tasks. What has been taken in is what the ledger knows; there is no order in a Maildir on
//! which a cursor could rest, and the S flag is not ours alone. The work itself is in `keeper`.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use jiff::tz::TimeZone;
use plba_contracts::health::Health;
use plba_contracts::stop::StopSignal;
use plba_tasks::intake::{Intake, IntakeError};
use plba_tasks::ledger::SourceLedger;
use plba_tasks::source::{SourceError, SourceStatus, TaskSource};
use tracing::warn;

use super::folder::{Entry, Maildir, MaildirError};
use super::keeper::Keeper;
use super::watch::Watch;
use crate::board::Board;
use crate::completions::{Completions, pump};
use crate::location::MaildirLocation;
use crate::preview::{HEAD, Headline, Preview, PreviewError, SHOWN};
use crate::settings::SourceSettings;
use crate::since::Since;
use crate::sources::Again;

/// Takes in the messages of a Maildir and marks them as seen once they are done.
///
/// Deliveries are noticed through the operating system at once, and by looking every `interval` whatever happens.
///
/// The ledger has to remember every message for as long as its file exists: a ledger that keeps only so many settled
/// entries needs room for as many as the folder has files. Old mail is best moved elsewhere.
pub struct MaildirSource {
    pub(super) location: MaildirLocation,
    root: PathBuf,
    pub(super) name: String,
    pub(super) settings: SourceSettings,
    pub(super) board: Board,
}

/// Why a look at the folder ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error(transparent)]
    Folder(#[from] MaildirError),
    #[error(transparent)]
    Intake(#[from] IntakeError),
    #[error("the disk work was aborted: {0}")]
    Aborted(String),
    #[error("told to stop")]
    Stopped,
}

impl From<Fault> for SourceError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Intake(error) => error.into(),
            other => SourceError::transient(other),
        }
    }
}

impl MaildirSource {
    /// A source for this Maildir. Nothing is opened before it runs.
    pub fn new(location: MaildirLocation, settings: SourceSettings) -> Self {
        let root = settings.directory.join(&location.path);
        MaildirSource {
            name: location.name(&settings.directory),
            board: Board::new(Arc::clone(&settings.clock)),
            location,
            root,
            settings,
        }
    }

    /// The source's stable name: the absolute path.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn board(&self) -> &Board {
        &self.board
    }

    /// What a first start would take in now. Changes nothing.
    pub async fn preview(&self) -> Result<Preview, PreviewError> {
        self.look(self.location.common.since, None).await
    }

    /// What a resync would take in now: what the ledger does not know, which is what each look takes in.
    pub async fn preview_again(&self, ledger: &dyn SourceLedger, again: Again) -> Result<Preview, PreviewError> {
        let since = match again {
            Again::Unfinished => Since::All,
            Again::Since(since) => since,
        };
        self.look(since, Some(ledger)).await
    }

    async fn look(&self, since: Since, ledger: Option<&dyn SourceLedger>) -> Result<Preview, PreviewError> {
        let failed = |source| PreviewError {
            name: self.name.clone(),
            source,
        };
        let root = self.root.clone();
        let found = blocking(move || {
            let maildir = Maildir::open(root)?;
            let all = maildir.scan()?;
            let total = all.len() as u64;
            let wanted = all.into_iter().filter(|entry| is_wanted(&maildir, entry, since));
            Ok((total, wanted.collect::<Vec<Entry>>()))
        });
        let (total, mut wanted) = found.await.map_err(|fault| failed(fault.into()))?;
        if let Some(ledger) = ledger {
            let keys: Vec<Arc<str>> = wanted.iter().map(|entry| Arc::from(entry.key.as_str())).collect();
            let known = ledger.known(&self.name, &keys).await;
            let mut known = known.map_err(|error| failed(error.into()))?.into_iter();
            wanted.retain(|_| known.next().flatten().is_none());
        }
        let root = self.root.clone();
        let looked = blocking(move || {
            let maildir = Maildir::open(root)?;
            let mut first = Vec::new();
            for entry in wanted.iter().take(SHOWN) {
                let head = match maildir.head(entry, HEAD)? {
                    Some(head) => head,
                    None => continue,
                };
                first.push(Headline::read(entry.key.clone(), &head));
            }
            Ok((wanted.len() as u64, first))
        });
        let (count, first) = looked.await.map_err(|fault| failed(fault.into()))?;
        Ok(Preview {
            source: self.name.clone(),
            since: since.to_string(),
            total,
            count,
            first,
        })
    }

    async fn work(&self, intake: &Intake, completions: Completions, stop: &StopSignal) -> Result<(), Fault> {
        let root = self.root.clone();
        let maildir = blocking(move || Maildir::open(root)).await?;
        // Watched before the first look, so that nothing falls between the two.
        let watch = Watch::begin(&maildir);
        if let Err(error) = &watch {
            let seconds = self.location.common.interval.as_secs_f64();
            warn!(source = self.name, %error, "deliveries are not announced: looking every {seconds} s instead");
        }
        let mut keeper = Keeper {
            source: self,
            maildir,
            intake,
            stop,
            completions,
            handled: HashSet::new(),
        };
        keeper.begin().await?;
        loop {
            keeper.reconcile().await?;
            let hampered = watch.as_ref().err();
            self.board.reconciled(
                hampered.map(|error| format!("looking by the clock only: {error}")),
                None,
            );
            keeper.wait(watch.as_ref().ok()).await?;
        }
    }
}

#[async_trait]
impl TaskSource for MaildirSource {
    async fn run(&self, intake: Intake, stop: StopSignal) -> Result<(), SourceError> {
        let (sender, completions) = Completions::channel();
        let ended = tokio::select! {
            biased;
            ended = Box::pin(self.work(&intake, completions, &stop)) => ended,
            error = pump(&intake, sender) => Err(error.into()),
        };
        match ended {
            Ok(()) | Err(Fault::Stopped) => Ok(()),
            Err(fault) => {
                self.board.failed(Health::unhealthy(fault.to_string()));
                Err(fault.into())
            }
        }
    }

    fn status(&self) -> SourceStatus {
        self.board.snapshot()
    }
}

/// Whether a message that is there at the first start is in scope.
pub(super) fn is_wanted(maildir: &Maildir, entry: &Entry, since: Since) -> bool {
    match since {
        Since::Now => false,
        Since::Unseen => !entry.seen,
        Since::All => true,
        Since::Date(date) => {
            let Ok(begin) = date.to_zoned(TimeZone::system()) else {
                return true;
            };
            maildir
                .delivered(entry)
                .is_some_and(|at| at >= SystemTime::from(begin.timestamp()))
        }
    }
}

/// Runs disk work off the executor's threads.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, MaildirError> + Send + 'static,
) -> Result<T, Fault> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => Ok(result?),
        Err(error) => Err(Fault::Aborted(error.to_string())),
    }
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;
