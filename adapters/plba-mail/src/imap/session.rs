//! One IMAP connection with checked answers: a command ends only on its own tagged line, within its deadline, and every
//! other end is an error that says what to do next. The commands themselves are in the sibling files.
//!
//! async-imap does the framing, parsing and logging in; its convenience methods for SEARCH, FETCH, STORE and NOOP are not
//! used, because they end quietly on `NO`, `BYE` and end of file.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use async_imap::imap_proto::{MailboxDatum, Response, ResponseCode, Status};
use futures_util::FutureExt;
use plba_contracts::secret::Secret;
use plba_net::Deadline;
use tokio::io::BufStream;
use tokio::time::{Instant, timeout_at};
use tracing::{debug, warn};

use super::error::{ImapError, asks_for_pause, lost, refused};
use super::wire::{ByteStream, Wire};

/// Time limits of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// A read or write without any progress for this long ends the connection (default 60 s).
    pub silence: Duration,
    /// A whole command, from its first byte to its tagged answer (default 120 s). Fetching bodies gets more, at
    /// [`Timing::SLOWEST`] bytes a second.
    pub command: Duration,
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
        }
    }
}

/// How to prove to the server who we are.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Authentication {
    /// User name and password, by LOGIN (RFC 9051 section 6.2.3).
    Password {
        /// The account.
        user: String,
        /// Its password.
        password: Secret,
    },
}

/// What the server mentioned about the selected folder since this was last taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Changes {
    /// The latest number of messages, if one was mentioned.
    pub exists: Option<u32>,
    /// How many messages were reported as expunged.
    pub expunged: u32,
}

pub(crate) type Channel = BufStream<Wire<Deadline<Box<dyn ByteStream>>>>;

/// A logged-in connection. After an error whose next move is to reconnect, and after a command future was dropped
/// half-way, every further command answers [`ImapError::Lost`]: open a new session.
#[derive(Debug)]
pub struct ImapSession {
    inner: async_imap::Session<Channel>,
    timing: Timing,
    usable: bool,
    changes: Changes,
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
        let mut client = async_imap::Client::new(channel);
        let end = Instant::now() + timing.command;
        match timeout_at(end, read_greeting(&mut client)).await {
            Ok(greeting) => greeting?,
            Err(_) => return Err(out_of_time("the greeting", timing.command)),
        }
        match timeout_at(end, Box::pin(log_in(client, authentication))).await {
            Ok(session) => Ok(ImapSession {
                inner: session?,
                timing,
                usable: true,
                changes: Changes::default(),
            }),
            Err(_) => Err(out_of_time("LOGIN", timing.command)),
        }
    }

    /// What the server mentioned about the folder in passing since the last call. Nothing is dropped, however much came.
    pub fn take_changes(&mut self) -> Changes {
        std::mem::take(&mut self.changes)
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

    /// The server's capabilities in capitals (RFC 9051 section 6.1.1), such as `IDLE` or `AUTH=XOAUTH2`.
    pub async fn capability(&mut self) -> Result<Vec<String>, ImapError> {
        use async_imap::imap_proto::Capability;
        let mut found = Vec::new();
        self.run("CAPABILITY", "CAPABILITY", self.timing.command, |response| {
            if let Response::Capabilities(capabilities) = response {
                found.extend(capabilities.iter().map(|capability| match capability {
                    Capability::Imap4rev1 => "IMAP4REV1".to_owned(),
                    Capability::Auth(name) => format!("AUTH={}", name.to_ascii_uppercase()),
                    Capability::Atom(name) => name.to_ascii_uppercase(),
                }));
            }
        })
        .await?;
        Ok(found)
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
        self.inner.as_mut().get_mut().set_max_literal(bytes);
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
        if !self.usable {
            return Err(lost(
                command,
                None,
                "an earlier error or interruption ended this connection",
            ));
        }
        // Stays so unless the tagged answer arrives: whoever drops this future has to reconnect.
        self.usable = false;
        let answer = timeout_at(Instant::now() + limit, self.exchange(command, line, on)).await;
        match answer {
            Ok(Ok(answered)) => {
                self.usable = true;
                answered
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(out_of_time(command, limit)),
        }
    }

    /// The outer result is about the connection, the inner one about the command.
    async fn exchange(
        &mut self,
        command: &'static str,
        line: &str,
        mut on: impl FnMut(&Response<'_>) + Send,
    ) -> Result<Result<(), ImapError>, ImapError> {
        let sent = self.inner.run_command(line).await;
        let tag = sent.map_err(|error| lost(command, None, &error.to_string()))?;
        loop {
            let read = AssertUnwindSafe(self.inner.read_response()).catch_unwind().await;
            let response = match read {
                Ok(Ok(Some(response))) => response,
                other => return Err(self.broken(command, other.map(|read| read.map(|_| ())))),
            };
            match response.parsed() {
                Response::Done { tag: other, .. } if *other != tag => {
                    return Err(lost(command, None, "the server answered a command that was not sent"));
                }
                Response::Done { status, outcome, .. } => {
                    let text = said(&outcome.code, outcome.information.as_deref());
                    return match status {
                        Status::Ok => {
                            on(response.parsed());
                            Ok(Ok(()))
                        }
                        Status::No => Ok(Err(refused(command, text))),
                        Status::Bad => Ok(Err(ImapError::Unsupported { command, text })),
                        _ => Err(lost(command, Some(&text), "")),
                    };
                }
                Response::Data {
                    status: Status::Bye,
                    outcome,
                } if command != "LOGOUT" => {
                    let text = said(&outcome.code, outcome.information.as_deref());
                    return Err(lost(command, Some(&text), ""));
                }
                other => {
                    self.note(other);
                    on(other);
                }
            }
        }
    }

    fn note(&mut self, response: &Response<'_>) {
        match response {
            Response::MailboxData(MailboxDatum::Exists(count)) => self.changes.exists = Some(*count),
            Response::Expunge(_) => self.changes.expunged = self.changes.expunged.saturating_add(1),
            Response::Data { status, outcome } => {
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

    fn broken(&self, command: &'static str, read: std::thread::Result<std::io::Result<()>>) -> ImapError {
        let bye = self.inner.get_ref().get_ref().bye();
        match read {
            Ok(Ok(())) => lost(command, bye, "the server closed the connection"),
            Ok(Err(error)) => not_read(command, bye, &error),
            Err(_) => ImapError::Unreadable {
                command,
                reason: "the parser panicked on the server's answer".into(),
            },
        }
    }
}

async fn read_greeting(client: &mut async_imap::Client<Channel>) -> Result<(), ImapError> {
    const COMMAND: &str = "the greeting";
    let read = AssertUnwindSafe(client.read_response()).catch_unwind().await;
    let greeting = match read {
        Ok(Ok(Some(greeting))) => greeting,
        Ok(Ok(None)) => return Err(lost(COMMAND, None, "the server closed the connection")),
        Ok(Err(error)) => return Err(not_read(COMMAND, client.get_ref().get_ref().bye(), &error)),
        Err(_) => return Err(lost(COMMAND, None, "the parser panicked on it")),
    };
    let Response::Data { status, outcome } = greeting.parsed() else {
        return Err(lost(COMMAND, None, "this is not an IMAP server"));
    };
    let text = said(&outcome.code, outcome.information.as_deref());
    match status {
        Status::Ok => refuse_if_login_is_disabled(&outcome.code),
        Status::Bye => Err(lost(COMMAND, Some(&text), "")),
        _ => Err(ImapError::Unsupported {
            command: "LOGIN",
            text: format!("the greeting was {status:?} {text}"),
        }),
    }
}

/// A server that tells in its greeting not to take passwords in the clear is not sent one (RFC 9051 section 6.2.3).
fn refuse_if_login_is_disabled(code: &Option<ResponseCode<'_>>) -> Result<(), ImapError> {
    use async_imap::imap_proto::Capability;
    let Some(ResponseCode::Capabilities(capabilities)) = code else {
        return Ok(());
    };
    let disabled = |capability: &Capability<'_>| match capability {
        Capability::Atom(name) => name.eq_ignore_ascii_case("LOGINDISABLED"),
        _ => false,
    };
    if capabilities.iter().any(disabled) {
        return Err(ImapError::Unsupported {
            command: "LOGIN",
            text: "it takes no password over an unencrypted connection; use imaps://".into(),
        });
    }
    Ok(())
}

async fn log_in(
    client: async_imap::Client<Channel>,
    authentication: &Authentication,
) -> Result<async_imap::Session<Channel>, ImapError> {
    const COMMAND: &str = "LOGIN";
    let Authentication::Password { user, password } = authentication;
    let attempt = AssertUnwindSafe(client.login(user, password.expose()))
        .catch_unwind()
        .await;
    let (error, client) = match attempt {
        Ok(Ok(session)) => return Ok(session),
        Ok(Err(failed)) => failed,
        Err(_) => return Err(lost(COMMAND, None, "the parser panicked on the server's answer")),
    };
    let bye = client.get_ref().get_ref().bye();
    Err(match error {
        async_imap::error::Error::No(text) => {
            let text = unquoted(&text);
            match asks_for_pause(&text) {
                true => refused(COMMAND, text),
                false => ImapError::Credentials { text },
            }
        }
        async_imap::error::Error::Bad(text) => ImapError::Unsupported {
            command: COMMAND,
            text: unquoted(&text),
        },
        async_imap::error::Error::Io(error) => not_read(COMMAND, bye, &error),
        async_imap::error::Error::Validate(_) => ImapError::Credentials {
            text: "user and password may not contain line breaks".into(),
        },
        other => lost(COMMAND, bye, &other.to_string()),
    })
}

fn not_read(command: &'static str, bye: Option<&str>, error: &std::io::Error) -> ImapError {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::FileTooLarge | ErrorKind::Other if bye.is_none() => ImapError::Unreadable {
            command,
            reason: shortened(&error.to_string()),
        },
        _ => lost(command, bye, &shortened(&error.to_string())),
    }
}

fn out_of_time(command: &'static str, limit: Duration) -> ImapError {
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

/// async-imap reports refusals as `code: None, info: Some("text")`; this is the text.
fn unquoted(text: &str) -> String {
    let inner = text
        .split_once("info: Some(\"")
        .map(|(_, rest)| rest.trim_end_matches("\")"));
    shortened(inner.unwrap_or(text))
}

/// Server text is shown and logged: bounded, and without control characters. Parser errors quote the whole input, of
/// which the part after the quotation's beginning is the telling one.
fn shortened(text: &str) -> String {
    const LONGEST: usize = 200;
    let text = text.split_once(" during parsing of ").map_or(text, |(_, input)| input);
    text.chars().filter(|c| !c.is_control()).take(LONGEST).collect()
}
