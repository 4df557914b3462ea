//! One connection to PostgreSQL: opened within a time limit, set up, watched for a dead peer, and ended when dropped.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use plba_contracts::BoxError;
use plba_net::{ClientConfig, ConnectSettings};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::tls::TlsConnect;
use tokio_postgres::{AsyncMessage, Client, Config, Connection, Error, NoTls, Row, SimpleQueryMessage};
use tokio_rustls::rustls::pki_types::ServerName;

use super::fault::{Fault, Kind};
use super::pool::Value;
use super::prepared::Prepared;
use super::settings::PostgresSettings;
use super::tls::Tls;

/// How long one host may take to let us in.
const CONNECT: Duration = Duration::from_secs(5);
/// Silence after which the kernel probes the peer.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// How many notifications may wait to be read; more say nothing new.
const NOTIFICATIONS: usize = 1_024;

/// Where connections go, and what they are set up with.
pub(crate) struct Target {
    settings: PostgresSettings,
    tls: Option<Arc<ClientConfig>>,
    executor: Handle,
    /// Whether sessions are ours alone, so that statements stay prepared in them.
    prepares: AtomicBool,
    /// Whether nothing is written, so that a server that takes no writes will do too.
    reads: bool,
}

impl Target {
    /// The hosts and their ports, for people.
    pub(crate) fn site(&self) -> String {
        self.settings.site()
    }
}

/// A connection. Dropping it closes it, and the server rolls back what was open.
pub(crate) struct Link {
    pub(crate) client: Client,
    prepared: Prepared,
    driver: AbortHandle,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Link {
    pub(crate) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Carries out one statement in one round trip.
    pub(crate) async fn query(
        &mut self,
        target: &Target,
        statement: &str,
        values: &[Value<'_>],
    ) -> Result<Vec<Row>, Error> {
        if target.prepares.load(Ordering::Relaxed) {
            self.prepared.query(&self.client, statement, values).await
        } else {
            self.client.query_typed(statement, values).await
        }
    }
}

impl Target {
    /// Reads the authorities' certificates: blocks for a moment. Must be called within a runtime, on which connections run
    /// from then on.
    pub(crate) fn new(settings: PostgresSettings) -> Result<Self, Fault> {
        let tls = settings
            .tls
            .as_ref()
            .map(plba_net::TlsSettings::client_config)
            .transpose();
        let tls = tls.map_err(|error| Fault::caused(Kind::Setup, "TLS to PostgreSQL can't be set up", error))?;
        Ok(Self {
            prepares: AtomicBool::new(settings.listen),
            settings,
            tls,
            executor: Handle::current(),
            reads: false,
        })
    }

    /// The same for who only reads: of several hosts the first one that takes writes is still preferred.
    pub(crate) fn reader(settings: PostgresSettings) -> Result<Self, Fault> {
        let target = Self::new(settings)?;
        Ok(Self { reads: true, ..target })
    }

    pub(crate) fn settings(&self) -> &PostgresSettings {
        &self.settings
    }

    pub(crate) fn executor(&self) -> &Handle {
        &self.executor
    }

    /// From now on nothing is prepared: somebody between us and the server does not keep sessions apart.
    pub(crate) fn prepare_no_more(&self) {
        if self.prepares.swap(false, Ordering::Relaxed) {
            tracing::warn!(
                "PostgreSQL does not know a statement that it had prepared: for a pooler in transaction mode add listen=off \
                 to the location"
            );
        }
    }

    /// Opens a connection to the first host that takes writes; for who only reads, to the first of all if none does.
    pub(crate) async fn connect(&self, notices: Option<mpsc::Sender<String>>) -> Result<Link, Fault> {
        let server = &self.settings.server;
        let mut latest = Fault::new(Kind::Setup, "the location names no host");
        let mut standby = None;
        for (index, host) in server.get_hosts().iter().enumerate() {
            let ports = server.get_ports();
            let port = *ports.get(index).or(ports.first()).unwrap_or(&5432);
            let opening = async {
                let link = self.open(host, port, notices.clone()).await?;
                let writes = self.set_up(&link.client).await?;
                Ok((link, writes))
            };
            match timeout(CONNECT, opening).await {
                Ok(Ok((link, true))) => return Ok(link),
                Ok(Ok((link, false))) => _ = standby.get_or_insert(link),
                Ok(Err(fault)) => latest = fault,
                Err(_) => {
                    let text = format!(
                        "PostgreSQL at {} did not let us in within {} s",
                        name(host, port),
                        CONNECT.as_secs()
                    );
                    latest = Fault::new(Kind::Later, text);
                }
            }
        }
        standby.ok_or(latest)
    }

    async fn open(&self, host: &Host, port: u16, notices: Option<mpsc::Sender<String>>) -> Result<Link, Fault> {
        let mut config = self.settings.server.clone();
        config.connect_timeout(CONNECT);
        if config.get_application_name().is_none() {
            config.application_name("plba");
        }
        let unreachable = |error: BoxError| {
            Fault::caused(
                Kind::Later,
                format!("PostgreSQL at {} can't be reached", name(host, port)),
                error,
            )
        };
        match host {
            Host::Unix(directory) => {
                let stream = UnixStream::connect(socket(directory, port)).await;
                let stream = stream.map_err(|error| unreachable(error.into()))?;
                config.ssl_mode(SslMode::Disable);
                self.start(&config, stream, NoTls, notices).await
            }
            Host::Tcp(address) => {
                let limits = ConnectSettings {
                    timeout: CONNECT,
                    keepalive: KEEPALIVE,
                };
                let stream = plba_net::connect(address, port, limits).await;
                let stream = stream.map_err(|error| unreachable(error.into()))?;
                // What is sent and not acknowledged for so long has nobody at the other end.
                #[cfg(target_os = "linux")]
                SockRef::from(&stream)
                    .set_tcp_user_timeout(Some(self.settings.deadline()))
                    .map_err(|error| unreachable(error.into()))?;
                let Some(tls) = self.tls.clone() else {
                    config.ssl_mode(SslMode::Disable);
                    return self.start(&config, stream, NoTls, notices).await;
                };
                let host = ServerName::try_from(address.clone()).map_err(|error| {
                    Fault::caused(
                        Kind::Setup,
                        format!("\"{address}\" is no name that TLS can verify"),
                        error,
                    )
                })?;
                config.ssl_mode(SslMode::Require);
                self.start(&config, stream, Tls { config: tls, host }, notices).await
            }
        }
    }

    async fn start<S, T>(
        &self,
        config: &Config,
        stream: S,
        tls: T,
        notices: Option<mpsc::Sender<String>>,
    ) -> Result<Link, Fault>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        T: TlsConnect<S>,
        T::Stream: Send + 'static,
    {
        let (client, connection) = config.connect_raw(stream, tls).await?;
        let driver = self.executor.spawn(drive(connection, notices)).abort_handle();
        Ok(Link {
            client,
            prepared: Prepared::default(),
            driver,
        })
    }

    /// Sets the session's limits, and tells whether the server takes writes; refuses one that does not if that is needed.
    async fn set_up(&self, client: &Client) -> Result<bool, Fault> {
        let limit = self.settings.statement_timeout.as_millis();
        let limits = if self.settings.listen {
            format!(
                "SET statement_timeout = {limit}; SET lock_timeout = {}; SET idle_in_transaction_session_timeout = {}; \
                 SET client_min_messages = warning;",
                limit * 3 / 4,
                limit * 3,
            )
        } else {
            // Behind a pooler the session is not ours alone.
            String::new()
        };
        let answers = client
            .simple_query(&format!("{limits} SELECT current_setting('transaction_read_only')"))
            .await?;
        let read_only = answers.iter().any(|answer| match answer {
            SimpleQueryMessage::Row(row) => row.get(0) == Some("on"),
            _ => false,
        });
        if read_only && !self.reads {
            return Err(Fault::new(
                Kind::Later,
                "this PostgreSQL server is read-only, a standby or fenced: name the primary in the location, or several hosts",
            ));
        }
        Ok(!read_only)
    }
}

/// Reads and writes for a client until it is dropped; what the server says unasked goes where it is wanted.
async fn drive<S, T>(mut connection: Connection<S, T>, notices: Option<mpsc::Sender<String>>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    let mut messages = stream::poll_fn(|context| connection.poll_message(context));
    while let Some(message) = messages.next().await {
        match message {
            Ok(AsyncMessage::Notification(notification)) => {
                if let Some(notices) = &notices {
                    // A full channel has enough to wake everybody.
                    let _full = notices.try_send(notification.payload().to_owned());
                }
            }
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(%error, "a connection to PostgreSQL ended");
                return;
            }
        }
    }
}

/// A channel for notifications, bounded.
pub(crate) fn notices() -> (mpsc::Sender<String>, mpsc::Receiver<String>) {
    mpsc::channel(NOTIFICATIONS)
}

fn socket(directory: &Path, port: u16) -> std::path::PathBuf {
    directory.join(format!(".s.PGSQL.{port}"))
}

fn name(host: &Host, port: u16) -> String {
    match host {
        Host::Tcp(name) => format!("{name}:{port}"),
        Host::Unix(directory) => socket(directory, port).display().to_string(),
    }
}
