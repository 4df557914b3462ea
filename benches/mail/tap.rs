//! A tap on the wire: bytes between a client and the server, forwarded as they come, with the moments noted at which the
//! server says EXISTS, the client ends its IDLE, and a body begins. Two clients through a tap each are told apart by nothing
//! but what the server does.

use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

use crate::Result;

/// What is noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sign {
    Exists,
    Done,
    Body,
}

const FROM_SERVER: [(Sign, &[u8]); 2] = [(Sign::Exists, b" EXISTS\r\n"), (Sign::Body, b" BODY[]")];
const FROM_CLIENT: [(Sign, &[u8]); 1] = [(Sign::Done, b"DONE\r\n")];

/// The longest of them, less one byte: so much of a sign may have come before the rest.
const OVERLAP: usize = 8;

type Noted = (Sign, Instant);

pub(crate) struct Tap {
    pub(crate) port: u16,
    told: UnboundedReceiver<Noted>,
    forwarding: JoinHandle<()>,
}

impl Tap {
    /// A tap in front of a port on loopback.
    pub(crate) async fn on(server: u16) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let (tell, told) = unbounded_channel();
        let forwarding = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                // Whoever has lost the connection says so.
                tokio::spawn(forward(client, server, tell.clone()));
            }
        });
        Ok(Self { port, told, forwarding })
    }

    /// Forgets what was noted.
    pub(crate) fn forget(&mut self) {
        while self.told.try_recv().is_ok() {}
    }

    /// The next moment of this kind; `None` when nobody forwards any more.
    pub(crate) async fn next(&mut self, wanted: Sign) -> Option<Instant> {
        loop {
            let (sign, at) = self.told.recv().await?;
            if sign == wanted {
                return Some(at);
            }
        }
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.forwarding.abort();
    }
}

async fn forward(client: TcpStream, server: u16, tell: UnboundedSender<Noted>) -> Result<()> {
    let server = TcpStream::connect(("127.0.0.1", server)).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        ended = pass(from_client, to_server, &FROM_CLIENT, &tell) => Ok(ended?),
        ended = pass(from_server, to_client, &FROM_SERVER, &tell) => Ok(ended?),
    }
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    signs: &[(Sign, &[u8])],
    tell: &UnboundedSender<Noted>,
) -> std::io::Result<()> {
    let (mut buffer, mut seen) = (vec![0; 64 * 1024], Vec::new());
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        // What was seen whole before is too short to be seen again, or is noted twice, and then the first one counts.
        seen.extend_from_slice(&buffer[..length]);
        for (sign, text) in signs {
            if seen.windows(text.len()).any(|window| window == *text) {
                // Nobody listens any more at the end.
                let _ = tell.send((*sign, Instant::now()));
            }
        }
        seen.drain(..seen.len().saturating_sub(OVERLAP));
        to.write_all(&buffer[..length]).await?;
    }
}
