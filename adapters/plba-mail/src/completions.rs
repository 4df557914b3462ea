//! The completions for a source, gathered into batches worth a command. Telling upstream is the source's business.

use std::sync::Arc;
use std::time::Duration;

use plba_tasks::intake::{Intake, IntakeError};
use plba_tasks::ledger::EntryState;
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

/// Those of `keys` of which upstream has not been told yet: after a reconnect the same ones come from the ledger and from
/// the queue.
pub(crate) async fn untold(intake: &Intake, mut keys: Vec<Arc<str>>) -> Result<Vec<Arc<str>>, IntakeError> {
    let known = intake.known(&keys).await?;
    let mut done = known
        .iter()
        .map(|known| known.as_ref().is_some_and(|known| known.state == EntryState::Done));
    keys.retain(|_| done.next().unwrap_or(false));
    Ok(keys)
}

/// The receiving end.
#[derive(Debug)]
pub(crate) struct Completions {
    receiver: mpsc::Receiver<Vec<Arc<str>>>,
    gathered: Vec<Arc<str>>,
    /// When the oldest of the gathered ones has waited long enough.
    due: Option<Instant>,
}

impl Completions {
    /// A pump's sender and the receiver that belongs to it. A few batches may wait between the two.
    pub(crate) fn channel() -> (mpsc::Sender<Vec<Arc<str>>>, Self) {
        let (sender, receiver) = mpsc::channel(4);
        let completions = Completions {
            receiver,
            gathered: Vec::new(),
            due: None,
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
        // Kept between calls: callers who give up sooner than the window would otherwise never get anything.
        let due = *self.due.get_or_insert_with(|| Instant::now() + WINDOW);
        while self.gathered.len() < BATCH {
            match timeout_at(due, self.receiver.recv()).await {
                Ok(Some(keys)) => self.gathered.extend(keys),
                Ok(None) | Err(_) => break,
            }
        }
        self.due = None;
        std::mem::take(&mut self.gathered)
    }

    /// What has come so far, without waiting.
    pub(crate) fn take_now(&mut self) -> Vec<Arc<str>> {
        while let Ok(keys) = self.receiver.try_recv() {
            self.gathered.extend(keys);
        }
        self.due = None;
        std::mem::take(&mut self.gathered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn completions_join_within_the_window_and_callers_may_give_up_sooner() {
        let (sender, mut completions) = Completions::channel();
        sender.send(vec!["1".into()]).await.unwrap();
        let begin = Instant::now();
        let mut given = Vec::new();
        for _ in 0..20 {
            let patience = Instant::now() + WINDOW / 4;
            if let Ok(keys) = timeout_at(patience, completions.next()).await {
                given = keys;
                break;
            }
            sender.send(vec!["2".into()]).await.unwrap();
        }
        assert!(
            given.len() > 1 && begin.elapsed() <= WINDOW + Duration::from_millis(2),
            "{given:?}"
        );
    }
}
