//! The mail sources of an application under the names of its configuration, so that views and workers find them.

use std::io;

use bytes::Bytes;
use plba_tasks::intake::note_name;
use plba_tasks::ledger::{LedgerError, SourceLedger};

use crate::open::MailSource;
use crate::since::{BadSince, Since};

/// Under which name a ledger keeps that a source is to look through its folder again.
pub(crate) const RESYNC: &str = "resync";

/// The mail sources of an application; a service for workers and views. Cheap to clone.
#[derive(Clone)]
pub struct MailSources(Vec<(String, MailSource)>);

/// No source can be meant by what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoSuchSource {
    /// There is none of this name.
    #[error("there is no source `{name}`; there are: {known}")]
    Unknown {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// There are several, and none was named.
    #[error("there are several sources; name one by --source: {known}")]
    Several {
        /// Their names.
        known: String,
    },
}

impl MailSources {
    /// These sources, each with its short name.
    pub fn new(sources: Vec<(String, MailSource)>) -> Self {
        MailSources(sources)
    }

    /// The source of this short name; without one the only one.
    ///
    /// # Errors
    /// There is none, or there are several; the message has the names.
    pub fn get(&self, name: Option<&str>) -> Result<&MailSource, NoSuchSource> {
        let names: Vec<&str> = self.0.iter().map(|(name, _)| name.as_str()).collect();
        let known = names.join(", ");
        let Some(name) = name else {
            return match self.0.as_slice() {
                [(_, only)] => Ok(only),
                _ => Err(NoSuchSource::Several { known }),
            };
        };
        let found = self.0.iter().find(|(other, _)| other == name);
        found.map(|(_, source)| source).ok_or_else(|| NoSuchSource::Unknown {
            name: name.to_owned(),
            known,
        })
    }

    /// The message with this key of the source that is called so in the ledger, if it is kept as it came because the server's
    /// answers about it can't be read.
    ///
    /// # Errors
    /// The file can't be read.
    pub async fn parked(&self, source: &str, key: &str) -> io::Result<Option<Bytes>> {
        for (_, known) in &self.0 {
            if let MailSource::Imap(known) = known
                && let Some(parked) = known.parked()
                && let Some(message) = parked.message(source, key).await?
            {
                return Ok(Some(message));
            }
        }
        Ok(None)
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &MailSource)> {
        self.0.iter().map(|(name, source)| (name.as_str(), source))
    }
}

/// What a resync looks for again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Again {
    /// Messages without the marks of done ones, whatever marks are configured.
    #[default]
    Unfinished,
    /// What a first connection would take in with this scope.
    Since(Since),
}

impl std::str::FromStr for Again {
    type Err = BadSince;

    fn from_str(text: &str) -> Result<Self, BadSince> {
        match text {
            "unfinished" => Ok(Again::Unfinished),
            since => since.parse().map(Again::Since),
        }
    }
}

impl std::fmt::Display for Again {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Again::Unfinished => out.write_str("unfinished"),
            Again::Since(since) => since.fmt(out),
        }
    }
}

impl MailSource {
    /// Asks for the folder to be looked through again: by the process that runs the source, be it this one, another one
    /// or the next one, since the wish is kept in the ledger that they share. Messages that the ledger knows as in hand,
    /// done or dead are left out; those it has forgotten, because they were done long ago, come again, and are recognised
    /// by their content if at all.
    ///
    /// # Errors
    /// The ledger can't be written.
    pub async fn resync(&self, ledger: &dyn SourceLedger, again: Again) -> Result<(), LedgerError> {
        // A Maildir is looked through whole each time.
        if let MailSource::Imap(_) = self {
            let name = note_name(self.name(), RESYNC);
            ledger.set_cursor(&name, &again.to_string()).await?;
        }
        self.wake();
        Ok(())
    }
}
