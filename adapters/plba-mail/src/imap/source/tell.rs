//! Telling the server what is done: marks, proven, and where that is wanted the way to another folder; and then the ledger
//! that it is settled. What can't be done as configured is told to operators and hampers no intake.

use std::collections::BTreeSet;
use std::sync::Arc;

use tracing::{debug, warn};

use super::Fault;
use super::cursor::Cursor;
use super::shift::{KEYS, Open, Shift};
use crate::completions::{BATCH, untold};
use crate::imap::{ImapError, Moved};
use crate::location::{After, Mark};

/// How a connection's folder can be changed, by the configuration and by what the server offers.
#[derive(Debug, Default)]
pub(super) struct Means {
    /// What is set on messages that are done.
    marks: Vec<Mark>,
    /// Folders that messages are moved to, by their configured names, as they are called on the wire.
    targets: Vec<(String, String)>,
}

impl Shift<'_> {
    /// Checks that the open folder lets us do what is configured. Marks of the system's have to be possible; without one's
    /// own the source works too, and says so.
    pub(super) fn agree_on_means(&mut self, open: &mut Open) -> Result<(), Fault> {
        self.hampered.clear();
        let After { marks, done, errors } = &self.source.location.common.after;
        if self.source.location.common.after.changes_anything() {
            let system = marks.iter().filter(|mark| !matches!(mark, Mark::Keyword(_)));
            open.folder.require_writable(system.map(Mark::imap_flag))?;
        }
        let (kept, refused): (Vec<Mark>, Vec<Mark>) = marks
            .iter()
            .cloned()
            .partition(|mark| open.folder.keeps(mark.imap_flag()));
        if let Some(mark) = refused.first() {
            self.hamper(
                "mark",
                format!("the server keeps no keywords, so that {mark} is not set"),
            );
        }
        for option in [done.as_ref().map(|_| "move"), errors.as_ref().map(|_| "errors")]
            .into_iter()
            .flatten()
        {
            if !open.session.can_move() {
                let reason = "the server offers neither MOVE nor UIDPLUS, so that messages stay where they are";
                self.hamper(option, reason.to_owned());
            }
        }
        open.means = Means {
            marks: kept,
            targets: Vec::new(),
        };
        Ok(())
    }

    /// Says what can't be done as configured, once for as long as it stays so.
    fn hamper(&mut self, option: &'static str, reason: String) {
        let told = self.hampered.insert(option, reason.clone());
        if told.as_ref() != Some(&reason) {
            warn!(source = self.source.name, option, "{reason}");
        }
    }

    /// What does not work as configured.
    pub(super) fn hampered(&self) -> Option<String> {
        let reasons = self
            .hampered
            .iter()
            .map(|(option, reason)| format!("{option}: {reason}"));
        Some(reasons.collect::<Vec<_>>().join("; ")).filter(|text| !text.is_empty())
    }

    pub(super) async fn tell_unsettled(&mut self, open: &mut Open) -> Result<(), Fault> {
        self.unsettled = false;
        loop {
            let keys = self.intake.unsettled(KEYS).await?;
            if keys.is_empty() {
                return Ok(());
            }
            let all = keys.len();
            let told = self.tell(open, keys).await?;
            if told < all {
                // Some could not be proven; they come again with the next look.
                return Ok(());
            }
        }
    }

    /// Does what is configured with messages that are done, and settles those for which the server has shown it. Answers
    /// how many.
    ///
    /// A crash anywhere in it costs nothing but a repetition: what is marked is marked again, what was moved is not found
    /// and so is settled.
    pub(super) async fn tell(&mut self, open: &mut Open, keys: Vec<Arc<str>>) -> Result<usize, Fault> {
        let keys = untold(self.intake, keys).await?;
        if keys.is_empty() {
            return Ok(0);
        }
        let (aside, here): (Vec<_>, Vec<_>) = keys.iter().cloned().partition(|key| open.cursor.is_aside(key));
        // Keys from before a renumbering have no UID: there is nothing to do under that number.
        let mut uids: Vec<u32> = here.iter().filter_map(|key| open.cursor.uid(key)).collect();
        uids.sort_unstable();
        uids.dedup();
        let left: BTreeSet<u32> = self.finish(open, &uids).await?.into_iter().collect();
        let left_aside = self.finish_aside(open, &aside).await?;
        let is_told = |key: &Arc<str>| match open.cursor.uid(key) {
            _ if left_aside.contains(key) => false,
            Some(uid) => !left.contains(&uid),
            None => true,
        };
        let told: Vec<Arc<str>> = keys.into_iter().filter(is_told).collect();
        if !left.is_empty() || !left_aside.is_empty() {
            self.unsettled = true;
        }
        self.intake.settle(&told).await?;
        self.source.board.add_settled(told.len());
        let count = told.len();
        debug!(source = self.source.name, count, "told upstream of what is done");
        self.unforgotten.extend(told);
        self.forget(&open.cursor).await?;
        Ok(count)
    }

    /// Marks and moves done messages of the open folder; answers with those for which that could not be proven.
    pub(super) async fn finish(&mut self, open: &mut Open, uids: &[u32]) -> Result<Vec<u32>, Fault> {
        let mut left = Vec::new();
        let mut ready = uids.to_vec();
        let flags: Vec<&str> = open.means.marks.iter().map(Mark::imap_flag).collect();
        if !flags.is_empty() && !uids.is_empty() {
            let marked = match open.session.mark(uids, &flags, BATCH).await {
                Err(error @ (ImapError::Refused { .. } | ImapError::Unsupported { .. })) => {
                    self.hamper("mark", error.to_string());
                    return Ok(uids.to_vec());
                }
                marked => marked?,
            };
            if !marked.unproven.is_empty() {
                let (count, flags) = (marked.unproven.len(), flags.join(" "));
                warn!(
                    source = self.source.name,
                    count, "the server does not show {flags} on messages that were marked"
                );
            }
            ready = marked.marked;
            left = marked.unproven;
        }
        if let Some(done) = self.source.location.common.after.done.clone() {
            left.extend(self.move_to(open, "move", &done, &ready).await?.left);
            left.sort_unstable();
        }
        Ok(left)
    }

    /// Moves messages of the open folder to another one. Where that is refused they are all left, where it can never be
    /// none: then the rest of what is to be done with them is done.
    pub(super) async fn move_to(
        &mut self,
        open: &mut Open,
        option: &'static str,
        path: &str,
        uids: &[u32],
    ) -> Result<Moved, Fault> {
        if uids.is_empty() || !open.session.can_move() {
            return Ok(Moved::default());
        }
        match move_over(open, path, uids).await {
            Ok(moved) => {
                self.hampered.remove(option);
                Ok(moved)
            }
            Err(error @ (ImapError::Refused { .. } | ImapError::Unsupported { .. })) => {
                self.hamper(option, format!("messages can't be moved to `{path}`: {error}"));
                Ok(Moved {
                    left: uids.to_vec(),
                    ..Moved::default()
                })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Entries that the cursor covers need not be kept.
    pub(super) async fn forget(&mut self, cursor: &Cursor) -> Result<(), Fault> {
        let (covered, kept): (Vec<_>, Vec<_>) = self.unforgotten.drain(..).partition(|key| cursor.covers(key));
        self.unforgotten = kept;
        if !covered.is_empty() {
            self.intake.forget(&covered).await?;
        }
        Ok(())
    }
}

async fn move_over(open: &mut Open, path: &str, uids: &[u32]) -> Result<Moved, ImapError> {
    let known = open.means.targets.iter().find(|(known, _)| known == path);
    let target = match known {
        Some((_, target)) => target.clone(),
        None => {
            let target = open.session.target(path).await?;
            open.means.targets.push((path.to_owned(), target.clone()));
            target
        }
    };
    let moved = open.session.move_to(uids, &target, BATCH).await;
    if matches!(moved, Err(ImapError::Refused { .. })) {
        // Somebody may have removed it: looked for, or made, again the next time.
        open.means.targets.retain(|(known, _)| known != path);
    }
    moved
}
