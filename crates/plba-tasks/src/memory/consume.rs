//! Consuming from the queue in memory: taking what is ready, waiting for what is due, and counting deliveries in the
//! ledger before they are handed out.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::entry::Entry;
use super::signals::Signals;
use super::{EXPIRED_AT_ONCE, Inner};
use crate::ledger::{DeliveryEnd, SourceLedger};
use crate::queue::{Cursor, Delivery, DeliveryToken, QueueError, Recovery};
use crate::task::{AttemptEnd, EndedAttempt, Origin, QueueName};

/// A waiting consumer looks for leases that ran out at least this often.
const SWEEP: Duration = Duration::from_secs(5);

pub(super) async fn consume(inner: &Arc<Inner>, queue: &QueueName, max: usize) -> Result<Vec<Delivery>, QueueError> {
    loop {
        let Look {
            taken,
            counted,
            condemned,
            due,
            signals,
        } = look(inner, queue, max.max(1))?;
        if !condemned.is_empty() {
            condemn(inner, queue, condemned).await?;
            continue;
        }
        if !taken.is_empty() {
            let taken = if counted {
                count(inner, queue, taken).await?
            } else {
                taken
            };
            if !taken.is_empty() {
                return Ok(taken);
            }
            continue;
        }
        tokio::select! {
            () = signals.ready.notified() => {}
            () = sleep_until(due) => {}
        }
    }
}

struct Look {
    taken: Vec<Delivery>,
    /// Whether deliveries have to be counted by the ledger first; they are pinned until then.
    counted: bool,
    condemned: Vec<Entry>,
    due: Instant,
    signals: Arc<Signals>,
}

fn look(inner: &Inner, queue: &QueueName, max: usize) -> Result<Look, QueueError> {
    let now = inner.now();
    let mut state = inner.lock();
    if !state.rooms.contains_key(queue) && state.rooms.len() >= inner.settings.queues {
        return Err(QueueError::new(format!(
            "queue \"{queue}\" can't be made: there are {} named queues, as many as `queues` allows",
            state.rooms.len()
        )));
    }
    let room = state.room(queue, || inner.bounds());
    room.advance(now, EXPIRED_AT_ONCE);
    let condemned = std::mem::take(&mut room.condemned);
    let mut counted = false;
    // The condemned come first: nothing may be in hand while the ledger is told of them, for the caller may be dropped.
    let max = if condemned.is_empty() { max } else { 0 };
    let mut taken = Vec::with_capacity(room.available(max));
    room.take(max, now, |fence, entry| {
        counted |= inner.ledger.is_some() && entry.task.origin.is_some();
        taken.push(Delivery {
            task: Arc::clone(&entry.task),
            token: DeliveryToken {
                queue: queue.clone(),
                task: entry.task.id.clone(),
                fence,
                place: None,
            },
            deliveries: entry.deliveries,
            attempt: entry.attempts + 1,
            waited: now.span.saturating_sub(entry.ready_at),
        });
    });
    if counted {
        for delivery in &taken {
            room.pin(delivery.token.fence);
        }
    }
    // Whoever takes wakes the next one, if there is more to take.
    if !taken.is_empty() && room.has_ready() {
        room.signals.ready.notify_one();
    }
    // Leases granted while this consumer sleeps may have deadlines that nobody wakes it for.
    let sweep = now.span + SWEEP;
    Ok(Look {
        taken,
        counted,
        condemned,
        due: inner.opened + room.next_due().map_or(sweep, |due| due.min(sweep)),
        signals: Arc::clone(&room.signals),
    })
}

/// Counts deliveries durably. It runs on a task of its own, so that dropping the caller can't leave a delivery counted
/// and in nobody's hand.
async fn count(inner: &Arc<Inner>, queue: &QueueName, taken: Vec<Delivery>) -> Result<Vec<Delivery>, QueueError> {
    let Some(ledger) = inner.ledger.clone() else {
        return Ok(taken);
    };
    let (inner, queue) = (Arc::clone(inner), queue.clone());
    let (hand_over, handed_over) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let counted = counted(&inner, ledger.as_ref(), &queue, taken).await;
        if let Err(Ok(unwanted)) = hand_over.send(counted) {
            give_back(&inner, ledger.as_ref(), &queue, &unwanted).await;
        }
    });
    let stopping = |_| Err(QueueError::new("the workers' executor is shutting down"));
    handed_over.await.unwrap_or_else(stopping)
}

async fn counted(
    inner: &Inner,
    ledger: &dyn SourceLedger,
    queue: &QueueName,
    mut taken: Vec<Delivery>,
) -> Result<Vec<Delivery>, QueueError> {
    let origins: Vec<Origin> = taken
        .iter()
        .filter_map(|delivery| delivery.task.origin.clone())
        .collect();
    let counts = match ledger.count_deliveries(&origins).await {
        Ok(counts) => counts,
        Err(error) => {
            release(inner, queue, &taken);
            return Err(error.into());
        }
    };
    let mut counts = counts.into_iter();
    let now = inner.span();
    let mut state = inner.lock();
    let room = state.room(queue, || inner.bounds());
    taken.retain_mut(|delivery| {
        let fence = delivery.token.fence;
        if delivery.task.origin.is_some() {
            match counts.next().flatten() {
                // Finished in the meantime, as the ledger knows.
                None => {
                    room.discard(fence);
                    return false;
                }
                Some(counts) if counts.crashes >= inner.settings.maximum_crashes => {
                    room.condemn(fence, counts);
                    return false;
                }
                Some(counts) => {
                    room.set_counts(fence, counts);
                    delivery.deliveries = counts.deliveries;
                    delivery.attempt = counts.attempts + 1;
                }
            }
        }
        room.unpin(fence, now);
        true
    });
    Ok(taken)
}

/// Puts deliveries back where they were.
fn release(inner: &Inner, queue: &QueueName, taken: &[Delivery]) {
    let now = inner.span();
    let mut state = inner.lock();
    let room = state.room(queue, || inner.bounds());
    for delivery in taken.iter().rev() {
        room.release(delivery.token.fence, Duration::ZERO, now);
    }
    room.signals.ready.notify_one();
}

/// Puts back deliveries that have been counted.
async fn give_back(inner: &Inner, ledger: &dyn SourceLedger, queue: &QueueName, unwanted: &[Delivery]) {
    let origins = unwanted.iter().filter_map(|delivery| delivery.task.origin.clone());
    let released = origins.map(|origin| (origin, DeliveryEnd::Released)).collect();
    if let Err(error) = ledger.record_ends(released).await {
        tracing::warn!(%error, "a delivery that nobody took could not be recorded as released; it may count as a crash");
    }
    release(inner, queue, unwanted);
}

/// Tells the ledger of tasks that are dead by too many crashes.
async fn condemn(inner: &Inner, queue: &QueueName, condemned: Vec<Entry>) -> Result<(), QueueError> {
    let Some(ledger) = &inner.ledger else { return Ok(()) };
    let mut condemned = Condemned {
        inner,
        queue,
        entries: condemned,
    };
    let stamp = inner.clock.now();
    let end = |entry: &Entry| {
        let reason = format!("{} processes or workers disappeared with it in hand", entry.crashes);
        let task = &entry.task;
        let end = DeliveryEnd::Dead {
            attempt: EndedAttempt::new(stamp, AttemptEnd::Crashed, reason),
            queue: task.queue.to_string(),
            kind: task.kind.clone().into_owned(),
        };
        task.origin.clone().map(|origin| (origin, end))
    };
    ledger
        .record_ends(condemned.entries.iter().filter_map(end).collect())
        .await?;
    let mut state = inner.lock();
    let room = state.room(queue, || inner.bounds());
    for entry in condemned.entries.drain(..) {
        room.forget_condemned(&entry);
    }
    room.signals.space.notify_one();
    Ok(())
}

/// Entries on their way to the ledger; those that did not get there are put back.
struct Condemned<'a> {
    inner: &'a Inner,
    queue: &'a QueueName,
    entries: Vec<Entry>,
}

impl Drop for Condemned<'_> {
    fn drop(&mut self) {
        if !self.entries.is_empty() {
            let mut state = self.inner.lock();
            let room = state.room(self.queue, || self.inner.bounds());
            room.condemned.append(&mut self.entries);
        }
    }
}

pub(super) async fn recover(inner: &Inner, cursor: Option<Cursor>, limit: usize) -> Result<Recovery, QueueError> {
    let mut recovery = Recovery::default();
    let names: Vec<QueueName> = {
        let state = inner.lock();
        let from = cursor.map_or_else(|| QueueName::from(""), |cursor| QueueName::from(cursor.0));
        state.rooms.range(from..).map(|(name, _)| name.clone()).collect()
    };
    for name in names {
        if recovery.recovered >= limit {
            recovery.next = Some(Cursor(name.to_string()));
            break;
        }
        let now = inner.now();
        let condemned = {
            let mut state = inner.lock();
            let room = state.room(&name, || inner.bounds());
            recovery.recovered += room.advance(now, limit - recovery.recovered);
            if room.has_ready() {
                room.signals.ready.notify_one();
            }
            std::mem::take(&mut room.condemned)
        };
        if !condemned.is_empty() {
            condemn(inner, &name, condemned).await?;
        }
    }
    Ok(recovery)
}
