//! Ending one batch and taking the next in one statement.

use std::sync::Arc;

use plba_tasks::queue::{ConsumerId, Delivery, Ending, Exchange};
use plba_tasks::task::QueueName;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_postgres::types::Type;

use super::super::fault::{Fault, Kind};
use super::super::pool::Value;
use super::consume::{self, Taking};
use super::end::{Outcome, each_once, fill_in, outcomes, submit};
use super::ending::{Plain, Sorted, records, sort};
use super::ends::Ends;
use super::gone::look_around;
use super::record::Columns;
use super::room::Room;
use super::{Inner, effects};

pub(super) async fn exchange(
    inner: &Arc<Inner>,
    endings: Vec<Ending>,
    queue: &QueueName,
    consumer: &ConsumerId,
    max: usize,
) -> Exchange {
    // A consumer that always finds something never waits, and is the one who looks all the same.
    look_around(inner);
    let both = |fault: Fault| Exchange {
        ended: Err(fault.again().into()),
        taken: Err(fault.into()),
    };
    let sorted = match sort(inner, endings).await {
        Ok(sorted) => sorted,
        Err(fault) => return both(fault),
    };
    let Sorted {
        mut outcomes,
        plain,
        places,
        effects,
    } = sorted;
    if max == 0 {
        let (ended, done) = tokio::join!(submit(inner, plain), effects::run_all(inner, effects));
        fill_in(&mut outcomes, places, ended);
        done.into_iter().for_each(|(index, outcome)| outcomes[index] = outcome);
        return Exchange {
            ended: Ok(outcomes),
            taken: Ok(Vec::new()),
        };
    }
    let prepared = async { Ok((inner.room(queue).await?, inner.holder(consumer).await?)) };
    let (room, holder) = match prepared.await {
        Ok(prepared) => prepared,
        Err(fault) => return both(fault),
    };
    let (exchanged, done) = tokio::join!(swap(inner, plain, room, holder, max), effects::run_all(inner, effects));
    done.into_iter().for_each(|(index, outcome)| outcomes[index] = outcome);
    match exchanged {
        Ok((ended, taken)) => {
            fill_in(&mut outcomes, places, Ok(ended));
            Exchange {
                ended: Ok(outcomes),
                taken: Ok(taken),
            }
        }
        Err(fault) => {
            let taken = Err(fault.again().into());
            fill_in(&mut outcomes, places, Err(fault));
            Exchange {
                ended: Ok(outcomes),
                taken,
            }
        }
    }
}

/// Ends and takes in one statement, on a task of its own: a dropped caller's deliveries are given back.
async fn swap(
    inner: &Arc<Inner>,
    plain: Vec<Plain>,
    room: Arc<Room>,
    holder: i32,
    max: usize,
) -> Result<(Vec<Outcome>, Vec<Delivery>), Fault> {
    let (hand_over, handed_over) = oneshot::channel();
    let (of_task, asked) = (Arc::clone(inner), Instant::now());
    inner.target.executor().spawn(async move {
        let swapped = swap_now(&of_task, &plain, &room, holder, max).await;
        if let Err(Ok((_, unwanted))) = hand_over.send(swapped) {
            consume::give_back(&of_task, unwanted).await;
        }
    });
    let stopping = |_| Err(Fault::new(Kind::Later, "the workers' executor is shutting down"));
    let (ended, mut taken) = handed_over.await.unwrap_or_else(stopping)?;
    consume::give_back_late(inner, asked, &mut taken);
    Ok((ended, taken))
}

async fn swap_now(
    inner: &Arc<Inner>,
    plain: &[Plain],
    room: &Arc<Room>,
    holder: i32,
    max: usize,
) -> Result<(Vec<Outcome>, Vec<Delivery>), Fault> {
    let endings = each_once(plain);
    let taking = Taking::new(inner, room, holder, max, false);
    let ends = Ends::new(inner, &endings, false);
    let columns = Columns::new(records(&endings));
    let follow = records(&endings).next().is_some();
    let now = inner.now();
    let mut values: Vec<Value<'_>> = Vec::with_capacity(42);
    let text = if endings.is_empty() {
        values.push((&now, Type::INT8));
        &inner.texts.take
    } else {
        values.extend(ends.values());
        if follow {
            values.extend(columns.values());
            &inner.texts.end_publish_take
        } else {
            &inner.texts.end_take
        }
    };
    values.extend(taking.values());
    let began = Instant::now();
    let rows = inner.verbs.query(text, &values).await.inspect_err(|_| room.forget())?;
    let look = consume::read(inner, room, &taking, rows, began.elapsed()).await?;
    let mut ended = look.ended.into_iter().collect();
    Ok((outcomes(inner, plain, &mut ended), look.deliveries))
}
