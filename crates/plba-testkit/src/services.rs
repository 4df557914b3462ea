//! Services for tests: what a test puts in is what is found, without building, order or sealing.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use plba_contracts::services::{ErasedService, ServiceError, ServiceKey, ServiceSource, Services};

/// A fixed set of services.
#[derive(Default)]
pub struct FixedServices {
    services: HashMap<ServiceKey, ErasedService>,
}

impl FixedServices {
    /// No services.
    pub fn new() -> Self {
        Self::default()
    }

    /// With this one, asked for by its type.
    #[must_use]
    pub fn with<T: ?Sized + Send + Sync + 'static>(mut self, service: Arc<T>) -> Self {
        self.services.insert(ServiceKey::of::<T>(), Arc::new(service));
        self
    }

    /// With this one, asked for by its type and a name.
    #[must_use]
    pub fn with_named<T: ?Sized + Send + Sync + 'static>(mut self, name: &str, service: Arc<T>) -> Self {
        self.services.insert(ServiceKey::named::<T>(name), Arc::new(service));
        self
    }

    /// The handle that factories and views get.
    pub fn handle(self) -> Services {
        Services::new(Arc::new(self), Vec::new())
    }
}

#[async_trait]
impl ServiceSource for FixedServices {
    async fn resolve(&self, key: &ServiceKey, _: &[ServiceKey]) -> Result<ErasedService, ServiceError> {
        self.services.get(key).cloned().ok_or_else(|| ServiceError::Missing {
            key: key.clone(),
            asked_by: "a test".into(),
        })
    }
}
