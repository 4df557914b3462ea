//! A tap on the wire: bytes between a client and the server, forwarded as they come, with the moment of each EXISTS noted
//! before the client has it. Two clients through a tap each are told apart by nothing but what the server does.

use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

use crate::Result;

const SIGN: &[u8] = b" EXISTS\r\n";

pub(crate) struct Tap {
    pub(crate) port: u16,
    pub(crate) told: UnboundedReceiver<Instant>,
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
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.forwarding.abort();
    }
}

async fn forward(client: TcpStream, server: u16, tell: UnboundedSender<Instant>) -> Result<()> {
    let server = TcpStream::connect(("127.0.0.1", server)).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let up = async { tokio::io::copy(&mut from_client, &mut to_server).await.map(drop) };
    let down = async {
        let (mut buffer, mut seen) = (vec![0; 64 * 1024], Vec::new());
        loop {
            let length = from_server.read(&mut buffer).await?;
            if length == 0 {
                return std::io::Result::Ok(());
            }
            seen.extend_from_slice(&buffer[..length]);
            if seen.windows(SIGN.len()).any(|window| window == SIGN) {
                // Nobody listens any more at the end.
                let _ = tell.send(Instant::now());
                seen.clear();
            }
            // A sign may come in two pieces.
            seen.drain(..seen.len().saturating_sub(SIGN.len() - 1));
            to_client.write_all(&buffer[..length]).await?;
        }
    };
    tokio::select! {
        ended = up => Ok(ended?),
        ended = down => Ok(ended?),
    }
}
