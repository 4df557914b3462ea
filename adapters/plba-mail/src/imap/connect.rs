//! From an account's settings to a logged-in session.

use std::sync::Arc;

use plba_net::{ClientConfig, ConnectSettings, connect, connect_tls};

use super::error::ImapError;
use super::session::{Authentication, ImapSession, Timing};
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

impl Account {
    /// Connects and logs in.
    ///
    /// # Errors
    /// [`ImapError::Connect`] if there is no connection, otherwise those of [`ImapSession::open`].
    ///
    /// # Cancel safety
    /// Dropping the future closes what was opened.
    pub async fn log_in(&self) -> Result<ImapSession, ImapError> {
        let stream: Box<dyn ByteStream> = match &self.tls {
            Some(tls) => Box::new(connect_tls(&self.host, self.port, Arc::clone(tls), self.connect).await?),
            None => Box::new(connect(&self.host, self.port, self.connect).await?),
        };
        ImapSession::open(stream, &self.authentication, self.timing).await
    }
}
