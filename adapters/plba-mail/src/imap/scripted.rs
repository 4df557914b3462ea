//! A scripted IMAP server for tests: it waits for commands and answers with exactly the bytes of the script.

use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, duplex};

use super::session::{ImapSession, Timing};
use super::{Authentication, ByteStream, ImapError};

/// One step of a script.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Waits for a command that contains the first text and sends the second, with `{tag}` replaced by its tag; a line
    /// without one, such as DONE, belongs to the command before.
    Answer(&'static str, Vec<u8>),
    /// Sends bytes unasked.
    Send(Vec<u8>),
    /// Lets time pass.
    Pause(Duration),
    /// Closes the connection.
    Close,
    /// Says nothing any more and keeps the connection open.
    Silence,
}

/// Waits for `command` and answers with `text`.
pub(crate) fn answer(command: &'static str, text: impl AsRef<[u8]>) -> Step {
    Step::Answer(command, text.as_ref().to_vec())
}

/// The time limits that tests use: those of production.
pub(crate) fn timing() -> Timing {
    Timing::default()
}

pub(crate) fn authentication() -> Authentication {
    Authentication::Password {
        user: "bot".into(),
        password: "secret".into(),
    }
}

/// Runs `script` on the far end of a pipe and answers with the near end.
pub(crate) fn serve(script: Vec<Step>) -> Box<dyn ByteStream> {
    let (near, far) = duplex(64 * 1024);
    tokio::spawn(play(far, script));
    Box::new(near)
}

/// A logged-in session with a server that goes on with `script`.
pub(crate) async fn logged_in(script: Vec<Step>) -> ImapSession {
    try_log_in([vec![greeting(), login()], script].concat()).await.unwrap()
}

/// Tries to log in to a server that plays `script` from the first byte on.
pub(crate) async fn try_log_in(script: Vec<Step>) -> Result<ImapSession, ImapError> {
    ImapSession::open(serve(script), &authentication(), timing()).await
}

pub(crate) fn greeting() -> Step {
    Step::Send(b"* OK [CAPABILITY IMAP4rev1 IDLE] ready\r\n".to_vec())
}

pub(crate) fn login() -> Step {
    answer("LOGIN \"bot\" \"secret\"", "{tag} OK logged in\r\n")
}

async fn play(far: DuplexStream, script: Vec<Step>) {
    let mut stream = BufReader::new(far);
    let mut tag = String::new();
    for step in script {
        let sent = match step {
            Step::Send(bytes) => bytes,
            Step::Answer(expected, bytes) => {
                let mut line = String::new();
                if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                    return;
                }
                assert!(line.contains(expected), "expected {expected}, the client sent {line}");
                if let Some((given, _)) = line.split_once(' ') {
                    tag = given.to_owned();
                }
                replace_tag(&bytes, &tag)
            }
            Step::Pause(span) => {
                tokio::time::sleep(span).await;
                continue;
            }
            Step::Close => return,
            Step::Silence => {
                tokio::time::sleep(Duration::from_secs(1_000_000)).await;
                return;
            }
        };
        if stream.write_all(&sent).await.is_err() {
            return;
        }
    }
    // The script has ended: stay silent, but notice when the client leaves.
    let mut rest = String::new();
    while stream.read_line(&mut rest).await.unwrap_or(0) > 0 {}
}

/// Replaces `{tag}` in bytes that need not be text.
fn replace_tag(bytes: &[u8], tag: &str) -> Vec<u8> {
    let mut replaced = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = rest.windows(5).position(|window| window == b"{tag}") {
        replaced.extend_from_slice(&rest[..at]);
        replaced.extend_from_slice(tag.as_bytes());
        rest = &rest[at + 5..];
    }
    replaced.extend_from_slice(rest);
    replaced
}
