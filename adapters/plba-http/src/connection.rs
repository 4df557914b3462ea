//! One connection, from its acceptance to its end: the wait for a first byte, HTTP/1.1, and the reasons to end it early.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use plba_contracts::stop::StopSignal;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::gate::LocalAddress;
use crate::limits::Limits;
use crate::places::Place;
use crate::stall::Stall;

/// What all connections share.
#[derive(Clone)]
pub(crate) struct Connections {
    pub(crate) router: Router,
    pub(crate) limits: Limits,
    pub(crate) stop: StopSignal,
    /// Whose connections these are, for the log.
    pub(crate) of: &'static str,
}

impl Connections {
    /// Serves one connection until it ends, its place is wanted, it has lived too long, or a stop is asked for; in the
    /// last two cases after the request in hand.
    pub(crate) async fn serve(self, stream: TcpStream, place: Place) {
        let place = Arc::new(place);
        tokio::select! {
            biased;
            () = place.wanted() => tracing::debug!("a connection without a request made room for another"),
            () = self.speak(stream, &place) => {}
        }
    }

    async fn speak(&self, stream: TcpStream, place: &Arc<Place>) {
        let Ok(local) = stream.local_addr() else { return };
        if !self.begins(&stream).await {
            return;
        }
        let stream = TokioIo::new(Stall::new(stream, self.limits.write));
        let service = self.service(local.ip(), Arc::clone(place));
        let connection = self.protocol().serve_connection(stream, service);
        tokio::pin!(connection);
        tokio::select! {
            ended = connection.as_mut() => return report(ended),
            () = self.stop.requested() => {}
            () = sleep(self.limits.lifetime) => {}
        }
        connection.as_mut().graceful_shutdown();
        // A stop ends sooner: then the transport waits for its own limit and cuts what is left.
        match timeout(self.limits.lifetime, connection).await {
            Ok(ended) => report(ended),
            Err(_) => tracing::debug!("a connection was cut: it would not end"),
        }
    }

    /// Whether the client says anything in time. hyper's limit on headers begins with the first read, but nothing of
    /// its state is needed before, so a silent connection costs a socket only.
    async fn begins(&self, stream: &TcpStream) -> bool {
        let mut byte = [0];
        tokio::select! {
            biased;
            peeked = timeout(self.limits.first_byte, stream.peek(&mut byte)) => matches!(peeked, Ok(Ok(1..))),
            () = self.stop.requested() => false,
        }
    }

    fn protocol(&self) -> http1::Builder {
        let mut builder = http1::Builder::new();
        builder
            // Without a timer the limit on headers would do nothing.
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.headers)
            .max_header_size(self.limits.header_bytes)
            .max_buf_size(self.limits.header_bytes.max(64 * 1024))
            .max_headers(64);
        builder
    }

    fn service(
        &self,
        local: IpAddr,
        place: Arc<Place>,
    ) -> impl Service<
        hyper::Request<Incoming>,
        Response = axum::response::Response,
        Error = std::convert::Infallible,
        Future: Send,
    > {
        let router = TowerToHyperService::new(self.router.clone());
        service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(LocalAddress(local));
            let busy = place.busy();
            let answering = router.call(request);
            async move {
                let answer = answering.await;
                drop(busy);
                answer
            }
        })
    }
}

fn report(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(error = plba_contracts::describe(&error), "a connection ended early");
    }
}
