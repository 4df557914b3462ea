//! The port of probation: who takes a picture of the process before a change, and says afterwards whether it fares worse on
//! account of it. What counts as worse is decided behind it.

use std::time::Duration;

use async_trait::async_trait;

/// Begins probations.
pub trait Proving: Send + Sync + 'static {
    /// Takes a picture of how everything fares. Called before a change is put to work; reads memory only.
    fn begin(&self) -> Box<dyn Trial>;
}

/// A configuration on probation. Dropped without a verdict when the process stops.
#[async_trait]
pub trait Trial: Send + 'static {
    /// Watches from now on, for as long as `window`. Called after the change was put to work.
    ///
    /// # Cancel safety
    /// Dropped whenever a reload is asked for, and called again after it: with what is left of the window, or with a whole one
    /// if the reload has put another configuration to work. The picture stays the one from [`begin`](Proving::begin).
    async fn verdict(&mut self, window: Duration) -> TrialVerdict;
}

/// What became of a probation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrialVerdict {
    /// Nothing is worse by it.
    Passed,
    /// Something is, with the reason for a person: which worker, and what it says.
    Failed(String),
}
