//! What supervision asks of the runtime's child processes: here there are none.

use std::sync::{Arc, Weak};

use async_trait::async_trait;
use plba_contracts::services::{ErasedService, ServiceError, ServiceKey, ServiceSource};

#[derive(Default)]
pub(crate) struct Registry;

impl Registry {
    pub(crate) fn end_of(&self, _worker: &str, _slot: u32, _attempt: u64) {}

    pub(crate) fn close(&self) {}
}

#[allow(dead_code, reason = "whose the children would be")]
pub(crate) struct InstanceServices {
    pub(crate) others: Arc<dyn ServiceSource>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) host: Weak<dyn Host>,
}

#[allow(dead_code, reason = "whose the children would be")]
pub(crate) trait Host: Send + Sync {
    fn owner(&self) -> (Arc<str>, u32, u64);

    fn may_start(&self) -> bool;

    fn asked_for(&self, key: &ServiceKey);
}

#[async_trait]
impl ServiceSource for InstanceServices {
    async fn resolve(&self, key: &ServiceKey, path: &[ServiceKey]) -> Result<ErasedService, ServiceError> {
        if let Some(host) = self.host.upgrade() {
            host.asked_for(key);
        }
        self.others.resolve(key, path).await
    }
}
