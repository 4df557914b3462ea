//! Mail sources by URL: the one place that knows which scheme is which source.

use std::sync::Arc;

use async_trait::async_trait;
use plba_contracts::stop::StopSignal;
use plba_tasks::intake::Intake;
use plba_tasks::ledger::SourceLedger;
use plba_tasks::source::{SourceError, SourceStatus, TaskSource};

use crate::board::{Board, LastError};
use crate::imap::{ConnectionStatus, ImapSource};
use crate::location::{BadLocation, Location};
use crate::maildir::MaildirSource;
use crate::preview::{Preview, PreviewError};
use crate::settings::SourceSettings;
use crate::sources::Again;

/// The schemes that [`open`] knows.
pub const SCHEMES: [&str; 3] = ["maildir", "imap", "imaps"];

/// A mail source of either kind. Cheap to clone.
#[derive(Clone)]
pub enum MailSource {
    /// A directory on this machine.
    Maildir(Arc<MaildirSource>),
    /// A folder on a server.
    Imap(Arc<ImapSource>),
}

/// Why there is no source: a fault of the configuration, to be reported before anything starts.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL can't be used.
    #[error(transparent)]
    Location(#[from] BadLocation),
    /// There is no password.
    #[error(
        "source `{name}` has no password; add password_file=FILE to its URL, or set the password in the environment"
    )]
    NoPassword {
        /// The source.
        name: String,
    },
}

/// Makes a source from its URL. Nothing is connected or read: a server that is down is no reason not to start.
///
/// # Errors
/// See [`OpenError`].
pub fn open(url: &str, settings: SourceSettings) -> Result<MailSource, OpenError> {
    match url.parse()? {
        Location::Maildir(location) => Ok(MailSource::Maildir(Arc::new(MaildirSource::new(location, settings)))),
        Location::Imap(location) => {
            if location.needs_password() && settings.password.is_none() {
                return Err(OpenError::NoPassword { name: location.name() });
            }
            Ok(MailSource::Imap(Arc::new(ImapSource::new(location, settings))))
        }
    }
}

impl MailSource {
    /// The source's stable name, which tells account and folder, or the path: name its intake by this, so that the
    /// ledger's entries belong to what they were taken from.
    pub fn name(&self) -> &str {
        match self {
            MailSource::Maildir(source) => source.name(),
            MailSource::Imap(source) => source.name(),
        }
    }

    /// What a first connection would take in now; changes nothing.
    ///
    /// # Errors
    /// The source can't be reached or opened; the message says what to do.
    pub async fn preview(&self) -> Result<Preview, PreviewError> {
        match self {
            MailSource::Maildir(source) => source.preview().await,
            MailSource::Imap(source) => source.preview().await,
        }
    }

    /// What a [resync](Self::resync) would take in now; changes nothing.
    ///
    /// # Errors
    /// As [`preview`](Self::preview), or the ledger can't be read.
    pub async fn preview_again(&self, ledger: &dyn SourceLedger, again: Again) -> Result<Preview, PreviewError> {
        match self {
            MailSource::Maildir(source) => source.preview_again(ledger, again).await,
            MailSource::Imap(source) => source.preview_again(ledger, again).await,
        }
    }

    /// The latest error in this process, also when all has been well since.
    pub fn last_error(&self) -> Option<LastError> {
        self.board().last_error()
    }

    /// Lets the source look at once, if it runs in this process.
    pub fn wake(&self) {
        self.board().wake();
    }

    fn board(&self) -> &Board {
        match self {
            MailSource::Maildir(source) => source.board(),
            MailSource::Imap(source) => source.board(),
        }
    }

    /// How the connection to the server is; `None` for a source that has none.
    pub fn connection(&self) -> Option<ConnectionStatus> {
        match self {
            MailSource::Maildir(_) => None,
            MailSource::Imap(source) => Some(source.connection()),
        }
    }

    /// As the port that source workers run.
    pub fn into_source(self) -> Arc<dyn TaskSource> {
        match self {
            MailSource::Maildir(source) => source,
            MailSource::Imap(source) => source,
        }
    }
}

#[async_trait]
impl TaskSource for MailSource {
    async fn run(&self, intake: Intake, stop: StopSignal) -> Result<(), SourceError> {
        match self {
            MailSource::Maildir(source) => source.run(intake, stop).await,
            MailSource::Imap(source) => source.run(intake, stop).await,
        }
    }

    fn status(&self) -> SourceStatus {
        match self {
            MailSource::Maildir(source) => source.status(),
            MailSource::Imap(source) => source.status(),
        }
    }
}
