//! Where an IMAP source has got to: the truth about which messages were taken in, whatever flags say. Keys of messages
//! belong here too, because both rest on UIDVALIDITY.

use std::collections::BTreeMap;
use std::sync::Arc;

use plba_tasks::intake::Intake;
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::Fault;
use crate::imap::{Folder, ImapSession, Known, Place};
use crate::since::Since;

/// Up to where the folder was taken in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cursor {
    /// Account and folder: the cursor of another mailbox under the same source name is none of ours.
    mailbox: String,
    /// The UIDs below are those of this UIDVALIDITY.
    pub(super) uid_validity: u32,
    /// All messages up to this UID were taken in, or are out of scope.
    pub(super) last: u32,
    /// The folder's mod-sequence when it was last looked through, on servers that keep one; 0 for none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) mod_seq: u64,
    /// What is left of the messages that were there at the beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) backlog: Option<Backlog>,
    /// Where the messages of dead letters were moved to, by their keys; `None` for one that was about to be moved.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) places: BTreeMap<String, Option<Place>>,
}

/// How many messages are put aside at most: the ledger takes cursors of up to 64 KiB. More dead letters stay where they are.
pub(super) const ASIDE: usize = 800;

/// The part of the folder for which a search decides what is taken in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Backlog {
    /// It ends with this UID.
    pub(super) until: u32,
    /// What is taken in, as search criteria.
    pub(super) criteria: String,
}

impl Cursor {
    /// What is remembered of the folder from an earlier connection.
    pub(super) async fn remembered(intake: &Intake, mailbox: &str) -> Result<Option<Known>, Fault> {
        let kept = intake.cursor().await?.and_then(|text| Self::read(&text, mailbox));
        Ok(kept.map(|cursor| Known {
            uid_validity: cursor.uid_validity,
            mod_seq: cursor.mod_seq,
        }))
    }

    /// The cursor for a folder that has just been opened: the kept one, or a new one after the first connection and after
    /// the server has renumbered the folder. `unfinished` searches for messages without the marks of done ones.
    pub(super) async fn align(
        intake: &Intake,
        session: &mut ImapSession,
        folder: &Folder,
        mailbox: &str,
        since: Since,
        unfinished: &str,
    ) -> Result<Self, Fault> {
        let kept = intake.cursor().await?.and_then(|text| Self::read(&text, mailbox));
        let criteria = match &kept {
            Some(cursor) if cursor.uid_validity == folder.uid_validity => return Ok(cursor.clone()),
            Some(cursor) => {
                let (before, now) = (cursor.uid_validity, folder.uid_validity);
                warn!(
                    mailbox,
                    before,
                    now,
                    "the server has renumbered the folder: messages without the marks of done ones are taken in again"
                );
                Some(unfinished.to_owned())
            }
            None => since.imap_criteria(),
        };
        let top = highest(session, folder).await?;
        let cursor = Cursor {
            places: kept.map(|cursor| cursor.places).unwrap_or_default(),
            mailbox: mailbox.to_owned(),
            uid_validity: folder.uid_validity,
            last: if criteria.is_some() { 0 } else { top },
            mod_seq: 0,
            backlog: criteria.map(|criteria| Backlog { until: top, criteria }),
        };
        cursor.save(intake).await?;
        Ok(cursor)
    }

    /// Looks again for what these criteria find, from the first message on. What is left of a search that is not over
    /// stays wanted.
    pub(super) fn look_again(&mut self, criteria: String) {
        const LONGEST: usize = 500;
        const EVERYTHING: &str = "UNDELETED";
        let left = self.backlog.take();
        let until = left.as_ref().map_or(0, |left| left.until).max(self.last);
        let criteria = match left.map(|left| left.criteria) {
            Some(left) if left == EVERYTHING => left,
            Some(left) if left != criteria => format!("OR ({left}) ({criteria})"),
            _ => criteria,
        };
        let criteria = match criteria.len() <= LONGEST {
            true => criteria,
            false => EVERYTHING.to_owned(),
        };
        self.last = 0;
        self.backlog = Some(Backlog { until, criteria });
    }

    fn read(text: &str, mailbox: &str) -> Option<Self> {
        match serde_json::from_str::<Cursor>(text) {
            Ok(cursor) if cursor.mailbox == mailbox => Some(cursor),
            Ok(cursor) => {
                warn!(
                    before = cursor.mailbox,
                    now = mailbox,
                    "this source was another mailbox before: it begins anew"
                );
                None
            }
            Err(error) => {
                warn!(mailbox, %error, "the kept cursor is not one of a mailbox: it begins anew");
                None
            }
        }
    }

    pub(super) async fn save(&self, intake: &Intake) -> Result<(), Fault> {
        let text = serde_json::to_string(self).map_err(|error| Fault::SetUp(error.to_string()))?;
        Ok(intake.set_cursor(&text).await?)
    }

    /// The key of a message in this folder.
    pub(super) fn key(&self, uid: u32) -> Arc<str> {
        format!("{}:{uid}", self.uid_validity).into()
    }

    /// The UID that a key means; `None` if it is from before a renumbering.
    pub(super) fn uid(&self, key: &str) -> Option<u32> {
        let (validity, uid) = key.split_once(':')?;
        let same = validity.parse() == Ok(self.uid_validity);
        uid.parse().ok().filter(|_| same)
    }

    /// Whether the message of a dead letter was moved to the errors folder.
    pub(super) fn is_aside(&self, key: &str) -> bool {
        self.places.get(key).is_some_and(Option::is_some)
    }

    /// Whether the source will never come upon this key again by itself.
    pub(super) fn covers(&self, key: &str) -> bool {
        self.uid(key).is_none_or(|uid| uid <= self.last)
    }
}

// As serde asks for it.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

async fn highest(session: &mut ImapSession, folder: &Folder) -> Result<u32, Fault> {
    match folder.uid_next {
        Some(next) => Ok(next.saturating_sub(1)),
        None => Ok(session.uid_search("ALL").await?.last().copied().unwrap_or(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor() -> Cursor {
        Cursor {
            mailbox: "imap://bot@host/INBOX".into(),
            uid_validity: 7,
            last: 10,
            mod_seq: 0,
            backlog: None,
            places: BTreeMap::from([
                (
                    "7:3".into(),
                    Some(Place {
                        uid_validity: 9,
                        uid: 1,
                    }),
                ),
                ("7:4".into(), None),
            ]),
        }
    }

    #[test]
    fn a_cursor_is_read_again_only_for_its_own_mailbox() {
        let text = serde_json::to_string(&cursor()).unwrap();
        assert_eq!(Cursor::read(&text, "imap://bot@host/INBOX"), Some(cursor()));
        assert_eq!(Cursor::read(&text, "imap://bot@host/Other"), None);
        assert_eq!(Cursor::read("maildir", "imap://bot@host/INBOX"), None);
    }

    #[test]
    fn looking_again_forgets_nothing_that_is_still_wanted() {
        let mut cursor = cursor();
        cursor.look_again("UNSEEN".into());
        let backlog = |until, criteria: &str| {
            let criteria = criteria.to_owned();
            Some(Backlog { until, criteria })
        };
        assert_eq!((cursor.last, &cursor.backlog), (0, &backlog(10, "UNSEEN")));
        cursor.last = 4;
        cursor.look_again("UNSEEN".into());
        assert_eq!((cursor.last, &cursor.backlog), (0, &backlog(10, "UNSEEN")));
        cursor.look_again("UNDELETED".into());
        assert_eq!(cursor.backlog, backlog(10, "OR (UNSEEN) (UNDELETED)"));
        (0..100).for_each(|number| cursor.look_again(format!("SINCE {number}")));
        assert_eq!(cursor.backlog, backlog(10, "UNDELETED"));
    }

    #[test]
    fn keys_mean_a_message_only_under_their_uidvalidity() {
        let cursor = cursor();
        assert_eq!(cursor.uid(&cursor.key(11)), Some(11));
        assert_eq!(cursor.uid("6:11"), None);
        assert_eq!(cursor.uid("11"), None);
        for (key, covered) in [("7:10", true), ("7:11", false), ("6:11", true), ("nonsense", true)] {
            assert_eq!(cursor.covers(key), covered, "{key}");
        }
    }
}
