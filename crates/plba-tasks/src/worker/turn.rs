//! A worker's turn on its executor's thread. With a backlog and quick handlers nothing ever makes a worker wait, so that it
//! has to leave others their turn by itself; doing so after every batch would cost more than the batch.

use std::time::Duration;

use tokio::time::Instant;

/// A turn is over after so long,
const SPAN: Duration = Duration::from_millis(1);
/// or after so many batches, whichever comes first.
const BATCHES: u32 = 16;

/// The turn that a worker has now.
pub(super) struct Turn {
    began: Instant,
    batches: u32,
}

impl Turn {
    pub(super) fn new() -> Self {
        Self {
            began: Instant::now(),
            batches: 0,
        }
    }

    /// A batch is done: leaves others their turn if this one is over.
    pub(super) async fn batch_done(&mut self) {
        if self.is_over(Instant::now()) {
            tokio::task::yield_now().await;
            *self = Self::new();
        }
    }

    fn is_over(&mut self, now: Instant) -> bool {
        self.batches += 1;
        self.batches >= BATCHES || now.duration_since(self.began) >= SPAN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_ends_by_batches_or_by_time() {
        let mut turn = Turn::new();
        let began = turn.began;
        let quick = (1..=BATCHES).map(|_| turn.is_over(began)).collect::<Vec<_>>();
        assert_eq!(quick.iter().position(|over| *over), Some(BATCHES as usize - 1));
        let mut turn = Turn::new();
        let began = turn.began;
        assert!(!turn.is_over(began + SPAN / 2));
        assert!(turn.is_over(began + SPAN));
    }
}
