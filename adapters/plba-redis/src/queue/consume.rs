//! Consuming: taking what is ready, and waiting for the bell, for what is due, or for the next look round.

use std::sync::Arc;
use std::time::Duration;

use plba_tasks::queue::presence::LOOK;
use plba_tasks::queue::{ConsumerId, Delivery, QueueError};
use plba_tasks::task::QueueName;

use super::Inner;
use super::end::take;
use super::exchange::Taking;
use super::reap::reap;

/// A waiting consumer looks for leases that ran out or whose holders are gone, and for what nobody told it of, at least
/// this often.
const SWEEP: Duration = LOOK;
/// Injected time passes without a sound.
const INJECTED: Duration = Duration::from_millis(15);
const LEAST: Duration = Duration::from_millis(1);

pub(super) async fn consume(
    inner: &Arc<Inner>,
    queue: &QueueName,
    consumer: &ConsumerId,
    max: usize,
) -> Result<Vec<Delivery>, QueueError> {
    let room = inner.room(queue)?;
    let mut waiting = None;
    loop {
        if room.reap_is_due() {
            reap(inner, &room);
        }
        let taking = Taking {
            consumer: consumer.clone(),
            most: max,
        };
        let outcome = take(inner, queue, Vec::new(), taking).await?;
        if !outcome.taken.is_empty() {
            return Ok(outcome.taken);
        }
        if waiting.is_none() {
            // The bell keeps ringing until somebody hears it, so that nothing is missed between the look and this.
            waiting = Some(room.enlist(&inner.shared));
        }
        let longest = if inner.shared.clock.is_some() { INJECTED } else { SWEEP };
        let wait = outcome.due.map_or(longest, |due| due.clamp(LEAST, longest));
        let _ = tokio::time::timeout(wait, room.ready.notified()).await;
    }
}
