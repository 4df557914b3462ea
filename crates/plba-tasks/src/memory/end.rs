//! Ending deliveries in the queue in memory: effects, then the ledger, then the move itself; each only while the lease is
//! held, which a pin ensures.

use std::borrow::Cow;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use plba_contracts::BoxError;

use super::consume::{look, take};
use super::entry::Entry;
use super::publish::{check, follow_up};
use super::room::Now;
use super::{EXPIRED_AT_ONCE, Inner, State};
use crate::ledger::DeliveryEnd;
use crate::queue::{ConsumerId, DeliveryToken, Effect, EndError, Ending, Exchange, How, QueueError};
use crate::task::{AttemptEnd, EndedAttempt, NewTask, Origin, QueueName};

type Outcome = Result<(), EndError>;

/// An ending that can't be done under one lock: it has an effect, or a ledger to tell.
struct Slow {
    place: usize,
    ending: Ending,
    origin: Option<Origin>,
    kind: Cow<'static, str>,
}

pub(super) async fn end(inner: &Arc<Inner>, endings: Vec<Ending>) -> Vec<Outcome> {
    let now = inner.now();
    let (outcomes, slow) = quick(inner, &mut inner.lock(), endings, now);
    if slow.is_empty() {
        return outcomes;
    }
    end_slowly(inner, outcomes, slow).await
}

/// Ends deliveries and takes what is ready: under one lock if nothing needs the ledger or has an effect.
pub(super) async fn exchange(
    inner: &Arc<Inner>,
    endings: Vec<Ending>,
    queue: &QueueName,
    consumer: &ConsumerId,
    max: usize,
) -> Exchange {
    let now = inner.now();
    let (outcomes, slow, look) = {
        let mut state = inner.lock();
        let (outcomes, slow) = quick(inner, &mut state, endings, now);
        let look = match slow.is_empty() && max > 0 {
            true => Some(look(inner, &mut state, queue, consumer, max, now)),
            false => None,
        };
        (outcomes, slow, look)
    };
    let outcomes = match slow.is_empty() {
        true => outcomes,
        false => end_slowly(inner, outcomes, slow).await,
    };
    let taken = match look.transpose() {
        Ok(None) if max == 0 => Ok(Vec::new()),
        Ok(look) => take(inner, queue, consumer, max, look).await,
        Err(error) => Err(error),
    };
    let ended = Ok(outcomes);
    Exchange { ended, taken }
}

async fn end_slowly(inner: &Arc<Inner>, mut outcomes: Vec<Outcome>, slow: Vec<Slow>) -> Vec<Outcome> {
    let mut pins = Pins {
        inner: Arc::clone(inner),
        tokens: slow.iter().map(|slow| slow.ending.token.clone()).collect(),
    };
    let mut rest = Vec::with_capacity(slow.len());
    for mut slow in slow {
        match effect(inner, &mut slow.ending.how).await {
            Ok(()) => rest.push(slow),
            Err(error) => {
                outcomes[slow.place] = Err(error);
                pins.lift(&slow.ending.token);
            }
        }
    }
    // From here on it must not stop half-way, though the caller may be dropped: the ledger would know of an end whose
    // follow-ups nobody has published.
    let places: Vec<usize> = rest.iter().map(|slow| slow.place).collect();
    let finished = tokio::spawn(finish(Arc::clone(inner), rest, pins)).await;
    let lost = |_| {
        places
            .iter()
            .map(|_| Err(QueueError::new("ending a delivery broke off").into()))
            .collect()
    };
    let finished: Vec<Outcome> = finished.unwrap_or_else(lost);
    for (place, outcome) in places.into_iter().zip(finished) {
        outcomes[place] = outcome;
    }
    outcomes
}

/// Ends at once what needs neither effect nor ledger; pins the rest.
fn quick(inner: &Inner, state: &mut State, endings: Vec<Ending>, now: Now) -> (Vec<Outcome>, Vec<Slow>) {
    let mut slow = Vec::new();
    let mut outcomes = Vec::with_capacity(endings.len());
    // Where the acks before this one took place, and nobody has been told of yet.
    let mut acked: Option<QueueName> = None;
    for (place, ending) in endings.into_iter().enumerate() {
        if acked.as_ref().is_some_and(|acked| *acked != ending.token.queue) {
            wake(state, acked.take());
        }
        let Some(room) = state.rooms.get_mut(&ending.token.queue) else {
            outcomes.push(Err(EndError::LeaseLost));
            continue;
        };
        let fence = ending.token.fence;
        // A lease that ran out is lost even if nobody has noticed yet.
        if acked.is_none() {
            room.advance(now, EXPIRED_AT_ONCE);
        }
        let Some(entry) = room.leased(fence) else {
            outcomes.push(Err(EndError::LeaseLost));
            continue;
        };
        let recorded = inner.ledger.is_some() && entry.task.origin.is_some();
        let effect = matches!(&ending.how, How::Ack { effect: Some(_), .. });
        if !recorded && matches!(&ending.how, How::Ack { effect: None, then } if then.is_empty()) {
            room.ack(fence, now.span);
            outcomes.push(Ok(()));
            acked = Some(ending.token.queue);
            continue;
        }
        if !recorded && !effect {
            outcomes.push(apply(inner, state, ending, now));
            continue;
        }
        let origin = entry.task.origin.clone().filter(|_| recorded);
        let kind = entry.task.kind.clone();
        // A pinned lease is just being ended by somebody else.
        if room.pin(fence) {
            outcomes.push(Ok(()));
            slow.push(Slow {
                place,
                ending,
                origin,
                kind,
            });
        } else {
            outcomes.push(Err(EndError::LeaseLost));
        }
    }
    wake(state, acked);
    (outcomes, slow)
}

/// Tells those who wait of what became free or ready in a queue.
fn wake(state: &mut State, queue: Option<QueueName>) {
    if let Some(room) = queue.and_then(|queue| state.rooms.get_mut(&queue)) {
        room.offer_space();
        if room.has_stirred() || room.has_suspect() {
            room.signals.ready.notify_one();
        }
    }
}

/// Runs the effect, if there is one, and adds its follow-ups; checks all of them.
async fn effect(inner: &Inner, how: &mut How) -> Outcome {
    let How::Ack { effect, then } = how else { return Ok(()) };
    refuse_unfit(inner, then)?;
    if let Some(effect) = effect.take() {
        let more = run(effect).await.map_err(EndError::Effect)?;
        refuse_unfit(inner, &more)?;
        then.extend(more);
    }
    Ok(())
}

async fn run(effect: Effect) -> Result<Vec<NewTask>, BoxError> {
    let mut transaction = ();
    let run = AssertUnwindSafe(effect.run(&mut transaction)).catch_unwind().await;
    run.unwrap_or_else(|panic| Err(format!("it panicked: {}", crate::panic::message(panic.as_ref())).into()))
}

fn refuse_unfit(inner: &Inner, then: &[NewTask]) -> Outcome {
    let refused = |task: &NewTask| {
        let reason = check(inner, task).err()?;
        Some(EndError::Refused(format!(
            "task \"{}\" for queue \"{}\" can't be published: {reason}",
            task.kind, task.queue
        )))
    };
    then.iter().find_map(refused).map_or(Ok(()), Err)
}

/// Tells the ledger, then makes the moves.
async fn finish(inner: Arc<Inner>, slow: Vec<Slow>, mut pins: Pins) -> Vec<Outcome> {
    let ends = ends(&inner, &slow);
    if let Some(ledger) = inner.ledger.as_ref().filter(|_| !ends.is_empty())
        && let Err(error) = ledger.record_ends(ends).await
    {
        // All leases are still held: whoever asked may ask again.
        let text = plba_contracts::describe(&error);
        return slow.iter().map(|_| Err(QueueError::new(text.clone()).into())).collect();
    }
    let now = inner.now();
    let mut state = inner.lock();
    pins.tokens.clear();
    slow.into_iter()
        .map(|slow| apply(&inner, &mut state, slow.ending, now))
        .collect()
}

/// What the ledger is to be told.
fn ends(inner: &Inner, slow: &[Slow]) -> Vec<(Origin, DeliveryEnd)> {
    let stamp = inner.clock.now();
    let end = |slow: &Slow| {
        let origin = slow.origin.clone()?;
        let end = match &slow.ending.how {
            How::Ack { .. } => DeliveryEnd::Done,
            How::Nack { reason, .. } => {
                DeliveryEnd::Failed(EndedAttempt::new(stamp, AttemptEnd::Failed, reason.as_str()))
            }
            How::Bury { reason } => DeliveryEnd::Dead {
                attempt: EndedAttempt::new(stamp, AttemptEnd::Rejected, reason.as_str()),
                queue: slow.ending.token.queue.to_string(),
                kind: slow.kind.to_string(),
            },
            How::Release { .. } => DeliveryEnd::Released,
        };
        Some((origin, end))
    };
    slow.iter().filter_map(end).collect()
}

/// Makes the move of one ending, whose lease is held.
fn apply(inner: &Inner, state: &mut State, ending: Ending, now: Now) -> Outcome {
    let Ending { token, how } = ending;
    if let How::Ack { then, .. } = &how {
        refuse_unfit(inner, then)?;
    }
    let Some(room) = state.rooms.get_mut(&token.queue) else {
        return Err(EndError::LeaseLost);
    };
    let returned = matches!(how, How::Nack { .. } | How::Release { .. });
    let mut follow_ups = Vec::new();
    let held = match how {
        How::Ack { then, .. } => {
            follow_ups = then;
            room.ack(token.fence, now.span)
        }
        How::Nack { delay, reason } => room.nack(token.fence, delay, &reason, now),
        How::Bury { reason } => {
            let from_source = |entry: &mut Entry| entry.task.origin.is_some();
            let kept = inner.ledger.is_some() && room.leased(token.fence).is_some_and(from_source);
            room.bury(token.fence, reason, kept, now)
        }
        How::Release { delay } => room.release(token.fence, delay, now.span),
    };
    if !held {
        return Err(EndError::LeaseLost);
    }
    room.offer_space();
    // Whoever waits is told of what became ready and of new timers.
    if room.has_stirred() || returned || room.has_suspect() {
        room.signals.ready.notify_one();
    }
    follow_up(inner, state, follow_ups, now);
    Ok(())
}

/// Leases that are being ended; dropped before the end, they run on.
struct Pins {
    inner: Arc<Inner>,
    tokens: Vec<DeliveryToken>,
}

impl Pins {
    fn lift(&mut self, token: &DeliveryToken) {
        if let Some(place) = self.tokens.iter().position(|pinned| pinned.fence == token.fence) {
            let token = self.tokens.swap_remove(place);
            unpin(&self.inner, &token.queue, token.fence);
        }
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        for token in &self.tokens {
            unpin(&self.inner, &token.queue, token.fence);
        }
    }
}

fn unpin(inner: &Inner, queue: &QueueName, fence: u64) {
    let now = inner.span();
    if let Some(room) = inner.lock().rooms.get_mut(queue) {
        room.unpin(fence, now);
        // A consumer that waits may sleep until a later deadline than this one.
        room.signals.ready.notify_one();
    }
}
