//! Sizes on their way: a UID FETCH of sizes and flags that was sent before its answer is needed, so that the server need not
//! wait while bodies are taken in. The plain one is in `fetch`.

use std::collections::BTreeMap;

use async_imap::imap_proto::{AttributeValue, Response};
use tokio::time::{Instant, timeout_at};

use super::error::ImapError;
use super::fetch::{MAX_UIDS, Message, merge, uid_of};
use super::session::{Heard, ImapSession, out_of_time};
use super::uid_set::leading_set;

const COMMAND: &str = "UID FETCH";

/// A command whose answer has not been taken yet.
#[derive(Debug)]
pub(super) struct Describing {
    tag: String,
    /// What was asked about, ascending.
    uids: Vec<u32>,
    found: BTreeMap<u32, Message>,
    ended: Option<Result<(), ImapError>>,
}

impl Describing {
    pub(super) fn is_answered_by(&self, tag: &str) -> bool {
        self.tag == tag && self.ended.is_none()
    }

    pub(super) fn end(&mut self, ended: Result<(), ImapError>) {
        self.ended = Some(ended);
    }

    /// Takes what a response tells of a message that was asked about.
    pub(super) fn take(&mut self, attributes: &[AttributeValue<'_>], response: &Response<'_>) {
        if uid_of(attributes).is_some_and(|uid| self.uids.binary_search(&uid).is_ok()) {
            merge(&mut self.found, response);
        }
    }
}

impl ImapSession {
    /// Asks for size and flags of `uids` (ascending) and does not wait for them; [`describe_end`](Self::describe_end) has
    /// the answer, and until then other commands may be run. The answer is `false`, and nothing is sent, for more than one
    /// command can name, and while such an answer is still to be taken.
    pub(crate) async fn describe_begin(&mut self, uids: &[u32]) -> Result<bool, ImapError> {
        let (set, taken) = leading_set(uids, MAX_UIDS);
        if uids.is_empty() || taken < uids.len() || self.describing.is_some() {
            return Ok(false);
        }
        self.begin(COMMAND)?;
        let line = format!("{COMMAND} {set} (UID FLAGS RFC822.SIZE)");
        let tag = self.send_tagged(COMMAND, &line).await?;
        self.usable = true;
        self.describing = Some(Describing {
            tag,
            uids: uids.to_vec(),
            found: BTreeMap::new(),
            ended: None,
        });
        Ok(true)
    }

    /// The answer to [`describe_begin`](Self::describe_begin), as that of [`describe`](Self::describe).
    pub(crate) async fn describe_end(&mut self) -> Result<Vec<Message>, ImapError> {
        let limit = self.timing().command;
        let end = Instant::now() + limit;
        while let Some(describing) = self.describing.as_ref().filter(|describing| describing.ended.is_none()) {
            let tag = describing.tag.clone();
            self.begin(COMMAND)?;
            let heard = match timeout_at(end, self.hear(COMMAND, &tag, |_| {})).await {
                Ok(heard) => heard?,
                Err(_) => return Err(out_of_time(COMMAND, limit)),
            };
            self.usable = true;
            if let (Heard::Ended(ended), Some(describing)) = (heard, self.describing.as_mut()) {
                describing.end(ended);
            }
        }
        match self.describing.take() {
            Some(Describing { found, ended, .. }) => {
                ended.unwrap_or(Ok(()))?;
                Ok(found.into_values().collect())
            }
            None => Ok(Vec::new()),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::imap::scripted::{answer, logged_in};

    #[tokio::test(start_paused = true)]
    async fn sizes_come_while_bodies_are_fetched() {
        let script = vec![
            answer("UID FETCH 3:4 (UID FLAGS RFC822.SIZE)", ""),
            answer(
                "UID FETCH 1 (UID BODY.PEEK[])",
                "* 3 FETCH (UID 3 FLAGS (\\Seen) RFC822.SIZE 7)\r\nA0002 OK\r\n* 1 FETCH (UID 1 BODY[] {2}\r\nhi)\r\n{tag} OK\r\n",
            ),
            answer(
                "UID FETCH 5 (UID FLAGS",
                "* 5 FETCH (UID 5 RFC822.SIZE 9)\r\n{tag} NO [SERVERBUG]\r\n",
            ),
            answer("NOOP", "{tag} OK\r\n"),
        ];
        let mut session = logged_in(script).await;
        assert!(session.describe_begin(&[3, 4]).await.unwrap());
        assert!(!session.describe_begin(&[5]).await.unwrap(), "one at a time");
        session.fetch_begin(&[1], 10, 100).await.unwrap();
        let fetched = session.fetch_end().await;
        fetched.ended.unwrap();
        assert_eq!(fetched.here.len(), 1);
        let described = session.describe_end().await.unwrap();
        let told: Vec<_> = described.iter().map(|one| (one.uid, one.size, one.seen)).collect();
        assert_eq!(told, [(3, Some(7), true)]);
        assert!(session.describe_begin(&[5]).await.unwrap());
        assert!(session.describe_end().await.is_err(), "a part is not the whole");
        session.noop().await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_the_connection_is_no_empty_answer() {
        let mut session = logged_in(vec![answer(
            "UID FETCH",
            "* 1 FETCH (UID 1 RFC822.SIZE 7)\r\n* BYE\r\n",
        )])
        .await;
        assert!(session.describe_begin(&[1, 2]).await.unwrap());
        assert!(session.describe_end().await.is_err());
        assert!(!session.is_usable());
    }
}
