//! Finding the one message that a fetch stumbles over, so that it blocks no others. A pure record: no connection here.

use std::collections::HashMap;

use crate::imap::ImapError;

/// How often fetching one message alone may fail because of what the server sends.
const UNREADABLE_TRIES: u32 = 3;

/// How often it may fail with the connection: more, since connections also break for reasons of their own.
const LOST_TRIES: u32 = 5;

/// Which messages are fetched one by one, and how often single ones have failed.
#[derive(Debug, Default)]
pub(super) struct Caution {
    alone_until: u32,
    strikes: HashMap<u32, u32>,
}

impl Caution {
    /// How many of the next messages, of which `first` is the first, may be fetched together; at most `usual`.
    pub(super) fn portion(&self, first: u32, usual: usize) -> usize {
        if first <= self.alone_until { 1 } else { usual }
    }

    /// Fetching `uids` failed. Answers with the UID to give up on, if one has failed too often by itself.
    pub(super) fn failed(&mut self, uids: &[u32], error: &ImapError) -> Option<u32> {
        let tries = match error {
            ImapError::Unreadable { .. } | ImapError::Refused { .. } | ImapError::Unsupported { .. } => {
                UNREADABLE_TRIES
            }
            ImapError::Lost { .. } => LOST_TRIES,
            _ => return None,
        };
        match uids {
            [] => None,
            [uid] => {
                let strikes = self.strikes.entry(*uid).or_insert(0);
                *strikes += 1;
                let enough = *strikes >= tries;
                self.alone_until = self.alone_until.max(*uid);
                enough.then(|| {
                    self.strikes.remove(uid);
                    *uid
                })
            }
            [.., last] => {
                self.alone_until = self.alone_until.max(*last);
                None
            }
        }
    }

    /// Fetching `uids` succeeded.
    pub(super) fn succeeded(&mut self, uids: &[u32]) {
        for uid in uids {
            self.strikes.remove(uid);
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

    #[test]
    fn a_failed_batch_is_taken_apart_and_its_bad_message_given_up() {
        let mut caution = Caution::default();
        assert_eq!(caution.portion(1, 50), 50);
        assert_eq!(caution.failed(&[1, 2, 3], &unreadable()), None);
        assert_eq!(
            (caution.portion(1, 50), caution.portion(3, 50), caution.portion(4, 50)),
            (1, 1, 50)
        );
        caution.succeeded(&[1]);
        assert_eq!(caution.failed(&[2], &unreadable()), None);
        assert_eq!(caution.failed(&[2], &unreadable()), None);
        assert_eq!(caution.failed(&[2], &unreadable()), Some(2));
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
        let lost = ImapError::Lost {
            command: "UID FETCH",
            reason: "gone".into(),
        };
        let given_up: Vec<_> = (0..5).map(|_| caution.failed(&[2], &lost)).collect();
        assert_eq!(given_up, [None, None, None, None, Some(2)]);
    }
}
