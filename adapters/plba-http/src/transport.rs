//! The listening side: accepts connections within the limits, serves each in a task of its own, and ends them in order.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use plba_contracts::BoxError;
use plba_contracts::control::{ControlSurface, ControlTransport, OpenTransport, TransportSettings};
use plba_contracts::stop::StopSignal;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinSet};
use tokio::time::sleep;

use crate::connection::Connections;
use crate::host::AllowedHosts;
use crate::limits::Limits;
use crate::listen::{ListenError, bind};
use crate::places::Places;
use crate::routes::{Api, router};

/// How long to leave the system alone when it can't give us a socket.
const PAUSE: Duration = Duration::from_millis(200);

/// The control plane over HTTP/1.1.
///
/// Without TLS: it is meant for loopback, or for the inside of a proxy that ends TLS. Refusing to listen elsewhere
/// without credentials is the control plane's part.
#[derive(Clone, Debug, Default)]
pub struct HttpTransport {
    limits: Limits,
}

impl HttpTransport {
    /// A transport with limits of its own.
    pub fn with_limits(limits: Limits) -> Self {
        Self { limits }
    }
}

#[async_trait]
impl ControlTransport for HttpTransport {
    async fn open(
        &self,
        settings: TransportSettings,
        surface: Arc<dyn ControlSurface>,
        stop: StopSignal,
    ) -> Result<OpenTransport, BoxError> {
        self.limits.validate()?;
        let hosts = AllowedHosts::new(&settings.listen, &settings.hosts).map_err(ListenError::Host)?;
        let (listener, address) = bind(&settings.listen).await?;
        let connections = Connections {
            router: router(Arc::new(Api::new(surface, hosts, self.limits.clone()))),
            limits: self.limits.clone(),
            stop,
            of: "the control plane",
        };
        Ok(OpenTransport {
            address: format!("http://{address}"),
            serve: Box::pin(serve(listener, connections)),
        })
    }
}

/// Accepts connections until the stop signal, and then waits for the requests in hand.
pub(crate) async fn serve(listener: TcpListener, connections: Connections) {
    let limits = connections.limits.clone();
    let places = Arc::new(Places::new(limits.connections, limits.connections_per_address));
    let mut open = JoinSet::new();
    let mut short = false;
    loop {
        tokio::select! {
            biased;
            () = connections.stop.requested() => break,
            Some(ended) = open.join_next() => report(ended),
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    short = false;
                    match places.take(peer.ip()) {
                        Some(place) => drop(open.spawn(connections.clone().serve(stream, place))),
                        None => refuse(&stream),
                    }
                }
                Err(error) if is_the_clients(&error) => {}
                Err(error) => {
                    if !std::mem::replace(&mut short, true) {
                        tracing::warn!(%error, "{} can't accept connections for now; is the limit on open files too low?", connections.of);
                    }
                    // The connection stays in the queue, so asking again at once would spin.
                    sleep(PAUSE).await;
                }
            }
        }
    }
    drop(listener);
    finish(open, &connections).await;
}

/// Waits for the requests in hand, within the limit, and cuts what is left.
async fn finish(mut open: JoinSet<()>, connections: &Connections) {
    let drained = async {
        while let Some(ended) = open.join_next().await {
            report(ended);
        }
    };
    tokio::select! {
        biased;
        () = drained => return,
        () = connections.stop.forced() => {}
        () = sleep(connections.limits.drain) => {}
    }
    tracing::warn!(
        connections = open.len(),
        "connections of {} were cut: their requests did not end in time",
        connections.of
    );
    open.shutdown().await;
}

/// All places are taken by requests in hand: says so if the socket takes it at once.
fn refuse(stream: &TcpStream) {
    const ANSWER: &[u8] =
        b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    let _ = stream.try_write(ANSWER);
}

/// The client went away before it was accepted.
fn is_the_clients(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection panicked; this is a defect, please report it");
    }
}
