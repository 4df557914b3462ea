//! From an account's settings to a logged-in session.

use std::sync::Arc;

use async_trait::async_trait;
use plba_net::{ClientConfig, ConnectSettings, connect, connect_tls};

use super::error::ImapError;
use super::login::Authentication;
use super::session::{ImapSession, Timing};
use super::wire::ByteStream;

/// Where an account lives and how to get in.
#[derive(Debug, Clone)]
pub struct Account {
    /// The server's name or address.
    pub host: String,
    /// Its port: 993 for TLS, 143 without, as a rule.
    pub port: u16,
    /// The TLS configuration; without one the connection is not encrypted.
    pub tls: Option<Arc<ClientConfig>>,
    /// Who we are.
    pub authentication: Authentication,
    /// Limits of connecting.
    pub connect: ConnectSettings,
    /// Limits of the session.
    pub timing: Timing,
}

/// Opens the streams that sessions run over: the network, or a script in tests.
#[async_trait]
pub(crate) trait Dial: Send + Sync {
    async fn dial(&self, account: &Account) -> Result<Box<dyn ByteStream>, ImapError>;
}

/// Dials over TCP, with TLS if the account has it.
pub(crate) struct Network;

#[async_trait]
impl Dial for Network {
    async fn dial(&self, account: &Account) -> Result<Box<dyn ByteStream>, ImapError> {
        let (host, port) = (&account.host, account.port);
        Ok(match &account.tls {
            Some(tls) => Box::new(connect_tls(host, port, Arc::clone(tls), account.connect).await?),
            None => Box::new(connect(host, port, account.connect).await?),
        })
    }
}

impl Account {
    /// Connects and logs in.
    ///
    /// # Errors
    /// [`ImapError::Connect`] if there is no connection, otherwise those of [`ImapSession::open`].
    ///
    /// # Cancel safety
    /// Dropping the future closes what was opened.
    pub async fn log_in(&self) -> Result<ImapSession, ImapError> {
        self.log_in_over(&Network).await
    }

    pub(crate) async fn log_in_over(&self, dial: &dyn Dial) -> Result<ImapSession, ImapError> {
        let stream = dial.dial(self).await?;
        ImapSession::open(stream, &self.authentication, self.timing).await
    }
}
