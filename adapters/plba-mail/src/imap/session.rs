//! One IMAP connection with checked answers: a command ends only on its own tagged line, within its deadline, and every
//! other end is an error that says what to do next. Logging in is in `login`, waiting for the server in `idle`, and the
//! commands are in the other sibling files.
//!
//! async-imap does the framing and parsing; its convenience methods for LOGIN, SEARCH, FETCH, STORE, NOOP and IDLE are not
//! used, because they end quietly on `NO`, `BYE` and end of file, or never.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use async_imap::imap_proto::{AttributeValue, Capability, MailboxDatum, Response, ResponseCode, Status};
use futures_util::FutureExt;
use plba_net::Deadline;
use tokio::io::{AsyncWriteExt, BufStream};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout_at};
use tracing::{debug, warn};

use super::ahead::Ahead;
use super::describe::Describing;
use super::error::{ImapError, lost, refused};
use super::login::Authentication;
use super::look::Following;
use super::wire::{ByteStream, Wire};

/// Time limits of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// A read or write without any progress for this long ends the connection (default 60 s).
    pub silence: Duration,
    /// A whole command, from its first byte to its tagged answer (default 120 s). Fetching bodies gets more, at
    /// [`Timing::SLOWEST`] bytes a second.
    pub command: Duration,
    /// The server's answers to IDLE and to its DONE (default 30 s). With the longest IDLE of 5 min, a connection that is
    /// open on this side only is found within 6 min.
    pub turn: Duration,
}

impl Timing {
    /// The slowest transfer of message bodies that is waited for, in bytes a second.
    pub const SLOWEST: u64 = 16 * 1024;

    pub(crate) fn for_bytes(&self, bytes: u64) -> Duration {
        self.command + Duration::from_secs(bytes / Self::SLOWEST)
    }
}

impl Default for Timing {
    fn default() -> Self {
        Timing {
            silence: Duration::from_secs(60),
            command: Duration::from_secs(120),
            turn: Duration::from_secs(30),
        }
    }
}

/// What the server mentioned about the selected folder since this was last taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Changes {
    /// The latest number of messages, if one was mentioned.
    pub exists: Option<u32>,
    /// How many messages were reported as expunged.
    pub expunged: u32,
    /// Whether a number was mentioned that the expunged ones don't explain: messages have arrived.
    pub arrived: bool,
}

pub(crate) type Channel = BufStream<Wire<Deadline<Box<dyn ByteStream>>>>;

/// A logged-in connection. After an error whose next move is to reconnect, and after a command future was dropped
/// half-way, every further command answers [`ImapError::Lost`]: open a new session.
#[derive(Debug)]
pub struct ImapSession {
    inner: async_imap::Client<Channel>,
    timing: Timing,
    pub(super) usable: bool,
    tags: u32,
    changes: Changes,
    /// How many messages the folder has by the server's latest word,
    exists: u32,
    /// and by how many that has grown since the changes were last taken.
    came: u32,
    /// What the greeting said it can, in capitals; `None` if it said nothing of it.
    pub(super) greeted_with: Option<Vec<String>>,
    /// What it said it can since the login, in capitals; `None` if it was not asked and did not say.
    pub(super) able: Option<Vec<String>>,
    /// Whether QRESYNC is enabled.
    pub(super) resyncs: bool,
    /// The highest mod-sequence that the server has mentioned.
    mod_seq: u64,
    /// The tag of the IDLE that is running.
    pub(super) idle: Option<String>,
    /// Bodies that were asked for and are still to come, in the order of the asking.
    pub(super) ahead: VecDeque<Ahead>,
    /// The command that was sent together with the running one.
    pub(super) following: Option<Following>,
    /// Sizes that were asked for and are still to be taken.
    pub(super) describing: Option<Describing>,
}

/// What a response means to the command that is running.
pub(super) enum Heard {
    /// Its tagged answer.
    Ended(Result<(), ImapError>),
    /// A continuation request, with its text.
    Invited(String),
    /// Something else, already noted.
    Aside,
}

impl ImapSession {
    /// Reads the server's greeting and logs in.
    ///
    /// # Errors
    /// [`ImapError::Credentials`] if the server refuses them, otherwise as for any command.
    ///
    /// # Cancel safety
    /// Dropping the future closes the stream.
    pub async fn open(
        stream: Box<dyn ByteStream>,
        authentication: &Authentication,
        timing: Timing,
    ) -> Result<Self, ImapError> {
        let channel = BufStream::with_capacity(64 * 1024, 8 * 1024, Wire::new(Deadline::new(stream, timing.silence)));
        let mut session = ImapSession {
            inner: async_imap::Client::new(channel),
            timing,
            usable: true,
            tags: 0,
            changes: Changes::default(),
            exists: 0,
            came: 0,
            greeted_with: None,
            able: None,
            resyncs: false,
            mod_seq: 0,
            idle: None,
            ahead: VecDeque::new(),
            following: None,
            describing: None,
        };
        let end = Instant::now() + timing.command;
        match timeout_at(end, session.read_greeting()).await {
            Ok(greeting) => greeting?,
            Err(_) => return Err(out_of_time("the greeting", timing.command)),
        }
        let left = end.saturating_duration_since(Instant::now());
        Box::pin(session.log_in(authentication, left)).await?;
        Ok(session)
    }

    /// What the server mentioned about the folder in passing since the last call. Nothing is dropped, however much came.
    pub fn take_changes(&mut self) -> Changes {
        self.came = 0;
        std::mem::take(&mut self.changes)
    }

    /// Whether messages have arrived since the changes were last taken.
    pub fn has_arrivals(&self) -> bool {
        self.changes.arrived
    }

    /// How many messages have arrived since the changes were last taken, by the server's word, which may be wrong.
    pub fn arrivals(&self) -> u32 {
        self.came
    }

    /// The highest mod-sequence of the open folder that the server has mentioned, 0 for none (RFC 7162 section 3.1).
    pub fn mod_seq(&self) -> u64 {
        self.mod_seq
    }

    /// Another folder is going to be opened, which counts for itself.
    pub(super) fn forget_mod_seq(&mut self) {
        self.mod_seq = 0;
    }

    /// Whether another command can be sent.
    pub fn is_usable(&self) -> bool {
        self.usable
    }

    /// Asks the server for what is new in the folder (RFC 9051 section 6.1.2); [`take_changes`](Self::take_changes) has
    /// the answer. Some servers show new messages to a search only after this.
    pub async fn noop(&mut self) -> Result<(), ImapError> {
        self.run("NOOP", "NOOP", self.timing.command, |_| {}).await
    }

    /// Learns what the server can (RFC 9051 section 6.1.1), unless its answer to the login told: servers offer some things
    /// only then, or no longer. [`can`](Self::can) has the answer.
    pub async fn capability(&mut self) -> Result<(), ImapError> {
        if self.able.is_none() {
            self.run("CAPABILITY", "CAPABILITY", self.timing.command, |_| {})
                .await?;
            self.able.get_or_insert_default();
        }
        Ok(())
    }

    /// Whether the server has said that it can do this, such as `IDLE` or `AUTH=XOAUTH2`, in capitals.
    pub fn can(&self, what: &str) -> bool {
        self.able.iter().flatten().any(|able| able == what)
    }

    /// Says goodbye (RFC 9051 section 6.1.3) and closes the connection, within a few seconds whatever the server does.
    pub async fn logout(mut self) {
        let limit = self.timing.command.min(Duration::from_secs(5));
        if let Err(error) = self.run("LOGOUT", "LOGOUT", limit, |_| {}).await {
            debug!(%error, "the server did not answer the goodbye");
        }
    }

    pub(crate) fn timing(&self) -> Timing {
        self.timing
    }

    pub(crate) fn set_max_literal(&mut self, bytes: u64) {
        self.inner.get_mut().get_mut().set_max_literal(bytes);
    }

    /// Keeps what the server sends from now on, up to so many bytes.
    pub(crate) fn listen(&mut self, most: usize) {
        self.inner.get_mut().get_mut().listen(most);
    }

    /// What the server has sent since, as it came.
    pub(crate) fn take_heard(&mut self) -> Option<Vec<u8>> {
        self.inner.get_mut().get_mut().take_heard()
    }

    /// How long a read may wait from now on.
    pub(super) fn set_silence(&mut self, limit: Duration) {
        self.inner.get_mut().get_mut().get_mut().set_limit(limit);
    }

    /// Sends one command and reads up to its own tagged answer, within `limit`. `on` sees every other response that is
    /// not handled here, and the tagged one when it is `OK`.
    pub(crate) async fn run(
        &mut self,
        command: &'static str,
        line: &str,
        limit: Duration,
        on: impl FnMut(&Response<'_>) + Send,
    ) -> Result<(), ImapError> {
        self.begin(command)?;
        let answer = timeout_at(Instant::now() + limit, self.exchange(command, line, on)).await;
        self.conclude(command, limit, answer)
    }

    /// The connection counts as unusable until [`conclude`](Self::conclude): whoever drops a command half-way has to
    /// reconnect.
    pub(super) fn begin(&mut self, command: &'static str) -> Result<(), ImapError> {
        match std::mem::replace(&mut self.usable, false) {
            true => Ok(()),
            false => Err(lost(
                command,
                None,
                "an earlier error or interruption ended this connection",
            )),
        }
    }

    /// Sorts an answer's end: of the time, of the connection (the outer result), of the command (the inner one).
    pub(super) fn conclude<T>(
        &mut self,
        command: &'static str,
        limit: Duration,
        answer: Result<Result<Result<T, ImapError>, ImapError>, Elapsed>,
    ) -> Result<T, ImapError> {
        match answer {
            Ok(Ok(answered)) => {
                self.usable = true;
                answered
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(out_of_time(command, limit)),
        }
    }

    async fn exchange(
        &mut self,
        command: &'static str,
        line: &str,
        mut on: impl FnMut(&Response<'_>) + Send,
    ) -> Result<Result<(), ImapError>, ImapError> {
        let tag = self.send_tagged(command, line).await?;
        loop {
            if let Heard::Ended(ended) = self.hear(command, &tag, &mut on).await? {
                return Ok(ended);
            }
        }
    }

    pub(super) fn next_tag(&mut self) -> String {
        self.tags = self.tags.wrapping_add(1);
        format!("A{:04}", self.tags)
    }

    /// Sends a command and answers with its tag.
    pub(super) async fn send_tagged(&mut self, command: &'static str, line: &str) -> Result<String, ImapError> {
        let tag = self.next_tag();
        self.send(command, &format!("{tag} {line}")).await?;
        Ok(tag)
    }

    /// Sends one line.
    pub(super) async fn send(&mut self, command: &'static str, line: &str) -> Result<(), ImapError> {
        let channel = self.inner.get_mut();
        let sent = async {
            channel.write_all(format!("{line}\r\n").as_bytes()).await?;
            channel.flush().await
        };
        let sent = sent.await;
        sent.map_err(|error| lost(command, self.bye(), &error.to_string()))
    }

    /// Reads one response and looks at it.
    async fn read<T>(
        &mut self,
        command: &'static str,
        look: impl FnOnce(&mut Self, &Response<'_>) -> Result<T, ImapError>,
    ) -> Result<T, ImapError> {
        let read = AssertUnwindSafe(self.inner.read_response()).catch_unwind().await;
        match read {
            Ok(Ok(Some(response))) => look(self, response.parsed()),
            Ok(Ok(None)) => Err(lost(command, self.bye(), "the server closed the connection")),
            Ok(Err(error)) => Err(not_read(command, self.bye(), &error)),
            Err(_) => Err(ImapError::Unreadable {
                command,
                reason: "the parser panicked on the server's answer".into(),
            }),
        }
    }

    /// Reads one response to the command with this tag, sorts it, and notes what it tells of the folder. `on` sees every
    /// response that is not handled here, and the tagged one when it is `OK`. An error means that the connection is over.
    ///
    /// # Cancel safety
    /// Safe: what has come of a response stays in the buffer.
    pub(super) async fn hear(
        &mut self,
        command: &'static str,
        tag: &str,
        on: impl FnOnce(&Response<'_>),
    ) -> Result<Heard, ImapError> {
        self.read(command, |session, response| {
            let heard = session.sort(command, tag, response)?;
            if matches!(heard, Heard::Aside | Heard::Ended(Ok(()))) {
                on(response);
            }
            Ok(heard)
        })
        .await
    }

    fn sort(&mut self, command: &'static str, tag: &str, response: &Response<'_>) -> Result<Heard, ImapError> {
        match response {
            Response::Done {
                tag: other,
                status,
                outcome,
            } => {
                if let Some(ResponseCode::Capabilities(capabilities)) = &outcome.code {
                    self.able = Some(names(capabilities));
                }
                let text = said(&outcome.code, outcome.information.as_deref());
                let ended = |command| match status {
                    Status::Ok => Ok(Ok(())),
                    Status::No => Ok(Err(refused(command, text))),
                    Status::Bad => Ok(Err(ImapError::Unsupported { command, text })),
                    _ => Err(lost(command, Some(&text), "")),
                };
                if other.0 == tag {
                    return ended(command).map(Heard::Ended);
                }
                if let Some(following) = self.following.as_mut().filter(|next| next.is_answered_by(&other.0)) {
                    following.end(ended("UID SEARCH")?);
                    return Ok(Heard::Aside);
                }
                if let Some(describing) = self.describing.as_mut().filter(|one| one.is_answered_by(&other.0)) {
                    describing.end(ended("UID FETCH")?);
                    return Ok(Heard::Aside);
                }
                match self.ahead.iter_mut().find(|ahead| ahead.is_answered_by(&other.0)) {
                    Some(ahead) => ahead.end(ended("UID FETCH")?),
                    None => return Err(lost(command, None, "the server answered a command that was not sent")),
                }
                Ok(Heard::Aside)
            }
            Response::Data {
                status: Status::Bye,
                outcome,
            } if command != "LOGOUT" => {
                let text = said(&outcome.code, outcome.information.as_deref());
                Err(lost(command, Some(&text), ""))
            }
            Response::Continue(outcome) => {
                let text = outcome.information.as_deref().unwrap_or_default();
                Ok(Heard::Invited(text.to_owned()))
            }
            other => {
                self.note(other);
                Ok(Heard::Aside)
            }
        }
    }

    fn note(&mut self, response: &Response<'_>) {
        match response {
            Response::MailboxData(MailboxDatum::Exists(count)) => {
                self.changes.exists = Some(*count);
                // Some servers repeat the number with every answer, which is no news.
                self.changes.arrived |= *count != self.exists;
                self.came = self.came.saturating_add(count.saturating_sub(self.exists));
                self.exists = *count;
            }
            Response::Expunge(_) => {
                self.lose(1);
            }
            // Instead of EXPUNGE, once QRESYNC is enabled (RFC 7162 section 3.2.10). What went earlier was never counted.
            Response::Vanished { earlier: false, uids } => {
                let count = uids
                    .iter()
                    .map(|range| u64::from(range.end() - range.start()) + 1)
                    .sum::<u64>();
                self.lose(u32::try_from(count).unwrap_or(u32::MAX));
            }
            // What ENABLE has enabled comes as the same thing, without the protocol's own name.
            Response::Capabilities(able) if able.contains(&Capability::Imap4rev1) => self.able = Some(names(able)),
            Response::Fetch(_, attributes) => {
                if let Some(AttributeValue::ModSeq(value)) = attributes.iter().find(is_mod_seq) {
                    self.mod_seq = self.mod_seq.max(*value);
                }
                let taken = self.ahead.iter_mut().any(|ahead| ahead.take(attributes));
                if let Some(describing) = self.describing.as_mut().filter(|_| !taken) {
                    describing.take(attributes, response);
                }
            }
            Response::Data { status, outcome } => {
                if let Some(ResponseCode::HighestModSeq(value)) = &outcome.code {
                    self.mod_seq = self.mod_seq.max(*value);
                }
                let alert = matches!(outcome.code, Some(ResponseCode::Alert));
                if alert || matches!(status, Status::No | Status::Bad) {
                    warn!(
                        text = said(&outcome.code, outcome.information.as_deref()),
                        "the mail server warns"
                    );
                }
            }
            _ => {}
        }
    }

    fn lose(&mut self, count: u32) {
        self.changes.expunged = self.changes.expunged.saturating_add(count);
        self.exists = self.exists.saturating_sub(count);
    }

    pub(super) fn bye(&self) -> Option<&str> {
        self.inner.get_ref().get_ref().bye()
    }

    async fn read_greeting(&mut self) -> Result<(), ImapError> {
        const COMMAND: &str = "the greeting";
        self.read(COMMAND, |session, greeting| {
            let Response::Data { status, outcome } = greeting else {
                return Err(lost(COMMAND, None, "this is not an IMAP server"));
            };
            if let Some(ResponseCode::Capabilities(capabilities)) = &outcome.code {
                session.greeted_with = Some(names(capabilities));
            }
            let text = said(&outcome.code, outcome.information.as_deref());
            match status {
                Status::Ok => Ok(()),
                Status::Bye => Err(lost(COMMAND, Some(&text), "")),
                _ => Err(ImapError::Unsupported {
                    command: "LOGIN",
                    text: format!("the greeting was {status:?} {text}"),
                }),
            }
        })
        .await
    }
}

fn is_mod_seq(attribute: &&AttributeValue<'_>) -> bool {
    matches!(attribute, AttributeValue::ModSeq(_))
}

fn names(capabilities: &[Capability<'_>]) -> Vec<String> {
    let name = |capability: &Capability<'_>| match capability {
        Capability::Imap4rev1 => "IMAP4REV1".to_owned(),
        Capability::Auth(name) => format!("AUTH={}", name.to_ascii_uppercase()),
        Capability::Atom(name) => name.to_ascii_uppercase(),
    };
    capabilities.iter().map(name).collect()
}

fn not_read(command: &'static str, bye: Option<&str>, error: &std::io::Error) -> ImapError {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::FileTooLarge | ErrorKind::Other if bye.is_none() => ImapError::Unreadable {
            command,
            // Enough to see whose message it is.
            reason: cut(&error.to_string(), 1_200),
        },
        _ => lost(command, bye, &shortened(&error.to_string())),
    }
}

pub(super) fn out_of_time(command: &'static str, limit: Duration) -> ImapError {
    lost(
        command,
        None,
        &format!("no complete answer within {} ms", limit.as_millis()),
    )
}

/// A response text with its code, as the server wrote it. Codes that imap-proto does not know stay in the text.
fn said(code: &Option<ResponseCode<'_>>, information: Option<&str>) -> String {
    let text = information.unwrap_or_default();
    match code {
        Some(code) => shortened(&format!("[{code:?}] {text}")),
        None => shortened(text),
    }
}

/// Server text is shown and logged: bounded, and without control characters. Parser errors quote the whole input, of
/// which the part after the quotation's beginning is the telling one.
fn shortened(text: &str) -> String {
    cut(text, 200)
}

fn cut(text: &str, longest: usize) -> String {
    let text = text.split_once(" during parsing of ").map_or(text, |(_, input)| input);
    text.chars().filter(|c| !c.is_control()).take(longest).collect()
}
