//! What one measurement of one contestant saw.

use std::time::{Duration, Instant};

/// What one measurement saw; what it did not look at is absent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// Tasks enqueued in a second.
    pub(crate) enqueue: Option<f64>,
    /// Tasks carried out in a second.
    pub(crate) process: Option<f64>,
    /// From before a task was enqueued to its handler's start, each.
    pub(crate) pickups: Vec<Duration>,
    /// What was out of the ordinary.
    pub(crate) note: Option<String>,
}

impl Seen {
    pub(crate) fn pace(enqueue: f64, process: f64) -> Self {
        Self {
            enqueue: Some(enqueue),
            process: Some(process),
            ..Self::default()
        }
    }

    pub(crate) fn pickups(pickups: Vec<Duration>) -> Self {
        Self {
            pickups,
            ..Self::default()
        }
    }
}

/// Tasks in a second, since then.
pub(crate) fn per_second(tasks: usize, began: Instant) -> f64 {
    tasks as f64 / began.elapsed().as_secs_f64()
}

/// The value below which this share of them lies, in milliseconds; `None` of nothing.
pub(crate) fn quantile(spans: &[Duration], share: f64) -> Option<f64> {
    let mut spans = spans.to_vec();
    spans.sort_unstable();
    let place = ((spans.len() as f64 * share) as usize).min(spans.len().checked_sub(1)?);
    Some(spans[place].as_secs_f64() * 1e3)
}
