//! Why the process is to end, where a definition asks for that. It is said here; ending the process is others' business.

use std::sync::Arc;

use tokio::sync::watch;

/// A worker on whose account the process is to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fatal {
    /// Which worker.
    pub worker: String,
    /// Which of its slots.
    pub slot: u32,
    /// What happened to it, such as `was given up: attempt 6 panicked: index out of bounds`.
    pub cause: String,
    /// The exit code that its definition asks for.
    pub exit_code: u8,
}

/// Where the first reason is kept. Clones share it.
#[derive(Clone, Default)]
pub(super) struct FatalCell(Arc<watch::Sender<Option<Fatal>>>);

impl FatalCell {
    /// Says it, from any thread; a later reason changes nothing.
    pub(super) fn declare(&self, fatal: Fatal) {
        self.0.send_if_modified(|first| {
            let is_first = first.is_none();
            first.get_or_insert(fatal);
            is_first
        });
    }

    /// Waits for the first reason.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(super) async fn get(&self) -> Fatal {
        let mut receiver = self.0.subscribe();
        let first = receiver.wait_for(Option::is_some).await;
        match first.ok().and_then(|first| first.clone()) {
            Some(fatal) => fatal,
            // The sender is `self`, so it can't be gone.
            None => std::future::pending().await,
        }
    }
}
