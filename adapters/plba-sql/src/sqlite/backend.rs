//! Choosing SQLite by a location: `sqlite:var/queue.db`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use plba_contracts::BoxError;
use plba_contracts::config::Location;
use plba_contracts::lease::Lease;
use plba_tasks::backend::{BackendContext, QueueBackend};
use plba_tasks::ledger::SourceLedger;
use plba_tasks::queue::TaskQueue;
use tokio::sync::Mutex;

use super::database::Database;
use super::lease::SqliteLease;
use super::ledger::SqliteLedger;
use super::queue::{SqliteTaskQueue, open_database};
use super::settings::SqliteSettings;

/// The backend in SQLite files. A queue and a ledger that are opened by one value of it share one writer, and with it
/// their transactions; so open both by the same.
#[derive(Default)]
pub struct SqliteBackend {
    open: Mutex<HashMap<PathBuf, Weak<Database>>>,
}

impl SqliteBackend {
    async fn database(&self, location: &Location, context: &BackendContext) -> Result<Arc<Database>, BoxError> {
        let mut settings = SqliteSettings::read(location)?;
        settings.seed = context.seed;
        let path = absolute(&settings.path);
        // Held while it opens: two who ask at once get one database.
        let mut open = self.open.lock().await;
        open.retain(|_, database| database.strong_count() > 0);
        if let Some(database) = open.get(&path).and_then(Weak::upgrade)
            && database.shared.settings == settings
        {
            return Ok(database);
        }
        let database = Arc::new(open_database(settings, Arc::clone(&context.clock)).await?);
        open.insert(path, Arc::downgrade(&database));
        Ok(database)
    }
}

/// One name for a file, however it is written.
fn absolute(path: &Path) -> PathBuf {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let directory = whole.parent().and_then(|directory| directory.canonicalize().ok());
    match (directory, whole.file_name()) {
        (Some(directory), Some(name)) => directory.join(name),
        _ => whole,
    }
}

#[async_trait]
impl QueueBackend for SqliteBackend {
    fn schemes(&self) -> &'static [&'static str] {
        &["sqlite"]
    }

    async fn open(&self, location: &Location, context: BackendContext) -> Result<Arc<dyn TaskQueue>, BoxError> {
        let database = self.database(location, &context).await?;
        Ok(Arc::new(SqliteTaskQueue::of(database)))
    }

    async fn open_ledger(
        &self,
        location: &Location,
        context: BackendContext,
    ) -> Result<Option<Arc<dyn SourceLedger>>, BoxError> {
        let database = self.database(location, &context).await?;
        Ok(Some(Arc::new(SqliteLedger::of(database).await?)))
    }

    async fn open_leases(
        &self,
        location: &Location,
        context: BackendContext,
    ) -> Result<Option<Arc<dyn Lease>>, BoxError> {
        let path = SqliteSettings::read(location)?.path;
        let opening = tokio::task::spawn_blocking(move || SqliteLease::open(&path, context.clock));
        Ok(Some(Arc::new(opening.await??)))
    }
}
