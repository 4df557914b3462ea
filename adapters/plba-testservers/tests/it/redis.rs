//! The real Redis, asked through `redis-cli` and a socket.

use std::time::Duration;

use plba_testservers::{AppendOnly, RedisCluster, RedisOptions, RedisSentinels, RedisServer, Validity, require};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::processes::{directory_of, processes_of};

/// How long a server may take to do what was asked.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long silence has to last to count as silence.
const SILENCE: Duration = Duration::from_millis(200);

async fn connect(server: &RedisServer) -> TcpStream {
    TcpStream::connect(("127.0.0.1", server.port())).await.unwrap()
}

/// A PING on an open connection: the answer, or `None` after a time of silence.
async fn ping(stream: &mut TcpStream, patience: Duration) -> Option<std::io::Result<String>> {
    let mut answer = [0; 64];
    let exchange = async {
        stream.write_all(b"PING\r\n").await?;
        let read = stream.read(&mut answer).await?;
        Ok(String::from_utf8_lossy(&answer[..read]).into_owned())
    };
    timeout(patience, exchange).await.ok()
}

#[tokio::test]
async fn a_server_has_the_settings_that_were_asked_for() {
    let options = RedisOptions {
        append_only: AppendOnly::Always,
        maxmemory: Some(50_000_000),
        maxmemory_policy: "allkeys-lru".to_owned(),
        password: Some("open sesame".replace(' ', "-")),
        tls: true,
        in_memory: true,
        settings: vec![("hz".to_owned(), "50".to_owned())],
    };
    let Some(server) = require(RedisServer::start_with(options).await) else {
        return;
    };
    for (name, value) in [
        ("appendonly", "yes"),
        ("appendfsync", "always"),
        ("maxmemory", "50000000"),
        ("maxmemory-policy", "allkeys-lru"),
        ("hz", "50"),
        ("save", ""),
    ] {
        let told = server.cli(["CONFIG", "GET", name]).await.unwrap();
        assert_eq!(told, format!("{name}\n{value}"));
    }
    assert!(
        server.url().starts_with("redis://:open-sesame@127.0.0.1:"),
        "{}",
        server.url()
    );

    let mut stream = connect(&server).await;
    let refused = ping(&mut stream, PATIENCE).await.unwrap().unwrap();
    assert!(refused.starts_with("-NOAUTH"), "{refused}");

    let tls = server.tls_url().unwrap();
    let (_, port) = tls.rsplit_once(':').unwrap();
    let authority = server.ca_path().unwrap().to_str().unwrap().to_owned();
    let host = ["-h", "localhost", "-p", port.trim_end_matches("/0")];
    let ping = || server.cli([&host[..], &["--tls", "--cacert", &authority, "PING"]].concat());
    assert_eq!(ping().await.unwrap(), "PONG");

    server.show_certificate(Validity::Expired).await.unwrap();
    let refused = ping().await.unwrap_err();
    assert!(refused.said.contains("certificate verify failed"), "{refused}");
    server.show_certificate(Validity::Valid).await.unwrap();
    assert_eq!(ping().await.unwrap(), "PONG");
}

#[tokio::test]
async fn an_unknown_setting_fails_the_start_with_the_servers_own_words() {
    let options = RedisOptions {
        settings: vec![("no-such-setting".to_owned(), "1".to_owned())],
        ..RedisOptions::default()
    };
    match RedisServer::start_with(options).await {
        Err(error) if error.to_string().contains("no-such-setting") => {}
        other => drop(require(other.map(|_| panic!("it started")))),
    }
}

#[tokio::test]
async fn data_survives_each_end_and_the_port_stays() {
    let Some(server) = require(RedisServer::start().await) else {
        return;
    };
    let (url, pid) = (server.url(), server.pid());
    server.cli(["SET", "kept", "1"]).await.unwrap();
    server.restart().await.unwrap();
    assert_eq!(server.cli(["INCR", "kept"]).await.unwrap(), "2");
    server.kill().await;
    assert!(!server.is_running());
    assert!(server.cli(["PING"]).await.is_err());
    server.start_again().await.unwrap();
    assert_eq!(server.cli(["INCR", "kept"]).await.unwrap(), "3");
    server.stop().await.unwrap();
    assert!(TcpStream::connect(("127.0.0.1", server.port())).await.is_err());
    server.start_again().await.unwrap();
    let running = server.pid();
    server.start_again().await.unwrap();
    assert_eq!(server.pid(), running, "a second start does nothing");
    assert_eq!(server.cli(["GET", "kept"]).await.unwrap(), "3");
    assert_eq!(server.url(), url);
    assert_ne!(server.pid(), pid);
}

#[tokio::test]
async fn without_an_append_only_file_nothing_survives_and_wiping_loses_everything() {
    let options = RedisOptions {
        append_only: AppendOnly::Off,
        ..RedisOptions::default()
    };
    let Some(server) = require(RedisServer::start_with(options).await) else {
        return;
    };
    server.cli(["SET", "lost", "1"]).await.unwrap();
    server.kill().await;
    server.start_again().await.unwrap();
    assert_eq!(server.cli(["EXISTS", "lost"]).await.unwrap(), "0");

    let durable = RedisServer::start().await.unwrap();
    durable.cli(["SET", "lost", "1"]).await.unwrap();
    durable.wipe().await.unwrap();
    assert_eq!(durable.cli(["DBSIZE"]).await.unwrap(), "0");
}

#[tokio::test]
async fn a_paused_server_is_silent_and_goes_on() {
    let Some(server) = require(RedisServer::start().await) else {
        return;
    };
    let mut stream = connect(&server).await;
    assert_eq!(ping(&mut stream, PATIENCE).await.unwrap().unwrap(), "+PONG\r\n");
    server.pause();
    assert!(server.is_running());
    assert!(ping(&mut stream, SILENCE).await.is_none());
    server.resume();
    let mut answer = [0; 7];
    timeout(PATIENCE, stream.read_exact(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&answer, b"+PONG\r\n");

    server.pause();
    server.kill().await;
    server.start_again().await.unwrap();
    assert_eq!(
        server.cli(["PING"]).await.unwrap(),
        "PONG",
        "a paused server can be killed"
    );
    server.pause();
    server.restart().await.unwrap();
}

#[tokio::test]
async fn a_refused_command_is_an_error() {
    let Some(server) = require(RedisServer::start().await) else {
        return;
    };
    let refused = server.cli(["NO-SUCH-COMMAND", "x"]).await.unwrap_err();
    assert!(refused.said.contains("unknown command"), "{refused}");
    assert_eq!(refused.arguments, "NO-SUCH-COMMAND x");
}

#[tokio::test]
async fn tests_share_a_server_and_not_a_database() {
    let Some(server) = require(RedisServer::shared().await) else {
        return;
    };
    let again = RedisServer::shared().await.unwrap();
    assert_eq!(server.port(), again.port());
    let (first, second) = (server.fresh_database(), again.fresh_database());
    assert_ne!(first.name(), second.name());
    assert!(
        first.url().ends_with(&format!("/{}", first.number())),
        "{}",
        first.url()
    );
    first.cli(["SET", "key", "first"]).await.unwrap();
    assert_eq!(second.cli(["EXISTS", "key"]).await.unwrap(), "0");
    assert_eq!(first.cli(["GET", "key"]).await.unwrap(), "first");
}

#[tokio::test(start_paused = true)]
async fn a_paused_clock_neither_hastens_nor_fails_a_start() {
    let Some(server) = require(RedisServer::start().await) else {
        return;
    };
    let before = tokio::time::Instant::now();
    server.restart().await.unwrap();
    assert_eq!(before.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn dropping_a_server_leaves_nothing() {
    let Some(server) = require(RedisServer::start().await) else {
        return;
    };
    let directory = directory_of(server.pid().unwrap());
    assert_ne!(processes_of(&directory).len(), 0);
    let port = server.port();
    drop(server);
    assert_eq!(processes_of(&directory), Vec::<std::path::PathBuf>::new());
    std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
}

#[tokio::test]
async fn sentinels_make_a_replica_the_primary_when_the_primary_is_killed() {
    let Some(group) = require(RedisSentinels::start(RedisOptions::default()).await) else {
        return;
    };
    let first = group.primary().await.unwrap();
    assert_eq!(first.port(), group.servers()[0].port());
    first.cli(["SET", "kept", "1"]).await.unwrap();
    assert_eq!(first.cli(["WAIT", "2", "5000"]).await.unwrap(), "2");
    first.kill().await;
    let failover = async {
        loop {
            match group.primary().await {
                Some(primary) if primary.port() != first.port() => return primary,
                _ => sleep(Duration::from_millis(20)).await,
            }
        }
    };
    let second = timeout(PATIENCE, failover).await.expect("a failover in time");
    assert_eq!(second.cli(["GET", "kept"]).await.unwrap(), "1");
    assert!(second.cli(["SET", "kept", "2"]).await.is_ok(), "a primary takes writes");
}

#[tokio::test]
async fn a_cluster_serves_all_slots_and_is_whole_again_after_a_kill() {
    let Some(cluster) = require(RedisCluster::start(RedisOptions::default()).await) else {
        return;
    };
    let node = &cluster.nodes()[0];
    for key in ["a", "b", "c", "{tag}:x"] {
        assert_eq!(node.cli(["-c", "SET", key, "1"]).await.unwrap(), "OK");
    }
    let moved = node.cli(["SET", "a", "2"]).await.unwrap_err();
    assert!(moved.said.starts_with("MOVED"), "{moved}");
    cluster.nodes()[2].kill().await;
    cluster.nodes()[2].start_again().await.unwrap();
    cluster.wait_until_complete().await.unwrap();
    assert_eq!(node.cli(["-c", "GET", "a"]).await.unwrap(), "1");
}
