//! Telling the server what is done: `\Seen`, proven, and then settled in the ledger.

use std::sync::Arc;

use tracing::{debug, warn};

use super::Fault;
use super::cursor::Cursor;
use super::shift::{KEYS, Open, Shift};
use crate::completions::{BATCH, untold};

impl Shift<'_> {
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

    /// Marks done messages as seen, and settles those for which the server has shown it. Answers how many.
    pub(super) async fn tell(&mut self, open: &mut Open, keys: Vec<Arc<str>>) -> Result<usize, Fault> {
        let keys = untold(self.intake, keys).await?;
        if keys.is_empty() {
            return Ok(0);
        }
        let mut uids: Vec<u32> = keys.iter().filter_map(|key| open.cursor.uid(key)).collect();
        uids.sort_unstable();
        uids.dedup();
        let marked = open.session.mark_seen(&uids, BATCH).await?;
        if !marked.unproven.is_empty() {
            let count = marked.unproven.len();
            warn!(
                source = self.source.name,
                count, "the server does not show \\Seen on messages that were marked"
            );
            self.unsettled = true;
        }
        let proven = |key: &Arc<str>| match open.cursor.uid(key) {
            Some(uid) => marked.unproven.binary_search(&uid).is_err(),
            // From before a renumbering: there is nothing to mark under this number.
            None => true,
        };
        let told: Vec<Arc<str>> = keys.into_iter().filter(proven).collect();
        self.intake.settle(&told).await?;
        self.source.board.add_settled(told.len());
        debug!(source = self.source.name, count = told.len(), "marked as seen");
        let count = told.len();
        self.unforgotten.extend(told);
        self.forget(&open.cursor).await?;
        Ok(count)
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
