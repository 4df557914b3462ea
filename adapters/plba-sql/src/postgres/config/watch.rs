//! Watching the table: a connection that listens where the server can tell, and looks where it can't.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_postgres::error::SqlState;

use super::rows::{self, Mark};
use super::target;
use crate::config::Eye;
use crate::postgres::fault::{Fault, Kind};
use crate::postgres::link::{Link, notices};
use crate::postgres::settings::PostgresSettings;

/// How often it is looked where the server tells: a connection may be dead without a sign.
const CHECK: Duration = Duration::from_secs(30);

/// Looks at one table.
pub(super) struct PostgresEye {
    settings: PostgresSettings,
    listener: Option<Listener>,
}

struct Listener {
    link: Link,
    signs: mpsc::Receiver<String>,
    /// Whether the server tells of changes.
    told: bool,
}

impl PostgresEye {
    pub(super) fn new(settings: PostgresSettings) -> Self {
        Self {
            settings,
            listener: None,
        }
    }

    async fn open(&self) -> Result<Listener, Fault> {
        let (sender, signs) = notices();
        let target = target(self.settings.clone()).await?;
        let link = target.connect(Some(sender)).await?;
        let told = self.settings.listen && {
            let asking = listen(&link, &self.settings.schema);
            timeout(self.settings.deadline(), asking)
                .await
                .map_err(|_| self.late())??
        };
        Ok(Listener { link, signs, told })
    }

    async fn mark(&mut self) -> Result<Mark, Fault> {
        if self.listener.as_ref().is_none_or(|listener| listener.link.is_closed()) {
            self.listener = None;
            self.listener = Some(self.open().await?);
        }
        let Some(listener) = &mut self.listener else {
            return Err(self.late());
        };
        // What was told up to now is seen by this look.
        while listener.signs.try_recv().is_ok() {}
        let looking = rows::mark(&listener.link.client, &self.settings.schema);
        let looked = timeout(self.settings.deadline(), looking).await;
        looked.unwrap_or_else(|_| Err(self.late()))
    }

    fn late(&self) -> Fault {
        let limit = self.settings.deadline().as_secs();
        Fault::new(Kind::Connection, format!("PostgreSQL did not answer within {limit} s"))
    }
}

/// Asks to be told of changes; `false` where the server can't.
async fn listen(link: &Link, schema: &str) -> Result<bool, Fault> {
    match link.client.batch_execute(&format!("LISTEN \"{schema}_config\"")).await {
        Ok(()) => Ok(true),
        // A standby.
        Err(error) if error.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

impl Eye for PostgresEye {
    type Mark = Mark;
    type Blindness = Fault;

    async fn look(&mut self) -> Result<Mark, Fault> {
        let seen = self.mark().await;
        if seen.is_err() {
            // Whatever it was: a fresh connection has the better chances.
            self.listener = None;
        }
        seen.map_err(|fault| fault.again())
    }

    async fn wait(&mut self, until: Instant) {
        match &mut self.listener {
            // Closed, it is a sign as well.
            Some(listener) if listener.told => _ = timeout_at(until, listener.signs.recv()).await,
            _ => sleep_until(until).await,
        }
    }

    fn interval(&self) -> Duration {
        match &self.listener {
            Some(listener) if listener.told => CHECK,
            _ => self.settings.poll,
        }
    }
}
