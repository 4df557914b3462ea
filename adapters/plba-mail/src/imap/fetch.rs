//! Finding and reading messages: UID SEARCH, then UID FETCH in two steps, sizes before bodies. Never ENVELOPE or
//! BODYSTRUCTURE, which servers and parsers stumble over, and never BODY without PEEK, which would mark as seen.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use async_imap::imap_proto::{AttributeValue, MailboxDatum, Response};
use bytes::Bytes;

use super::error::ImapError;
use super::pieces::PIECE;
use super::session::ImapSession;
use super::uid_set::leading_set;

/// How many UIDs one command names at most.
pub(crate) const MAX_UIDS: usize = 1000;

/// What is known of a message before its body is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message {
    /// Its UID.
    pub uid: u32,
    /// Its size in bytes as the server tells it, which may be wrong.
    pub size: Option<u32>,
    /// Whether `\Seen` is set.
    pub seen: bool,
}

impl Message {
    /// One of which the server has told nothing but that it is there.
    pub(crate) fn of_unknown_size(uid: u32) -> Self {
        Message {
            uid,
            size: None,
            seen: false,
        }
    }
}

/// What became of a body that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// The raw message.
    Here(Bytes),
    /// Expunged or moved away meanwhile: neither a failure nor a message.
    Gone,
}

impl ImapSession {
    /// Searches (RFC 9051 section 6.4.4) and answers with the UIDs in ascending order. `criteria` is sent as it is.
    pub async fn uid_search(&mut self, criteria: &str) -> Result<Vec<u32>, ImapError> {
        let mut found = Vec::new();
        let line = format!("UID SEARCH {criteria}");
        self.run("UID SEARCH", &line, self.timing().command, |response| {
            if let Response::MailboxData(MailboxDatum::Search(uids)) = response {
                found.extend_from_slice(uids);
            }
        })
        .await?;
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    /// The UIDs above `last`. Past the end `n:*` means the last message (RFC 9051 section 9, seq-range), which is left out.
    pub async fn uids_above(&mut self, last: u32) -> Result<Vec<u32>, ImapError> {
        let Some(first) = last.checked_add(1) else {
            return Ok(Vec::new());
        };
        let mut found = self.uid_search(&format!("UID {first}:*")).await?;
        found.retain(|&uid| uid >= first);
        Ok(found)
    }

    /// Which of `uids` (ascending) still exist.
    pub async fn existing(&mut self, uids: &[u32]) -> Result<Vec<u32>, ImapError> {
        let mut found = Vec::new();
        let mut rest = uids;
        while !rest.is_empty() {
            let (set, taken) = leading_set(rest, MAX_UIDS);
            found.extend(self.uid_search(&format!("UID {set}")).await?);
            rest = &rest[taken..];
        }
        found.retain(|uid| uids.binary_search(uid).is_ok());
        Ok(found)
    }

    /// Size and flags of `uids` (ascending). Those that are gone are missing from the answer.
    pub async fn describe(&mut self, uids: &[u32]) -> Result<Vec<Message>, ImapError> {
        let mut found: BTreeMap<u32, Message> = BTreeMap::new();
        let mut rest = uids;
        while !rest.is_empty() {
            let (set, taken) = leading_set(rest, MAX_UIDS);
            let line = format!("UID FETCH {set} (UID FLAGS RFC822.SIZE)");
            self.run("UID FETCH", &line, self.timing().command, |response| {
                merge(&mut found, response);
            })
            .await?;
            rest = &rest[taken..];
        }
        found.retain(|uid, _| uids.binary_search(uid).is_ok());
        Ok(found.into_values().collect())
    }

    /// Fetches the bodies of `uids` (ascending), in that order. `sizes` is what they amount to and `largest` what a single
    /// one may have, in bytes: a larger one ends the connection with [`ImapError::Unreadable`].
    ///
    /// A message that the server leaves out is looked for again before it counts as gone; if it is still there the
    /// answer is [`ImapError::Refused`].
    pub async fn bodies(&mut self, uids: &[u32], sizes: u64, largest: u64) -> Result<Vec<(u32, Body)>, ImapError> {
        let mut answer = Vec::with_capacity(uids.len());
        let mut rest = uids;
        while !rest.is_empty() {
            let taken = self.fetch_begin(rest, sizes, largest).await?;
            let fetched = self.fetch_end().await;
            fetched.ended?;
            self.require_gone(&fetched.missing).await?;
            answer.extend(fetched.here.into_iter().map(|(uid, body)| (uid, Body::Here(body))));
            answer.extend(fetched.missing.into_iter().map(|uid| (uid, Body::Gone)));
            rest = &rest[taken..];
        }
        answer.sort_unstable_by_key(|(uid, _)| *uid);
        Ok(answer)
    }

    /// Looks whether messages that a FETCH has left out are really gone.
    ///
    /// # Errors
    /// [`ImapError::Refused`] if some still exist.
    pub async fn require_gone(&mut self, missing: &[u32]) -> Result<(), ImapError> {
        let withheld = self.existing(missing).await?;
        match withheld.is_empty() {
            true => Ok(()),
            false => Err(ImapError::Refused {
                command: "UID FETCH",
                text: format!("it left out the bodies of UIDs {withheld:?}, which still exist"),
            }),
        }
    }
}

/// Splits `messages` off into batches by count and by bytes, as index ranges; a message larger than `max_bytes`, or one that is
/// [large](is_large), is alone.
pub(crate) fn batches(messages: &[Message], max_count: usize, max_bytes: u64) -> Vec<RangeInclusive<usize>> {
    let mut batches = Vec::new();
    let (mut first, mut bytes) = (0, 0);
    for (index, message) in messages.iter().enumerate() {
        let size = u64::from(message.size.unwrap_or(0));
        let after_large = index > first && is_large(&messages[index - 1]);
        let full = index - first >= max_count.max(1) || bytes + size > max_bytes;
        if index > first && (full || after_large || is_large(message)) {
            batches.push(first..=index - 1);
            (first, bytes) = (index, 0);
        }
        bytes += size;
    }
    if first < messages.len() {
        batches.push(first..=messages.len() - 1);
    }
    batches
}

/// Whether a message is fetched in pieces: one that is larger than a few of them, or may be.
pub(crate) fn is_large(message: &Message) -> bool {
    message.size.is_none_or(|size| size > 2 * PIECE)
}

/// Takes what one FETCH response tells. A message may be told in several, and in some without its UID: those are about
/// other clients' doings.
pub(crate) fn merge(found: &mut BTreeMap<u32, Message>, response: &Response<'_>) {
    let Response::Fetch(_, attributes) = response else {
        return;
    };
    let Some(uid) = uid_of(attributes) else {
        return;
    };
    let message = found.entry(uid).or_insert(Message {
        uid,
        size: None,
        seen: false,
    });
    for attribute in attributes {
        match attribute {
            AttributeValue::Rfc822Size(size) => message.size = Some(*size),
            AttributeValue::Flags(flags) => {
                message.seen = flags.iter().any(|flag| flag.eq_ignore_ascii_case("\\Seen"));
            }
            _ => {}
        }
    }
}

pub(super) fn uid_of(attributes: &[AttributeValue<'_>]) -> Option<u32> {
    attributes.iter().find_map(|attribute| match attribute {
        AttributeValue::Uid(uid) => Some(*uid),
        _ => None,
    })
}

/// The whole body among the attributes; `None` for one that is `NIL`, and for a part of one.
pub(super) fn body_of<'r>(attributes: &'r [AttributeValue<'_>]) -> Option<&'r [u8]> {
    attributes.iter().find_map(|attribute| match attribute {
        AttributeValue::BodySection {
            section: None,
            index: None,
            data: Some(data),
        } => Some(data.as_ref()),
        _ => None,
    })
}

/// The piece from `offset` on among the attributes.
pub(super) fn piece_of<'r>(attributes: &'r [AttributeValue<'_>], offset: u32) -> Option<&'r [u8]> {
    attributes.iter().find_map(|attribute| match attribute {
        AttributeValue::BodySection {
            section: None,
            index: Some(index),
            data: Some(data),
        } if *index == offset => Some(data.as_ref()),
        _ => None,
    })
}

pub(super) fn size_of(attributes: &[AttributeValue<'_>]) -> Option<u32> {
    attributes.iter().find_map(|attribute| match attribute {
        AttributeValue::Rfc822Size(size) => Some(*size),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sized(sizes: &[u32]) -> Vec<Message> {
        let message = |(index, &size): (usize, &u32)| Message {
            uid: index as u32 + 1,
            size: Some(size),
            seen: false,
        };
        sizes.iter().enumerate().map(message).collect()
    }

    #[test]
    fn batches_are_bounded_by_count_and_bytes() {
        type Case<'c> = (&'c [u32], usize, u64, &'c [RangeInclusive<usize>]);
        let cases: [Case<'_>; 5] = [
            (&[], 10, 100, &[]),
            (&[1, 1, 1, 1, 1], 2, 100, &[0..=1, 2..=3, 4..=4]),
            (&[60, 60, 30, 10], 10, 100, &[0..=0, 1..=3]),
            (&[10, 500, 10], 10, 100, &[0..=0, 1..=1, 2..=2]),
            (&[50, 50], 0, 100, &[0..=0, 1..=1]),
        ];
        for (sizes, count, bytes, expected) in cases {
            assert_eq!(batches(&sized(sizes), count, bytes), expected, "{sizes:?}");
        }
    }

    #[test]
    fn what_is_large_or_of_unknown_size_is_alone() {
        let mut messages = sized(&[5, 2 * PIECE + 1, 5, 2 * PIECE, 5]);
        messages[4].size = None;
        assert_eq!(batches(&messages, 10, u64::MAX), [0..=0, 1..=1, 2..=3, 4..=4]);
    }
}
