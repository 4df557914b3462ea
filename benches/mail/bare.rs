//! The peers: clients that know as much of IMAP as they need. One reads bodies by ranges of 100 and keeps nothing, one
//! fetches, parses, stores and marks message by message, and one waits for EXISTS.

use std::sync::Arc;
use std::time::{Duration, Instant};

use plba_net::{ConnectSettings, TlsSettings, connect, connect_tls};
use plba_testservers::Dovecot;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufStream};

use crate::store::Store;
use crate::{Link, MESSAGES, Result};

const RANGE: usize = 100;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A bare client.
pub(crate) struct Bare {
    stream: BufStream<Box<dyn Stream>>,
    line: Vec<u8>,
    body: Vec<u8>,
}

impl Bare {
    /// Logs in and opens the inbox.
    pub(crate) async fn open(dovecot: &Dovecot, link: Link) -> Result<Self> {
        Self::open_at(dovecot, link, link.port(dovecot)).await
    }

    /// The same, through this port.
    pub(crate) async fn open_at(dovecot: &Dovecot, link: Link, port: u16) -> Result<Self> {
        let settings = ConnectSettings::default();
        let stream: Box<dyn Stream> = match link {
            Link::Plain => Box::new(connect("127.0.0.1", port, settings).await?),
            Link::Tls => {
                let tls = TlsSettings {
                    ca: Some(dovecot.ca_path().into()),
                    only_ca: true,
                };
                let config = Arc::clone(&tls.client_config()?);
                Box::new(connect_tls("localhost", port, config, settings).await?)
            }
        };
        let mut bare = Bare {
            stream: BufStream::with_capacity(64 * 1024, 8 * 1024, stream),
            line: Vec::new(),
            body: Vec::new(),
        };
        bare.read_line().await?;
        bare.run(&format!("LOGIN {} {}", dovecot.user(), dovecot.password()), |_| {})
            .await?;
        bare.run("SELECT INBOX", |_| {}).await?;
        Ok(bare)
    }

    async fn read_line(&mut self) -> Result<()> {
        self.line.clear();
        match self.stream.read_until(b'\n', &mut self.line).await? {
            0 => Err("the server closed the connection".into()),
            _ => Ok(()),
        }
    }

    async fn send(&mut self, line: &str) -> Result<()> {
        self.stream.write_all(format!("{line}\r\n").as_bytes()).await?;
        Ok(self.stream.flush().await?)
    }

    /// Runs a command and shows each literal.
    async fn run(&mut self, command: &str, mut on: impl FnMut(&[u8])) -> Result<()> {
        self.send(&format!("a {command}")).await?;
        loop {
            self.read_line().await?;
            if let Some(size) = literal(&self.line) {
                self.body.resize(size, 0);
                self.stream.read_exact(&mut self.body).await?;
                on(&self.body);
            } else if self.line.starts_with(b"a ") {
                return match self.line.starts_with(b"a OK") {
                    true => Ok(()),
                    false => Err(String::from_utf8_lossy(&self.line).into()),
                };
            }
        }
    }

    /// Waits by IDLE, for ever.
    pub(crate) async fn idle(mut self) -> Result<()> {
        self.send("a IDLE").await?;
        loop {
            self.read_line().await?;
        }
    }
}

/// `{123}` at the end of a line.
fn literal(line: &[u8]) -> Option<usize> {
    let line = line.strip_suffix(b"}\r\n")?;
    let open = line.iter().rposition(|byte| *byte == b'{')?;
    std::str::from_utf8(&line[open + 1..]).ok()?.parse().ok()
}

/// What fetching all bodies by ranges of 100 took: by itself, and with logging in and opening the folder.
pub(crate) struct Fetched {
    pub(crate) alone: Duration,
    pub(crate) whole: Duration,
}

/// Fetches all bodies by ranges of 100.
pub(crate) async fn fetch(dovecot: &Dovecot, link: Link) -> Result<Fetched> {
    let dialled = Instant::now();
    let mut bare = Bare::open(dovecot, link).await?;
    let (began, mut count) = (Instant::now(), 0);
    for first in (1..=MESSAGES).step_by(RANGE) {
        let last = first + RANGE - 1;
        bare.run(
            &format!("UID FETCH {first}:{last} (UID FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[])"),
            |_| count += 1,
        )
        .await?;
    }
    match count {
        MESSAGES => Ok(Fetched {
            alone: began.elapsed(),
            whole: dialled.elapsed(),
        }),
        _ => Err(format!("{count} bodies came").into()),
    }
}

/// Fetches, parses, stores and marks the first messages, one after the other.
pub(crate) async fn one_by_one(dovecot: &Dovecot, link: Link, messages: usize) -> Result<Duration> {
    let mut bare = Bare::open(dovecot, link).await?;
    let store = Store::open()?;
    let began = Instant::now();
    for uid in 1..=messages {
        let mut fetched = Vec::new();
        bare.run(&format!("UID FETCH {uid} (BODY.PEEK[])"), |body| {
            fetched = body.to_vec()
        })
        .await?;
        store.keep([fetched.as_slice()])?;
        bare.run(&format!("UID STORE {uid} +FLAGS (\\Seen)"), |_| {}).await?;
    }
    Ok(began.elapsed())
}

/// Makes all messages unread.
pub(crate) async fn clear_marks(dovecot: &Dovecot) -> Result<()> {
    let mut bare = Bare::open(dovecot, Link::Plain).await?;
    bare.run("UID STORE 1:* -FLAGS.SILENT (\\Seen)", |_| {}).await
}
