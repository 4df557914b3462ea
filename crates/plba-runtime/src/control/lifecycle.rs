//! Where a process stands: starting, ready, stopping.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// Where the process stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// Workers are being started.
    Starting = 0,
    /// Every worker was ready once.
    Ready = 1,
    /// A stop was asked for.
    Stopping = 2,
}

impl Stage {
    /// One word for people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Stopping => "stopping",
        }
    }
}

/// Where the process stands, shared by those who move it on and those who tell. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Lifecycle(Arc<AtomicU8>);

impl Lifecycle {
    /// Moves on in life; never goes back.
    pub fn enter(&self, stage: Stage) {
        self.0.fetch_max(stage as u8, Ordering::AcqRel);
    }

    /// Where the process stands.
    pub fn stage(&self) -> Stage {
        match self.0.load(Ordering::Acquire) {
            0 => Stage::Starting,
            1 => Stage::Ready,
            _ => Stage::Stopping,
        }
    }
}
