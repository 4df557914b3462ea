//! Marking messages as seen, and proving it. An `OK` proves nothing: it is also the answer for messages that are gone.

use std::collections::BTreeMap;

use super::error::ImapError;
use super::fetch::{MAX_UIDS, merge};
use super::session::ImapSession;
use super::uid_set::leading_set;

/// What is certain after marking.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marked {
    /// The server showed `\Seen` for these, ascending.
    pub seen: Vec<u32>,
    /// These no longer exist: there is nothing left to mark.
    pub gone: Vec<u32>,
    /// These exist and the server does not show `\Seen` for them: try again.
    pub unproven: Vec<u32>,
}

impl ImapSession {
    /// Sets `\Seen` on `uids` (ascending; RFC 9051 section 6.4.6), in commands of at most `batch`, and believes only what
    /// the server shows: the FETCH responses to the STORE, and for those without one a second look.
    pub async fn mark_seen(&mut self, uids: &[u32], batch: usize) -> Result<Marked, ImapError> {
        let mut marked = Marked::default();
        let mut rest = uids;
        while !rest.is_empty() {
            let (set, taken) = leading_set(rest, batch.clamp(1, MAX_UIDS));
            self.mark_set(&rest[..taken], &set, &mut marked).await?;
            rest = &rest[taken..];
        }
        Ok(marked)
    }

    async fn mark_set(&mut self, uids: &[u32], set: &str, marked: &mut Marked) -> Result<(), ImapError> {
        let mut shown = BTreeMap::new();
        let line = format!("UID STORE {set} +FLAGS (\\Seen)");
        self.run("UID STORE", &line, self.timing().command, |response| {
            merge(&mut shown, response);
        })
        .await?;
        let (seen, silent): (Vec<u32>, Vec<u32>) = uids
            .iter()
            .partition(|uid| shown.get(uid).is_some_and(|message| message.seen));
        marked.seen.extend(seen);
        if silent.is_empty() {
            return Ok(());
        }
        let now: BTreeMap<u32, bool> = self
            .describe(&silent)
            .await?
            .into_iter()
            .map(|message| (message.uid, message.seen))
            .collect();
        for uid in silent {
            match now.get(&uid) {
                Some(true) => marked.seen.push(uid),
                Some(false) => marked.unproven.push(uid),
                None => marked.gone.push(uid),
            }
        }
        marked.seen.sort_unstable();
        Ok(())
    }
}
