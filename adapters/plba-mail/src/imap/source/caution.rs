//! Finding the one message that a fetch stumbles over, so that it blocks no others. A pure record: no connection here.

use std::collections::HashMap;

use crate::imap::ImapError;

/// How often fetching one message alone may fail because of what the server sends.
const UNREADABLE_TRIES: u32 = 3;

/// How often it may fail with the connection: more, since connections also break for reasons of their own.
const LOST_TRIES: u32 = 5;

/// How many messages are fetched together, and how often single ones have failed.
#[derive(Debug, Default)]
pub(super) struct Caution {
    /// The message that the last fetch seems to have stumbled over: it is fetched by itself.
    suspect: Option<u32>,
    /// Up to this message,
    until: u32,
    /// no more than so many are fetched together.
    together: usize,
    strikes: HashMap<u32, u32>,
    /// The message that was the last to fail by itself.
    struck: Option<u32>,
}

impl Caution {
    /// How many of the next messages, of which `first` is the first, may be fetched together; at most `usual`.
    pub(super) fn portion(&self, first: u32, usual: usize) -> usize {
        match self.suspect {
            Some(suspect) if suspect == first => 1,
            _ if first <= self.until => self.together.clamp(1, usual),
            _ => usual,
        }
    }

    /// Whether nothing is amiss with messages from `first` on.
    pub(super) fn is_calm(&self, first: u32) -> bool {
        self.suspect.is_none() && first > self.until
    }

    /// Whether this is the one message that was the last to fail by itself.
    pub(super) fn is_struck(&self, uids: &[u32]) -> bool {
        matches!((uids, self.struck), ([uid], Some(struck)) if *uid == struck)
    }

    /// Fetching `uids` failed: those that had not come. Answers with the UID to give up on, if one has failed too often by
    /// itself.
    ///
    /// Servers answer in order, as a rule, so that nonsense is about the first message that did not come; that is tried
    /// alone, and the others in halves, as they all are when the connection breaks for no reason of its own.
    pub(super) fn failed(&mut self, uids: &[u32], error: &ImapError) -> Option<u32> {
        let (tries, is_nonsense) = match error {
            ImapError::Unreadable { .. } | ImapError::Refused { .. } | ImapError::Unsupported { .. } => {
                (UNREADABLE_TRIES, true)
            }
            ImapError::Lost { .. } => (LOST_TRIES, false),
            _ => return None,
        };
        match uids {
            [] => None,
            [uid] => {
                self.suspect = Some(*uid);
                self.struck = Some(*uid);
                let strikes = self.strikes.entry(*uid).or_insert(0);
                *strikes += 1;
                (*strikes >= tries).then(|| {
                    // It was what the others were fetched in small portions for.
                    self.until = 0;
                    self.succeeded(&[*uid]);
                    *uid
                })
            }
            [first, .., last] => {
                self.suspect = is_nonsense.then_some(*first);
                self.together = uids.len() / 2;
                self.until = self.until.max(*last);
                None
            }
        }
    }

    /// Fetching `uids` succeeded.
    pub(super) fn succeeded(&mut self, uids: &[u32]) {
        for uid in uids {
            self.strikes.remove(uid);
            self.suspect.take_if(|suspect| suspect == uid);
            self.struck.take_if(|struck| struck == uid);
        }
    }

    /// The folder has been renumbered: nothing known applies any more.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unreadable() -> ImapError {
        ImapError::Unreadable {
            command: "UID FETCH",
            reason: "nonsense".into(),
        }
    }

    fn lost() -> ImapError {
        ImapError::Lost {
            command: "UID FETCH",
            reason: "gone".into(),
        }
    }

    #[test]
    fn what_nonsense_is_about_is_tried_alone_and_given_up_and_the_others_go_on() {
        let mut caution = Caution::default();
        assert_eq!(caution.portion(1, 50), 50);
        // Of 1 to 9, the first three came.
        assert_eq!(caution.failed(&[4, 5, 6, 7, 8, 9], &unreadable()), None);
        assert_eq!((caution.portion(4, 50), caution.portion(5, 50)), (1, 3));
        assert!(!caution.is_calm(10) && !caution.is_struck(&[4]));
        assert_eq!(caution.failed(&[4], &unreadable()), None);
        assert!(caution.is_struck(&[4]) && !caution.is_struck(&[4, 5]));
        assert_eq!(caution.portion(4, 50), 1);
        assert_eq!(caution.failed(&[4], &unreadable()), None);
        assert_eq!(caution.failed(&[4], &unreadable()), Some(4));
        assert_eq!(caution.portion(5, 50), 50);
        assert!(caution.is_calm(5) && !caution.is_struck(&[4]));
    }

    /// A server whose connection breaks at one message, wherever that stands: halves lead to it.
    #[test]
    fn halves_lead_to_the_message_that_breaks_connections() {
        for culprit in 1..=100 {
            let mut caution = Caution::default();
            let (mut next, mut failures, mut given_up) = (1, 0, None);
            while next <= 100 {
                let last = (next + caution.portion(next, 100) as u32 - 1).min(100);
                let uids: Vec<u32> = (next..=last).collect();
                if given_up.is_none() && uids.contains(&culprit) {
                    failures += 1;
                    given_up = caution.failed(&uids, &lost());
                    next += u32::from(given_up.is_some());
                } else {
                    caution.succeeded(&uids);
                    next = last + 1;
                }
            }
            assert_eq!(given_up, Some(culprit));
            assert!(
                failures <= 7 + LOST_TRIES,
                "{failures} reconnects for message {culprit}"
            );
        }
    }

    #[test]
    fn a_success_forgives_and_a_pause_is_no_failure() {
        let mut caution = Caution::default();
        let throttled = ImapError::Throttled {
            command: "UID FETCH",
            wait: None,
            text: String::new(),
        };
        for _ in 0..10 {
            assert_eq!(caution.failed(&[2], &unreadable()), None);
            caution.succeeded(&[2]);
            assert_eq!(caution.failed(&[2], &throttled), None);
        }
    }

    #[test]
    fn a_lost_connection_convicts_later() {
        let mut caution = Caution::default();
        let given_up: Vec<_> = (0..5).map(|_| caution.failed(&[2], &lost())).collect();
        assert_eq!(given_up, [None, None, None, None, Some(2)]);
    }
}
