//! Layers of the configuration that come from elsewhere, such as a database: the port, and how one is opened by its location.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use super::place::Location;
use crate::BoxError;

/// A value from outside files, environment and command line.
#[derive(Clone, Debug, PartialEq)]
pub struct ProvidedValue {
    /// The path from the root, such as `["mail_order_bot", "workers"]`.
    pub path: Vec<String>,
    /// The value.
    pub value: Value,
    /// The place within the provider, for messages.
    pub place: String,
}

/// Provides configuration from elsewhere, such as a database; its layer lies above files and below the environment.
///
/// [`load`](Self::load) is called at start and at each reload, under a time-out of its own:
///
/// - **`Ok`**: the whole layer; values that are gone are left out.
/// - **`Err`**, time-out: the layer can't be read. At start that ends the start-up, unless the last good configuration may take
///   its place. A process that runs goes on with the layer as it was last read, and says so in its health.
/// - **Panic**: as `Err`.
///
/// # Cancel safety
/// A dropped call must leave nothing behind.
///
/// ```
/// use plba_contracts::BoxError;
/// use plba_contracts::config::{ConfigProvider, ProvidedValue};
///
/// struct Table;
///
/// #[async_trait::async_trait]
/// impl ConfigProvider for Table {
///     fn name(&self) -> &str {
///         "settings table"
///     }
///     async fn load(&self) -> Result<Vec<ProvidedValue>, BoxError> {
///         let path = vec!["mail_order_bot".to_owned(), "workers".to_owned()];
///         Ok(vec![ProvidedValue { path, value: 8.into(), place: "row 17".into() }])
///     }
/// }
/// ```
#[async_trait]
pub trait ConfigProvider: Send + Sync + 'static {
    /// Its name in origins and messages.
    fn name(&self) -> &str;

    /// Reads the layer.
    async fn load(&self) -> Result<Vec<ProvidedValue>, BoxError>;

    /// Waits until the layer may have changed since it was last [loaded](Self::load); then a reload is asked for. It waits
    /// through outages by itself, and may wake for nothing. By default it never does: then only a reload that was asked for
    /// otherwise sees a change.
    ///
    /// # Cancel safety
    /// A dropped call loses no change: the next one sees it.
    async fn changed(&self) {
        std::future::pending().await
    }
}

/// Opens the provider that `platform.config.database` names by its scheme.
pub trait ConfigBackend: Send + Sync + 'static {
    /// The schemes of its locations, such as `postgres`.
    fn schemes(&self) -> &'static [&'static str];

    /// The provider at this location. Does no input or output: that belongs to [`ConfigProvider::load`].
    ///
    /// # Errors
    /// The location can't be understood; the message says what one looks like.
    fn open(&self, location: &Location) -> Result<Arc<dyn ConfigProvider>, BoxError>;
}
