//! Opening a queue, and the ledger and leases that go with it, by a `postgres:` location.

use std::sync::Arc;

use async_trait::async_trait;
use plba_contracts::BoxError;
use plba_contracts::config::Location;
use plba_contracts::lease::Lease;
use plba_tasks::backend::{BackendContext, QueueBackend};
use plba_tasks::ledger::SourceLedger;
use plba_tasks::queue::TaskQueue;

use super::lease::PostgresLease;
use super::ledger::PostgresLedger;
use super::queue::PostgresTaskQueue;
use super::settings::PostgresSettings;

/// The backend in PostgreSQL: `postgres://USER:PASSWORD@HOST:PORT/DATABASE`, with the query parameters of
/// [`PostgresSettings`]. The time is the server's; the context's clock and ledger are not used.
#[derive(Clone, Copy, Debug, Default)]
pub struct PostgresBackend;

#[async_trait]
impl QueueBackend for PostgresBackend {
    fn schemes(&self) -> &'static [&'static str] {
        &["postgres", "postgresql"]
    }

    async fn open(&self, location: &Location, _: BackendContext) -> Result<Arc<dyn TaskQueue>, BoxError> {
        let settings = PostgresSettings::from_location(location)?;
        Ok(Arc::new(PostgresTaskQueue::open(settings).await?))
    }

    async fn open_ledger(
        &self,
        location: &Location,
        _: BackendContext,
    ) -> Result<Option<Arc<dyn SourceLedger>>, BoxError> {
        let settings = PostgresSettings::from_location(location)?;
        Ok(Some(Arc::new(PostgresLedger::open(settings).await?)))
    }

    async fn open_leases(&self, location: &Location, _: BackendContext) -> Result<Option<Arc<dyn Lease>>, BoxError> {
        let settings = PostgresSettings::from_location(location)?;
        Ok(Some(Arc::new(PostgresLease::open(settings).await?)))
    }
}
