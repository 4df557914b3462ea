//! A folder of an IMAP account as a source of tasks: life with reconnects, pauses and refused credentials. What happens
//! within one connection is in `shift`.

#[cfg(test)]
mod after_tests;
#[cfg(test)]
mod break_tests;
mod caution;
mod credentials;
mod cursor;
mod dead;
mod glimpse;
#[cfg(test)]
mod idle_tests;
mod park;
mod preview;
mod shift;
mod status;
mod take_in;
mod tell;
#[cfg(test)]
mod tests;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use plba_contracts::health::Health;
use plba_contracts::secret::Secret;
use plba_contracts::stop::StopSignal;
use plba_net::{Backoff, TlsError};
use plba_tasks::intake::{Intake, IntakeError};
use plba_tasks::source::{SourceError, SourceStatus, TaskSource};
use tokio::time::{Instant, sleep};
use tracing::{error, info, warn};

use self::shift::Shift;
use self::status::Shown;
pub use self::status::{ConnectionState, ConnectionStatus};
use super::connect::{Dial, Network};
use super::{Account, ImapError, NextMove};
use crate::board::Board;
use crate::completions::{Completions, pump};
use crate::location::{ImapLocation, Mechanism, TokenSource};
use crate::parked::Parked;
use crate::settings::SourceSettings;

/// How often refused credentials are tried before the source stops trying.
const CREDENTIAL_TRIES: u32 = 3;

/// How many failures in a row make the source unhealthy instead of degraded.
const UNHEALTHY_AFTER: u32 = 5;

/// How long a stop waits for a command that is under way.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// Watches one folder, by polling or by IDLE, publishes its messages and marks them as seen once they are done.
///
/// The cursor decides what is new, not the `\Seen` flag: a message that somebody else has read is taken in all the same.
/// It uses one connection at a time.
pub struct ImapSource {
    location: ImapLocation,
    name: String,
    settings: SourceSettings,
    board: Board,
    shown: Shown,
    dial: Arc<dyn Dial>,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Mail(#[from] ImapError),
    #[error(transparent)]
    Intake(#[from] IntakeError),
    #[error("{0}")]
    SetUp(String),
    #[error("told to stop")]
    Stopped,
}

impl ImapSource {
    /// A source for this folder. Nothing is opened before it runs.
    pub fn new(location: ImapLocation, settings: SourceSettings) -> Self {
        ImapSource {
            name: location.name(),
            board: Board::new(Arc::clone(&settings.clock)),
            shown: Shown::default(),
            location,
            settings,
            dial: Arc::new(Network),
        }
    }

    /// The same source over another kind of connection.
    #[cfg(test)]
    fn over(mut self, dial: Arc<dyn Dial>) -> Self {
        self.dial = dial;
        self
    }

    /// The source's stable name: account and folder.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn board(&self) -> &Board {
        &self.board
    }

    pub(crate) fn parked(&self) -> Option<&Parked> {
        self.settings.parked.as_ref()
    }

    /// How its connection is, from memory.
    pub fn connection(&self) -> ConnectionStatus {
        self.shown.snapshot()
    }

    /// Account data for one connection. Files are read anew each time, so that rotated passwords and authorities are used.
    async fn account(&self) -> Result<Account, Fault> {
        let authentication = credentials::read(&self.location, &self.settings)
            .await
            .map_err(Fault::SetUp)?;
        let (location, settings) = (self.location.clone(), self.settings.clone());
        let read = move || {
            let tls = match location.encrypted {
                true => {
                    let mut tls = location.tls.clone();
                    tls.ca = tls.ca.map(|path| settings.directory.join(path));
                    Some(tls.client_config().map_err(|error: TlsError| error.to_string())?)
                }
                false => None,
            };
            Ok(Account {
                host: location.host,
                port: location.port,
                tls,
                authentication,
                connect: settings.connect,
                timing: settings.timing,
            })
        };
        let read = tokio::task::spawn_blocking(read).await;
        read.map_err(|error| Fault::SetUp(error.to_string()))?
            .map_err(Fault::SetUp)
    }

    /// Connects again and again until told to stop; only faults of our own side end it.
    async fn work(&self, intake: &Intake, completions: Completions, stop: &StopSignal) -> Result<(), SourceError> {
        let random = self
            .settings
            .seed
            .map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed);
        let mut backoff = Backoff::new(self.settings.backoff, random);
        let mut shift = Shift::new(self, intake, stop, completions);
        let mut refused = 0;
        let mut refreshed = false;
        loop {
            let fault = match shift.run().await {
                Ok(()) | Err(Fault::Stopped) => return Ok(()),
                Err(Fault::Intake(error)) => return Err(error.into()),
                Err(fault) => fault,
            };
            self.shown.state(ConnectionState::Closed);
            if let Some(since) = shift.take_connected() {
                backoff.connected(since.into_std());
                refused = 0;
                refreshed = false;
            }
            // A token may have expired since it was written: a fresh one is tried at once, and only once.
            let expired = matches!(fault, Fault::Mail(ImapError::Credentials { .. }));
            if expired && self.location.mechanism == Mechanism::XOAuth2 && !refreshed {
                refreshed = true;
                self.show(&fault, backoff.failures(), Duration::ZERO);
                continue;
            }
            let next = match &fault {
                Fault::Mail(error) => error.next_move(),
                _ => NextMove::Reconnect,
            };
            let mut wait = backoff.failed(Instant::now().into_std());
            match next {
                NextMove::Pause(asked) => wait = wait.max(asked.unwrap_or_default()),
                NextMove::AskOperator => refused += 1,
                NextMove::Reconnect | NextMove::RetryLater => {}
            }
            if refused >= CREDENTIAL_TRIES {
                self.wait_for_other_credentials(&fault, stop).await;
                refused = 0;
                continue;
            }
            self.show(&fault, backoff.failures(), wait);
            tokio::select! {
                () = sleep(wait) => {}
                () = stop.requested() => return Ok(()),
            }
        }
    }

    fn show(&self, fault: &Fault, failures: u32, wait: Duration) {
        let text = format!("{fault}; next try in {:.1} s", wait.as_secs_f64());
        warn!(source = self.name, failures, "{text}");
        let for_operators = matches!(
            fault,
            Fault::SetUp(_)
                | Fault::Mail(
                    ImapError::Credentials { .. }
                        | ImapError::NoFolder { .. }
                        | ImapError::ReadOnly { .. }
                        | ImapError::Unsupported { .. }
                )
        );
        self.board.failed(match for_operators || failures >= UNHEALTHY_AFTER {
            true => Health::unhealthy(text),
            false => Health::degraded(text),
        });
    }

    /// Stopped by refused credentials: more tries could lock the account. Only other credentials, in a password file that
    /// has changed, or a restart with another configuration end this.
    async fn wait_for_other_credentials(&self, fault: &Fault, stop: &StopSignal) {
        let text = format!(
            "stopped after {CREDENTIAL_TRIES} tries: {fault}; then restart, or change the password file or token"
        );
        error!(source = self.name, "{text}");
        self.board.failed(Health::unhealthy(text));
        let before = self.current_secret().await;
        let interval = match self.location.token {
            // Asking a program is not free, and it may count how often it is asked.
            Some(TokenSource::Command(_)) => self.location.common.interval.max(Duration::from_secs(60)),
            _ => self.location.common.interval,
        };
        loop {
            tokio::select! {
                () = sleep(interval) => {}
                () = stop.requested() => return,
            }
            let now = self.current_secret().await;
            if now.is_some() && now.as_ref().map(Secret::expose) != before.as_ref().map(Secret::expose) {
                info!(source = self.name, "the credentials have changed: trying again");
                return;
            }
        }
    }

    async fn current_secret(&self) -> Option<Secret> {
        let authentication = credentials::read(&self.location, &self.settings).await.ok()?;
        Some(authentication.secret().clone())
    }
}

#[async_trait]
impl TaskSource for ImapSource {
    async fn run(&self, intake: Intake, stop: StopSignal) -> Result<(), SourceError> {
        let (sender, completions) = Completions::channel();
        let grace = async {
            stop.requested().await;
            sleep(STOP_GRACE).await;
        };
        let ended = tokio::select! {
            biased;
            ended = Box::pin(self.work(&intake, completions, &stop)) => ended,
            error = pump(&intake, sender) => Err(error.into()),
            () = grace => Ok(()),
        };
        self.shown.state(ConnectionState::Closed);
        ended
    }

    fn status(&self) -> SourceStatus {
        self.board.snapshot()
    }
}
