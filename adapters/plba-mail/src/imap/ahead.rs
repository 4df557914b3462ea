//! Bodies on their way: UID FETCH commands that were sent before their answers are needed, so that the server works while
//! the last answer is being stored. What is fetched in which order is decided by the source; large ones are put together in
//! `pieces`.

use std::collections::BTreeMap;
use std::time::Duration;

use async_imap::imap_proto::AttributeValue;
use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use super::error::{ImapError, lost};
use super::fetch::{MAX_UIDS, body_of, piece_of, size_of, uid_of};
use super::session::{Heard, ImapSession, out_of_time};
use super::uid_set::leading_set;
use super::wire::SMALL_LITERAL;

const COMMAND: &str = "UID FETCH";

/// One command whose answer has not been taken yet.
#[derive(Debug)]
pub(super) struct Ahead {
    tag: String,
    wanted: Wanted,
    found: BTreeMap<u32, Bytes>,
    ended: Option<Result<(), ImapError>>,
    end: Instant,
    limit: Duration,
}

/// What one command asks for.
#[derive(Debug)]
pub(super) enum Wanted {
    /// The whole bodies of these, ascending.
    Whole(Vec<u32>),
    /// Whatever is there from this UID on and is not larger than a beginning, within these bounds in all.
    Beginnings { first: u32, count: usize, bytes: usize },
    /// One piece of one body.
    Piece { uid: u32, offset: u32 },
}

/// How much of messages that have just arrived is asked for, in bytes: most are whole then. As much as any literal may have
/// that comes unasked.
pub(super) const BEGINNING: u32 = SMALL_LITERAL as u32;

/// How much of messages that have just arrived is kept in all, in bytes: more has come meanwhile, and is fetched after.
const BEGINNINGS: usize = 2 * 1024 * 1024;

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
        let Some(uid) = uid_of(attributes) else { return false };
        let body = match &mut self.wanted {
            Wanted::Whole(uids) if uids.binary_search(&uid).is_ok() => body_of(attributes),
            Wanted::Beginnings { first, count, bytes } if uid >= *first => {
                let fits = |body: &&[u8]| *count > 0 && body.len() <= *bytes;
                let body = whole_beginning(attributes).filter(fits);
                if let Some(body) = body.filter(|_| !self.found.contains_key(&uid)) {
                    *count -= 1;
                    *bytes -= body.len();
                }
                body
            }
            Wanted::Piece { uid: wanted, offset } if *wanted == uid => {
                let whole = || body_of(attributes).filter(|_| *offset == 0);
                piece_of(attributes, *offset).or_else(whole)
            }
            _ => None,
        };
        let Some(body) = body else { return false };
        self.found.entry(uid).or_insert_with(|| Bytes::copy_from_slice(body));
        true
    }
}

/// The message of which the beginning was asked for, if that is all of it.
fn whole_beginning<'r>(attributes: &'r [AttributeValue<'_>]) -> Option<&'r [u8]> {
    if let Some(body) = body_of(attributes) {
        return Some(body);
    }
    let body = piece_of(attributes, 0)?;
    let ends = body.len() < BEGINNING as usize && size_of(attributes).is_none_or(|size| size <= BEGINNING);
    ends.then_some(body)
}

impl ImapSession {
    /// Asks for the bodies of `uids` (ascending, at most [`MAX_UIDS`] and what fits in one command; how many that are is the
    /// answer) and does not wait for them. `sizes` is what they amount to and `largest` what a single one may have, in
    /// bytes: a larger one ends the connection with [`ImapError::Unreadable`].
    ///
    /// Other commands may be run before [`fetch_end`](Self::fetch_end); bodies that come meanwhile are kept.
    pub async fn fetch_begin(&mut self, uids: &[u32], sizes: u64, largest: u64) -> Result<usize, ImapError> {
        let (set, taken) = leading_set(uids, MAX_UIDS);
        let wanted = Wanted::Whole(uids[..taken].to_vec());
        self.ask(&format!("{set} (UID BODY.PEEK[])"), wanted, sizes, largest)
            .await?;
        Ok(taken)
    }

    /// Sends a UID FETCH and remembers that its answer is to come.
    pub(super) async fn ask(&mut self, what: &str, wanted: Wanted, sizes: u64, largest: u64) -> Result<(), ImapError> {
        self.begin(COMMAND)?;
        self.set_max_literal(largest);
        let tag = self.send_tagged(COMMAND, &format!("{COMMAND} {what}")).await?;
        self.usable = true;
        self.expect(tag, wanted, sizes);
        Ok(())
    }

    fn expect(&mut self, tag: String, wanted: Wanted, sizes: u64) {
        let limit = self.timing().for_bytes(sizes);
        // The answers of those before come first.
        let before = self.ahead.back().map(|ahead| ahead.end);
        self.ahead.push_back(Ahead {
            tag,
            wanted,
            found: BTreeMap::new(),
            ended: None,
            end: before.unwrap_or_else(Instant::now).max(Instant::now()) + limit,
            limit,
        });
    }

    /// Ends the running IDLE and asks for what has arrived, in one write: the messages with UIDs from `first` on that are no
    /// larger than 64 KiB, at most `count` and 2 MiB of them. [`fetch_end`](Self::fetch_end) has them. The answer says nothing
    /// of what is not in it: whoever needs to know searches after.
    ///
    /// # Errors
    /// As those of [`idle_end`](Self::idle_end), within the same time.
    pub async fn idle_end_asking(&mut self, first: u32, count: usize) -> Result<(), ImapError> {
        if self.idle.is_none() {
            return Ok(());
        }
        let tag = self.next_tag();
        let line = format!("{tag} {COMMAND} {first}:* (UID RFC822.SIZE BODY.PEEK[]<0.{BEGINNING}>)");
        self.set_max_literal(u64::from(BEGINNING));
        let wanted = Wanted::Beginnings {
            first,
            count,
            bytes: BEGINNINGS,
        };
        self.expect(tag, wanted, BEGINNINGS as u64);
        self.idle_end_with(&format!("DONE\r\n{line}")).await
    }

    /// Whether bodies were asked for that have not come.
    pub fn is_fetching(&self) -> bool {
        self.ahead.front().is_some_and(|ahead| ahead.ended.is_none())
    }

    /// Whether answers that were begun are still to be taken.
    pub(crate) fn is_fetching_anything(&self) -> bool {
        !self.ahead.is_empty()
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
        let asked = match ahead.wanted {
            Wanted::Whole(uids) => uids,
            Wanted::Beginnings { .. } => Vec::new(),
            Wanted::Piece { uid, .. } => vec![uid],
        };
        let missing = asked.into_iter().filter(|uid| !ahead.found.contains_key(uid));
        Fetched {
            missing: missing.collect(),
            here: ahead.found.into_iter().collect(),
            ended: ahead.ended.unwrap_or(Ok(())),
        }
    }
}
