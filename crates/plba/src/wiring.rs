//! The default wiring: which adapters a feature switches in. The one place where their names meet the platform.

use std::sync::Arc;

use plba_contracts::config::ConfigBackend;
use plba_contracts::control::{ControlClient, ControlTransport};

/// The transports that carry the control plane.
pub(crate) fn transports() -> Vec<Arc<dyn ControlTransport>> {
    vec![
        #[cfg(feature = "http")]
        Arc::new(plba_http::HttpTransport::default()),
    ]
}

/// How the command line reaches a process that runs.
pub(crate) fn client() -> Option<Arc<dyn ControlClient>> {
    let clients: Vec<Arc<dyn ControlClient>> = vec![
        #[cfg(feature = "http")]
        Arc::new(plba_http::HttpClient::default()),
    ];
    clients.into_iter().next()
}

/// The databases with settings that `platform.config.database` can name.
pub(crate) fn config_backends() -> Vec<Arc<dyn ConfigBackend>> {
    vec![
        #[cfg(feature = "sql")]
        Arc::new(plba_sql::sqlite::SqliteConfigBackend),
        #[cfg(feature = "sql")]
        Arc::new(plba_sql::postgres::PostgresConfigBackend),
    ]
}

/// The queues that a location can name.
#[cfg(feature = "tasks")]
pub fn queue_backends() -> Vec<Arc<dyn plba_tasks::backend::QueueBackend>> {
    vec![
        Arc::new(plba_tasks::backend::MemoryBackend),
        #[cfg(feature = "redis")]
        Arc::new(plba_redis::RedisBackend),
        #[cfg(feature = "sql")]
        Arc::new(plba_sql::sqlite::SqliteBackend::default()),
        #[cfg(feature = "sql")]
        Arc::new(plba_sql::postgres::PostgresBackend),
    ]
}
