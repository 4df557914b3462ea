//! The bytes below async-imap: a stream that refuses endless lines and outsized literals before the parser allocates for
//! them, and remembers the server's `BYE`. It understands line and literal framing (RFC 9051 section 4.3) and no more.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Anything a session can run over: TCP, TLS, or a pipe in tests.
pub trait ByteStream: AsyncRead + AsyncWrite + Unpin + Send + fmt::Debug {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + fmt::Debug> ByteStream for S {}

/// The longest line accepted, in bytes. `SEARCH` answers with one line: this is room for more than a million UIDs.
const MAX_LINE: usize = 16 * 1024 * 1024;

/// The largest literal accepted where no message body is expected, in bytes.
pub(crate) const SMALL_LITERAL: u64 = 64 * 1024;

/// How much of the beginning and the end of a line is looked at.
const SEEN_OF_LINE: usize = 256;

/// A stream with limits on what the server may send in one piece.
#[derive(Debug)]
pub(crate) struct Wire<S> {
    inner: S,
    max_literal: u64,
    framing: Framing,
    bye: Option<String>,
    heard: Option<Heard>,
}

/// What the server has sent, byte by byte, within a limit.
#[derive(Debug)]
struct Heard {
    bytes: Vec<u8>,
    most: usize,
}

#[derive(Debug)]
enum Framing {
    /// Within a line: its first bytes, its last bytes, and its length so far.
    Line {
        head: Vec<u8>,
        tail: Vec<u8>,
        length: usize,
    },
    /// Within a literal of which so many bytes are still to come.
    Literal { left: u64 },
}

impl Framing {
    fn new_line() -> Self {
        Framing::Line {
            head: Vec::new(),
            tail: Vec::new(),
            length: 0,
        }
    }
}

impl<S> Wire<S> {
    pub(crate) fn new(inner: S) -> Self {
        Wire {
            inner,
            max_literal: SMALL_LITERAL,
            framing: Framing::new_line(),
            bye: None,
            heard: None,
        }
    }

    /// Keeps what the server sends from now on, up to so many bytes, for [`take_heard`](Self::take_heard).
    pub(crate) fn listen(&mut self, most: usize) {
        let bytes = Vec::new();
        self.heard = Some(Heard { bytes, most });
    }

    /// What the server has sent since, and no longer keeps it.
    pub(crate) fn take_heard(&mut self) -> Option<Vec<u8>> {
        self.heard.take().map(|heard| heard.bytes)
    }

    /// From now on literals of up to `bytes` are accepted.
    pub(crate) fn set_max_literal(&mut self, bytes: u64) {
        self.max_literal = bytes;
    }

    pub(crate) fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// What the server said when it said goodbye.
    pub(crate) fn bye(&self) -> Option<&str> {
        self.bye.as_deref()
    }

    fn inspect(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            bytes = match &mut self.framing {
                Framing::Literal { left } => {
                    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    *left -= taken as u64;
                    if *left == 0 {
                        self.framing = Framing::new_line();
                    }
                    &bytes[taken..]
                }
                Framing::Line { head, tail, length } => {
                    let end = bytes.iter().position(|&byte| byte == b'\n').map(|at| at + 1);
                    let part = &bytes[..end.unwrap_or(bytes.len())];
                    *length += part.len();
                    if *length > MAX_LINE {
                        return Err(too_large(format!("a line of more than {MAX_LINE} bytes")));
                    }
                    head.extend_from_slice(&part[..part.len().min(SEEN_OF_LINE - head.len())]);
                    tail.extend_from_slice(&part[part.len().saturating_sub(SEEN_OF_LINE)..]);
                    tail.drain(..tail.len().saturating_sub(SEEN_OF_LINE));
                    if end.is_some() {
                        self.end_of_line()?;
                    }
                    &bytes[part.len()..]
                }
            };
        }
        Ok(())
    }

    fn end_of_line(&mut self) -> io::Result<()> {
        let Framing::Line { head, tail, .. } = std::mem::replace(&mut self.framing, Framing::new_line()) else {
            return Ok(());
        };
        if head.len() >= 5 && head[..5].eq_ignore_ascii_case(b"* BYE") {
            self.bye = Some(String::from_utf8_lossy(&head[5..]).trim().to_owned());
        }
        match literal_size(&tail) {
            Some(size) if size > self.max_literal => Err(too_large(format!(
                "a literal of {size} bytes where at most {} were expected",
                self.max_literal
            ))),
            Some(left) if left > 0 => {
                self.framing = Framing::Literal { left };
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn too_large(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, format!("the server sent {what}"))
}

/// The size that a line announces at its end: `{123}` or, with the non-synchronising sign, `{123+}`.
fn literal_size(line: &[u8]) -> Option<u64> {
    let line = line.strip_suffix(b"\n")?;
    let line = line.strip_suffix(b"\r").unwrap_or(line).strip_suffix(b"}")?;
    let line = line.strip_suffix(b"+").unwrap_or(line);
    let open = line.iter().rposition(|&byte| byte == b'{')?;
    let digits = &line[open + 1..];
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    // A number that does not even fit is larger than every limit.
    Some(std::str::from_utf8(digits).ok()?.parse().unwrap_or(u64::MAX))
}

/// The message in what a server has sent in answer to a FETCH of one: the first literal of a FETCH response, and whether all
/// of it has come. It needs nothing but the framing, so that it is found where the rest of the answer can't be read.
pub(crate) fn message_in(sent: &[u8]) -> Option<(&[u8], bool)> {
    let mut rest = sent;
    while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
        let (line, after) = rest.split_at(end + 1);
        rest = after;
        let Some(size) = literal_size(line) else { continue };
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let literal = &rest[..size.min(rest.len())];
        let is_fetch = line.to_ascii_uppercase().windows(7).any(|word| word == b" FETCH ");
        if line.starts_with(b"* ") && is_fetch {
            return Some((literal, literal.len() == size));
        }
        rest = &rest[literal.len()..];
    }
    None
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
        let bytes = &buf.filled()[before..];
        if let Some(heard) = &mut this.heard {
            let room = heard.most - heard.bytes.len();
            heard.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
        Poll::Ready(this.inspect(bytes))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `input` in pieces of `piece` bytes and answers with the first error.
    fn feed(wire: &mut Wire<()>, input: &[u8], piece: usize) -> io::Result<()> {
        input.chunks(piece).try_for_each(|bytes| wire.inspect(bytes))
    }

    #[test]
    fn a_literal_may_hold_anything_in_any_cut() {
        let input = b"* 1 FETCH (BODY[] {21}\r\n* BYE no\r\n{999999999}\r\n)\r\n* BYE really\r\n";
        for piece in 1..input.len() {
            let mut wire = Wire::new(());
            feed(&mut wire, input, piece).unwrap();
            assert_eq!(wire.bye(), Some("really"), "pieces of {piece}");
        }
    }

    #[test]
    fn a_literal_beyond_the_limit_is_refused_before_its_first_byte() {
        for size in ["65537", "500000000", "99999999999999999999999"] {
            let line = format!("* 1 FETCH (UID 1 BODY[] {{{size}}}\r\n");
            let error = feed(&mut Wire::new(()), line.as_bytes(), 7).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::FileTooLarge, "{size}");
        }
        let mut wire = Wire::new(());
        wire.set_max_literal(500_000_000);
        feed(&mut wire, b"* 1 FETCH (UID 1 BODY[] {500000000}\r\n", 7).unwrap();
    }

    #[test]
    fn the_message_is_found_in_an_answer_that_makes_no_sense_otherwise() {
        type Case<'c> = (&'c str, Option<(&'c str, bool)>);
        let cases: [Case<'_>; 7] = [
            (
                "* 1 FETCH (UID 1 BODY[] {5}\r\nhello)\r\nA1 OK\r\n",
                Some(("hello", true)),
            ),
            (
                "* 1 FETCH (FLAGS (\u{1}) BODY[] ~{5}\r\nhel\nogarbage\r\n",
                Some(("hel\no", true)),
            ),
            ("* 2 EXISTS\r\n* 1 fetch (body[] {5}\r\nhel", Some(("hel", false))),
            (
                "* LIST () \"/\" {3}\r\na{9}\r\n* 1 FETCH (BODY[] {2}\r\nhi)\r\n",
                Some(("hi", true)),
            ),
            ("* 1 FETCH (UID 1 BODY[] \"hello\")\r\n", None),
            ("* 1 FETCH (UID 1 BODY[] {5}", None),
            ("", None),
        ];
        for (sent, expected) in cases {
            let found = message_in(sent.as_bytes());
            assert_eq!(found, expected.map(|(text, whole)| (text.as_bytes(), whole)), "{sent}");
        }
    }

    #[test]
    fn an_endless_line_is_refused() {
        let mut wire = Wire::new(());
        let chunk = vec![b'x'; 1024 * 1024];
        let refused = (0..32).find_map(|_| wire.inspect(&chunk).err()).unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn what_only_looks_like_a_literal_is_none() {
        for line in ["* OK {}\r\n", "* OK {12a}\r\n", "* OK 12}\r\n", "* OK {12} \r\n"] {
            assert_eq!(literal_size(line.as_bytes()), None, "{line}");
        }
        assert_eq!(literal_size(b"* LIST () \"/\" {5+}\r\n"), Some(5));
    }
}
