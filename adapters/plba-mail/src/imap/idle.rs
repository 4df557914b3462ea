//! Waiting for the server to speak first: IDLE (RFC 2177, RFC 9051 section 6.3.13). How long to wait, and what to do about
//! what it says, is the source's business.

use std::time::Duration;

use async_imap::imap_proto::{MailboxDatum, Response};
use tokio::time::{Instant, timeout_at};

use super::error::{ImapError, lost};
use super::session::{Heard, ImapSession};

const COMMAND: &str = "IDLE";

/// What the server says to somebody who waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// The folder has changed, or the server mentions it; [`ImapSession::has_arrivals`] tells whether messages came.
    Stirred,
    /// The server has ended the IDLE by itself.
    Ended,
}

impl ImapSession {
    /// Begins to wait: resolves when the server has agreed. Until [`idle_end`](Self::idle_end) no other command can be
    /// sent. Messages that arrive before the server agrees show in [`has_arrivals`](Self::has_arrivals).
    ///
    /// # Errors
    /// [`ImapError::Refused`] or [`ImapError::Unsupported`] from a server that does not want to: go on by polling on the same
    /// connection. Otherwise as for any command, within [`Timing::turn`](super::Timing::turn).
    pub async fn idle_start(&mut self) -> Result<(), ImapError> {
        self.begin(COMMAND)?;
        let limit = self.timing().turn;
        let answer = timeout_at(Instant::now() + limit, self.agree()).await;
        match self.conclude(COMMAND, limit, answer)? {
            None => Err(ImapError::Unsupported {
                command: COMMAND,
                text: "it ended the IDLE at once".into(),
            }),
            tag => {
                self.usable = false;
                self.idle = tag;
                Ok(())
            }
        }
    }

    /// The running IDLE's tag; `None` if the server said OK instead of waiting.
    async fn agree(&mut self) -> Result<Result<Option<String>, ImapError>, ImapError> {
        let tag = self.send_tagged(COMMAND, COMMAND).await?;
        loop {
            match self.hear(COMMAND, &tag, |_| {}).await? {
                Heard::Invited(_) => return Ok(Ok(Some(tag))),
                Heard::Ended(ended) => return Ok(ended.map(|()| None)),
                Heard::Aside => {}
            }
        }
    }

    /// Waits for the next thing the server says about the folder. Remarks such as `* OK Still here` are none.
    ///
    /// There is no deadline here but the connection's, which is `longest` and a little more: whoever calls this ends the
    /// wait by dropping it.
    ///
    /// # Cancel safety
    /// Safe: what the server says meanwhile is heard by the next call, or by [`idle_end`](Self::idle_end).
    pub async fn idle_notice(&mut self, longest: Duration) -> Result<Notice, ImapError> {
        let Some(tag) = self.idle.clone() else {
            return Err(lost(COMMAND, None, "nothing waits on this connection"));
        };
        self.set_silence(longest + self.timing().silence);
        loop {
            let mut stirred = false;
            let heard = self
                .hear(COMMAND, &tag, |response| stirred = is_about_the_folder(response))
                .await?;
            match heard {
                Heard::Ended(ended) => {
                    self.over();
                    return ended.map(|()| Notice::Ended);
                }
                Heard::Aside if stirred => return Ok(Notice::Stirred),
                Heard::Aside | Heard::Invited(_) => {}
            }
        }
    }

    /// Ends the wait with DONE, within [`Timing::turn`](super::Timing::turn). What the server still says shows in
    /// [`take_changes`](Self::take_changes).
    pub async fn idle_end(&mut self) -> Result<(), ImapError> {
        self.idle_end_with("DONE").await
    }

    /// The same with `lines`, of which the first is DONE and the others are commands of which the answers come after.
    pub(super) async fn idle_end_with(&mut self, lines: &str) -> Result<(), ImapError> {
        let Some(tag) = self.idle.clone() else {
            return Ok(());
        };
        self.set_silence(self.timing().silence);
        let limit = self.timing().turn;
        let answer = timeout_at(Instant::now() + limit, self.finish(&tag, lines)).await;
        let ended = self.conclude(COMMAND, limit, answer);
        if self.usable {
            self.over();
        }
        ended
    }

    async fn finish(&mut self, tag: &str, lines: &str) -> Result<Result<(), ImapError>, ImapError> {
        self.send(COMMAND, lines).await?;
        loop {
            if let Heard::Ended(ended) = self.hear(COMMAND, tag, |_| {}).await? {
                return Ok(ended);
            }
        }
    }

    fn over(&mut self) {
        self.idle = None;
        self.usable = true;
        self.set_silence(self.timing().silence);
    }
}

fn is_about_the_folder(response: &Response<'_>) -> bool {
    matches!(
        response,
        Response::MailboxData(MailboxDatum::Exists(_) | MailboxDatum::Recent(_))
            | Response::Expunge(_)
            | Response::Vanished { .. }
            | Response::Fetch(..)
    )
}
