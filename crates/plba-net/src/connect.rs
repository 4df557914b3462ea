//! Opening TCP and TLS connections within a time limit, with keepalive. What is spoken over them lives in the adapters.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Limits of opening a connection, and how a dead peer is noticed afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectSettings {
    /// For looking up the name, connecting and the TLS handshake together (default 20 s).
    pub timeout: Duration,
    /// Silence after which the kernel starts to probe the peer (default 60 s). Probes follow every quarter of this, and
    /// four unanswered ones end the connection.
    pub keepalive: Duration,
}

impl Default for ConnectSettings {
    fn default() -> Self {
        ConnectSettings {
            timeout: Duration::from_secs(20),
            keepalive: Duration::from_secs(60),
        }
    }
}

/// Why there is no connection. All but `BadName` and `Tls` may pass by themselves: try again later.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name could not be looked up.
    #[error("cannot look up {host}: {source}")]
    Lookup {
        /// The name asked for.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// No address of the name accepted the connection; this is what the last one said.
    #[error("cannot connect to {host} at {address}: {source}")]
    Refused {
        /// The name asked for.
        host: String,
        /// The address that was tried last.
        address: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
    /// The time limit ran out.
    #[error("connecting to {host}:{port} took longer than {} ms", limit.as_millis())]
    Timeout {
        /// The name asked for.
        host: String,
        /// The port asked for.
        port: u16,
        /// The limit that ran out.
        limit: Duration,
    },
    /// The host is neither a DNS name nor an address, so that its certificate can't be checked.
    #[error("`{0}` is neither a host name nor an IP address")]
    BadName(String),
    /// The TLS handshake failed: an untrusted certificate, a wrong name, or no TLS on that port.
    #[error("no TLS with {host}:{port}: {source}; for a private certificate authority set `ca`")]
    Tls {
        /// The name asked for.
        host: String,
        /// The port asked for.
        port: u16,
        /// What rustls said.
        source: io::Error,
    },
}

/// Opens a TCP connection without Nagle's delay and with keepalive. Every address of the name is tried; each gets its
/// share of the time that is left, so that one black hole does not use it up.
///
/// # Errors
/// See [`ConnectError`].
///
/// # Cancel safety
/// Dropping the future closes what was opened.
pub async fn connect(host: &str, port: u16, settings: ConnectSettings) -> Result<TcpStream, ConnectError> {
    connect_until(host, port, settings, Instant::now() + settings.timeout).await
}

/// Opens a TCP connection as [`connect`] does and a TLS session on it, verified for `host`.
///
/// # Errors
/// See [`ConnectError`].
///
/// # Cancel safety
/// Dropping the future closes what was opened.
pub async fn connect_tls(
    host: &str,
    port: u16,
    tls: Arc<ClientConfig>,
    settings: ConnectSettings,
) -> Result<TlsStream<TcpStream>, ConnectError> {
    let name = ServerName::try_from(host.to_owned()).map_err(|_| ConnectError::BadName(host.to_owned()))?;
    let end = Instant::now() + settings.timeout;
    let stream = connect_until(host, port, settings, end).await?;
    match timeout_at(end, TlsConnector::from(tls).connect(name, stream)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(source)) => Err(ConnectError::Tls {
            host: host.to_owned(),
            port,
            source,
        }),
        Err(_) => Err(ConnectError::Timeout {
            host: host.to_owned(),
            port,
            limit: settings.timeout,
        }),
    }
}

async fn connect_until(
    host: &str,
    port: u16,
    settings: ConnectSettings,
    end: Instant,
) -> Result<TcpStream, ConnectError> {
    let out_of_time = || ConnectError::Timeout {
        host: host.to_owned(),
        port,
        limit: settings.timeout,
    };
    let lookup = |source| ConnectError::Lookup {
        host: host.to_owned(),
        source,
    };
    let addresses: Vec<SocketAddr> = match timeout_at(end, lookup_host((host, port))).await {
        Ok(found) => found.map_err(lookup)?.collect(),
        Err(_) => return Err(out_of_time()),
    };
    let mut last = lookup(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    let mut left = addresses.len() as u32;
    for address in addresses {
        let share = end.saturating_duration_since(Instant::now()) / left;
        left -= 1;
        match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => match prepare(&stream, settings.keepalive) {
                Ok(()) => return Ok(stream),
                Err(source) => {
                    last = ConnectError::Refused {
                        host: host.to_owned(),
                        address,
                        source,
                    }
                }
            },
            Ok(Err(source)) => {
                last = ConnectError::Refused {
                    host: host.to_owned(),
                    address,
                    source,
                }
            }
            Err(_) => last = out_of_time(),
        }
    }
    Err(last)
}

fn prepare(stream: &TcpStream, keepalive: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    // The kernel counts whole seconds and refuses zero.
    let interval = (keepalive / 4).max(Duration::from_secs(1));
    let probes = TcpKeepalive::new()
        .with_time(keepalive.max(Duration::from_secs(1)))
        .with_interval(interval)
        .with_retries(4);
    SockRef::from(stream).set_tcp_keepalive(&probes)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;
    use crate::TlsSettings;

    fn short() -> ConnectSettings {
        ConnectSettings {
            timeout: Duration::from_millis(300),
            ..ConnectSettings::default()
        }
    }

    #[tokio::test]
    async fn a_connection_has_keepalive_and_no_delay() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let stream = connect("127.0.0.1", listener.local_addr().unwrap().port(), short())
            .await
            .unwrap();
        assert!(stream.nodelay().unwrap());
        assert!(SockRef::from(&stream).keepalive().unwrap());
    }

    #[tokio::test]
    async fn a_closed_port_is_named() {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let error = connect("127.0.0.1", port, short()).await.unwrap_err();
        assert!(matches!(error, ConnectError::Refused { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_server_that_never_answers_the_handshake_times_out() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let tls = TlsSettings::default().client_config();
        // A machine without any trusted authority can't get as far as the handshake.
        let Ok(tls) = tls else { return };
        let error = connect_tls("127.0.0.1", port, tls, short()).await.unwrap_err();
        assert!(matches!(error, ConnectError::Timeout { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_name_that_is_none_is_refused_before_connecting() {
        let Ok(tls) = TlsSettings::default().client_config() else {
            return;
        };
        let error = connect_tls("not a name", 1, tls, short()).await.unwrap_err();
        assert!(matches!(error, ConnectError::BadName(_)), "{error}");
    }
}
