//! One connection to a mail server: opened, made private, logged in, and the exchange of one mail on it. lettre speaks
//! SMTP; which command was under way when something failed is kept here, because it decides what follows.

use std::fmt::Debug;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use lettre::Address;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{
    AsyncSmtpConnection, AsyncTokioStream, Certificate, CertificateStore, TlsParameters,
};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt, Rset};
use lettre::transport::smtp::extension::{ClientId, Extension, MailBodyParameter, MailParameter};
use plba_contracts::secret::Secret;
use plba_net::{ClientConfig, ConnectSettings};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::error::SmtpError;
use super::location::{SmtpSettings, StartTls};

/// Limits of opening a connection.
const CONNECT: ConnectSettings = ConnectSettings {
    timeout: Duration::from_secs(20),
    keepalive: Duration::from_secs(60),
};

/// What connections to a server are made of.
pub(super) struct Target {
    pub(super) settings: SmtpSettings,
    pub(super) password: Option<Secret>,
    /// For connections that are encrypted from the first byte,
    implicit: Option<Arc<ClientConfig>>,
    /// and for those that become so.
    starttls: Option<TlsParameters>,
}

impl Target {
    /// Reads the authorities' certificates: blocks for a moment.
    pub(super) fn new(settings: SmtpSettings, password: Option<Secret>) -> Result<Self, SmtpError> {
        let setup = |problem: String| SmtpError::Setup {
            host: settings.host.clone(),
            problem,
        };
        let implicit = settings.encrypted.then(|| settings.tls.client_config()).transpose();
        let implicit = implicit.map_err(|error| setup(error.to_string()))?;
        let starttls = !settings.encrypted && settings.starttls == StartTls::Required;
        let starttls = starttls.then(|| parameters(&settings)).transpose().map_err(setup)?;
        Ok(Self {
            settings,
            password,
            implicit,
            starttls,
        })
    }

    /// Opens a connection and logs in.
    pub(super) async fn open(&self) -> Result<AsyncSmtpConnection, SmtpError> {
        let settings = &self.settings;
        let (host, port) = (settings.host.as_str(), settings.port);
        let stream: Box<dyn AsyncTokioStream> = match &self.implicit {
            Some(tls) => Box::new(Encrypted(
                plba_net::connect_tls(host, port, Arc::clone(tls), CONNECT).await?,
            )),
            None => Box::new(plba_net::connect(host, port, CONNECT).await?),
        };
        let hello = ClientId::Domain(settings.hello.clone());
        let mut connection = AsyncSmtpConnection::connect_with_transport(stream, &hello)
            .await
            .map_err(|error| self.unfit(&error))?;
        if let Some(parameters) = &self.starttls {
            if !connection.can_starttls() {
                return Err(SmtpError::Setup {
                    host: host.to_owned(),
                    problem: "it offers no STARTTLS, and nothing is sent unencrypted".to_owned(),
                });
            }
            let upgraded = connection.starttls(parameters.clone(), &hello).await;
            upgraded.map_err(|error| self.unfit(&error))?;
        }
        if let Some(user) = &settings.user {
            let password = self.password().await?;
            let credentials = Credentials::new(user.clone(), password);
            let logged_in = connection
                .auth(&[Mechanism::Plain, Mechanism::Login], &credentials)
                .await;
            logged_in.map_err(|error| self.unfit(&error))?;
        }
        Ok(connection)
    }

    async fn password(&self) -> Result<String, SmtpError> {
        let Some(file) = &self.settings.password_file else {
            return Ok(self
                .password
                .as_ref()
                .map(|secret| secret.expose().to_owned())
                .unwrap_or_default());
        };
        let read = tokio::fs::read_to_string(file).await;
        let text = read.map_err(|error| SmtpError::Password {
            file: file.display().to_string(),
            problem: error.to_string(),
        })?;
        Ok(text.lines().next().unwrap_or_default().to_owned())
    }

    /// What was said before any mail was spoken of is about us.
    fn unfit(&self, error: &Error) -> SmtpError {
        let problem = plba_contracts::describe(error);
        // A server that is busy says so by 421 or 45x; one that refuses to talk to us by 5xx.
        if error.is_permanent() || error.is_client() || error.is_tls() {
            let host = self.settings.host.clone();
            return SmtpError::Setup { host, problem };
        }
        match error.is_transient() {
            true => SmtpError::Later { answer: problem },
            false => SmtpError::Broken { problem },
        }
    }
}

/// Hands over one mail. Gives what the server said, and whether the connection may carry another one.
pub(super) async fn exchange(
    connection: &mut AsyncSmtpConnection,
    from: &Address,
    to: &Address,
    message: &[u8],
) -> (Result<String, SmtpError>, bool) {
    let server = connection.server_info();
    let mut parameters = Vec::new();
    if !from.to_string().is_ascii() || !to.to_string().is_ascii() {
        if !server.supports_feature(Extension::SmtpUtfEight) {
            let answer = format!("the server takes no address like {to} (SMTPUTF8)");
            return (Err(SmtpError::Refused { answer }), true);
        }
        parameters.push(MailParameter::SmtpUtfEight);
    }
    if !message.is_ascii() && server.supports_feature(Extension::EightBitMime) {
        parameters.push(MailParameter::Body(MailBodyParameter::EightBitMime));
    }
    let envelope = async {
        connection.command(Mail::new(Some(from.clone()), parameters)).await?;
        connection.command(Rcpt::new(to.clone(), Vec::new())).await?;
        connection.command(Data).await
    };
    if let Err(error) = envelope.await {
        let (error, usable) = before_the_end(&error);
        // What was begun is given up, so that the next mail begins anew.
        let usable = usable && connection.command(Rset).await.is_ok();
        return (Err(error), usable);
    }
    match connection.message(message).await {
        Ok(answer) => (Ok(answer.message().collect::<Vec<_>>().join(" ")), true),
        Err(error) if error.status().is_some() => {
            let (error, usable) = before_the_end(&error);
            (Err(error), usable)
        }
        Err(error) => {
            let problem = plba_contracts::describe(&error);
            (Err(SmtpError::Unknown { problem }), false)
        }
    }
}

/// What an error means before the last line of a mail, and whether the connection is still of use.
fn before_the_end(error: &Error) -> (SmtpError, bool) {
    let said = plba_contracts::describe(error);
    let Some(code) = error.status().map(u16::from) else {
        return (SmtpError::Broken { problem: said }, false);
    };
    match code {
        // The server goes away, whatever was asked.
        421 => (SmtpError::Later { answer: said }, false),
        // It wants a login or encryption: that is about us and not about the mail.
        530 | 534 | 535 | 538 => (SmtpError::Later { answer: said }, false),
        500.. => (SmtpError::Refused { answer: said }, true),
        _ => (SmtpError::Later { answer: said }, true),
    }
}

fn parameters(settings: &SmtpSettings) -> Result<TlsParameters, String> {
    let mut builder = TlsParameters::builder(settings.host.clone());
    if settings.tls.only_ca {
        builder = builder.certificate_store(CertificateStore::None);
    }
    if let Some(file) = &settings.tls.ca {
        let pem =
            std::fs::read(file).map_err(|error| format!("the CA file {} can't be read: {error}", file.display()))?;
        let certificate = Certificate::from_pem(&pem);
        let certificate = certificate.map_err(|error| format!("the CA file {}: {error}", file.display()))?;
        builder = builder.add_root_certificate(certificate);
    }
    builder.build().map_err(|error| plba_contracts::describe(&error))
}

/// A stream that is encrypted already, as lettre takes it.
#[derive(Debug)]
struct Encrypted<S>(S);

impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin + Debug> AsyncTokioStream for Encrypted<S> {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Err(io::Error::other("an encrypted stream does not tell where it leads"))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Encrypted<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Encrypted<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
