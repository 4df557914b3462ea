//! Runtimes for tests: with paused time, which jumps to the next timer as soon as nothing else is to be done, and with real
//! time.

use std::future::Future;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

/// Runs a test under paused time on one thread; panics when it takes longer than a virtual day.
///
/// Time jumps whenever all tasks wait, even if one waits for real input or output: keep real files and servers out.
pub fn paused<T>(test: impl Future<Output = T>) -> T {
    let runtime = build(true);
    runtime.block_on(async { within(Duration::from_secs(24 * 3600), test).await })
}

/// Runs a test under real time on one thread; panics when it takes longer than a minute.
pub fn real<T>(test: impl Future<Output = T>) -> T {
    let runtime = build(false);
    runtime.block_on(async { within(Duration::from_secs(60), test).await })
}

async fn within<T>(limit: Duration, test: impl Future<Output = T>) -> T {
    match tokio::time::timeout(limit, test).await {
        Ok(value) => value,
        Err(_) => panic!("the test did not end within {limit:?}"),
    }
}

fn build(paused: bool) -> Runtime {
    let runtime = Builder::new_current_thread().enable_all().start_paused(paused).build();
    runtime.unwrap_or_else(|error| panic!("no runtime for the test: {error}"))
}
