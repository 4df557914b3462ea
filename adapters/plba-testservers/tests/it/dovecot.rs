//! The real Dovecot, spoken to by hand: a few lines of IMAP over plain sockets and TLS.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use plba_testservers::{Dovecot, require};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::processes::processes_of;

/// How long a server may take to answer or to hang up.
const PATIENCE: Duration = Duration::from_secs(10);

/// A dialogue: a command out, lines in until the tagged one.
struct Client<S> {
    stream: BufStream<S>,
}

impl Client<TcpStream> {
    async fn plain(server: &Dovecot) -> Client<TcpStream> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, server.imap_port()))
            .await
            .unwrap();
        Client::greet(stream).await
    }

    async fn logged_in(server: &Dovecot) -> Client<TcpStream> {
        let mut client = Client::plain(server).await;
        client.log_in(server).await;
        client
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    async fn greet(stream: S) -> Client<S> {
        let mut client = Client {
            stream: BufStream::new(stream),
        };
        let greeting = client.line().await.expect("a greeting");
        assert!(greeting.starts_with("* OK"), "{greeting}");
        client
    }

    async fn log_in(&mut self, server: &Dovecot) {
        self.ok(&format!("LOGIN {} {}", server.user(), server.password())).await;
    }

    /// The untagged lines of a command that succeeds.
    async fn ok(&mut self, command: &str) -> Vec<String> {
        let (lines, end) = self.run(command).await;
        assert!(end.starts_with("OK"), "{command}: {end}");
        lines
    }

    async fn run(&mut self, command: &str) -> (Vec<String>, String) {
        self.stream
            .write_all(format!("t {command}\r\n").as_bytes())
            .await
            .unwrap();
        self.stream.flush().await.unwrap();
        let mut lines = Vec::new();
        loop {
            let line = self
                .line()
                .await
                .expect("a tagged answer before the end of the connection");
            match line.strip_prefix("t ") {
                Some(end) => return (lines, end.to_owned()),
                None => lines.push(line),
            }
        }
    }

    /// The next line, or `None` at the end of the connection.
    async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match timeout(PATIENCE, self.stream.read_line(&mut line))
            .await
            .expect("a line or an end in time")
        {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(line.trim_end().to_owned()),
        }
    }

    /// Selects the inbox and returns its UIDVALIDITY.
    async fn select(&mut self) -> u64 {
        let lines = self.ok("SELECT INBOX").await;
        let value = lines
            .iter()
            .find_map(|line| line.strip_prefix("* OK [UIDVALIDITY "))
            .expect("a UIDVALIDITY");
        value.split(']').next().unwrap().parse().unwrap()
    }

    /// The UIDs of a search.
    async fn search(&mut self, what: &str) -> Vec<u32> {
        let lines = self.ok(&format!("UID SEARCH {what}")).await;
        let found = lines
            .iter()
            .find_map(|line| line.strip_prefix("* SEARCH"))
            .expect("a SEARCH line");
        found.split_whitespace().map(|uid| uid.parse().unwrap()).collect()
    }
}

async fn over_tls(server: &Dovecot) -> Result<Client<tokio_rustls::client::TlsStream<TcpStream>>, std::io::Error> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(server.ca_path()).unwrap())
        .unwrap();
    connect_tls(server, roots).await
}

async fn connect_tls(
    server: &Dovecot,
    roots: RootCertStore,
) -> Result<Client<tokio_rustls::client::TlsStream<TcpStream>>, std::io::Error> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, server.imaps_port())).await?;
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    Ok(Client::greet(stream).await)
}

fn directory_of(server: &Dovecot) -> PathBuf {
    server.ca_path().parent().unwrap().to_owned()
}

#[tokio::test]
async fn a_delivered_message_is_found_over_plain_and_tls() {
    let Some(server) = require(Dovecot::start().await) else {
        return;
    };
    server
        .deliver(server.user(), b"Subject: first\r\n\r\nA-1 x 2\r\n")
        .unwrap();

    let mut plain = Client::logged_in(&server).await;
    plain.select().await;
    assert_eq!(plain.search("UNSEEN").await, [1]);

    let mut tls = over_tls(&server).await.unwrap();
    tls.log_in(&server).await;
    tls.select().await;
    assert_eq!(tls.search("SUBJECT first").await, [1]);
}

#[tokio::test]
async fn a_client_that_does_not_know_the_authority_refuses_the_server() {
    let Some(server) = require(Dovecot::start().await) else {
        return;
    };
    let refused = connect_tls(&server, RootCertStore::empty()).await;
    assert!(refused.is_err_and(|error| error.to_string().contains("certificate")));
}

#[tokio::test(start_paused = true)]
async fn a_paused_clock_neither_hastens_nor_fails_a_start() {
    let Some(server) = require(Dovecot::start().await) else {
        return;
    };
    let before = tokio::time::Instant::now();
    server.restart().await.unwrap();
    assert_eq!(before.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn the_default_mailbox_and_the_password_are_there_from_the_start() {
    let Some(server) = require(Dovecot::start().await) else {
        return;
    };
    assert!(server.maildir(server.user()).join("new").is_dir());
    assert_eq!(server.messages(server.user()).unwrap(), []);
    let password = server.password_path();
    assert_eq!(fs::read_to_string(&password).unwrap().trim_end(), server.password());
    assert_eq!(password.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_wrong_password_is_refused() {
    let Some(server) = require(Dovecot::start().await) else {
        return;
    };
    let mut client = Client::plain(&server).await;
    let (_, end) = client.run("LOGIN orders wrong").await;
    assert!(end.starts_with("NO"), "{end}");
}

#[tokio::test]
async fn messages_on_disk_tell_which_ones_are_seen_and_in_which_order_they_came() {
    let Some(server) = require(Dovecot::start().await) else {
        return;
    };
    let subjects: Vec<String> = (0..30)
        .map(|number| format!("Subject: m{number:02}\r\n\r\nx\r\n"))
        .collect();
    server.deliver_many("ada", &subjects).unwrap();
    assert!(
        server
            .messages("ada")
            .unwrap()
            .iter()
            .all(|message| message.flags.is_empty())
    );

    let mut client = Client::plain(&server).await;
    client.ok(&format!("LOGIN ada {}", server.password())).await;
    client.select().await;
    client.ok("UID STORE 3,7 +FLAGS.SILENT (\\Seen)").await;

    let stored = server.messages("ada").unwrap();
    assert_eq!(stored.len(), 30);
    let seen: Vec<usize> = (0..30).filter(|index| stored[*index].is_seen()).collect();
    assert_eq!(seen, [2, 6]);
    let third = fs::read_to_string(&stored[2].path).unwrap();
    assert!(third.starts_with("Subject: m02"), "{third}");
}

#[tokio::test]
async fn killed_sessions_end_and_new_ones_begin() {
    let Some(server) = require(Dovecot::start().await) else {
        return;
    };
    let mut plain = Client::logged_in(&server).await;
    let mut tls = over_tls(&server).await.unwrap();
    tls.log_in(&server).await;
    assert_eq!(server.kill_sessions(), 2);
    while let Some(line) = plain.line().await {
        assert!(!line.contains("BYE"), "{line}");
    }
    while tls.line().await.is_some() {}
    Client::logged_in(&server).await.select().await;
}

#[tokio::test]
async fn a_restart_keeps_ports_mail_and_uids() {
    let Some(server) = require(Dovecot::start().await) else {
        return;
    };
    server.deliver(server.user(), b"Subject: kept\r\n\r\n").unwrap();
    let mut before = Client::logged_in(&server).await;
    let validity = before.select().await;

    server.restart().await.unwrap();
    assert_eq!(before.line().await, None);
    let mut after = Client::logged_in(&server).await;
    assert_eq!(after.select().await, validity);
    assert_eq!(after.search("ALL").await, [1]);
}

#[tokio::test]
async fn a_stopped_server_refuses_connections_until_it_is_restarted() {
    let Some(server) = require(Dovecot::start().await) else {
        return;
    };
    server.stop().await;
    assert!(
        TcpStream::connect((Ipv4Addr::LOCALHOST, server.imap_port()))
            .await
            .is_err()
    );
    server.restart().await.unwrap();
    Client::logged_in(&server).await;
}

#[tokio::test]
async fn a_reset_inbox_has_another_uidvalidity_and_counts_from_one() {
    let Some(server) = require(Dovecot::start().await) else {
        return;
    };
    server
        .deliver_many(server.user(), ["Subject: a\r\n\r\n", "Subject: b\r\n\r\n"])
        .unwrap();
    let mut client = Client::logged_in(&server).await;
    let before = client.select().await;
    client.ok("UID STORE 1 +FLAGS.SILENT (\\Deleted)").await;
    client.ok("EXPUNGE").await;
    assert_eq!(client.search("ALL").await, [2]);

    server.reset_uidvalidity(server.user()).unwrap();
    let mut client = Client::logged_in(&server).await;
    assert_ne!(client.select().await, before);
    assert_eq!(client.search("ALL").await, [1]);
}

#[tokio::test]
async fn dropping_a_server_leaves_no_process_no_port_and_no_directory() {
    let Some(server) = require(Dovecot::start().await) else {
        return;
    };
    let _idling = Client::logged_in(&server).await;
    let (directory, ports) = (directory_of(&server), [server.imap_port(), server.imaps_port()]);
    let name = directory.to_str().unwrap().to_owned();
    assert_ne!(processes_of(&name), Vec::<PathBuf>::new());
    drop(server);
    assert_eq!(processes_of(&name), Vec::<PathBuf>::new());
    assert!(!directory.exists());
    for port in ports {
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    }
}

#[tokio::test]
async fn servers_live_side_by_side() {
    let (first, second) = tokio::join!(Dovecot::start(), Dovecot::start());
    let (Some(first), Some(second)) = (require(first), require(second)) else {
        return;
    };
    first.deliver(first.user(), b"Subject: only here\r\n\r\n").unwrap();
    assert_eq!(first.messages(first.user()).unwrap().len(), 1);
    assert_eq!(second.messages(second.user()).unwrap().len(), 0);
    assert_ne!(first.imap_port(), second.imap_port());
}
