//! Following providers: whenever one says that its layer may have changed, a reload is asked for, and also while one is down.
//! What they give is read by the reload.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, select_all};
use plba_contracts::config::ConfigProvider;
use tracing::warn;

use super::trigger::Trigger;
use crate::TARGET;
use crate::config::manager::ConfigurationManager;

/// How long a provider that is down is left alone.
const ASK_AGAIN: Duration = Duration::from_secs(30);

/// The least time between two reloads that providers ask for: one that says so all the time must not keep the process busy.
const REST: Duration = Duration::from_secs(1);

/// Asks for a reload whenever a provider may have something else to say; never ends.
///
/// # Cancel safety
/// May be dropped at any time.
pub async fn follow_providers(configuration: Arc<ConfigurationManager>) -> Infallible {
    let mut published = configuration.subscribe();
    loop {
        // The database may be another one from now on.
        published.mark_unchanged();
        let again = match configuration.providers_down().first() {
            Some((name, _)) => (ASK_AGAIN, name.clone()),
            None => (Duration::MAX, String::new()),
        };
        let waiting = configuration.providers().into_iter().map(changed);
        let waiting = waiting.chain([std::future::pending().boxed()]);
        let name = tokio::select! {
            (name, ..) = select_all(waiting) => name,
            () = tokio::time::sleep(again.0) => again.1,
            // The configuration is held here, so the only answer is that there is another one.
            _ = published.changed() => continue,
        };
        // Until its layer has been read, a provider goes on saying that it has changed.
        let asked = configuration.requests().ask_and_wait(Trigger::Provider { name });
        match asked.await {
            Ok(_) => tokio::time::sleep(REST).await,
            Err(_) => std::future::pending().await,
        }
    }
}

/// Gives its name once it may have changed. One that panics is not listened to until the next reload.
fn changed(provider: Arc<dyn ConfigProvider>) -> BoxFuture<'static, String> {
    let changed = async move {
        if let Err(panic) = AssertUnwindSafe(provider.changed()).catch_unwind().await {
            let panic = crate::panic::panic_message(panic.as_ref());
            warn!(target: TARGET, "{} panicked while it waited for changes: {panic}", provider.name());
            std::future::pending().await
        }
        provider.name().to_owned()
    };
    changed.boxed()
}
