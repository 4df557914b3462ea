//! How the transport begins and ends: ports, stop signals, requests in hand.

use std::sync::Arc;
use std::time::Duration;

use plba_contracts::control::{ControlTransport, TransportSettings};
use plba_contracts::stop::StopSignal;
use plba_http::{HttpTransport, Limits};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::{Surface, TOKEN, exchange, rest, serve, serve_with, soon};

fn gated() -> String {
    format!("GET /api/v1/views/gated HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n")
}

/// A drain so long that a test which depends on it fails on its patience.
fn never_cut() -> Limits {
    let long = Duration::from_secs(3600);
    Limits {
        first_byte: long,
        headers: long,
        drain: long,
        ..Limits::default()
    }
}

#[tokio::test]
async fn a_stop_closes_idle_connections_and_finishes_requests_in_hand() {
    let server = serve_with("127.0.0.1:0", never_cut()).await;
    let mut silent = server.connect().await;
    let mut idle = server.connect().await;
    exchange(&mut idle, "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let mut busy = server.connect().await;
    busy.write_all(gated().as_bytes()).await.unwrap();
    soon(server.surface.begun.notified()).await;
    server.stop.stop(false);
    assert_eq!(rest(&mut idle).await, "");
    assert_eq!(rest(&mut silent).await, "");
    assert!(!server.serving.is_finished(), "a request is in hand");
    let refused = TcpStream::connect(server.address).await;
    assert!(refused.is_err(), "nobody listens any more");
    server.surface.gate.notify_one();
    let answer = exchange(&mut busy, "").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "\"through\""));
    assert!(answer.head.contains("connection: close"), "{answer:?}");
    soon(server.serving).await.unwrap();
}

#[tokio::test]
async fn a_request_that_does_not_end_is_cut_after_the_limit() {
    let limits = Limits {
        drain: Duration::from_millis(100),
        ..never_cut()
    };
    let server = serve_with("127.0.0.1:0", limits).await;
    let mut busy = server.connect().await;
    busy.write_all(gated().as_bytes()).await.unwrap();
    soon(server.surface.begun.notified()).await;
    server.stop.stop(false);
    soon(server.serving).await.unwrap();
    assert_eq!(rest(&mut busy).await, "");
}

#[tokio::test]
async fn a_forced_stop_does_not_wait() {
    let server = serve_with("127.0.0.1:0", never_cut()).await;
    let mut busy = server.connect().await;
    busy.write_all(gated().as_bytes()).await.unwrap();
    soon(server.surface.begun.notified()).await;
    server.stop.stop(false);
    server.stop.stop(true);
    soon(server.serving).await.unwrap();
}

#[tokio::test]
async fn ipv6_works_where_the_machine_has_it() {
    if tokio::net::TcpListener::bind("[::1]:0").await.is_err() {
        eprintln!("not run: this machine has no IPv6 loopback");
        return;
    }
    let server = serve_with("[::1]:0", Limits::default()).await;
    assert!(
        server.url.starts_with("http://[::1]:") && server.address.port() != 0,
        "{}",
        server.url
    );
    let host = format!("Host: {}\r\n", server.address);
    assert_eq!(server.anonymous("GET /livez", &host, "").await.status, 200);
}

#[tokio::test]
async fn a_port_in_use_is_named_with_the_remedy() {
    let server = serve().await;
    let open = |listen: String, hosts: Vec<String>| async move {
        let settings = TransportSettings { listen, hosts };
        let transport = HttpTransport::default();
        let opened = transport
            .open(settings, Arc::new(Surface::default()), StopSignal::default())
            .await;
        opened.map(|opened| opened.address).unwrap_err().to_string()
    };
    let error = open(server.address.to_string(), Vec::new()).await;
    for says in [
        server.address.to_string().as_str(),
        "in use",
        "--set platform.control.listen=127.0.0.1:0",
    ] {
        assert!(error.contains(says), "{error}");
    }
    let error = open("127.0.0.1:0".into(), vec!["*.example".into()]).await;
    assert!(error.contains("\"*.example\" in platform.control.hosts"), "{error}");
}
