//! Asks for a reload whenever files have changed, for as long as the configuration says so.

use std::sync::Arc;

use tracing::debug;

use super::{FileWatch, Stamp, Watched};
use crate::TARGET;
use crate::config::change::Trigger;
use crate::config::manager::ConfigurationManager;

/// Runs until it is dropped. Whether files are watched, and which, follows the configuration itself.
pub(crate) async fn follow(configuration: Arc<ConfigurationManager>) {
    let mut published = configuration.subscribe();
    let mut watch: Option<(Watched, FileWatch)> = None;
    loop {
        let current = Arc::clone(&published.borrow_and_update());
        let settings = current.settings();
        let watched = configuration.watched(settings);
        if !settings.watch || watched == Watched::default() {
            watch = None;
        } else if watch.as_ref().is_none_or(|(known, _)| *known != watched) {
            let seen = Stamp::of(current.sources(), &watched.secrets);
            watch = Some((watched.clone(), FileWatch::new(watched, seen)));
        }
        let changed = async {
            match &mut watch {
                Some((_, watch)) => watch.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            path = changed => {
                debug!(target: TARGET, path = %path.display(), "changed");
                configuration.requests().ask(Trigger::File { path });
            }
            published = published.changed() => if published.is_err() {
                return;
            },
        }
    }
}
