//! Messages of a Maildir that have ended as dead letters: moved to the errors folder, and found there when they are retried.
//! A message's key goes with its file, so that nothing has to be written down.

use std::sync::Arc;

use plba_tasks::intake::Arrival;
use tracing::info;

use super::folder::{Content, Entry};
use super::keeper::{KEYS, Keeper};
use super::source::{Fault, blocking};

/// How many dead letters are looked at.
const DEAD: usize = 10_000;

impl Keeper<'_> {
    /// Moves the messages of dead letters to the errors folder, if there is one.
    pub(super) async fn put_dead_aside(&mut self, entries: &[Entry]) -> Result<(), Fault> {
        let Some(name) = self.source.location.common.after.errors.clone() else {
            return Ok(());
        };
        let dead = self.intake.dead(DEAD).await?;
        let is_here = |key: &Arc<str>| entries.binary_search_by(|entry| entry.key.as_str().cmp(key)).is_ok();
        let dead: Vec<Arc<str>> = dead.into_iter().filter(is_here).collect();
        if dead.is_empty() {
            return Ok(());
        }
        let (maildir, count) = (self.maildir.clone(), dead.len());
        let folder = name.clone();
        blocking(move || {
            let errors = maildir.folder(&folder)?;
            maildir.finish(dead.iter().map(AsRef::as_ref), "", Some(&errors))
        })
        .await?;
        info!(source = self.source.name, count, folder = name, "moved dead letters");
        Ok(())
    }

    /// Publishes those of `keys` that lie in the errors folder: an operator retries them. Answers with the others.
    pub(super) async fn take_in_aside(&mut self, keys: Vec<Arc<str>>) -> Result<Vec<Arc<str>>, Fault> {
        let Some(name) = self.source.location.common.after.errors.clone() else {
            return Ok(keys);
        };
        debug_assert!(keys.len() <= KEYS, "asked of the ledger in portions");
        let (maildir, largest) = (self.maildir.clone(), self.source.location.common.max_message);
        let mut others = Vec::new();
        for key in keys {
            let (maildir, folder, wanted) = (maildir.clone(), name.clone(), Arc::clone(&key));
            let read = blocking(move || {
                let errors = maildir.folder(&folder)?;
                match errors.by_key()?.get(wanted.as_ref()) {
                    Some(entry) => errors.read(entry, largest),
                    None => Ok(Content::Gone),
                }
            });
            match read.await? {
                Content::Here(message) => {
                    let task = self.source.settings.task(message);
                    let published = self.intake.publish(vec![Arrival { key, task }]).await?;
                    self.source.board.add_published(published.published);
                }
                Content::TooLarge(size) => self.bury(key, size).await?,
                Content::Gone => others.push(key),
            }
        }
        Ok(others)
    }
}
