//! One connection through the proxy: bytes are read, wait until they are due, and are handed on, in each direction by
//! itself. What is to be done with them is decided in `rules`.

use std::io;
use std::net::Shutdown;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::direction::Each;
use super::rules::Verdict;
use super::{Direction, Ending, Shared};

/// How much is read at once.
const CHUNK: usize = 16 * 1024;

/// How many chunks of one direction may wait until they are due; more are not read.
const MOST_WAITING: usize = 256;

/// With a limited rate, bytes go in portions that take this long.
const PORTION: Duration = Duration::from_millis(5);

/// How long the two sides have to read what came before a FIN and to close.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// What the proxy's owner sees and orders of a connection.
#[derive(Debug, Default)]
pub(super) struct Connection {
    passed: Each<AtomicU64>,
    half_closed: Each<AtomicBool>,
    ended: watch::Sender<Option<Ending>>,
    over: AtomicBool,
}

impl Connection {
    pub(super) fn passed(&self, direction: Direction) -> u64 {
        self.passed[direction].load(Ordering::Relaxed)
    }

    pub(super) fn is_open(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }

    /// Takes effect with the next notice of a change.
    pub(super) fn half_close(&self, direction: Direction) {
        self.half_closed[direction].store(true, Ordering::Relaxed);
    }

    pub(super) fn end(&self, ending: Ending) {
        self.ended.send_replace(Some(ending));
    }

    async fn ordered_end(&self) -> Ending {
        let mut ended = self.ended.subscribe();
        match ended.wait_for(Option::is_some).await.map(|ending| *ending) {
            Ok(Some(ending)) => ending,
            _ => std::future::pending().await,
        }
    }
}

/// Serves a client until the connection is over.
pub(super) async fn serve(shared: Arc<Shared>, connection: Arc<Connection>, client: TcpStream) {
    // Also when this is dropped with the proxy.
    let _over = Over(&connection);
    let connected = tokio::select! {
        connected = TcpStream::connect(shared.upstream()) => connected,
        ending = connection.ordered_end() => return finish(ending, client, None).await,
    };
    let Ok(server) = connected else {
        return finish(Ending::Reset, client, None).await;
    };
    // The proxy adds no delay of its own.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let way = |direction, from, to| Way {
        shared: &shared,
        connection: &connection,
        direction,
        from,
        to,
    };
    let to_server = way(Direction::ToServer, &client, &server);
    let to_client = way(Direction::ToClient, &server, &client);
    let ending = tokio::select! {
        // Looked at first: of what is healed in the same moment no byte may pass here.
        biased;
        ending = connection.ordered_end() => ending,
        ended = async { tokio::try_join!(to_server.run(), to_client.run()) } => ended.err().unwrap_or(Ending::Close),
    };
    finish(ending, client, Some(server)).await;
}

struct Over<'a>(&'a Connection);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
    }
}

async fn finish(ending: Ending, client: TcpStream, server: Option<TcpStream>) {
    let streams = [Some(client), server];
    for stream in streams.iter().flatten() {
        match ending {
            // Closing then sends RST instead of FIN.
            Ending::Reset => drop(stream.set_zero_linger()),
            Ending::Close => drop(SockRef::from(stream).shutdown(Shutdown::Write)),
        }
    }
    if ending == Ending::Close {
        // Closing with bytes unread would send RST.
        let drained = async {
            for stream in streams.iter().flatten() {
                drain(stream).await;
            }
        };
        drop(timeout(LAST_WORDS, drained).await);
    }
}

async fn drain(stream: &TcpStream) {
    let mut nowhere = vec![0; CHUNK];
    while read(stream, &mut nowhere).await.is_ok_and(|count| count > 0) {}
}

/// One direction of one connection.
struct Way<'a> {
    shared: &'a Shared,
    connection: &'a Connection,
    direction: Direction,
    from: &'a TcpStream,
    to: &'a TcpStream,
}

/// Bytes, none for the end of the stream, and when they may go, if not at once.
struct Chunk {
    bytes: Bytes,
    due: Option<Instant>,
}

impl Way<'_> {
    /// Until both its ends are closed, or with the way in which the whole connection is to end.
    async fn run(&self) -> Result<(), Ending> {
        let (waiting, due) = mpsc::channel(MOST_WAITING);
        tokio::try_join!(self.take_in(waiting), self.hand_on(due)).map(drop)
    }

    async fn take_in(&self, waiting: mpsc::Sender<Chunk>) -> Result<(), Ending> {
        let mut buffer = vec![0; CHUNK];
        let mut latest = None;
        loop {
            // A reset by one side is one for the other, too.
            let count = read(self.from, &mut buffer).await.map_err(|_| Ending::Reset)?;
            let delay = self.shared.rules().delay(self.direction);
            let due = delay.map(|delay| Instant::now() + delay);
            // None overtakes another. The end of the stream is a chunk without bytes, and as late as any.
            latest = due.max(latest.filter(|latest| *latest > Instant::now()));
            let bytes = Bytes::copy_from_slice(&buffer[..count]);
            if waiting.send(Chunk { bytes, due: latest }).await.is_err() || count == 0 {
                return Ok(());
            }
        }
    }

    async fn hand_on(&self, mut due: mpsc::Receiver<Chunk>) -> Result<(), Ending> {
        let mut changes = self.shared.changes();
        let mut closed = false;
        loop {
            if !closed && self.connection.half_closed[self.direction].load(Ordering::Relaxed) {
                closed = true;
                self.close()?;
            }
            let chunk = tokio::select! {
                chunk = due.recv() => chunk,
                _ = changes.changed() => continue,
            };
            let Some(chunk) = chunk else { return Ok(()) };
            if let Some(moment) = chunk.due {
                self.wait_until(moment, &mut changes).await;
            }
            if chunk.bytes.is_empty() && !closed {
                closed = true;
                self.close()?;
            } else if !closed {
                self.pass(chunk.bytes, &mut changes).await?;
            }
        }
    }

    /// Waits, unless latency is healed meanwhile.
    async fn wait_until(&self, moment: Instant, changes: &mut watch::Receiver<()>) {
        while self.shared.rules().is_late(self.direction) {
            tokio::select! {
                () = sleep_until(moment) => return,
                _ = changes.changed() => {}
            }
        }
    }

    fn close(&self) -> Result<(), Ending> {
        SockRef::from(self.to)
            .shutdown(Shutdown::Write)
            .map_err(|_| Ending::Reset)
    }

    async fn pass(&self, mut bytes: Bytes, changes: &mut watch::Receiver<()>) -> Result<(), Ending> {
        while !bytes.is_empty() {
            let rate = self.shared.rules().rate(self.direction);
            let portion = rate.map_or(bytes.len(), |rate| portion(rate).min(bytes.len()));
            let verdict = self.shared.rules().judge(self.direction, portion);
            match verdict {
                Verdict::Swallow => return Ok(()),
                Verdict::Pass(count) => self.write(&mut bytes, count).await?,
                Verdict::Cut(count, ending) => {
                    self.write(&mut bytes, count).await?;
                    return Err(ending);
                }
            }
            if let Some(rate) = rate {
                let pause = Duration::from_secs_f64(portion as f64 / rate.get() as f64);
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    _ = changes.changed() => {}
                }
            }
        }
        Ok(())
    }

    async fn write(&self, bytes: &mut Bytes, count: usize) -> Result<(), Ending> {
        let mut left = count;
        while left > 0 {
            let written = write(self.to, &bytes[..left]).await.map_err(|_| Ending::Reset)?;
            drop(bytes.split_to(written));
            left -= written;
            self.connection.passed[self.direction].fetch_add(written as u64, Ordering::Relaxed);
            self.shared.count_passed(self.direction, written as u64);
        }
        Ok(())
    }
}

fn portion(rate: NonZeroU64) -> usize {
    let bytes = rate.get() as f64 * PORTION.as_secs_f64();
    (bytes as usize).max(1)
}

async fn read(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        stream.readable().await?;
        match stream.try_read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            done => return done,
        }
    }
}

async fn write(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    loop {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            done => return done,
        }
    }
}
