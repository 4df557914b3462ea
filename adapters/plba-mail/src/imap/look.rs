//! Looking for new messages by commands that are sent together, so that a look costs one round trip. Each command by itself
//! is in `fetch`.

use async_imap::imap_proto::{MailboxDatum, Response};
use tokio::time::{Instant, timeout_at};

use super::error::ImapError;
use super::session::{Heard, ImapSession};

const COMMAND: &str = "UID SEARCH";

/// The tagged answer to a command that was sent together with one before it, if it came early: servers may answer in any
/// order (RFC 9051 section 5.5).
#[derive(Debug)]
pub(super) struct Following {
    tag: String,
    ended: Option<Result<(), ImapError>>,
}

impl Following {
    pub(super) fn is_answered_by(&self, tag: &str) -> bool {
        self.tag == tag && self.ended.is_none()
    }

    pub(super) fn end(&mut self, ended: Result<(), ImapError>) {
        self.ended = Some(ended);
    }
}

impl ImapSession {
    /// NOOP and then the search of [`uids_above`](Self::uids_above), in one round trip. What the server announces up to the
    /// end of the NOOP the search has seen; what it announces after that shows in [`take_changes`](Self::take_changes).
    pub async fn look_above(&mut self, last: u32) -> Result<Vec<u32>, ImapError> {
        let Some(first) = last.checked_add(1) else {
            self.noop().await?;
            return Ok(Vec::new());
        };
        self.begin(COMMAND)?;
        let limit = self.timing().command;
        let answer = timeout_at(Instant::now() + limit, self.exchange_look(first)).await;
        self.following = None;
        let mut found = self.conclude(COMMAND, limit, answer)?;
        found.retain(|&uid| uid >= first);
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    async fn exchange_look(&mut self, first: u32) -> Result<Result<Vec<u32>, ImapError>, ImapError> {
        let (noop, search) = (self.next_tag(), self.next_tag());
        self.following = Some(Following {
            tag: search.clone(),
            ended: None,
        });
        let lines = format!("{noop} NOOP\r\n{search} {COMMAND} UID {first}:*");
        self.send(COMMAND, &lines).await?;
        let mut found = Vec::new();
        let mut note = |response: &Response<'_>| {
            if let Response::MailboxData(MailboxDatum::Search(uids)) = response {
                found.extend_from_slice(uids);
            }
        };
        let refreshed = loop {
            if let Heard::Ended(ended) = self.hear("NOOP", &noop, &mut note).await? {
                break ended;
            }
        };
        let early = self.following.take().and_then(|following| following.ended);
        let searched = match early {
            Some(ended) => ended,
            None => {
                self.take_changes();
                loop {
                    if let Heard::Ended(ended) = self.hear(COMMAND, &search, &mut note).await? {
                        break ended;
                    }
                }
            }
        };
        Ok(refreshed.and(searched).map(|()| found))
    }
}

#[cfg(test)]
mod tests {
    use crate::imap::ImapError;
    use crate::imap::scripted::{answer, logged_in};

    #[tokio::test(start_paused = true)]
    async fn one_round_trip_finds_what_is_new_and_keeps_what_is_announced_after_the_noop() {
        let script = vec![
            answer("NOOP", "* 3 EXISTS\r\n{tag} OK\r\n"),
            answer("UID SEARCH UID 3:*", "* SEARCH 4 3 2\r\n* 4 EXISTS\r\n{tag} OK\r\n"),
            answer("NOOP", "* 5 EXISTS\r\n{tag} OK\r\n"),
            answer("UID SEARCH UID 5:*", "* SEARCH 5\r\n{tag} OK\r\n"),
        ];
        let mut session = logged_in(script).await;
        assert_eq!(session.look_above(2).await.unwrap(), [3, 4]);
        assert_eq!(session.take_changes().exists, Some(4));
        assert_eq!(session.look_above(4).await.unwrap(), [5]);
        assert!(!session.has_arrivals(), "the search has seen what the NOOP told");
    }

    #[tokio::test(start_paused = true)]
    async fn answers_in_another_order_are_told_apart() {
        let script = vec![
            answer("NOOP", ""),
            answer("UID SEARCH", "* SEARCH 3\r\n{tag} OK\r\n* 9 EXISTS\r\nA0002 OK\r\n"),
            answer("NOOP", "{tag} OK\r\n"),
        ];
        let mut session = logged_in(script).await;
        assert_eq!(session.look_above(2).await.unwrap(), [3]);
        assert!(session.has_arrivals(), "the search came before it");
        session.noop().await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_of_either_is_an_error_and_the_connection_goes_on() {
        for (noop, search) in [("NO [SERVERBUG]", "OK"), ("OK", "NO [SERVERBUG]")] {
            let script = vec![
                answer("NOOP", format!("{{tag}} {noop}\r\n")),
                answer("UID SEARCH", format!("* SEARCH 3\r\n{{tag}} {search}\r\n")),
                answer("NOOP", "{tag} OK\r\n"),
            ];
            let mut session = logged_in(script).await;
            let refused = session.look_above(2).await.unwrap_err();
            assert!(matches!(refused, ImapError::Refused { .. }), "{refused}");
            session.noop().await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_the_connection_between_the_two_is_no_empty_answer() {
        let script = vec![answer("NOOP", "{tag} OK\r\n* BYE enough\r\n")];
        let mut session = logged_in(script).await;
        let lost = session.look_above(2).await.unwrap_err();
        assert!(matches!(lost, ImapError::Lost { .. }), "{lost}");
        assert!(!session.is_usable());
    }
}
