//! The real PostgreSQL, asked through `psql` and a socket.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use plba_testservers::{PostgresOptions, PostgresServer, require};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::processes::{directory_of, processes_of};

/// How long a server may take to do what was asked.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long silence has to last to count as silence.
const SILENCE: Duration = Duration::from_millis(200);

/// A question that each connection may begin with: `S` if the server speaks TLS, `N` if not.
async fn asks_for_tls(server: &PostgresServer, patience: Duration) -> Option<char> {
    let exchange = async {
        let mut stream = TcpStream::connect(("127.0.0.1", server.port())).await.unwrap();
        stream.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).await.unwrap();
        stream.read_u8().await.unwrap().into()
    };
    timeout(patience, exchange).await.ok()
}

/// A session in the middle of a statement, seen by the server.
async fn sleeping_session(server: &Arc<PostgresServer>) -> tokio::task::JoinHandle<bool> {
    let own = Arc::clone(server);
    let session = tokio::spawn(async move { own.query("SELECT pg_sleep(1000)").await.is_err() });
    let seen = async {
        let question = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
        while server.query(question).await.unwrap() != "1" {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, seen).await.unwrap();
    session
}

/// A server of the test's own that costs little.
async fn start() -> Option<PostgresServer> {
    let options = PostgresOptions {
        in_memory: true,
        ..PostgresOptions::default()
    };
    require(PostgresServer::start_with(options).await)
}

#[tokio::test]
async fn a_server_has_the_settings_that_were_asked_for() {
    let options = PostgresOptions {
        synchronous_commit: "off".to_owned(),
        fsync: false,
        max_connections: 17,
        tls: true,
        settings: vec![("application_name".to_owned(), "it's a test".to_owned())],
        ..PostgresOptions::default()
    };
    let Some(server) = require(PostgresServer::start_with(options).await) else {
        return;
    };
    for (name, value) in [
        ("synchronous_commit", "off"),
        ("fsync", "off"),
        ("max_connections", "17"),
        ("server_encoding", "UTF8"),
    ] {
        assert_eq!(server.query(&format!("SHOW {name}")).await.unwrap(), value, "{name}");
    }
    assert_eq!(asks_for_tls(&server, PATIENCE).await, Some('S'));
    let authority = server.ca_path().unwrap().to_str().unwrap();
    let over_tls = format!("{}?sslmode=verify-full&sslrootcert={authority}", server.url());
    let told = server
        .cli([
            "-d",
            &over_tls.replace("127.0.0.1", "localhost"),
            "-c",
            "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
        ])
        .await;
    assert_eq!(told.unwrap(), "t");
}

#[tokio::test]
async fn the_default_is_durable_and_wants_the_password() {
    let Some(server) = require(PostgresServer::shared().await) else {
        return;
    };
    assert_eq!(server.query("SHOW fsync").await.unwrap(), "on");
    assert_eq!(server.query("SHOW synchronous_commit").await.unwrap(), "on");
    assert_eq!(server.cli(["-d", &server.url(), "-c", "SELECT 1"]).await.unwrap(), "1");
    let wrong = server.url().replace(server.password(), "wrong");
    let refused = server.cli(["-d", &wrong, "-c", "SELECT 1"]).await.unwrap_err();
    assert!(refused.said.contains("password authentication failed"), "{refused}");
}

#[tokio::test]
async fn without_scram_no_password_is_asked_for() {
    let options = PostgresOptions {
        scram: false,
        ..PostgresOptions::default()
    };
    let Some(server) = require(PostgresServer::start_with(options).await) else {
        return;
    };
    let wrong = server.url().replace(server.password(), "wrong");
    assert_eq!(server.cli(["-d", &wrong, "-c", "SELECT 1"]).await.unwrap(), "1");
    assert_eq!(asks_for_tls(&server, PATIENCE).await, Some('N'));
}

#[tokio::test]
async fn an_unknown_setting_fails_the_start_with_the_servers_own_words() {
    let options = PostgresOptions {
        settings: vec![("no_such_setting".to_owned(), "1".to_owned())],
        ..PostgresOptions::default()
    };
    match PostgresServer::start_with(options).await {
        Err(error) if error.to_string().contains("no_such_setting") => {}
        other => drop(require(other.map(|_| panic!("it started")))),
    }
}

#[tokio::test]
async fn data_survives_each_end_and_the_port_stays() {
    let Some(server) = require(PostgresServer::start().await) else {
        return;
    };
    let server = Arc::new(server);
    let (url, pid) = (server.url(), server.pid());
    server.query("CREATE TABLE kept (x int)").await.unwrap();
    let add = "INSERT INTO kept VALUES (1); SELECT count(*) FROM kept";
    server.restart().await.unwrap();
    assert_eq!(server.query(add).await.unwrap(), "1");

    // A killed server's sessions die with it, those in the middle of something too.
    let session = sleeping_session(&server).await;
    let second = server.pid();
    server.kill().await;
    assert!(session.await.unwrap());
    assert!(!server.is_running());
    assert_eq!(segments_of(pid.unwrap()) + segments_of(second.unwrap()), 0);
    assert!(server.query("SELECT 1").await.is_err());
    server.start_again().await.unwrap();
    assert!(server.log().contains("was not properly shut down"), "{}", server.log());
    assert_eq!(server.query(add).await.unwrap(), "2");

    let session = sleeping_session(&server).await;
    server.stop().await.unwrap();
    assert!(session.await.unwrap());
    assert!(TcpStream::connect(("127.0.0.1", server.port())).await.is_err());
    server.start_again().await.unwrap();
    let running = server.pid();
    server.start_again().await.unwrap();
    assert_eq!(server.pid(), running, "a second start does nothing");
    assert_eq!(server.query(add).await.unwrap(), "3");
    assert_eq!(server.url(), url);
    assert_ne!(server.pid(), pid);
}

#[tokio::test]
async fn wiping_loses_everything() {
    let Some(server) = start().await else {
        return;
    };
    server.query("CREATE TABLE lost (x int)").await.unwrap();
    let before = server.pid().unwrap();
    server.wipe().await.unwrap();
    assert_eq!(segments_of(before), 0);
    assert_eq!(server.query("SELECT to_regclass('lost') IS NULL").await.unwrap(), "t");
    assert_eq!(server.cli(["-d", &server.url(), "-c", "SELECT 1"]).await.unwrap(), "1");
}

#[tokio::test]
async fn a_paused_server_is_silent_in_all_its_sessions_and_goes_on() {
    let Some(server) = start().await else {
        return;
    };
    let server = Arc::new(server);
    let own = Arc::clone(&server);
    let mut session = tokio::spawn(async move { own.query("SELECT pg_sleep(0.1)").await });
    server.pause();
    assert!(server.is_running());
    assert_eq!(asks_for_tls(&server, SILENCE).await, None);
    assert!(timeout(SILENCE, &mut session).await.is_err());
    server.resume();
    assert_eq!(asks_for_tls(&server, PATIENCE).await, Some('N'));
    session.await.unwrap().unwrap();

    server.pause();
    server.kill().await;
    server.start_again().await.unwrap();
    server.pause();
    server.restart().await.unwrap();
    assert_eq!(server.query("SELECT 1").await.unwrap(), "1");
}

#[tokio::test]
async fn sessions_are_ended_all_or_those_of_one_database() {
    let Some(server) = start().await else {
        return;
    };
    let server = Arc::new(server);
    let database = server.fresh_database().await.unwrap();
    let session = sleeping_session(&server).await;
    assert_eq!(database.terminate_backends().await.unwrap(), 0);
    // A session whose `psql` has just ended may be seen for a moment longer.
    assert!(server.terminate_backends().await.unwrap() >= 1);
    assert!(session.await.unwrap());
}

#[tokio::test]
async fn tests_share_a_server_and_not_a_database() {
    let Some(server) = require(PostgresServer::shared().await) else {
        return;
    };
    let again = PostgresServer::shared().await.unwrap();
    assert_eq!(server.port(), again.port());
    let (first, second) = (
        server.fresh_database().await.unwrap(),
        again.fresh_database().await.unwrap(),
    );
    first.query("CREATE TABLE only_here ()").await.unwrap();
    assert_eq!(
        second.query("SELECT to_regclass('only_here') IS NULL").await.unwrap(),
        "t"
    );
    assert_eq!(first.query("SELECT current_database()").await.unwrap(), first.name());
    assert_eq!(
        server
            .cli(["-d", &first.url(), "-c", "SELECT current_database()"])
            .await
            .unwrap(),
        first.name()
    );
    let name = first.name().to_owned();
    drop(first);
    let question = format!("SELECT count(*) FROM pg_database WHERE datname = '{name}'");
    assert_eq!(server.query(&question).await.unwrap(), "0");
}

#[tokio::test(start_paused = true)]
async fn a_paused_clock_neither_hastens_nor_fails_a_start() {
    let Some(server) = start().await else {
        return;
    };
    let before = tokio::time::Instant::now();
    server.restart().await.unwrap();
    assert_eq!(before.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn dropping_a_server_leaves_nothing() {
    let Some(server) = start().await else {
        return;
    };
    let pid = server.pid().unwrap();
    let directory = directory_of(pid);
    assert!(processes_of(&directory).len() > 3);
    assert_eq!(segments_of(pid), 1);
    let port = server.port();
    drop(server);
    assert_eq!(processes_of(&directory), Vec::<PathBuf>::new());
    assert_eq!(segments_of(pid), 0);
    for root in ["/tmp", "/dev/shm"] {
        assert!(!PathBuf::from(root).join(&directory).exists());
    }
    std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
}

/// The segments of shared memory (System V) that this process made and nobody has removed.
fn segments_of(pid: u32) -> usize {
    let table = std::fs::read_to_string("/proc/sysvipc/shm").unwrap();
    let pid = pid.to_string();
    table
        .lines()
        .filter(|line| line.split_whitespace().nth(4) == Some(&pid))
        .count()
}
