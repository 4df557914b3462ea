//! Redis as a backend that is chosen by a location.

use std::sync::Arc;

use async_trait::async_trait;
use plba_contracts::BoxError;
use plba_contracts::config::Location;
use plba_contracts::lease::Lease;
use plba_tasks::backend::{BackendContext, QueueBackend};
use plba_tasks::ledger::SourceLedger;
use plba_tasks::queue::TaskQueue;

use crate::lease::RedisLease;
use crate::ledger::RedisLedger;
use crate::link::Shared;
use crate::queue::RedisTaskQueue;
use crate::settings::{RedisSettings, SCHEMES};

/// Queues and ledgers on Redis: `redis://host`, over TLS `rediss://host`, by sentinels `redis+sentinel://host,host/name`, in a
/// cluster `redis+cluster://host,host`. Time is the server's, whatever the context's clock says.
#[derive(Clone, Copy, Debug, Default)]
pub struct RedisBackend;

#[async_trait]
impl QueueBackend for RedisBackend {
    fn schemes(&self) -> &'static [&'static str] {
        SCHEMES
    }

    async fn open(&self, location: &Location, context: BackendContext) -> Result<Arc<dyn TaskQueue>, BoxError> {
        let shared = Shared::new(RedisSettings::read(location)?, None)?;
        let seed = context.seed.unwrap_or_else(|| fastrand::u64(..));
        Ok(Arc::new(RedisTaskQueue::open_with(shared, seed).await?))
    }

    async fn open_ledger(
        &self,
        location: &Location,
        context: BackendContext,
    ) -> Result<Option<Arc<dyn SourceLedger>>, BoxError> {
        let shared = Shared::new(RedisSettings::read(location)?, None)?;
        let seed = context.seed.unwrap_or_else(|| fastrand::u64(..));
        Ok(Some(Arc::new(RedisLedger::open_with(shared, seed).await?)))
    }

    async fn open_leases(&self, location: &Location, _: BackendContext) -> Result<Option<Arc<dyn Lease>>, BoxError> {
        Ok(Some(Arc::new(RedisLease::open(RedisSettings::read(location)?).await?)))
    }
}
