//! A worker that runs in one process of many: start it several times in one directory, each with a state directory of its
//! own, then kill the one that writes. Every line in `turns.db` carries the token under which it was written.
//!
//! ```text
//! cargo run -p plba --features sql --example turns -- --set platform.state_dir=a --set platform.control.listen=127.0.0.1:0
//! ```

use std::path::Path;
use std::sync::Arc;

use plba::clock::Clock;
use plba::lease::{Fence, Lease, Singleton, SingletonOptions};
use plba::prelude::*;
use plba::services::Build;
use plba::sql::rusqlite::{Connection, TransactionBehavior};
use plba::sql::{SqliteLease, check_fence};

const DATABASE: &str = "turns.db";

fn main() -> ExitCode {
    plba::app("turns", |app| {
        let write = worker::every_with("writes", millis(50), |services| async move {
            let fence = services.get::<Fence>().await?;
            tokio::task::spawn_blocking(move || write(&fence)).await??;
            Ok(())
        });
        let options = SingletonOptions {
            ttl: secs(2),
            ..SingletonOptions::default()
        };
        app.worker(write.singleton_with(Build::new(leases), options));
        Ok(())
    })
    .run()
}

/// The leases lie beside the data, so that one transaction can ask for both.
async fn leases(services: Services) -> Result<Arc<dyn Lease>, BoxError> {
    let clock = services.get::<dyn Clock>().await?;
    let open = move || SqliteLease::open(Path::new(DATABASE), clock);
    Ok(Arc::new(tokio::task::spawn_blocking(open).await??))
}

fn write(fence: &Fence) -> Result<(), worker::RoutineError> {
    let mut connection = Connection::open(DATABASE)?;
    connection.busy_timeout(secs(2))?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    check_fence(&transaction, &fence.name, fence.token)?;
    transaction.execute_batch("CREATE TABLE IF NOT EXISTS turns (process INTEGER, token INTEGER)")?;
    let token = i64::try_from(fence.token.0)?;
    transaction.execute(
        "INSERT INTO turns VALUES (?1, ?2)",
        [i64::from(std::process::id()), token],
    )?;
    transaction.commit()?;
    Ok(())
}
