//! The proxy that makes networks go wrong, in front of a plain echo server.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, Instant};

use plba_testkit::proxy::{Chaos, Direction, Ending, FaultProxy};
use plba_testkit::runtime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

use Direction::{ToClient, ToServer};

/// How long silence has to last to count as silence.
const SILENCE: Duration = Duration::from_millis(100);

/// What an echo server has seen of a connection at its end: the bytes, and how it ended.
type Seen = (Vec<u8>, Result<(), ErrorKind>);

/// An echo server, and what it saw of each connection that has ended.
async fn echo() -> (SocketAddr, mpsc::UnboundedReceiver<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, seen) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let tell = tell.clone();
            tokio::spawn(async move {
                let (mut bytes, mut buffer) = (Vec::new(), [0; 1024]);
                let end = loop {
                    match stream.read(&mut buffer).await {
                        Ok(0) => break Ok(()),
                        Ok(count) => {
                            bytes.extend_from_slice(&buffer[..count]);
                            // A reset is told once, to whoever asks first.
                            if stream.write_all(&buffer[..count]).await.is_err() {
                                break Err(ErrorKind::ConnectionReset);
                            }
                        }
                        Err(error) => break Err(error.kind()),
                    }
                };
                let _ = tell.send((bytes, end));
            });
        }
    });
    (address, seen)
}

async fn client(proxy: &FaultProxy) -> TcpStream {
    TcpStream::connect(proxy.address()).await.unwrap()
}

/// Sends and reads the same back.
async fn exchange(stream: &mut TcpStream, text: &str) -> std::io::Result<()> {
    stream.write_all(text.as_bytes()).await?;
    let mut answer = vec![0; text.len()];
    stream.read_exact(&mut answer).await?;
    assert_eq!(answer, text.as_bytes());
    Ok(())
}

/// All that still comes, and how it ends.
async fn rest(stream: &mut TcpStream) -> (String, Result<(), ErrorKind>) {
    let mut bytes = Vec::new();
    let end = stream.read_to_end(&mut bytes).await;
    (
        String::from_utf8(bytes).unwrap(),
        end.map(drop).map_err(|error| error.kind()),
    )
}

#[test]
fn without_faults_everything_passes_and_is_counted() {
    runtime::real(async {
        let (server, mut seen) = echo().await;
        let proxy = FaultProxy::start(server);
        let mut first = client(&proxy).await;
        exchange(&mut first, "hello").await.unwrap();
        let large = "x".repeat(1_000_000);
        let (mut read, mut write) = first.split();
        let mut answer = vec![0; large.len()];
        let (sent, received) = tokio::join!(write.write_all(large.as_bytes()), read.read_exact(&mut answer));
        sent.unwrap();
        received.unwrap();
        drop(first);
        let (bytes, end) = seen.recv().await.unwrap();
        assert_eq!((bytes.len(), end), (1_000_005, Ok(())));

        let mut second = client(&proxy).await;
        exchange(&mut second, "four").await.unwrap();
        let counts = proxy.counts();
        assert_eq!(
            (counts.to_server, counts.to_client, counts.accepted),
            (1_000_009, 1_000_009, 2)
        );
        let connections = proxy.connections();
        assert_eq!((connections[1].to_server, connections[1].to_client), (4, 4));
        assert!(connections[1].is_open);
    });
}

#[test]
fn an_exchange_is_cut_after_every_byte_in_each_direction_and_the_next_one_is_clean() {
    runtime::real(async {
        let (server, mut seen) = echo().await;
        let proxy = FaultProxy::start(server);
        let text = "0123456789";
        for (ending, expected) in [
            (Ending::Reset, Err(ErrorKind::ConnectionReset)),
            (Ending::Close, Ok(())),
        ] {
            for direction in Direction::BOTH {
                for bytes in 0..=text.len() {
                    let mut stream = client(&proxy).await;
                    // What passed before doesn't count.
                    exchange(&mut stream, "before").await.unwrap();
                    proxy.cut_after(direction, bytes as u64, ending);
                    stream.write_all(text.as_bytes()).await.unwrap();
                    let (answer, end) = rest(&mut stream).await;
                    drop(stream);
                    let (received, server_end) = seen.recv().await.unwrap();
                    let place = format!("{ending:?} after {bytes} bytes {direction}");
                    match direction {
                        ToServer => assert_eq!(received, format!("before{}", &text[..bytes]).as_bytes(), "{place}"),
                        ToClient => assert_eq!(answer, text[..bytes], "{place}"),
                    }
                    assert_eq!(end, expected, "{place}");
                    assert_eq!(server_end, expected, "{place}");
                    assert_eq!(proxy.bytes_before_cut(direction), None);
                    exchange(&mut client(&proxy).await, "after").await.unwrap();
                    assert_eq!(seen.recv().await.unwrap().1, Ok(()), "{place}");
                }
            }
        }
    });
}

#[test]
fn a_cut_counts_over_all_connections_and_ends_one() {
    runtime::real(async {
        let (server, _seen) = echo().await;
        let proxy = FaultProxy::start(server);
        let (mut first, mut second) = (client(&proxy).await, client(&proxy).await);
        proxy.cut_after(ToServer, 6, Ending::Reset);
        exchange(&mut first, "four").await.unwrap();
        assert_eq!(proxy.bytes_before_cut(ToServer), Some(2));
        second.write_all(b"four").await.unwrap();
        assert_eq!(rest(&mut second).await.1, Err(ErrorKind::ConnectionReset));
        exchange(&mut first, "still open").await.unwrap();
    });
}

#[test]
fn a_black_hole_takes_everything_and_new_connections_too_until_healed() {
    runtime::real(async {
        let (server, mut seen) = echo().await;
        let proxy = FaultProxy::start(server);
        for direction in Direction::BOTH {
            let mut before = client(&proxy).await;
            exchange(&mut before, "hello").await.unwrap();
            proxy.black_hole(direction);
            let mut after = client(&proxy).await;
            for stream in [&mut before, &mut after] {
                assert!(timeout(SILENCE, exchange(stream, "lost")).await.is_err());
            }
            proxy.heal();
            exchange(&mut before, "found").await.unwrap();
            drop((before, after));
            let mut received = [seen.recv().await.unwrap().0, seen.recv().await.unwrap().0];
            received.sort();
            let expected: [&[u8]; 2] = match direction {
                ToServer => [b"", b"hellofound"],
                ToClient => [b"hellolostfound", b"lost"],
            };
            assert_eq!(received, expected, "{direction}");
        }
    });
}

#[test]
fn resets_and_closes_are_seen_as_such_by_both_sides_and_end_what_was_open() {
    runtime::real(async {
        let (server, mut seen) = echo().await;
        let proxy = FaultProxy::start(server);
        for (ending, expected) in [
            (Ending::Reset, Err(ErrorKind::ConnectionReset)),
            (Ending::Close, Ok(())),
        ] {
            let mut streams = [client(&proxy).await, client(&proxy).await];
            for stream in &mut streams {
                exchange(stream, "hello").await.unwrap();
            }
            match ending {
                Ending::Reset => proxy.reset_all(),
                Ending::Close => proxy.close_all(),
            }
            for stream in &mut streams {
                assert_eq!(rest(stream).await.1, expected);
                assert_eq!(seen.recv().await.unwrap().1, expected);
            }
            exchange(&mut client(&proxy).await, "after").await.unwrap();
            assert_eq!(seen.recv().await.unwrap().1, Ok(()));
        }
    });
}

#[test]
fn a_half_close_ends_one_direction_and_leaves_the_other() {
    runtime::real(async {
        let (server, mut seen) = echo().await;
        let proxy = FaultProxy::start(server);
        let mut stream = client(&proxy).await;
        exchange(&mut stream, "hello").await.unwrap();
        proxy.half_close(ToClient);
        assert_eq!(rest(&mut stream).await, (String::new(), Ok(())));
        stream.write_all(b"heard").await.unwrap();
        stream.shutdown().await.unwrap();
        assert_eq!(seen.recv().await.unwrap(), (b"helloheard".to_vec(), Ok(())));

        let mut stream = client(&proxy).await;
        exchange(&mut stream, "hello").await.unwrap();
        proxy.half_close(ToServer);
        // The echo server ends when its input does, and that end arrives.
        assert_eq!(seen.recv().await.unwrap(), (b"hello".to_vec(), Ok(())));
        assert_eq!(rest(&mut stream).await.1, Ok(()));
    });
}

#[test]
fn a_client_that_closes_one_direction_still_gets_its_answer() {
    runtime::real(async {
        let (server, _seen) = echo().await;
        let proxy = FaultProxy::start(server);
        let mut stream = client(&proxy).await;
        stream.write_all(b"last words").await.unwrap();
        stream.shutdown().await.unwrap();
        assert_eq!(rest(&mut stream).await, ("last words".to_owned(), Ok(())));
    });
}

#[test]
fn refused_connections_are_refused_and_the_port_comes_back() {
    runtime::real(async {
        let (server, _seen) = echo().await;
        let proxy = FaultProxy::start(server);
        let mut open = client(&proxy).await;
        exchange(&mut open, "hello").await.unwrap();
        for _ in 0..20 {
            proxy.refuse();
            let refused = TcpStream::connect(proxy.address()).await.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
            exchange(&mut open, "still open").await.unwrap();
            proxy.heal();
            exchange(&mut client(&proxy).await, "back").await.unwrap();
        }
    });
}

#[test]
fn a_server_that_is_not_there_is_a_reset_and_another_may_take_its_place() {
    runtime::real(async {
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let proxy = FaultProxy::start(gone);
        let mut stream = client(&proxy).await;
        assert_eq!(rest(&mut stream).await.1, Err(ErrorKind::ConnectionReset));
        proxy.set_upstream(echo().await.0);
        exchange(&mut client(&proxy).await, "there").await.unwrap();
    });
}

#[test]
fn latency_delays_without_slowing_and_healing_ends_it_at_once() {
    runtime::real(async {
        let (server, _seen) = echo().await;
        let proxy = FaultProxy::start_with_seed(server, 1);
        let mut stream = client(&proxy).await;
        let (latency, jitter) = (Duration::from_millis(60), Duration::from_millis(20));
        proxy.set_latency(ToClient, latency, jitter);
        let begun = Instant::now();
        // Sent one after the other, and late together: not twenty times the latency.
        let text = "0123456789".repeat(2);
        for byte in text.as_bytes() {
            stream.write_all(&[*byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        let mut answer = vec![0; text.len()];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, text.as_bytes());
        assert!(begun.elapsed() >= latency, "{:?}", begun.elapsed());
        assert!(begun.elapsed() < 5 * latency, "{:?}", begun.elapsed());

        proxy.set_latency(ToServer, Duration::from_secs(1000), Duration::ZERO);
        assert!(timeout(SILENCE, exchange(&mut stream, "late")).await.is_err());
        proxy.heal();
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await.unwrap();
    });
}

#[test]
fn a_rate_is_kept() {
    runtime::real(async {
        let (server, _seen) = echo().await;
        let proxy = FaultProxy::start(server);
        let mut stream = client(&proxy).await;
        proxy.set_rate(ToServer, NonZeroU64::new(100_000).unwrap());
        let begun = Instant::now();
        exchange(&mut stream, &"x".repeat(20_000)).await.unwrap();
        // The last portion's time passes after it.
        assert!(begun.elapsed() >= Duration::from_millis(190), "{:?}", begun.elapsed());
        proxy.set_rate(ToServer, NonZeroU64::MIN);
        let before = proxy.counts().to_server;
        stream.write_all(b"slow").await.unwrap();
        tokio::time::sleep(SILENCE).await;
        assert!(proxy.counts().to_server - before <= 2);
        proxy.heal();
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await.unwrap();
    });
}

#[test]
fn a_dropped_proxy_closes_everything_and_frees_its_port() {
    runtime::real(async {
        let (server, mut seen) = echo().await;
        let proxy = FaultProxy::start(server);
        let address = proxy.address();
        let mut stream = client(&proxy).await;
        exchange(&mut stream, "hello").await.unwrap();
        drop(proxy);
        assert_eq!(rest(&mut stream).await.1, Ok(()));
        assert_eq!(seen.recv().await.unwrap().1, Ok(()));
        drop(stream);
        let refused = TcpStream::connect(address).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn chaos_does_harm_and_calm_follows() {
    runtime::real(async {
        let (server, _seen) = echo().await;
        let proxy = Arc::new(FaultProxy::start_with_seed(server, 5));
        proxy.unleash(&Chaos {
            longest_fault: Duration::from_millis(10),
            longest_peace: Duration::from_millis(10),
            ..Chaos::new(5)
        });
        let (mut good, mut bad) = (0, 0);
        while good < 20 || bad < 20 {
            let tried = async {
                let mut stream = TcpStream::connect(proxy.address()).await?;
                for _ in 0..10 {
                    exchange(&mut stream, &"x".repeat(500)).await?;
                }
                Ok::<_, std::io::Error>(())
            };
            match timeout(Duration::from_millis(30), tried).await {
                Ok(Ok(())) => good += 1,
                _ => bad += 1,
            }
        }
        proxy.calm();
        for _ in 0..20 {
            exchange(&mut client(&proxy).await, "calm").await.unwrap();
        }
        assert_eq!(proxy.bytes_before_cut(ToServer), None);
    });
}
