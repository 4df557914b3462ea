//! The completions for a source, gathered into batches worth a command. Telling upstream is the source's business.

use std::sync::Arc;
use std::time::Duration;

use plba_tasks::intake::{Intake, IntakeError};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

/// How many completions are taken from the queue at once, and marked at once.
pub(crate) const BATCH: usize = 500;

/// How long a completion waits for others to join it.
pub(crate) const WINDOW: Duration = Duration::from_millis(100);

/// Takes completions out of the queue for ever, whether or not there is a connection to tell upstream over; what is taken
/// is recorded as done in the ledger and can't be lost.
///
/// Runs beside the source so that no receive is ever dropped half-way.
pub(crate) async fn pump(intake: &Intake, sender: mpsc::Sender<Vec<Arc<str>>>) -> IntakeError {
    loop {
        let keys = match intake.completions(BATCH).await {
            Ok(keys) => keys,
            Err(error) => return error,
        };
        if sender.send(keys).await.is_err() {
            // The receiver lives as long as the source runs; without it there is nothing left to do.
            return std::future::pending().await;
        }
    }
}

/// The receiving end.
#[derive(Debug)]
pub(crate) struct Completions {
    receiver: mpsc::Receiver<Vec<Arc<str>>>,
    gathered: Vec<Arc<str>>,
}

impl Completions {
    /// A pump's sender and the receiver that belongs to it. A few batches may wait between the two.
    pub(crate) fn channel() -> (mpsc::Sender<Vec<Arc<str>>>, Self) {
        let (sender, receiver) = mpsc::channel(4);
        let completions = Completions {
            receiver,
            gathered: Vec::new(),
        };
        (sender, completions)
    }

    /// Waits for completions, then [`WINDOW`] longer for more of them, up to about [`BATCH`].
    ///
    /// # Cancel safety
    /// Safe: what was gathered is given by the next call.
    pub(crate) async fn next(&mut self) -> Vec<Arc<str>> {
        if self.gathered.is_empty() {
            match self.receiver.recv().await {
                Some(keys) => self.gathered = keys,
                None => std::future::pending().await,
            }
        }
        let end = Instant::now() + WINDOW;
        while self.gathered.len() < BATCH {
            match timeout_at(end, self.receiver.recv()).await {
                Ok(Some(keys)) => self.gathered.extend(keys),
                Ok(None) | Err(_) => break,
            }
        }
        std::mem::take(&mut self.gathered)
    }

    /// What has come so far, without waiting.
    pub(crate) fn take_now(&mut self) -> Vec<Arc<str>> {
        while let Ok(keys) = self.receiver.try_recv() {
            self.gathered.extend(keys);
        }
        std::mem::take(&mut self.gathered)
    }
}
