//! Ending deliveries, and exchanging them for new ones.

use std::sync::Arc;

use futures_util::future::join_all;
use plba_tasks::queue::{ConsumerId, Delivery, EndError, Ending, Exchange, QueueError, is_late};
use plba_tasks::task::QueueName;
use tokio::time::Instant;

use super::Inner;
use super::effect::prepare;
use super::exchange::{Outcome, Step, Taking, Verb, by_queue, exchange as call};
use super::room::Room;

type Results = Vec<Result<(), EndError>>;

pub(super) async fn end(inner: &Arc<Inner>, endings: Vec<Ending>) -> Result<Results, QueueError> {
    let count = endings.len();
    let (mut results, steps) = prepare(inner, endings).await;
    end_all(inner, by_queue(steps), &mut results).await?;
    debug_assert_eq!(results.len(), count);
    Ok(finish(results))
}

/// Ends deliveries of other queues in calls of their own.
async fn end_all(
    inner: &Arc<Inner>,
    sorted: Vec<(QueueName, Vec<Step>)>,
    results: &mut [Option<Result<(), EndError>>],
) -> Result<(), QueueError> {
    let calls = sorted.into_iter().map(|(queue, steps)| async move {
        let room = inner.room(&queue)?;
        Ok::<_, QueueError>(call(inner, &room, steps, None).await?)
    });
    let mut failure = None;
    for outcome in join_all(calls).await {
        match outcome {
            Ok(outcome) => fill(results, outcome.ended),
            Err(error) => failure = Some(error),
        }
    }
    failure.map_or(Ok(()), Err)
}

fn fill(results: &mut [Option<Result<(), EndError>>], ended: Vec<(usize, Result<(), EndError>)>) {
    for (place, result) in ended {
        if let Some(slot) = results.get_mut(place) {
            *slot = Some(result);
        }
    }
}

fn finish(results: Vec<Option<Result<(), EndError>>>) -> Results {
    let unanswered = || Err(QueueError::new("Redis said nothing of this delivery").into());
    results
        .into_iter()
        .map(|result| result.unwrap_or_else(unanswered))
        .collect()
}

pub(super) async fn exchange(
    inner: &Arc<Inner>,
    endings: Vec<Ending>,
    queue: &QueueName,
    consumer: &ConsumerId,
    max: usize,
) -> Exchange {
    if max == 0 {
        return Exchange {
            ended: end(inner, endings).await,
            taken: Ok(Vec::new()),
        };
    }
    let (mut results, steps) = prepare(inner, endings).await;
    let mut sorted = by_queue(steps);
    let own = sorted.iter().position(|(name, _)| name == queue);
    let own = own.map(|place| sorted.swap_remove(place).1).unwrap_or_default();
    let taking = Taking {
        consumer: consumer.clone(),
        most: max,
    };
    let (others, taken) = tokio::join!(end_all(inner, sorted, &mut results), take(inner, queue, own, taking));
    match taken {
        Ok(mut outcome) => {
            fill(&mut results, std::mem::take(&mut outcome.ended));
            Exchange {
                ended: others.map(|()| finish(results)),
                taken: Ok(outcome.taken),
            }
        }
        // Which of them took effect is unknown.
        Err(error) => Exchange {
            ended: Err(QueueError::new(error.source.to_string())),
            taken: Err(error),
        },
    }
}

/// Ends and takes, on a task of its own: what was taken for a caller that has gone, or that looks for it only when its lease
/// may be over, is given back at once. What nobody can read is made a dead letter before.
pub(super) async fn take(
    inner: &Arc<Inner>,
    queue: &QueueName,
    steps: Vec<Step>,
    taking: Taking,
) -> Result<Outcome, QueueError> {
    let room = inner.room(queue)?;
    let (hand_over, handed_over) = tokio::sync::oneshot::channel();
    let asked = Instant::now();
    let (shared, its_room) = (Arc::clone(inner), Arc::clone(&room));
    tokio::spawn(async move {
        let taken = taken(&shared, &its_room, steps, &taking).await;
        if let Err(Ok(unwanted)) = hand_over.send(taken) {
            give_back(&shared, &its_room, unwanted.taken).await;
        }
    });
    let stopping = |_| Err(QueueError::new("the workers' executor is shutting down"));
    let mut outcome = handed_over.await.unwrap_or_else(stopping)?;
    // When server, network or process stood still, leases may have run out on the way here: somebody else may have the tasks,
    // and has perhaps carried them out. What is still ours comes again at once.
    if is_late(asked.elapsed(), inner.shared.settings.lease) {
        let (inner, late) = (Arc::clone(inner), std::mem::take(&mut outcome.taken));
        // Also for a caller that goes meanwhile.
        tokio::spawn(async move { give_back(&inner, &room, late).await });
    }
    Ok(outcome)
}

async fn taken(inner: &Inner, room: &Room, steps: Vec<Step>, taking: &Taking) -> Result<Outcome, QueueError> {
    let mut outcome = call(inner, room, steps, Some(taking)).await?;
    while !outcome.broken.is_empty() {
        let broken = std::mem::take(&mut outcome.broken);
        for step in &broken {
            tracing::error!(queue = %room.name, task = %step.token.task, "a record can't be decoded; it is a dead letter now");
        }
        let again = outcome.taken.is_empty().then_some(taking);
        let more = call(inner, room, broken, again).await?;
        outcome.taken.extend(more.taken);
        outcome.broken = more.broken;
        outcome.due = more.due;
    }
    Ok(outcome)
}

async fn give_back(inner: &Inner, room: &Room, taken: Vec<Delivery>) {
    if taken.is_empty() {
        return;
    }
    // The last one first, so that the first one is at the head in the end.
    let delay = std::time::Duration::ZERO;
    let steps = taken.into_iter().rev().map(|delivery| Step {
        place: 0,
        token: delivery.token,
        verb: Verb::Release { delay },
    });
    if let Err(failure) = call(inner, room, steps.collect(), None).await {
        tracing::warn!(
            queue = %room.name,
            "what a consumer had taken that is gone could not be given back ({}); its lease has to run out",
            failure.sentence
        );
    }
}
