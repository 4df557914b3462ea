//! A proxy on loopback between a client and a real server that makes the network go wrong as a test says: late, slow,
//! one-way, cut at a byte, reset, refused. It knows bytes and no protocol.
//!
//! What the faults are is in `fault`, random ones in `chaos`, what they do to bytes in `rules` and `connection`.

mod chaos;
mod connection;
mod direction;
mod fault;
mod rules;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

pub use chaos::Chaos;
pub use direction::{Direction, Ending};
pub use fault::Fault;

use connection::Connection;
use rules::Rules;

/// Connections that are remembered after their end, the latest ones.
const MOST_REMEMBERED: usize = 1_000;

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;

/// A TCP proxy in front of a server. Faults are injected and healed while it runs, for open connections and new ones
/// alike unless said otherwise; none of the methods waits. Dropping it closes all connections and frees the port.
///
/// Works on real time, as its clients and servers do: under paused time, latency would pass at once.
#[derive(Debug)]
pub struct FaultProxy {
    shared: Arc<Shared>,
    address: SocketAddr,
    /// Keeps the port while the proxy refuses: it is bound and does not listen.
    _port: TcpSocket,
    runtime: Handle,
    accepting: AbortHandle,
    chaos: Mutex<Option<AbortHandle>>,
}

/// What has passed through a proxy since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Bytes handed to the server.
    pub to_server: u64,
    /// Bytes handed to clients.
    pub to_client: u64,
    /// Connections accepted.
    pub accepted: u64,
}

/// What has passed through one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionCounts {
    /// Bytes handed to the server.
    pub to_server: u64,
    /// Bytes handed to the client.
    pub to_client: u64,
    /// Whether it is still open.
    pub is_open: bool,
}

impl FaultProxy {
    /// Starts a proxy on 127.0.0.1, on a free port, in front of the server at `upstream`. A client whose connection can't
    /// be handed on, because the server refuses it, is reset.
    ///
    /// # Panics
    ///
    /// Without a tokio runtime, and when no port is free.
    pub fn start(upstream: SocketAddr) -> FaultProxy {
        FaultProxy::start_with_seed(upstream, fastrand::u64(..))
    }

    /// Like [`start`](Self::start), with the seed that jitter follows.
    ///
    /// # Panics
    ///
    /// Those of [`start`](Self::start).
    pub fn start_with_seed(upstream: SocketAddr, seed: u64) -> FaultProxy {
        let bound = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).and_then(|port| {
            let address = port.local_addr()?;
            Ok((port, address, listen(address)?))
        });
        let (port, address, listener) = match bound {
            Ok(bound) => bound,
            Err(error) => panic!("no port for a proxy: {error}"),
        };
        let shared = Arc::new(Shared {
            upstream: Mutex::new(upstream),
            listener: Mutex::new(Some(listener)),
            rules: Mutex::new(Rules::new(seed)),
            log: Mutex::new(Log::default()),
            changed: watch::Sender::new(()),
        });
        let runtime = Handle::current();
        let accepting = runtime.spawn(accept(Arc::clone(&shared))).abort_handle();
        FaultProxy {
            shared,
            address,
            _port: port,
            runtime,
            accepting,
            chaos: Mutex::new(None),
        }
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The port on 127.0.0.1 where clients connect.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// New connections go to another server from now on.
    pub fn set_upstream(&self, upstream: SocketAddr) {
        *lock(&self.shared.upstream) = upstream;
    }

    /// Bytes, and ends of streams, are handed on so much later, by up to `jitter` more at random. Their order stays, and
    /// the rate is not limited by it.
    pub fn set_latency(&self, direction: Direction, latency: Duration, jitter: Duration) {
        self.change(|rules| rules.set_latency(direction, latency, jitter));
    }

    /// Each connection gets at most so many bytes per second.
    pub fn set_rate(&self, direction: Direction, bytes_per_second: NonZeroU64) {
        self.change(|rules| rules.set_rate(direction, Some(bytes_per_second)));
    }

    /// Bytes are taken and vanish, as if every packet were lost; connections are still made, and stay open. Those whose
    /// bytes have vanished have a hole when it is healed: end them.
    pub fn black_hole(&self, direction: Direction) {
        self.change(|rules| rules.set_black_hole(direction));
    }

    /// Once `bytes` more bytes have been handed on in this direction, on whichever connections, the connection that
    /// carried the last one ends at once, on both its sides; with 0, the one that would carry the next byte. Other
    /// connections, and later ones, are left alone. Counting begins now. A second order replaces the first one.
    pub fn cut_after(&self, direction: Direction, bytes: u64, ending: Ending) {
        self.change(|rules| rules.arm_cut(direction, bytes, ending));
    }

    /// How many more bytes pass before the cut; `None` when none is ordered or it has happened.
    pub fn bytes_before_cut(&self, direction: Direction) -> Option<u64> {
        self.shared.rules().armed(direction)
    }

    /// Ends the stream of each open connection in this direction (FIN); the other direction goes on, and what still comes
    /// in this one vanishes.
    pub fn half_close(&self, direction: Direction) {
        for connection in self.shared.open_connections() {
            connection.half_close(direction);
        }
        self.shared.changed.send_replace(());
    }

    /// Resets all open connections (RST).
    pub fn reset_all(&self) {
        self.end_all(Ending::Reset);
    }

    /// Closes all open connections (FIN).
    pub fn close_all(&self) {
        self.end_all(Ending::Close);
    }

    fn end_all(&self, ending: Ending) {
        for connection in self.shared.open_connections() {
            connection.end(ending);
        }
    }

    /// Refuses new connections, as if no server listened. Those that wait to be accepted are reset; open ones go on.
    pub fn refuse(&self) {
        *lock(&self.shared.listener) = None;
    }

    /// Ends every fault: bytes pass at once, connections are accepted, an ordered cut is forgotten. What has been lost,
    /// closed or reset stays so.
    ///
    /// # Panics
    ///
    /// When the proxy can't listen any more, which the system would have to forbid.
    pub fn heal(&self) {
        self.change(Rules::heal);
        let mut listener = lock(&self.shared.listener);
        if listener.is_none() {
            let _guard = self.runtime.enter();
            *listener = match listen(self.address) {
                Ok(listener) => Some(listener),
                Err(error) => panic!("the proxy can't listen on {} again: {error}", self.address),
            };
            drop(listener);
            self.shared.changed.send_replace(());
        }
    }

    /// Injects a fault.
    pub fn inject(&self, fault: Fault) {
        match fault {
            Fault::Latency(direction, latency, jitter) => self.set_latency(direction, latency, jitter),
            Fault::Rate(direction, rate) => self.set_rate(direction, rate),
            Fault::BlackHole(direction) => self.black_hole(direction),
            Fault::HalfClose(direction) => self.half_close(direction),
            Fault::CutAfter(direction, bytes, ending) => self.cut_after(direction, bytes, ending),
            Fault::EndAll(ending) => self.end_all(ending),
            Fault::Refuse => self.refuse(),
            Fault::Heal => self.heal(),
        }
    }

    /// What has passed since the start.
    pub fn counts(&self) -> Counts {
        lock(&self.shared.log).counts
    }

    /// What has passed through each connection, in the order in which they were made. Of those that have ended the last
    /// thousand are remembered.
    pub fn connections(&self) -> Vec<ConnectionCounts> {
        let connections = lock(&self.shared.log).connections.clone();
        connections
            .iter()
            .map(|connection| ConnectionCounts {
                to_server: connection.passed(Direction::ToServer),
                to_client: connection.passed(Direction::ToClient),
                is_open: connection.is_open(),
            })
            .collect()
    }

    fn change(&self, change: impl FnOnce(&mut Rules)) {
        change(&mut self.shared.rules());
        self.shared.changed.send_replace(());
    }
}

/// Random faults.
impl FaultProxy {
    /// Injects random faults, one after the other, until [`calm`](Self::calm). Prints the seed first and each fault as it
    /// is injected; a test's output shows them when the test fails. With the end of a black hole all connections are reset,
    /// so that none goes on with bytes missing in its midst.
    pub fn unleash(self: &Arc<Self>, chaos: &Chaos) {
        let seed = chaos.seed;
        eprintln!("proxy on port {}: chaos with seed {seed}", self.port());
        let schedule = chaos.schedule();
        // The task must not keep the proxy.
        let proxy = Arc::downgrade(self);
        let task = self.runtime.spawn(async move {
            for (pause, fault) in schedule {
                tokio::time::sleep(pause).await;
                let Some(proxy) = proxy.upgrade() else { return };
                eprintln!("proxy on port {}: after {pause:?} {fault}", proxy.port());
                match fault {
                    Fault::Heal => proxy.heal_for_good(),
                    fault => proxy.inject(fault),
                }
            }
        });
        if let Some(previous) = lock(&self.chaos).replace(task.abort_handle()) {
            previous.abort();
        }
    }

    /// Ends random faults, and heals.
    pub fn calm(&self) {
        if let Some(task) = lock(&self.chaos).take() {
            task.abort();
        }
        self.heal_for_good();
    }

    /// Heals, and ends the connections that may have a hole: no network goes on with one, for what was lost is sent again.
    fn heal_for_good(&self) {
        if self.shared.rules().swallows() {
            self.reset_all();
        }
        self.heal();
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.accepting.abort();
        if let Some(task) = lock(&self.chaos).take() {
            task.abort();
        }
    }
}

/// What connections see of their proxy.
#[derive(Debug)]
struct Shared {
    upstream: Mutex<SocketAddr>,
    /// `None` while connections are refused.
    listener: Mutex<Option<TcpListener>>,
    rules: Mutex<Rules>,
    log: Mutex<Log>,
    /// Tells of a change of rules, of half-closes and of a new listener.
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Log {
    counts: Counts,
    connections: VecDeque<Arc<Connection>>,
}

impl Shared {
    fn upstream(&self) -> SocketAddr {
        *lock(&self.upstream)
    }

    fn rules(&self) -> MutexGuard<'_, Rules> {
        lock(&self.rules)
    }

    fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    fn count_passed(&self, direction: Direction, bytes: u64) {
        let mut log = lock(&self.log);
        match direction {
            Direction::ToServer => log.counts.to_server += bytes,
            Direction::ToClient => log.counts.to_client += bytes,
        }
    }

    fn open_connections(&self) -> Vec<Arc<Connection>> {
        let log = lock(&self.log);
        let open = log.connections.iter().filter(|connection| connection.is_open());
        open.cloned().collect()
    }

    fn remember(&self) -> Arc<Connection> {
        let connection = Arc::new(Connection::default());
        let mut log = lock(&self.log);
        log.counts.accepted += 1;
        log.connections.push_back(Arc::clone(&connection));
        if log.connections.len() > MOST_REMEMBERED
            && let Some(oldest) = log.connections.iter().position(|connection| !connection.is_open())
        {
            log.connections.remove(oldest);
        }
        connection
    }
}

/// Accepts until it is aborted, which ends all connections with it.
async fn accept(shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    let mut changes = shared.changes();
    loop {
        let next = poll_fn(|context| match &*lock(&shared.listener) {
            Some(listener) => listener.poll_accept(context),
            None => Poll::Pending,
        });
        tokio::select! {
            accepted = next => match accepted {
                Ok((client, _)) => {
                    let connection = shared.remember();
                    connections.spawn(connection::serve(Arc::clone(&shared), connection, client));
                }
                // The client has left meanwhile, or this process has too many files open; neither is the end.
                Err(_) => tokio::task::yield_now().await,
            },
            // There may be a listener again.
            _ = changes.changed() => {}
            Some(_) = connections.join_next() => {}
        }
    }
}

/// A socket that shares its port with the others of this proxy.
fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    Ok(socket)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    bind(address)?.listen(BACKLOG)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
