//! Messages that have ended as dead letters: moved to the errors folder, remembered by their new places so that a retry
//! finds them there, and finished there when the retry has succeeded.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use plba_tasks::intake::Arrival;
use plba_tasks::ledger::EntryState;
use tracing::info;

use super::Fault;
use super::cursor::ASIDE;
use super::shift::{KEYS, Open, Shift};
use crate::completions::BATCH;
use crate::imap::{Body, Folder, ImapError, Place};

impl Shift<'_> {
    /// Moves the messages of dead letters to the errors folder, if there is one, and forgets those that are over.
    ///
    /// What is going to be moved is written down before: should the connection break between the move and the note of the
    /// new place, a retry says where to look instead of taking the message for deleted.
    pub(super) async fn put_dead_aside(&mut self, open: &mut Open) -> Result<(), Fault> {
        let Some(errors) = self.source.location.common.after.errors.clone() else {
            return Ok(());
        };
        if !open.session.can_move() {
            return Ok(());
        }
        let dead: BTreeSet<Arc<str>> = self.intake.dead(ASIDE).await?.into_iter().collect();
        self.forget_aside(open, &dead).await?;
        let fresh = dead
            .iter()
            .filter(|key| open.cursor.places.get(key.as_ref()).is_none_or(Option::is_none));
        let mut fresh: Vec<u32> = fresh.filter_map(|key| open.cursor.uid(key)).collect();
        fresh.sort_unstable();
        fresh.truncate(ASIDE.saturating_sub(open.cursor.places.len()));
        let present = open.session.existing(&fresh).await?;
        for uids in present.chunks(BATCH) {
            let keys: Vec<Arc<str>> = uids.iter().map(|&uid| open.cursor.key(uid)).collect();
            open.cursor
                .places
                .extend(keys.iter().map(|key| (key.to_string(), None)));
            open.cursor.save(self.intake).await?;
            let moved = self.move_to(open, "errors", &errors, uids).await?;
            for &uid in &moved.left {
                let key = open.cursor.key(uid);
                open.cursor.places.remove(key.as_ref());
            }
            for (&uid, place) in &moved.away {
                let key = open.cursor.key(uid);
                open.cursor.places.insert(key.to_string(), *place);
            }
            open.cursor.save(self.intake).await?;
            let count = moved.away.len();
            info!(source = self.source.name, count, folder = errors, "moved dead letters");
        }
        Ok(())
    }

    /// Forgets the places of messages that are no longer dead letters, nor being carried out again.
    async fn forget_aside(&mut self, open: &mut Open, dead: &BTreeSet<Arc<str>>) -> Result<(), Fault> {
        let keys = open.cursor.places.keys().map(|key| Arc::from(key.as_str()));
        let others: Vec<Arc<str>> = keys.filter(|key| !dead.contains(key)).collect();
        if others.is_empty() {
            return Ok(());
        }
        let known = self.intake.known(&others).await?;
        let before = open.cursor.places.len();
        for (key, known) in others.iter().zip(known) {
            if known.is_none_or(|known| known.state == EntryState::Settled) {
                open.cursor.places.remove(key.as_ref());
            }
        }
        if open.cursor.places.len() < before {
            open.cursor.save(self.intake).await?;
        }
        Ok(())
    }

    /// Fetches and publishes messages that an operator retries after they were put aside; those that are not to be found
    /// stay dead letters, with the reason.
    pub(super) async fn take_in_aside(&mut self, open: &mut Open, keys: &[Arc<str>]) -> Result<(), Fault> {
        if keys.is_empty() {
            return Ok(());
        }
        let folder = self.visit_errors(open).await?;
        let mut missing: Vec<Arc<str>> = Vec::new();
        let wanted = places(open, keys, folder.uid_validity, &mut missing);
        for (&uid, key) in &wanted {
            let described = open.session.describe(&[uid]).await?;
            let largest = self.source.location.common.max_message;
            let sizes = described
                .first()
                .and_then(|message| message.size)
                .map_or(largest, u64::from);
            let bodies = open.session.bodies(&[uid], sizes, largest + largest / 8 + 1024).await;
            // One that the server can't give ends the connection as in its own folder, and is buried by its own number.
            let bodies = match bodies {
                Ok(bodies) => bodies,
                Err(error) => {
                    let uid = open.cursor.uid(key).into_iter().collect::<Vec<u32>>();
                    return self.blame(&open.cursor, &uid, None, Err(error)).await;
                }
            };
            match bodies.into_iter().next() {
                Some((_, Body::Here(message))) => {
                    let (key, task) = (Arc::clone(key), self.source.settings.task(message));
                    self.publish(None, vec![Arrival { key, task }]).await?;
                }
                Some((_, Body::Gone)) | None => missing.push(Arc::clone(key)),
            }
        }
        self.leave_errors(open).await?;
        for key in missing {
            open.cursor.places.remove(key.as_ref());
            let reason = format!("the message is no longer in `{}`", folder.path());
            self.bury_key(key, format!("{reason}; put it back into the folder that is read"))
                .await?;
        }
        open.cursor.save(self.intake).await
    }

    /// Marks and moves done messages that were put aside; answers with those for which that could not be proven.
    pub(super) async fn finish_aside(
        &mut self,
        open: &mut Open,
        keys: &[Arc<str>],
    ) -> Result<BTreeSet<Arc<str>>, Fault> {
        if keys.is_empty() {
            return Ok(BTreeSet::new());
        }
        let folder = self.visit_errors(open).await?;
        let wanted = places(open, keys, folder.uid_validity, &mut Vec::new());
        let uids: Vec<u32> = wanted.keys().copied().collect();
        let left = self.finish(open, &uids).await?;
        self.leave_errors(open).await?;
        let left: BTreeSet<Arc<str>> = left.iter().filter_map(|uid| wanted.get(uid).cloned()).collect();
        for key in keys.iter().filter(|key| !left.contains(*key)) {
            open.cursor.places.remove(key.as_ref());
        }
        open.cursor.save(self.intake).await?;
        Ok(left)
    }

    /// Opens the errors folder instead of the one that is read.
    async fn visit_errors(&mut self, open: &mut Open) -> Result<Folder, Fault> {
        let after = &self.source.location.common.after;
        let path = after.errors.as_ref().unwrap_or(&self.source.location.folder);
        Ok(open.session.open_folder(path).await?)
    }

    /// Opens the folder again that is read.
    async fn leave_errors(&mut self, open: &mut Open) -> Result<(), Fault> {
        let folder = open.session.open_folder(&self.source.location.folder).await?;
        if folder.uid_validity != open.cursor.uid_validity {
            let reason = "the server has renumbered the folder meanwhile".to_owned();
            return Err(ImapError::Lost {
                command: "SELECT",
                reason,
            }
            .into());
        }
        open.folder = folder;
        Ok(())
    }

    /// Those of `keys` that were put aside, and the others. A place that was never told is none.
    pub(super) fn split_aside(&self, open: &Open, keys: Vec<Arc<str>>) -> (Vec<Arc<str>>, Vec<Arc<str>>) {
        debug_assert!(keys.len() <= KEYS, "asked of the ledger in portions");
        let has_place = |key: &Arc<str>| open.cursor.places.get(key.as_ref()).is_some_and(Option::is_some);
        keys.into_iter().partition(has_place)
    }
}

/// The UIDs in the errors folder of messages that were put aside; those without a place there are added to `missing`.
fn places(open: &Open, keys: &[Arc<str>], uid_validity: u32, missing: &mut Vec<Arc<str>>) -> BTreeMap<u32, Arc<str>> {
    let mut found = BTreeMap::new();
    for key in keys {
        match open.cursor.places.get(key.as_ref()) {
            Some(Some(Place {
                uid_validity: same,
                uid,
            })) if *same == uid_validity => {
                found.insert(*uid, Arc::clone(key));
            }
            _ => missing.push(Arc::clone(key)),
        }
    }
    found
}
