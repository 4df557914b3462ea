//! Ending deliveries. What several callers end at once is one statement.

use std::collections::HashSet;
use std::sync::Arc;

use plba_tasks::queue::{DeliveryToken, EndError, Ending, QueueError};
use tokio::sync::oneshot;

use super::super::fault::{Fault, Kind};
use super::super::schema::Region;
use super::combine::Weighed;
use super::ending::{Plain, Sorted, Way, records, sort};
use super::ends::Ends;
use super::record::{Columns, Record};
use super::room::add;
use super::{Inner, consume, effects, publish};

/// What became of one ending.
pub(super) type Outcome = Result<(), EndError>;

/// A caller's endings on their way, and where the answer goes.
pub(super) struct Request {
    plain: Vec<Plain>,
    answer: oneshot::Sender<Result<Vec<Outcome>, Fault>>,
}

impl Weighed for Request {
    fn rows(&self) -> usize {
        self.plain.iter().map(|plain| 1 + plain.then.len()).sum()
    }

    fn bytes(&self) -> usize {
        let bytes = |plain: &Plain| plain.reason.len() + 16 + plain.then.iter().map(Record::bytes).sum::<usize>();
        self.plain.iter().map(bytes).sum()
    }

    fn alone(&self) -> bool {
        false
    }
}

pub(super) async fn end(inner: &Arc<Inner>, endings: Vec<Ending>) -> Result<Vec<Outcome>, QueueError> {
    let Sorted {
        mut outcomes,
        plain,
        places,
        effects,
    } = sort(inner, endings).await?;
    // Effects first and by themselves: each is a transaction of its own, and none keeps the others waiting.
    let (ended, done) = tokio::join!(submit(inner, plain), effects::run_all(inner, effects));
    for (index, outcome) in done {
        outcomes[index] = outcome;
    }
    fill_in(&mut outcomes, places, ended);
    Ok(outcomes)
}

/// Puts the outcomes of plain endings in their places. What could not be reached is told for each of them.
pub(super) fn fill_in(outcomes: &mut [Outcome], places: Vec<usize>, ended: Result<Vec<Outcome>, Fault>) {
    match ended {
        Ok(ended) => {
            for (place, outcome) in places.into_iter().zip(ended) {
                outcomes[place] = outcome;
            }
        }
        Err(fault) => {
            for place in places {
                outcomes[place] = Err(EndError::Queue(fault.again().into()));
            }
        }
    }
}

/// Sends endings, together with others that are sent now. Dropped, each has taken effect or has not.
pub(super) async fn submit(inner: &Arc<Inner>, plain: Vec<Plain>) -> Result<Vec<Outcome>, Fault> {
    if plain.is_empty() {
        return Ok(Vec::new());
    }
    let (answer, answered) = oneshot::channel();
    if let Some(flight) = inner.ends.submit(Request { plain, answer }) {
        flight.hand_over();
        let inner = Arc::clone(inner);
        inner.target.executor().clone().spawn(async move {
            let mut flight = inner.ends.resume();
            loop {
                let batch = flight.next();
                if batch.is_empty() {
                    return;
                }
                fly(&inner, batch).await;
            }
        });
    }
    let stopping = |_| Err(Fault::new(Kind::Later, "the workers' executor is shutting down"));
    answered.await.unwrap_or_else(stopping)
}

async fn fly(inner: &Arc<Inner>, batch: Vec<Request>) {
    let all = each_once(batch.iter().flat_map(|request| &request.plain));
    let sent = send(inner, &all, false).await;
    let mut ended = match sent {
        Ok(ended) => ended,
        // What one caller's follow-ups are refused for is none of the others' fault.
        Err(fault) if fault.kind == Kind::Statement && batch.len() > 1 => {
            for request in batch {
                let alone = each_once(&request.plain);
                let outcome = send(inner, &alone, false).await;
                let outcome = outcome.map(|mut ended| outcomes(inner, &request.plain, &mut ended));
                let _dropped = request.answer.send(outcome);
            }
            return;
        }
        Err(fault) => {
            for request in batch {
                let _dropped = request.answer.send(Err(fault.again()));
            }
            return;
        }
    };
    for request in batch {
        let outcome = outcomes(inner, &request.plain, &mut ended);
        let _dropped = request.answer.send(Ok(outcome));
    }
}

/// Of several endings of one delivery the first one holds; the others find the lease lost.
pub(super) fn each_once<'a>(endings: impl IntoIterator<Item = &'a Plain>) -> Vec<&'a Plain> {
    let mut seen = HashSet::new();
    endings
        .into_iter()
        .filter(|plain| seen.insert(plain.held.fence))
        .collect()
}

/// One statement for endings; gives the fences that had ended with it.
async fn send(inner: &Inner, endings: &[&Plain], held: bool) -> Result<HashSet<i64>, Fault> {
    let ends = Ends::new(inner, endings, held);
    let mut values = ends.values().to_vec();
    let columns = Columns::new(records(endings));
    let follow = records(endings).next().is_some();
    if follow {
        values.extend(columns.values());
    }
    let text = if follow {
        &inner.texts.end_publish
    } else {
        &inner.texts.end
    };
    let rows = inner.verbs.query(text, &values).await?;
    let ended: Option<Vec<i64>> = rows.first().map(|row| row.try_get(0)).transpose()?.flatten();
    Ok(ended.unwrap_or_default().into_iter().collect())
}

/// What became of one caller's endings; counts them, and wakes who waits for what they changed.
pub(super) fn outcomes(inner: &Arc<Inner>, endings: &[Plain], ended: &mut HashSet<i64>) -> Vec<Outcome> {
    let mut outcomes = Vec::with_capacity(endings.len());
    for plain in endings {
        // Each once: of two endings of one delivery the first one holds.
        if !ended.remove(&plain.held.fence) {
            outcomes.push(Err(EndError::LeaseLost));
            continue;
        }
        let room = &plain.room;
        match plain.way {
            Way::Ack => {
                add(&room.counts.acked, 1);
                room.space.notify_one();
                publish::note(inner, &plain.then);
            }
            Way::Failed => add(&room.counts.failed, 1),
            Way::Rejected | Way::Undecodable => {
                add(&room.counts.failed, 1);
                room.space.notify_one();
                consume::trim_if_due(inner, room, 1);
            }
            Way::GivenBack => {}
        }
        // An ack lets others come where leases are counted, or where the key's next waits.
        let lets_in =
            plain.way != Way::Ack || plain.held.locks().next().is_some() || plain.held.place < Region::High.start();
        let rules = lets_in || {
            let rules = inner.rules(&room.name);
            rules.concurrency.is_some() || rules.key_concurrency.is_some()
        };
        if rules {
            room.ready.notify_one();
        }
        outcomes.push(Ok(()));
    }
    outcomes
}

/// Gives deliveries back as if they had never been made.
pub(super) async fn release(inner: &Arc<Inner>, tokens: Vec<DeliveryToken>) -> Result<(), Fault> {
    let mut plain = Vec::with_capacity(tokens.len());
    for token in tokens {
        plain.push(Plain::other(
            inner.room(&token.queue).await?,
            &token,
            Way::GivenBack,
            0,
            "",
        ));
    }
    submit(inner, plain).await.map(drop)
}

/// Gives one delivery back for a moment: what stood in its way is over then.
pub(super) async fn give_back_for(inner: &Arc<Inner>, token: &DeliveryToken, delay: i64) -> Result<(), Fault> {
    let plain = Plain::other(inner.room(&token.queue).await?, token, Way::GivenBack, delay, "");
    submit(inner, vec![plain]).await.map(drop)
}

/// Makes dead letters of what can't be read.
pub(super) async fn bury_undecodable(inner: &Arc<Inner>, broken: Vec<(DeliveryToken, String)>) -> Result<(), Fault> {
    let mut plain = Vec::with_capacity(broken.len());
    for (token, reason) in broken {
        tracing::warn!(task = %token.task, queue = %token.queue, reason, "a task can't be decoded: it is a dead letter now");
        let room = inner.room(&token.queue).await?;
        plain.push(Plain::other(room, &token, Way::Undecodable, 0, &reason));
    }
    submit(inner, plain).await.map(drop)
}
