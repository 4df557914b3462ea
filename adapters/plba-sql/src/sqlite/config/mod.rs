//! Configuration in an SQLite file: the provider, and how a location opens one. What the table looks like and how it is
//! written stands in [`crate::config`].

mod file;
mod settings;
mod watch;

use std::sync::Arc;

use async_trait::async_trait;
use plba_contracts::BoxError;
use plba_contracts::config::{ConfigBackend, ConfigProvider, Location, ProvidedValue};
use tokio::sync::Mutex;
use tokio::time::timeout;

use self::settings::Settings;
use self::watch::SqliteEye;
use crate::config::{LIMIT, News, Watcher};
use crate::sqlite::failure::Failure;

/// Configuration in an SQLite file: `sqlite:PATH`, with the parameters `poll`, how often it is looked for changes, in
/// milliseconds, and `create`. [`crate::config`] tells what the table looks like, how it is written, and who may read it.
///
/// With `create=on` a file that is missing is made; its directory has to exist. What is read besides, a queue or orders, may be
/// in the same file.
#[derive(Clone, Copy, Debug, Default)]
pub struct SqliteConfigBackend;

impl ConfigBackend for SqliteConfigBackend {
    fn schemes(&self) -> &'static [&'static str] {
        &["sqlite"]
    }

    fn open(&self, location: &Location) -> Result<Arc<dyn ConfigProvider>, BoxError> {
        Ok(Arc::new(SqliteConfig::new(Settings::read(location)?)))
    }
}

/// The provider. Opens nothing before it is asked.
struct SqliteConfig {
    name: String,
    settings: Settings,
    news: News<u64>,
    watcher: Mutex<Watcher<SqliteEye>>,
    /// Held while a thread reads: a disk that hangs costs one thread, and not one for each try.
    reading: Arc<Mutex<()>>,
}

impl SqliteConfig {
    fn new(settings: Settings) -> Self {
        Self {
            name: format!("SQLite {}", settings.path.display()),
            news: News::new(),
            watcher: Mutex::new(Watcher::new(SqliteEye::new(settings.clone()))),
            reading: Arc::default(),
            settings,
        }
    }
}

#[async_trait]
impl ConfigProvider for SqliteConfig {
    fn name(&self) -> &str {
        &self.name
    }

    async fn load(&self) -> Result<Vec<ProvidedValue>, BoxError> {
        let loading = self.news.loading();
        let reading = async {
            let turn = Arc::clone(&self.reading).lock_owned().await;
            // Once it was there, it is never made again.
            let create = self.settings.create && !self.news.is_known();
            let path = self.settings.path.clone();
            let reading = tokio::task::spawn_blocking(move || {
                let read = file::read(&path, create);
                drop(turn);
                read
            });
            reading.await.unwrap_or_else(|_| Err(Failure::closed()))
        };
        let late = || {
            let path = self.settings.path.display();
            let limit = LIMIT.as_secs();
            Failure::new(format!(
                "{path} could not be read within {limit} s: look whether its disk answers"
            ))
        };
        let (mark, rows) = timeout(LIMIT, reading).await.unwrap_or_else(|_| Err(late()))?;
        Ok(loading.layer(mark, rows)?)
    }

    async fn changed(&self) {
        self.watcher.lock().await.watch(&self.news, &self.name).await;
    }
}
