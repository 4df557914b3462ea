//! The sender: one connection at a time, reused while it is fresh, and a deadline over everything.

use std::fmt;
use std::time::Duration;

use lettre::Address;
use lettre::transport::smtp::client::AsyncSmtpConnection;
use plba_contracts::secret::Secret;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::connection::{Target, exchange};
use super::error::SmtpError;
use super::location::SmtpSettings;

/// A connection that was used less long ago than this is taken to be there still.
const FRESH: Duration = Duration::from_secs(1);

/// Hands mails over to a server, one at a time.
pub struct SmtpSender {
    target: Target,
    held: Mutex<Option<Held>>,
}

/// A connection between two mails.
struct Held {
    connection: AsyncSmtpConnection,
    used: Instant,
    mails: u32,
}

impl fmt::Debug for SmtpSender {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("SmtpSender")
            .field("host", &self.target.settings.host)
            .finish_non_exhaustive()
    }
}

impl SmtpSender {
    /// Prepares a sender; connects to nobody yet. Reads the authorities' certificates, which blocks for a moment.
    ///
    /// # Errors
    /// TLS can't be set up.
    pub fn new(settings: SmtpSettings, password: Option<Secret>) -> Result<Self, SmtpError> {
        Ok(Self {
            target: Target::new(settings, password)?,
            held: Mutex::new(None),
        })
    }

    /// Hands over one mail, and gives what the server said. Who else sends at this moment waits.
    ///
    /// # Errors
    /// [`SmtpError`]; all but `Refused` may pass by themselves.
    ///
    /// # Cancel safety
    /// A dropped call closes its connection. Whether the mail was taken is then as unknown as after
    /// [`SmtpError::Unknown`].
    pub async fn send(&self, from: &str, to: &str, message: &[u8]) -> Result<String, SmtpError> {
        let limit = self.target.settings.timeout;
        let mut held = self.held.lock().await;
        match timeout(limit, self.hand_over(&mut held, from, to, message)).await {
            Ok(result) => result,
            Err(_) => Err(SmtpError::Unknown {
                problem: format!("{} took longer than {} s", self.target.settings.host, limit.as_secs()),
            }),
        }
    }

    async fn hand_over(
        &self,
        held: &mut Option<Held>,
        from: &str,
        to: &str,
        message: &[u8],
    ) -> Result<String, SmtpError> {
        let (from, to) = (address(from)?, address(to)?);
        // Taken out: whoever drops this call in the middle leaves no half-spoken connection.
        let mut current = match held.take() {
            Some(current) => self.still_good(current).await,
            None => None,
        };
        let mut current = match current.take() {
            Some(current) => current,
            None => Held {
                connection: self.target.open().await?,
                used: Instant::now(),
                mails: 0,
            },
        };
        let (result, usable) = exchange(&mut current.connection, &from, &to, message).await;
        current.used = Instant::now();
        current.mails += 1;
        if usable && current.mails < self.target.settings.messages {
            *held = Some(current);
        } else if usable {
            // A word of farewell; who does not answer is left.
            let _ = timeout(FRESH, current.connection.quit()).await;
        }
        result
    }

    /// The connection, if the server is still at its other end. It is asked before a mail is begun, never after.
    async fn still_good(&self, mut held: Held) -> Option<Held> {
        let age = held.used.elapsed();
        if age > self.target.settings.idle {
            return None;
        }
        let good = age < FRESH || held.connection.test_connected().await;
        good.then_some(held)
    }
}

fn address(text: &str) -> Result<Address, SmtpError> {
    text.parse().map_err(|_| SmtpError::Refused {
        answer: format!("{text:?} is not a mail address"),
    })
}
