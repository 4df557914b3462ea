//! What tests of configuration in databases ask: what a provider reads, and whether it tells of changes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use plba_contracts::config::{ConfigBackend, ConfigProvider, Location};
use tokio::time::timeout;

/// The provider at this location.
pub(crate) fn provider(backend: &dyn ConfigBackend, location: &str) -> Arc<dyn ConfigProvider> {
    backend.open(&Location::from(location)).unwrap()
}

/// What it reads: `key = value`, line by line.
pub(crate) async fn read(provider: &Arc<dyn ConfigProvider>) -> String {
    let values = provider.load().await.unwrap();
    let line = |value: &plba_contracts::config::ProvidedValue| format!("{} = {}", value.path.join("."), value.value);
    values.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Why it reads nothing, and how long it took to say so.
pub(crate) async fn refused(provider: &Arc<dyn ConfigProvider>) -> (String, Duration) {
    let began = Instant::now();
    let error = provider.load().await.expect_err("it reads something");
    (error.to_string(), began.elapsed())
}

/// It tells of a change within this time.
pub(crate) async fn told(provider: &Arc<dyn ConfigProvider>, within: Duration) {
    let telling = timeout(within, provider.changed()).await;
    assert!(telling.is_ok(), "no change was told within {within:?}");
}

/// It tells of no change for a while.
pub(crate) async fn quiet(provider: &Arc<dyn ConfigProvider>) {
    let telling = timeout(Duration::from_millis(600), provider.changed()).await;
    assert!(telling.is_err(), "a change was told, and there was none");
}

/// Reads until it works.
pub(crate) async fn recovered(provider: &Arc<dyn ConfigProvider>) -> String {
    let began = Instant::now();
    while provider.load().await.is_err() {
        assert!(began.elapsed() < Duration::from_secs(30), "it does not recover");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    read(provider).await
}
