//! The end of overrides: when the time of one is over, a reload is asked for, which reads the configuration without it.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::config::change::Trigger;
use crate::config::manager::ConfigurationManager;
use crate::config::snapshot::Configuration;

/// How long is waited at a stretch: the clock may be set meanwhile.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// After which time is asked again, when the configuration could not be read without an override that is over.
const ASK_AGAIN: Duration = Duration::from_secs(60);

/// Asks for a reload whenever the time of an override is over; never ends.
///
/// # Cancel safety
/// May be dropped at any time.
pub(crate) async fn expire(configuration: Arc<ConfigurationManager>) {
    let mut published = configuration.subscribe();
    loop {
        let current = Arc::clone(&published.borrow_and_update());
        let wait = match (first(&current), configuration.overrides().now()) {
            (Some((until, key)), Some(now)) => match Duration::try_from(until.duration_since(now)) {
                Ok(left) if !left.is_zero() => left.min(LONGEST_WAIT),
                _ => {
                    configuration.requests().ask(Trigger::Expired { key });
                    ASK_AGAIN
                }
            },
            _ => Duration::MAX,
        };
        // Without anybody left who publishes, nothing ends any more.
        let gone = tokio::select! {
            changed = published.changed() => changed.is_err(),
            () = tokio::time::sleep(wait) => false,
        };
        if gone {
            return;
        }
    }
}

/// The override that ends first.
fn first(configuration: &Configuration) -> Option<(Timestamp, String)> {
    let ends = configuration.overrides().iter();
    ends.filter_map(|one| Some((one.until?, one.key.clone()))).min()
}
