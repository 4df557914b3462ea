//! Notices of the system that files have changed. Only what concerns the watched places is passed on, and all that comes
//! before somebody asks is one notice.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

use super::Watched;
use super::places::Places;

/// How many files are remembered as being written to.
const MAXIMUM_WRITING: usize = 256;

/// Where notices arrive.
#[derive(Debug, Default)]
pub(super) struct Notices {
    places: Arc<Places>,
    arrived: Arc<Arrived>,
    watcher: Option<RecommendedWatcher>,
}

#[derive(Debug, Default)]
struct Arrived {
    any: Notify,
    /// Files that were written to and not closed since.
    writing: Mutex<BTreeSet<PathBuf>>,
}

impl Notices {
    /// From now on notices come from where the watched paths lead now. Blocks for a moment.
    ///
    /// # Errors
    /// The system gives no notices, or not of everything.
    pub(super) fn arm(&mut self, watched: &Watched) -> Result<(), notify::Error> {
        let places = Places::of(watched);
        if self.watcher.is_some() && places == *self.places {
            return Ok(());
        }
        // What was being written to elsewhere will not be closed here.
        self.arrived.lock().clear();
        self.watcher = None;
        self.places = Arc::new(places);
        let (places, arrived) = (Arc::clone(&self.places), Arc::clone(&self.arrived));
        let mut watcher = notify::recommended_watcher(move |event: Result<Event, notify::Error>| {
            match event {
                Ok(event) => arrived.event(&event, &places),
                // Something was lost: whoever looks will see.
                Err(_) => arrived.any.notify_one(),
            }
        })?;
        for directory in self.places.directories.keys() {
            watcher.watch(directory, RecursiveMode::NonRecursive)?;
        }
        self.watcher = Some(watcher);
        Ok(())
    }

    /// Resolves once there was a notice since the last call.
    ///
    /// # Cancel safety
    /// Safe: a notice that came meanwhile is for the next call.
    pub(super) async fn noticed(&self) {
        self.arrived.any.notified().await;
    }

    /// Whether somebody has written to a file and not closed it.
    pub(super) fn writing(&self) -> bool {
        !self.arrived.lock().is_empty()
    }
}

impl Arrived {
    fn event(&self, event: &Event, places: &Places) {
        if event.need_rescan() {
            self.lock().clear();
            return self.any.notify_one();
        }
        // Reading is an event too; taking it for a change would make each look the cause of the next.
        let closed = event.kind == EventKind::Access(AccessKind::Close(AccessMode::Write));
        if matches!(event.kind, EventKind::Access(_)) && !closed {
            return;
        }
        let concerned: Vec<&PathBuf> = event.paths.iter().filter(|path| places.concern(path)).collect();
        if concerned.is_empty() {
            return;
        }
        let written = matches!(event.kind, EventKind::Modify(ModifyKind::Data(_)));
        let mut writing = self.lock();
        for path in concerned {
            match written && writing.len() < MAXIMUM_WRITING {
                true => writing.insert(path.clone()),
                false => writing.remove(path),
            };
        }
        drop(writing);
        self.any.notify_one();
    }

    // Each use is whole in itself, so a poisoned lock is as good as a sound one.
    fn lock(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
