//! Webhooks sent over TLS to a server on loopback: its certificate is made here, by an authority made here, with the
//! `openssl` command. Who vouches for the server is asked before a byte of the request is sent.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use plba_http::webhook::{SendError, SigningSecret, TargetSettings, WebhookSender};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, crypto};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const NOW: i64 = 1_700_000_000;
const BODY: &[u8] = b"{\"type\":\"order.accepted\"}";

/// An own one, so that the machine's `openssl.cnf` has no say. The certificate is for `localhost` and no address.
const SETTINGS: &str = "\
[authority_name]
CN = plba test authority NUMBER
[server_name]
CN = localhost
[authority_request]
distinguished_name = authority_name
prompt = no
[server_request]
distinguished_name = server_name
prompt = no
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
extendedKeyUsage = serverAuth
subjectAltName = DNS:localhost
authorityKeyIdentifier = keyid
";

/// An authority and a certificate of its making, in a directory that goes with it.
struct Authority(PathBuf);

impl Authority {
    fn create() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("plba-webhook-tls-{}-{number}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let settings = SETTINGS.replace("NUMBER", &number.to_string());
        fs::write(directory.join("openssl.cnf"), settings).unwrap();
        let made = Self(directory);
        made.certify("authority", &[]);
        made.certify("server", &["-CA", "authority.pem", "-CAkey", "authority.key"]);
        made
    }

    fn certify(&self, role: &str, signer: &[&str]) {
        let kind = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -config openssl.cnf";
        let output = Command::new("openssl")
            .current_dir(&self.0)
            .args(kind.split(' '))
            .args(["-section", &format!("{role}_request"), "-extensions", role])
            .args(["-out", &format!("{role}.pem"), "-keyout", &format!("{role}.key")])
            .args(signer)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// What a server has seen.
#[derive(Debug, PartialEq)]
enum Seen {
    /// A whole request, head and body.
    Request(String),
    /// The client went before the connection was encrypted.
    Refused,
}

/// A server with this authority's certificate; it answers every request with 204. Gives its port and what it sees.
async fn serve(authority: &Authority) -> (u16, mpsc::Receiver<Seen>) {
    let certificates = CertificateDer::pem_file_iter(authority.file("server.pem")).unwrap();
    let certificates = certificates.collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(authority.file("server.key")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, seen) = mpsc::channel(10);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let told = match acceptor.accept(stream).await {
                Err(_) => Seen::Refused,
                Ok(mut stream) => {
                    let mut request = Vec::new();
                    while !request.ends_with(BODY) {
                        // A client of TLS 1.3 learns the certificate after the server has finished.
                        match stream.read_buf(&mut request).await {
                            Ok(0) | Err(_) => break,
                            Ok(_) => {}
                        }
                    }
                    if request.is_empty() {
                        Seen::Refused
                    } else {
                        // And closes without the farewell of TLS, as many servers do.
                        stream.write_all(b"HTTP/1.1 204 Fine\r\n\r\n").await.unwrap();
                        Seen::Request(String::from_utf8(request).unwrap())
                    }
                }
            };
            if sender.send(told).await.is_err() {
                return;
            }
        }
    });
    (port, seen)
}

fn target(host: &str, port: u16, ca: &Path) -> WebhookSender {
    let secret = SigningSecret::parse(SECRET).unwrap();
    let mut settings = TargetSettings::new(format!("https://{host}:{port}/orders?shop=1"), vec![secret]);
    settings.private = true;
    settings.tls.ca = Some(ca.to_owned());
    settings.tls.only_ca = true;
    WebhookSender::new(&settings).unwrap()
}

#[tokio::test]
async fn a_signed_request_goes_over_tls_to_a_server_of_the_authority_that_is_trusted() {
    let authority = Authority::create();
    let (port, mut seen) = serve(&authority).await;
    let sender = target("localhost", port, &authority.file("authority.pem"));
    assert_eq!(sender.send("msg_1", NOW, BODY.into()).await.unwrap(), 204);
    let Some(Seen::Request(request)) = seen.recv().await else {
        panic!("no request came")
    };
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert_eq!(body.as_bytes(), BODY);
    assert!(head.starts_with("POST /orders?shop=1 HTTP/1.1\r\n"), "{head}");
    let signature = SigningSecret::parse(SECRET).unwrap().sign("msg_1", NOW, BODY);
    for header in [
        format!("host: localhost:{port}"),
        "webhook-id: msg_1".to_owned(),
        format!("webhook-timestamp: {NOW}"),
        format!("webhook-signature: {signature}"),
    ] {
        assert!(head.lines().any(|line| line == header), "{header:?} in {head}");
    }
}

#[tokio::test]
async fn nothing_is_sent_to_a_server_for_which_nobody_vouches() {
    let (authority, other) = (Authority::create(), Authority::create());
    let (port, mut seen) = serve(&authority).await;
    let trusted = authority.file("authority.pem");
    let elsewhere = other.file("authority.pem");
    for (host, ca, says) in [
        ("localhost", &elsewhere, "UnknownIssuer"),
        ("127.0.0.1", &trusted, "not valid for name"),
    ] {
        let sender = target(host, port, ca);
        let error = sender.send("msg_1", NOW, BODY.into()).await.unwrap_err();
        let told = error.to_string();
        assert!(matches!(error, SendError::Connection { .. }), "{error:?}");
        assert!(told.contains("certificate") && told.contains(says), "{told}");
        assert_eq!(seen.recv().await.unwrap(), Seen::Refused);
    }
}
