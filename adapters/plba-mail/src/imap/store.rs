//! Marking messages, and proving it. An `OK` proves nothing: it is also the answer for messages that are gone.

use std::collections::BTreeMap;

use async_imap::imap_proto::{AttributeValue, Response};

use super::error::ImapError;
use super::fetch::{MAX_UIDS, uid_of};
use super::session::ImapSession;
use super::uid_set::leading_set;

/// What is certain after marking.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marked {
    /// The server showed all the flags on these, ascending.
    pub marked: Vec<u32>,
    /// These no longer exist: there is nothing left to mark.
    pub gone: Vec<u32>,
    /// These exist and the server does not show the flags on them: try again.
    pub unproven: Vec<u32>,
}

/// Flags that the server has shown, by UID.
type Shown = BTreeMap<u32, Vec<String>>;

impl ImapSession {
    /// Sets `flags`, such as `\Seen`, on `uids` (ascending; RFC 9051 section 6.4.6), in commands of at most `batch`, and
    /// believes only what the server shows: the FETCH responses to the STORE, and for those without one a second look.
    pub async fn mark(&mut self, uids: &[u32], flags: &[&str], batch: usize) -> Result<Marked, ImapError> {
        let mut marked = Marked::default();
        let mut rest = uids;
        while !rest.is_empty() {
            let (set, taken) = leading_set(rest, batch.clamp(1, MAX_UIDS));
            self.mark_set(&rest[..taken], &set, flags, &mut marked).await?;
            rest = &rest[taken..];
        }
        Ok(marked)
    }

    async fn mark_set(
        &mut self,
        uids: &[u32],
        set: &str,
        flags: &[&str],
        marked: &mut Marked,
    ) -> Result<(), ImapError> {
        let mut shown = Shown::new();
        let line = format!("UID STORE {set} +FLAGS ({})", flags.join(" "));
        self.run("UID STORE", &line, self.timing().command, |response| {
            note_flags(&mut shown, response);
        })
        .await?;
        let has_all = |shown: &[String]| {
            flags
                .iter()
                .all(|flag| shown.iter().any(|shown| shown.eq_ignore_ascii_case(flag)))
        };
        let (proven, silent): (Vec<u32>, Vec<u32>) = uids
            .iter()
            .partition(|uid| shown.get(uid).is_some_and(|shown| has_all(shown)));
        marked.marked.extend(proven);
        if silent.is_empty() {
            return Ok(());
        }
        let now = self.flags(&silent).await?;
        for uid in silent {
            match now.get(&uid) {
                Some(shown) if has_all(shown) => marked.marked.push(uid),
                Some(_) => marked.unproven.push(uid),
                None => marked.gone.push(uid),
            }
        }
        marked.marked.sort_unstable();
        Ok(())
    }

    /// The flags of `uids` (ascending). Those that are gone are missing from the answer.
    pub(super) async fn flags(&mut self, uids: &[u32]) -> Result<Shown, ImapError> {
        let mut shown = Shown::new();
        let mut rest = uids;
        while !rest.is_empty() {
            let (set, taken) = leading_set(rest, MAX_UIDS);
            let line = format!("UID FETCH {set} (UID FLAGS)");
            self.run("UID FETCH", &line, self.timing().command, |response| {
                note_flags(&mut shown, response);
            })
            .await?;
            rest = &rest[taken..];
        }
        shown.retain(|uid, _| uids.binary_search(uid).is_ok());
        Ok(shown)
    }
}

/// A response without a UID is about another client's doings, and proves nothing.
fn note_flags(shown: &mut Shown, response: &Response<'_>) {
    let Response::Fetch(_, attributes) = response else {
        return;
    };
    let flags = attributes.iter().find_map(|attribute| match attribute {
        AttributeValue::Flags(flags) => Some(flags),
        _ => None,
    });
    if let (Some(uid), Some(flags)) = (uid_of(attributes), flags) {
        shown.insert(uid, flags.iter().map(|flag| flag.to_string()).collect());
    }
}
