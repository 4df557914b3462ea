//! Configuration in PostgreSQL: the provider, and how a location opens one. What the table looks like and how it is written
//! stands in [`crate::config`].

mod rows;
mod settings;
mod watch;

use std::sync::Arc;

use async_trait::async_trait;
use plba_contracts::BoxError;
use plba_contracts::config::{ConfigBackend, ConfigProvider, Location, ProvidedValue};
use tokio::sync::Mutex;
use tokio::time::timeout;

use self::rows::Mark;
use self::watch::PostgresEye;
use super::fault::{Fault, Kind};
use super::link::Target;
use super::settings::PostgresSettings;
use crate::config::{LIMIT, News, Watcher};

/// Configuration in PostgreSQL: `postgres://USER:PASSWORD@HOST:PORT/DATABASE`, with the parameters `create`, `schema`, `listen`,
/// `poll`, `statement_timeout`, `sslmode`, `sslrootcert`, `application_name` and `options` of
/// [`PostgresSettings`](super::PostgresSettings). [`crate::config`] tells what the table looks like, how it is written, and
/// who may read it.
///
/// Besides one connection for each reading there is one that waits for changes.
#[derive(Clone, Copy, Debug, Default)]
pub struct PostgresConfigBackend;

impl ConfigBackend for PostgresConfigBackend {
    fn schemes(&self) -> &'static [&'static str] {
        &["postgres", "postgresql"]
    }

    fn open(&self, location: &Location) -> Result<Arc<dyn ConfigProvider>, BoxError> {
        Ok(Arc::new(PostgresConfig::new(settings::read(location)?)))
    }
}

/// The provider. Opens nothing before it is asked.
struct PostgresConfig {
    name: String,
    settings: PostgresSettings,
    /// Whether a table that is missing is made.
    create: bool,
    news: News<Mark>,
    watcher: Mutex<Watcher<PostgresEye>>,
}

impl PostgresConfig {
    fn new((settings, create): (PostgresSettings, bool)) -> Self {
        Self {
            name: settings::name(&settings),
            news: News::new(),
            watcher: Mutex::new(Watcher::new(PostgresEye::new(settings.clone()))),
            settings,
            create,
        }
    }
}

/// Where connections go. Made anew for each purpose: they run on the runtime of whoever asks, and certificates may have
/// been replaced.
async fn target(settings: PostgresSettings) -> Result<Target, Fault> {
    // Reads the authorities' certificates.
    let making = tokio::task::spawn_blocking(move || Target::reader(settings));
    let stopping = |error| Fault::caused(Kind::Later, "the program is stopping", error);
    making.await.map_err(stopping)?
}

#[async_trait]
impl ConfigProvider for PostgresConfig {
    fn name(&self) -> &str {
        &self.name
    }

    async fn load(&self) -> Result<Vec<ProvidedValue>, BoxError> {
        let loading = self.news.loading();
        let reading = async {
            let target = target(self.settings.clone()).await?;
            let link = target.connect(None).await?;
            // Once it was there, it is never made again.
            let make = self.create && !self.news.is_known();
            rows::read(&link.client, &self.settings.schema, make).await
        };
        let late = || {
            let text = format!(
                "PostgreSQL did not answer within {} s: look for locks and load on the server",
                LIMIT.as_secs()
            );
            Fault::new(Kind::Later, text)
        };
        let read = timeout(LIMIT, reading).await.map_err(|_| late())?;
        // In one sentence: not everybody prints what lies behind an error.
        let (mark, rows) = read.map_err(|fault| fault.again())?;
        Ok(loading.layer(mark, rows)?)
    }

    async fn changed(&self) {
        self.watcher.lock().await.watch(&self.news, &self.name).await;
    }
}
