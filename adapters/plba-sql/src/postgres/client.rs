//! An application's own way to its tables: connections like the queue's, with transactions that the application begins and
//! commits. What tasks, ledgers and leases do with the database lives beside this.

use std::sync::Arc;

use plba_contracts::BoxError;

use super::fault::{Fault, Kind};
use super::link::Target;
use super::pool::Pool;
use super::settings::PostgresSettings;
use super::transaction::PostgresTransaction;

/// Connections for an application's own tables, opened when they are needed and at most `handlers` of the settings. Cheap
/// to clone.
#[derive(Clone)]
pub struct PostgresClient {
    pool: Pool,
}

impl PostgresClient {
    /// Prepares connections with these settings; opens none yet. Reads the authorities' certificates, which blocks for a
    /// moment. Must be called within a runtime, on which connections run from then on.
    ///
    /// # Errors
    /// TLS can't be set up.
    pub fn new(settings: PostgresSettings) -> Result<Self, BoxError> {
        let size = settings.handlers;
        let target = Arc::new(Target::new(settings)?);
        let pool = Pool::new(target, "the application's tables (handlers=…)", size);
        Ok(Self { pool })
    }

    /// Begins a transaction on a connection of its own. Dropped without [`commit`](PostgresTransaction::commit), it is
    /// rolled back.
    ///
    /// # Errors
    /// No connection is to be had in time; [`is_passing`] tells whether to try again.
    ///
    /// # Cancel safety
    /// A dropped call leaves nothing behind.
    pub async fn begin(&self) -> Result<PostgresTransaction, BoxError> {
        Ok(PostgresTransaction::begin(self.pool.loan().await?).await?)
    }
}

/// Whether what an error of PostgreSQL was about may succeed later: two transactions were in each other's way, or the
/// server could not be reached or was too busy.
#[must_use]
pub fn is_passing(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(found) = cause {
        if let Some(fault) = found.downcast_ref::<Fault>() {
            return matches!(fault.kind, Kind::Conflict | Kind::Connection | Kind::Later);
        }
        cause = found.source();
    }
    false
}
