//! Waiting for something to take, and handing over what was taken to somebody who may be gone by then.

use std::sync::Arc;
use std::time::{Duration, Instant};

use plba_tasks::queue::presence::LOOK;
use plba_tasks::queue::{ConsumerId, Delivery, EndError, QueueError, is_late};
use plba_tasks::task::QueueName;

use super::crowded;
use super::end::{Finish, end, put_back};
use super::gone::look_around;
use super::take::{Taken, Wish, take};
use crate::sqlite::failure::Failure;
use crate::sqlite::inbox::Needs;
use crate::sqlite::session::Session;
use crate::sqlite::writer::{Shared, answered};

/// A consumer that waits looks at least this often, whatever it was told: a lease that somebody else was given meanwhile
/// may run out, or its holder be gone.
const SWEEP: Duration = LOOK;

/// Waits for the first task, and takes what is there.
pub(super) async fn consume(
    shared: &Arc<Shared>,
    queue: &QueueName,
    consumer: &ConsumerId,
    max: usize,
) -> Result<Vec<Delivery>, QueueError> {
    let wish = Wish {
        queue: queue.clone(),
        holder: consumer.to_string().into(),
        presence: consumer.incarnation.presence.clone(),
        max,
    };
    let signal = shared.signals.of(queue);
    let mut listener = None;
    loop {
        look_around(shared);
        let mut handed = answered(ask(shared, wish.clone())).await?;
        let taken = handed.take();
        if taken.crowded {
            return Err(crowded(queue));
        }
        if !taken.deliveries.is_empty() {
            // Whoever takes wakes the next one, if there is more to take.
            if taken.more {
                signal.ready.notify_one();
            }
            return Ok(taken.deliveries);
        }
        if listener.is_none() {
            // Another process may have published between the look and now.
            listener = Some(shared.inbox.listen());
            continue;
        }
        let due = taken.due.map(|due| due - shared.clock.now().as_microsecond());
        let due = due.map_or(SWEEP, |left| Duration::from_micros(u64::try_from(left).unwrap_or(0)));
        // Woken or not, it looks again.
        drop(tokio::time::timeout(due.min(SWEEP), signal.ready.notified()).await);
    }
}

/// What became of endings, by their places; and what was taken in the same transaction.
type Exchanged = (Vec<(usize, Result<(), EndError>)>, Result<Vec<Delivery>, QueueError>);

/// Ends and takes in one transaction.
pub(super) async fn exchange(
    shared: &Arc<Shared>,
    finishes: Vec<(usize, Finish)>,
    wish: Option<Wish>,
) -> Result<Exchanged, Failure> {
    // A consumer that always finds something never waits, and is the one who looks all the same.
    look_around(shared);
    let (back, asked) = (Arc::clone(shared), wish.clone());
    let needs = match finishes.is_empty() {
        true => Needs::Nothing,
        false => Needs::Disk,
    };
    let exchange = move |session: &mut Session<'_>| {
        let mut ended = Vec::with_capacity(finishes.len());
        for (place, finish) in &finishes {
            ended.push((*place, end(session, finish)?));
        }
        let taken = match &asked {
            Some(wish) => take(session, wish)?,
            None => Taken::default(),
        };
        Ok((ended, taken))
    };
    let hand_over = move |(ended, taken)| (ended, Handed::new(taken, back));
    let answer = shared.inbox.ask_then(needs, exchange, hand_over);
    let (ended, mut handed) = answered(answer).await?;
    let taken = handed.take();
    let Some(wish) = wish else {
        return Ok((ended, Ok(Vec::new())));
    };
    if taken.crowded {
        return Ok((ended, Err(crowded(&wish.queue))));
    }
    if taken.more && !taken.deliveries.is_empty() {
        shared.signals.of(&wish.queue).ready.notify_one();
    }
    Ok((ended, Ok(taken.deliveries)))
}

fn ask(shared: &Arc<Shared>, wish: Wish) -> tokio::sync::oneshot::Receiver<Result<Handed, Failure>> {
    let back = Arc::clone(shared);
    let taking = move |session: &mut Session<'_>| take(session, &wish);
    let hand_over = move |taken| Handed::new(taken, back);
    shared.inbox.ask_then(Needs::Nothing, taking, hand_over)
}

/// What was taken, on its way to whoever asked. Dropped on the way, or late, it is put back.
struct Handed {
    taken: Taken,
    shared: Arc<Shared>,
}

impl Handed {
    fn new(taken: Taken, shared: Arc<Shared>) -> Self {
        Self { taken, shared }
    }

    /// What comes late stays here, and is put back.
    fn take(&mut self) -> Taken {
        let mut taken = std::mem::take(&mut self.taken);
        let late = |granted: Instant| is_late(granted.elapsed(), self.shared.settings.lease);
        if taken.granted.is_some_and(late) {
            self.taken.deliveries = std::mem::take(&mut taken.deliveries);
        }
        taken
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        if self.taken.deliveries.is_empty() {
            return;
        }
        let deliveries = std::mem::take(&mut self.taken.deliveries);
        let tokens: Vec<_> = deliveries.into_iter().map(|delivery| delivery.token).collect();
        // Nobody waits for it.
        drop(self.shared.inbox.ask(move |session| put_back(session, &tokens)));
    }
}
