//! An ending that needs no effect, as it is prepared for a statement: which delivery, which way, and what follows.

use std::sync::Arc;

use plba_tasks::queue::{DeliveryToken, Effect, EndError, Ending, How};
use plba_tasks::task::{MAXIMUM_REASON, NewTask};

use super::super::fault::Fault;
use super::Inner;
use super::end::Outcome;
use super::record::{Record, microseconds};
use super::room::Room;
use super::token::Held;

/// An ending without an effect, ready for a statement.
pub(super) struct Plain {
    pub(super) room: Arc<Room>,
    pub(super) held: Held,
    pub(super) way: Way,
    pub(super) delay: i64,
    pub(super) reason: String,
    pub(super) then: Vec<Record>,
}

/// What becomes of the task, by the numbers of `end_1`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Ack = 0,
    Failed = 1,
    Rejected = 2,
    GivenBack = 3,
    Undecodable = 4,
}

impl Plain {
    pub(super) fn ack(room: Arc<Room>, token: &DeliveryToken, mut then: Vec<Record>) -> Self {
        let held = Held::read(token);
        then.iter_mut().for_each(|record| record.owner = Some(held.fence));
        Self {
            room,
            held,
            way: Way::Ack,
            delay: 0,
            reason: String::new(),
            then,
        }
    }

    pub(super) fn other(room: Arc<Room>, token: &DeliveryToken, way: Way, delay: i64, reason: &str) -> Self {
        Self {
            way,
            delay,
            // PostgreSQL's texts hold every character but this one.
            reason: reason.replace('\0', "\u{fffd}"),
            ..Self::ack(room, token, Vec::new())
        }
    }
}

/// Endings sorted by what has to be done for them.
pub(super) struct Sorted {
    pub(super) outcomes: Vec<Outcome>,
    pub(super) plain: Vec<Plain>,
    /// Where the plain ones stand in the call.
    pub(super) places: Vec<usize>,
    pub(super) effects: Vec<(usize, DeliveryToken, Effect, Vec<NewTask>)>,
}

/// Prepares endings.
pub(super) async fn sort(inner: &Arc<Inner>, endings: Vec<Ending>) -> Result<Sorted, Fault> {
    let mut sorted = Sorted {
        outcomes: Vec::with_capacity(endings.len()),
        plain: Vec::with_capacity(endings.len()),
        places: Vec::with_capacity(endings.len()),
        effects: Vec::new(),
    };
    for (index, Ending { token, how }) in endings.into_iter().enumerate() {
        sorted.outcomes.push(Ok(()));
        let room = inner.room(&token.queue).await?;
        let plain = match how {
            How::Ack {
                effect: Some(effect),
                then,
            } => {
                sorted.effects.push((index, token, effect, then));
                continue;
            }
            How::Ack { effect: None, then } => match follow_ups(inner, then).await? {
                Ok(records) => Plain::ack(room, &token, records),
                Err(refused) => {
                    sorted.outcomes[index] = Err(refused);
                    continue;
                }
            },
            How::Nack { delay, reason } => {
                let reason = cut(&reason);
                Plain::other(room, &token, Way::Failed, microseconds(delay), &reason)
            }
            How::Bury { reason } => Plain::other(room, &token, Way::Rejected, 0, &reason),
            How::Release { delay } => Plain::other(room, &token, Way::GivenBack, microseconds(delay), ""),
        };
        sorted.places.push(index);
        sorted.plain.push(plain);
    }
    Ok(sorted)
}

/// A reason as histories keep it.
fn cut(reason: &str) -> String {
    let end = reason.floor_char_boundary(MAXIMUM_REASON);
    reason[..end].to_owned()
}

/// Follow-ups as records; refused as a whole if one of them is.
pub(super) async fn follow_ups(inner: &Inner, then: Vec<NewTask>) -> Result<Result<Vec<Record>, EndError>, Fault> {
    let mut records = Vec::with_capacity(then.len());
    for task in then {
        if let Err(reason) = inner.check(&task) {
            let text = format!(
                "task \"{}\" for queue \"{}\" can't be published: {reason}",
                task.kind, task.queue
            );
            return Ok(Err(EndError::Refused(text)));
        }
        let room = inner.room(&task.queue).await?;
        records.push(Record::new(task, room.number, || inner.make_id()));
    }
    Ok(Ok(records))
}

/// The follow-ups of endings.
pub(super) fn records<'a>(endings: &[&'a Plain]) -> impl Iterator<Item = &'a Record> {
    endings.iter().copied().flat_map(|plain| plain.then.iter())
}
