//! Being told by the operating system that something was delivered. A hint only: whoever uses it also looks by the clock.

use std::sync::Arc;

use notify::event::ModifyKind;
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

use super::folder::Maildir;

/// Watches `new` and `cur` until it is dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    changed: Arc<Notify>,
    _watcher: RecommendedWatcher,
}

impl Watch {
    /// Begins to watch. What is in the folder already is not reported.
    pub(crate) fn begin(maildir: &Maildir) -> Result<Self, notify::Error> {
        let changed = Arc::new(Notify::new());
        let tell = Arc::clone(&changed);
        let mut watcher = notify::recommended_watcher(move |event: Result<Event, notify::Error>| {
            // An overflow of the system's queue means that anything may have happened.
            if event.is_ok_and(|event| event.need_rescan() || is_delivery(event.kind)) {
                tell.notify_one();
            }
        })?;
        watcher.watch(&maildir.new_dir(), RecursiveMode::NonRecursive)?;
        watcher.watch(&maildir.cur_dir(), RecursiveMode::NonRecursive)?;
        Ok(Watch {
            changed,
            _watcher: watcher,
        })
    }

    /// Resolves once something was delivered or renamed since the last call; several events are one.
    ///
    /// # Cancel safety
    /// Safe: an event that came meanwhile is reported by the next call.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }
}

/// Reading a file is an event too; taking it for a delivery would make every scan the cause of the next.
fn is_delivery(kind: EventKind) -> bool {
    matches!(kind, EventKind::Create(_) | EventKind::Modify(ModifyKind::Name(_)))
}
