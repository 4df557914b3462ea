//! Consuming from the queue in memory: taking what is ready, waiting for what is due, and counting deliveries in the
//! ledger before they are handed out.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep_until;

use super::entry::Condemned;
use super::retention::{retain, retain_now_and_then};
use super::room::Now;
use super::signals::Signals;
use super::{EXPIRED_AT_ONCE, Inner, State};
use crate::ledger::{DeliveryEnd, SourceLedger};
use crate::queue::{ConsumerId, Cursor, Delivery, DeliveryToken, QueueError, Recovery};
use crate::task::{EndedAttempt, Origin, QueueName};

/// A waiting consumer looks for leases that ran out at least this often.
const SWEEP: Duration = Duration::from_secs(5);

pub(super) async fn consume(
    inner: &Arc<Inner>,
    queue: &QueueName,
    consumer: &ConsumerId,
    max: usize,
) -> Result<Vec<Delivery>, QueueError> {
    let mut signals: Option<Arc<Signals>> = None;
    loop {
        retain_now_and_then(inner).await;
        // Made before the look, so that nothing that happens after it is missed.
        let known = signals.clone();
        let notified = known.as_ref().map(|signals| signals.ready.notified());
        let look = look(inner, &mut inner.lock(), queue, consumer, max.max(1), inner.now())?;
        let (due, found_signals) = (inner.opened + look.due, Arc::clone(&look.signals));
        match hand_out(inner, queue, look).await? {
            Found::Some(taken) => return Ok(taken),
            Found::Again => continue,
            Found::None => {}
        }
        match notified {
            Some(notified) => tokio::select! {
                () = notified => {}
                () = sleep_until(due) => {}
            },
            None => signals = Some(found_signals),
        }
    }
}

/// Takes what is ready now, and waits only for the ledger.
pub(super) async fn take(
    inner: &Arc<Inner>,
    queue: &QueueName,
    consumer: &ConsumerId,
    max: usize,
    mut first: Option<Look>,
) -> Result<Vec<Delivery>, QueueError> {
    loop {
        let look = match first.take() {
            Some(look) => look,
            None => look(inner, &mut inner.lock(), queue, consumer, max, inner.now())?,
        };
        match hand_out(inner, queue, look).await? {
            Found::Some(taken) => return Ok(taken),
            Found::Again => {}
            Found::None => return Ok(Vec::new()),
        }
    }
}

enum Found {
    Some(Vec<Delivery>),
    /// Look again at once.
    Again,
    None,
}

/// What one look at a queue found.
pub(super) struct Look {
    taken: Vec<Delivery>,
    /// Whether deliveries have to be counted by the ledger first; they are pinned until then.
    counted: bool,
    condemned: Vec<Condemned>,
    due: Duration,
    signals: Arc<Signals>,
}

/// Tells the ledger what it has to know before anything is handed out.
async fn hand_out(inner: &Arc<Inner>, queue: &QueueName, look: Look) -> Result<Found, QueueError> {
    if !look.condemned.is_empty() {
        condemn(inner, queue, look.condemned).await?;
        return Ok(Found::Again);
    }
    if look.taken.is_empty() {
        return Ok(Found::None);
    }
    if !look.counted {
        return Ok(Found::Some(look.taken));
    }
    let taken = count(inner, queue, look.taken).await?;
    Ok(if taken.is_empty() {
        Found::Again
    } else {
        Found::Some(taken)
    })
}

pub(super) fn look(
    inner: &Inner,
    state: &mut State,
    queue: &QueueName,
    consumer: &ConsumerId,
    max: usize,
    now: Now,
) -> Result<Look, QueueError> {
    let room = state.room_for(queue, inner)?;
    room.advance(now, EXPIRED_AT_ONCE);
    let mut counted = false;
    // The condemned come first: nothing may be in hand while the ledger is told of them, for the caller may be dropped.
    let max = if room.condemned.is_empty() { max } else { 0 };
    let mut taken = Vec::with_capacity(room.available(max));
    room.take(max, now, consumer, |fence, entry| {
        counted |= inner.ledger.is_some() && entry.task.origin.is_some();
        taken.push(Delivery {
            task: Arc::clone(&entry.task),
            token: DeliveryToken {
                // The caller's own copy of the name: nobody else counts references to that at the same time.
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
    room.offer_space();
    // Whoever takes wakes the next one, if there is more to take or a time to wait for.
    let took = !taken.is_empty();
    if room.calls(now.span) && took {
        room.signals.ready.notify_one();
    }
    // What expired on the way waits for the next look when something else is in hand.
    let condemned = if took {
        Vec::new()
    } else {
        std::mem::take(&mut room.condemned)
    };
    // Leases granted while this consumer sleeps may have deadlines that nobody wakes it for.
    let sweep = now.span + SWEEP;
    Ok(Look {
        taken,
        counted,
        condemned,
        due: room.next_due(now.span).map_or(sweep, |due| due.min(sweep)),
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
    let room = state.room(queue, inner);
    taken.retain_mut(|delivery| {
        let fence = delivery.token.fence;
        if delivery.task.origin.is_some() {
            match counts.next().flatten() {
                // Finished in the meantime, as the ledger knows.
                None => {
                    room.discard(fence, now);
                    return false;
                }
                Some(counts) if counts.crashes >= inner.settings.maximum_crashes => {
                    room.condemn(fence, counts, now);
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
    room.offer_space();
    if room.has_stirred() || !room.condemned.is_empty() {
        room.signals.ready.notify_one();
    }
    Ok(taken)
}

/// Puts deliveries back where they were.
fn release(inner: &Inner, queue: &QueueName, taken: &[Delivery]) {
    let now = inner.span();
    let mut state = inner.lock();
    let room = state.room(queue, inner);
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

/// Tells the ledger of tasks that are dead though nobody had them in hand.
async fn condemn(inner: &Inner, queue: &QueueName, condemned: Vec<Condemned>) -> Result<(), QueueError> {
    let Some(ledger) = &inner.ledger else { return Ok(()) };
    let mut condemned = OnTheWay {
        inner,
        queue,
        entries: condemned,
    };
    let stamp = inner.clock.now();
    let end = |condemned: &Condemned| {
        let task = &condemned.entry.task;
        let end = DeliveryEnd::Dead {
            attempt: EndedAttempt::new(stamp, condemned.how, condemned.reason.as_str()),
            queue: task.queue.to_string(),
            kind: task.kind.clone().into_owned(),
        };
        task.origin.clone().map(|origin| (origin, end))
    };
    ledger
        .record_ends(condemned.entries.iter().filter_map(end).collect())
        .await?;
    let mut state = inner.lock();
    let room = state.room(queue, inner);
    for condemned in condemned.entries.drain(..) {
        room.forget_condemned(&condemned.entry);
    }
    room.offer_space();
    Ok(())
}

/// Entries on their way to the ledger; those that did not get there are put back.
struct OnTheWay<'a> {
    inner: &'a Inner,
    queue: &'a QueueName,
    entries: Vec<Condemned>,
}

impl Drop for OnTheWay<'_> {
    fn drop(&mut self) {
        if !self.entries.is_empty() {
            let mut state = self.inner.lock();
            let room = state.room(self.queue, self.inner);
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
            let room = state.room(&name, inner);
            recovery.recovered += room.advance(now, limit - recovery.recovered);
            room.offer_space();
            if room.calls(now.span) {
                room.signals.ready.notify_one();
            }
            std::mem::take(&mut room.condemned)
        };
        if !condemned.is_empty() {
            condemn(inner, &name, condemned).await?;
        }
    }
    if let Some(ledger) = inner.ledger.as_ref().filter(|_| recovery.next.is_none()) {
        retain(inner, ledger.as_ref()).await?;
    }
    Ok(recovery)
}
