//! Bodies on their way: UID FETCH commands that were sent before their answers are needed, so that the server works while
//! the last answer is being stored. What is fetched in which order is decided by the source.

use std::collections::BTreeMap;
use std::time::Duration;

use async_imap::imap_proto::AttributeValue;
use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use super::error::{ImapError, lost};
use super::fetch::{MAX_UIDS, body_of, uid_of};
use super::session::{Heard, ImapSession, out_of_time};
use super::uid_set::leading_set;
use super::wire::SMALL_LITERAL;

const COMMAND: &str = "UID FETCH";

/// One command whose answer has not been taken yet.
#[derive(Debug)]
pub(super) struct Ahead {
    tag: String,
    /// What was asked for, ascending.
    uids: Vec<u32>,
    found: BTreeMap<u32, Bytes>,
    ended: Option<Result<(), ImapError>>,
    end: Instant,
    limit: Duration,
}

/// What one command has brought.
#[derive(Debug)]
pub struct Fetched {
    /// The messages that came, ascending by UID.
    pub here: Vec<(u32, Bytes)>,
    /// Those that were asked for and did not come, ascending.
    pub missing: Vec<u32>,
    /// How the command ended. After an error what has come is whole all the same.
    pub ended: Result<(), ImapError>,
}

impl Ahead {
    pub(super) fn is_answered_by(&self, tag: &str) -> bool {
        self.tag == tag && self.ended.is_none()
    }

    pub(super) fn end(&mut self, ended: Result<(), ImapError>) {
        self.ended = Some(ended);
    }

    /// Takes a body that was asked for; `false` if it was not. A second one for the same message changes nothing.
    pub(super) fn take(&mut self, attributes: &[AttributeValue<'_>]) -> bool {
        let Some(uid) = uid_of(attributes).filter(|uid| self.uids.binary_search(uid).is_ok()) else {
            return false;
        };
        let Some(body) = body_of(attributes) else {
            return false;
        };
        self.found.entry(uid).or_insert_with(|| Bytes::copy_from_slice(body));
        true
    }
}

impl ImapSession {
    /// Asks for the bodies of `uids` (ascending, at most [`MAX_UIDS`] and what fits in one command; how many that are is the
    /// answer) and does not wait for them. `sizes` is what they amount to and `largest` what a single one may have, in
    /// bytes: a larger one ends the connection with [`ImapError::Unreadable`].
    ///
    /// Other commands may be run before [`fetch_end`](Self::fetch_end); bodies that come meanwhile are kept.
    pub async fn fetch_begin(&mut self, uids: &[u32], sizes: u64, largest: u64) -> Result<usize, ImapError> {
        let (set, taken) = leading_set(uids, MAX_UIDS);
        self.begin(COMMAND)?;
        self.set_max_literal(largest);
        let limit = self.timing().for_bytes(sizes);
        let tag = self
            .send_tagged(COMMAND, &format!("{COMMAND} {set} (UID BODY.PEEK[])"))
            .await?;
        self.usable = true;
        // The answers of those before come first.
        let before = self.ahead.back().map(|ahead| ahead.end);
        self.ahead.push_back(Ahead {
            tag,
            uids: uids[..taken].to_vec(),
            found: BTreeMap::new(),
            ended: None,
            end: before.unwrap_or_else(Instant::now).max(Instant::now()) + limit,
            limit,
        });
        Ok(taken)
    }

    /// Whether bodies were asked for that have not come.
    pub fn is_fetching(&self) -> bool {
        self.ahead.front().is_some_and(|ahead| ahead.ended.is_none())
    }

    /// Reads until the first of the commands that were begun has been answered whole, or the connection is over;
    /// [`fetch_end`](Self::fetch_end) then has the answer.
    ///
    /// # Cancel safety
    /// Safe: what has come is kept.
    pub async fn fetch_ahead(&mut self) {
        while let Some(ahead) = self.ahead.front().filter(|ahead| ahead.ended.is_none()) {
            let (tag, end, limit) = (ahead.tag.clone(), ahead.end, ahead.limit);
            let heard = match timeout_at(end, self.hear_of(&tag)).await {
                Ok(heard) => heard,
                Err(_) => Err(out_of_time(COMMAND, limit)),
            };
            let ended = match heard {
                Ok(Heard::Ended(ended)) => ended,
                Ok(Heard::Aside | Heard::Invited(_)) => continue,
                Err(error) => {
                    self.usable = false;
                    Err(error)
                }
            };
            if let Some(ahead) = self.ahead.front_mut() {
                ahead.end(ended);
            }
        }
    }

    async fn hear_of(&mut self, tag: &str) -> Result<Heard, ImapError> {
        match self.usable {
            true => self.hear(COMMAND, tag, |_| {}).await,
            false => Err(lost(
                COMMAND,
                None,
                "an earlier error or interruption ended this connection",
            )),
        }
    }

    /// The answer to the first of the commands that were begun. Messages that the server has left out may be gone:
    /// [`existing`](Self::existing) tells.
    pub async fn fetch_end(&mut self) -> Fetched {
        self.fetch_ahead().await;
        let Some(ahead) = self.ahead.pop_front() else {
            return Fetched {
                here: Vec::new(),
                missing: Vec::new(),
                ended: Ok(()),
            };
        };
        if self.ahead.is_empty() {
            self.set_max_literal(SMALL_LITERAL);
        }
        let missing = ahead.uids.iter().copied().filter(|uid| !ahead.found.contains_key(uid));
        Fetched {
            missing: missing.collect(),
            here: ahead.found.into_iter().collect(),
            ended: ahead.ended.unwrap_or(Ok(())),
        }
    }
}
