//! How much one caller may take: time, bytes, connections.

use std::time::Duration;

use plba_http::Limits;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::{Answer, TOKEN, exchange, rest, serve, serve_with, soon};

const LIVE: &str = "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Only the limit under test is short; the others are so long that the test would fail on its own patience first.
fn patient() -> Limits {
    let long = Duration::from_secs(3600);
    Limits {
        first_byte: long,
        headers: long,
        body: long,
        write: long,
        lifetime: long,
        ..Limits::default()
    }
}

fn post(headers: &str) -> String {
    format!(
        "POST /api/v1/actions/change HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\
         Content-Type: application/json\r\n{headers}\r\n"
    )
}

#[tokio::test]
async fn a_silent_connection_is_closed() {
    let limits = Limits {
        first_byte: Duration::from_millis(50),
        ..patient()
    };
    let server = serve_with("127.0.0.1:0", limits).await;
    let mut silent = server.connect().await;
    assert_eq!(rest(&mut silent).await, "");
}

#[tokio::test]
async fn slow_headers_and_idle_kept_connections_are_closed() {
    let limits = Limits {
        headers: Duration::from_millis(100),
        ..patient()
    };
    let server = serve_with("127.0.0.1:0", limits).await;
    let mut slow = server.connect().await;
    slow.write_all(b"GET /livez HTTP/1.1\r\nHost: loc").await.unwrap();
    assert_eq!(Answer::read(&rest(&mut slow).await).status, 0);
    let mut idle = server.connect().await;
    assert_eq!(exchange(&mut idle, LIVE).await.status, 200);
    assert_eq!(rest(&mut idle).await, "");
}

#[tokio::test]
async fn a_slow_body_is_told_so() {
    let limits = Limits {
        body: Duration::from_millis(50),
        ..patient()
    };
    let server = serve_with("127.0.0.1:0", limits).await;
    let answer = server.raw(post("Content-Length: 10\r\n") + "{").await;
    assert_eq!((answer.status, answer.error().as_str()), (408, "too_slow"));
    assert!(server.surface.calls.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_body_that_nobody_asked_for_is_not_waited_for() {
    let server = serve_with("127.0.0.1:0", patient()).await;
    let anonymous = post("Content-Length: 10\r\n").replace(TOKEN, "wrong");
    assert_eq!(server.raw(anonymous).await.status, 401);
    let probe = "GET /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n";
    assert_eq!(server.raw(probe).await.status, 200);
}

#[tokio::test]
async fn a_client_that_does_not_take_its_answer_is_cut() {
    let limits = Limits {
        write: Duration::from_millis(100),
        drain: Duration::from_secs(3600),
        ..patient()
    };
    let server = serve_with("127.0.0.1:0", limits).await;
    let mut greedy = server.connect().await;
    let request =
        format!("GET /api/v1/views/large HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n");
    greedy.write_all(request.as_bytes()).await.unwrap();
    greedy.readable().await.unwrap();
    // Nothing but the write limit ends this connection, and the transport ends only after it.
    server.stop.stop(false);
    soon(server.serving).await.unwrap();
}

#[tokio::test]
async fn a_connection_does_not_live_for_ever() {
    let limits = Limits {
        lifetime: Duration::from_millis(100),
        ..patient()
    };
    let server = serve_with("127.0.0.1:0", limits).await;
    let mut stream = server.connect().await;
    assert_eq!(exchange(&mut stream, LIVE).await.status, 200);
    assert_eq!(rest(&mut stream).await, "");
}

#[tokio::test]
async fn large_bodies_are_refused_declared_or_not() {
    let server = serve().await;
    let declared = server.raw(post("Content-Length: 1073741824\r\n")).await;
    assert_eq!((declared.status, declared.error().as_str()), (413, "too_large"));
    let chunk = format!("8000\r\n{}\r\n", " ".repeat(0x8000));
    let chunked = server
        .raw(post("Transfer-Encoding: chunked\r\n") + &chunk.repeat(3))
        .await;
    assert_eq!((chunked.status, chunked.error().as_str()), (413, "too_large"));
    let lying = server
        .raw(post("Transfer-Encoding: chunked\r\n") + "zz\r\n{}\r\n0\r\n\r\n")
        .await;
    assert_eq!(lying.status, 400);
    let fits = format!("{{\"a\": \"{}\"}}", "x".repeat(60_000));
    let fits = server
        .raw(post(&format!("Connection: close\r\nContent-Length: {}\r\n", fits.len())) + &fits)
        .await;
    assert_eq!(fits.status, 200);
    assert_eq!(server.surface.calls.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn two_framings_of_one_body_are_never_two_requests() {
    let server = serve().await;
    let smuggled = "GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let body = format!("2\r\n{{}}\r\n0\r\n\r\n{smuggled}");
    let headers = format!("Content-Length: {}\r\nTransfer-Encoding: chunked\r\n", body.len());
    let answer = server.raw(post(&headers) + &body).await;
    assert_eq!(answer.body.matches("HTTP/1.1").count(), 0, "{answer:?}");
    let lengths = server
        .raw(post("Content-Length: 2\r\nContent-Length: 3\r\n") + "{}")
        .await;
    assert_eq!(lengths.status, 400);
}

#[tokio::test]
async fn large_or_many_headers_are_refused() {
    let server = serve().await;
    let long = server
        .anonymous("GET /livez", &format!("X: {}\r\n", "x".repeat(20_000)), "")
        .await;
    assert_eq!(long.status, 431);
    let many = server.anonymous("GET /livez", &"X: y\r\n".repeat(100), "").await;
    assert_eq!(many.status, 431);
    let path = server.anonymous(&format!("GET /{}", "x".repeat(20_000)), "", "").await;
    assert!([414, 431].contains(&path.status), "{path:?}");
}

#[tokio::test]
async fn connections_without_a_request_make_room_and_those_with_one_do_not() {
    let limits = Limits {
        connections: 4,
        connections_per_address: 4,
        ..patient()
    };
    let server = serve_with("127.0.0.1:0", limits).await;
    let mut idle: Vec<TcpStream> = Vec::new();
    for _ in 0..4 {
        let mut stream = server.connect().await;
        stream.write_all(b"GET /").await.unwrap();
        idle.push(stream);
    }
    // Many times the places: each of these is answered although nobody has left.
    for _ in 0..10 {
        let mut stream = server.connect().await;
        assert_eq!(exchange(&mut stream, LIVE).await.status, 200);
        idle.push(stream);
    }
    assert_eq!(rest(&mut idle[0]).await, "", "the longest waiting was cut");
    let gated = format!("GET /api/v1/views/gated HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n");
    let mut busy = Vec::new();
    for _ in 0..4 {
        let mut stream = server.connect().await;
        stream.write_all(gated.as_bytes()).await.unwrap();
        soon(server.surface.begun.notified()).await;
        busy.push(stream);
    }
    assert_eq!(server.raw(LIVE).await.status, 503, "all places have a request in hand");
    for mut stream in busy {
        server.surface.gate.notify_one();
        assert_eq!(exchange(&mut stream, "").await.body, "\"through\"");
    }
    assert_eq!(server.anonymous("GET /livez", "", "").await.status, 200);
}

#[tokio::test]
async fn more_actions_than_the_limit_are_refused() {
    let limits = Limits {
        actions: 1,
        ..patient()
    };
    let server = serve_with("127.0.0.1:0", limits).await;
    let mut first = server.connect().await;
    let request = post("Content-Length: 2\r\n").replace("change", "gated") + "{}";
    first.write_all(request.as_bytes()).await.unwrap();
    soon(server.surface.begun.notified()).await;
    let second = server
        .raw(post("Connection: close\r\nContent-Length: 2\r\n") + "{}")
        .await;
    assert_eq!((second.status, second.error().as_str()), (503, "busy"));
    server.surface.gate.notify_one();
    assert_eq!(exchange(&mut first, "").await.status, 200);
    let third = server
        .raw(post("Connection: close\r\nContent-Length: 2\r\n") + "{}")
        .await;
    assert_eq!(third.status, 200);
}
