//! How consumers and publishers of one named queue wait and are woken, first come, first served.

use std::sync::Arc;

use tokio::sync::{Mutex, Notify};

/// What one named queue wakes.
#[derive(Default)]
pub(super) struct Signals {
    /// Something may be ready. A consumer that leaves something behind wakes the next one.
    pub(super) ready: Notify,
    /// There may be space.
    pub(super) space: Notify,
    /// Held by the one publisher that waits for space; the others wait for it in order.
    pub(super) gate: Arc<Mutex<()>>,
}
