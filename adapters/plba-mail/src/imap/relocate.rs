//! Moving messages to another folder, and proving it: MOVE (RFC 6851), or where that is missing COPY, STORE and the UID
//! EXPUNGE of UIDPLUS (RFC 4315). A bare EXPUNGE is never used, because it would delete what other people have marked.

use std::collections::BTreeMap;

use async_imap::imap_proto::rfc4315::UidSetMember;
use async_imap::imap_proto::{Response, ResponseCode};
use serde::{Deserialize, Serialize};

use super::error::ImapError;
use super::fetch::MAX_UIDS;
use super::folder::quoted;
use super::session::ImapSession;
use super::uid_set::leading_set;
use super::utf7;

/// Where a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u32, u32)", into = "(u32, u32)")]
pub struct Place {
    /// The folder's UIDVALIDITY.
    pub uid_validity: u32,
    /// The message's UID there.
    pub uid: u32,
}

impl From<(u32, u32)> for Place {
    fn from((uid_validity, uid): (u32, u32)) -> Self {
        Place { uid_validity, uid }
    }
}

impl From<Place> for (u32, u32) {
    fn from(place: Place) -> Self {
        (place.uid_validity, place.uid)
    }
}

/// What is certain after moving.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Moved {
    /// These are in the folder no longer, each with its new place where the server has told it (COPYUID). Without one it may
    /// be that somebody else has deleted or moved it meanwhile.
    pub away: BTreeMap<u32, Option<Place>>,
    /// These are still there, ascending: try again.
    pub left: Vec<u32>,
}

impl ImapSession {
    /// Whether messages can be moved on this server without touching what others have marked as deleted. Needs
    /// [`capability`](Self::capability).
    pub fn can_move(&self) -> bool {
        self.can("MOVE") || self.can("UIDPLUS")
    }

    /// The name, as it goes over the wire, of a folder that messages are to be moved to; one that does not exist is made.
    /// Levels in `path` are separated by `/`, whatever the server uses.
    ///
    /// # Errors
    /// [`ImapError::Refused`] if it can't be made.
    pub async fn target(&mut self, path: &str) -> Result<String, ImapError> {
        if path.eq_ignore_ascii_case("INBOX") {
            return Ok("INBOX".into());
        }
        let separator = self.separator().await?;
        let name = match &separator {
            Some(separator) => path.replace('/', separator),
            None => path.to_owned(),
        };
        // Some servers keep all folders below the inbox, and refuse or hide others.
        let below = separator
            .filter(|_| !name.to_ascii_uppercase().starts_with("INBOX"))
            .map(|separator| format!("INBOX{separator}{name}"));
        for name in [Some(&name), below.as_ref()].into_iter().flatten() {
            let listed = self.list(name, MAX_UIDS).await?;
            if listed.iter().any(|listed| listed.selectable && listed.name == *name) {
                return Ok(utf7::encode(name));
            }
        }
        let refused = match self.create(&utf7::encode(&name)).await {
            Ok(()) => return Ok(utf7::encode(&name)),
            Err(error @ (ImapError::Refused { .. } | ImapError::Unsupported { .. })) => error,
            Err(error) => return Err(error),
        };
        match below {
            None => Err(refused),
            Some(below) => {
                let below = utf7::encode(&below);
                self.create(&below).await?;
                Ok(below)
            }
        }
    }

    async fn create(&mut self, wire_name: &str) -> Result<(), ImapError> {
        let limit = self.timing().command;
        self.run("CREATE", &format!("CREATE {}", quoted(wire_name)), limit, |_| {})
            .await?;
        // So that mail programs show it; one that can't be subscribed to is there all the same.
        match self
            .run("SUBSCRIBE", &format!("SUBSCRIBE {}", quoted(wire_name)), limit, |_| {})
            .await
        {
            Err(ImapError::Refused { .. } | ImapError::Unsupported { .. }) => Ok(()),
            other => other,
        }
    }

    /// Moves `uids` (ascending) to a [`target`](Self::target), in commands of at most `batch`, and believes only what a
    /// second look shows. Moving again what has been moved does nothing.
    ///
    /// On a server without MOVE a connection that breaks between COPY and STORE leaves a second copy in the target when
    /// it is tried again; one that breaks later leaves none.
    ///
    /// # Errors
    /// [`ImapError::Refused`] if the server won't: all is as it was.
    pub async fn move_to(&mut self, uids: &[u32], wire_name: &str, batch: usize) -> Result<Moved, ImapError> {
        let mut moved = Moved::default();
        let mut rest = uids;
        while !rest.is_empty() {
            let (set, taken) = leading_set(rest, batch.clamp(1, MAX_UIDS));
            let part = &rest[..taken];
            let places = match self.can("MOVE") {
                true => self.move_set("UID MOVE", &set, wire_name).await?,
                false => self.copy_and_delete(part, &set, wire_name).await?,
            };
            let left = self.existing(part).await?;
            for &uid in part.iter().filter(|uid| left.binary_search(uid).is_err()) {
                moved.away.insert(uid, places.get(&uid).copied());
            }
            moved.left.extend(left);
            rest = &rest[taken..];
        }
        Ok(moved)
    }

    /// COPY or MOVE; where the messages are now, as far as the server tells.
    async fn move_set(
        &mut self,
        command: &'static str,
        set: &str,
        wire_name: &str,
    ) -> Result<BTreeMap<u32, Place>, ImapError> {
        let mut places = BTreeMap::new();
        let line = format!("{command} {set} {}", quoted(wire_name));
        self.run(command, &line, self.timing().command, |response| {
            // MOVE tells it in an untagged OK (RFC 6851 section 4.3), COPY in the tagged one.
            let (Response::Data { outcome, .. } | Response::Done { outcome, .. }) = response else {
                return;
            };
            if let Some(ResponseCode::CopyUid(uid_validity, from, to)) = &outcome.code {
                let place = |uid| Place {
                    uid_validity: *uid_validity,
                    uid,
                };
                places.extend(each(from).zip(each(to).map(place)));
            }
        })
        .await?;
        Ok(places)
    }

    /// A message that is marked as deleted was copied by a connection that broke after that, or is deleted by somebody
    /// else: either way it needs no copy.
    async fn copy_and_delete(
        &mut self,
        uids: &[u32],
        set: &str,
        wire_name: &str,
    ) -> Result<BTreeMap<u32, Place>, ImapError> {
        let flags = self.flags(uids).await?;
        let is_deleted = |flags: &Vec<String>| flags.iter().any(|flag| flag.eq_ignore_ascii_case("\\Deleted"));
        let fresh = flags.iter().filter(|(_, flags)| !is_deleted(flags));
        let fresh: Vec<u32> = fresh.map(|(uid, _)| *uid).collect();
        let mut places = BTreeMap::new();
        let mut rest = fresh.as_slice();
        while !rest.is_empty() {
            let (set, taken) = leading_set(rest, MAX_UIDS);
            places.extend(self.move_set("UID COPY", &set, wire_name).await?);
            rest = &rest[taken..];
        }
        let limit = self.timing().command;
        let line = format!("UID STORE {set} +FLAGS.SILENT (\\Deleted)");
        self.run("UID STORE", &line, limit, |_| {}).await?;
        self.run("UID EXPUNGE", &format!("UID EXPUNGE {set}"), limit, |_| {})
            .await?;
        Ok(places)
    }
}

/// The UIDs of a set in order; a range that a server makes up can't be longer than what is ever asked for.
fn each(set: &[UidSetMember]) -> impl Iterator<Item = u32> {
    let range = |member: &UidSetMember| match member {
        UidSetMember::UidRange(range) => range.clone(),
        UidSetMember::Uid(uid) => *uid..=*uid,
    };
    set.iter().flat_map(range).take(MAX_UIDS)
}
