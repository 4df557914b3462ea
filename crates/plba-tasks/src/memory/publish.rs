//! Publishing to the queue in memory: checks, what the ledger knows, and waiting for space in order.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::entry::Entry;
use super::room::Now;
use super::signals::Signals;
use super::{Inner, State};
use crate::ledger::{EntryState, Known};
use crate::queue::PublishError;
use crate::task::{NewTask, QueueName, TaskId};

/// A checked task, with what the ledger knows of it.
struct Candidate {
    task: NewTask,
    /// Boxed, because most often there is none.
    known: Option<Box<Known>>,
}

pub(super) async fn publish(inner: &Arc<Inner>, tasks: Vec<NewTask>) -> Result<Vec<TaskId>, PublishError> {
    for task in &tasks {
        check(inner, task).map_err(|reason| refused(task, reason))?;
    }
    let mut batch = candidates(inner, tasks).await?;
    let mut names: Vec<QueueName> = Vec::with_capacity(1);
    for Candidate { task, .. } in &batch {
        if !names.contains(&task.queue) {
            names.push(task.queue.clone());
        }
    }
    names.sort_unstable();
    match attempt(inner, &mut batch, &names, true)? {
        Attempt::Published(ids) => return Ok(ids),
        Attempt::Full(_) => {}
    }
    // One of the queues is full, or others wait already: queue up at the gates, always in the order of names, so that two
    // publishers never wait for each other.
    let waiting = Waiting::new(inner, &names);
    let mut gates = Vec::with_capacity(names.len());
    for signals in &waiting.signals {
        gates.push(Arc::clone(&signals.gate).lock_owned().await);
    }
    loop {
        match attempt(inner, &mut batch, &names, false)? {
            Attempt::Published(ids) => return Ok(ids),
            Attempt::Full(signals) => signals.space.notified().await,
        }
    }
}

/// What is wrong with a task, for this backend.
pub(super) fn check(inner: &Inner, task: &NewTask) -> Result<(), String> {
    task.check()?;
    let (size, limit) = (task.size(), inner.settings.task_bytes);
    if size > limit {
        return Err(format!(
            "it takes {size} bytes and a task may take {limit}; publish where the data is, not the data"
        ));
    }
    Ok(())
}

/// The tasks of a batch that come from one source: their places in the batch, and their keys.
#[derive(Default)]
struct FromSource {
    places: Vec<usize>,
    keys: Vec<Arc<str>>,
}

/// Asks the ledger for what it knows, once for each source.
async fn candidates(inner: &Inner, tasks: Vec<NewTask>) -> Result<Vec<Candidate>, PublishError> {
    let plain = |task| Candidate { task, known: None };
    let mut batch: Vec<_> = tasks.into_iter().map(plain).collect();
    let Some(ledger) = &inner.ledger else { return Ok(batch) };
    let mut sources: BTreeMap<Arc<str>, FromSource> = BTreeMap::new();
    for (place, candidate) in batch.iter().enumerate() {
        if let Some(origin) = &candidate.task.origin {
            let asked = sources.entry(Arc::clone(&origin.source)).or_default();
            asked.places.push(place);
            asked.keys.push(Arc::clone(&origin.key));
        }
    }
    for (source, FromSource { places, keys }) in sources {
        let known = ledger.known(&source, &keys).await;
        let known = known.map_err(|error| PublishError::Unknown { source: error.into() })?;
        for (place, known) in places.into_iter().zip(known) {
            batch[place].known = known.map(Box::new);
        }
    }
    Ok(batch)
}

enum Attempt {
    Published(Vec<TaskId>),
    Full(Arc<Signals>),
}

/// Publishes the whole batch, or nothing of it.
fn attempt(
    inner: &Inner,
    batch: &mut Vec<Candidate>,
    names: &[QueueName],
    polite: bool,
) -> Result<Attempt, PublishError> {
    let now = inner.now();
    let mut guard = inner.lock();
    let state = &mut *guard;
    let new = names.iter().filter(|name| !state.rooms.contains_key(*name)).count();
    if new > 0 && state.rooms.len() + new > inner.settings.queues {
        let reason = format!(
            "there are {} named queues, as many as `queues` allows; use fewer names",
            state.rooms.len()
        );
        return Err(match batch.first() {
            Some(candidate) => refused(&candidate.task, reason),
            None => PublishError::Unknown { source: reason.into() },
        });
    }
    for name in names {
        let inside = batch.iter().filter(|candidate| candidate.task.queue == *name);
        let (count, bytes) = inside.fold((0, 0), |(count, bytes), candidate| {
            (count + 1, bytes + candidate.task.size())
        });
        let room = state.room(name, inner);
        if (polite && room.waiting > 0) || !room.fits(count, bytes) {
            return Ok(Attempt::Full(Arc::clone(&room.signals)));
        }
    }
    let ids = std::mem::take(batch)
        .into_iter()
        .map(|candidate| insert(inner, state, candidate, now))
        .collect();
    for name in names {
        state.room(name, inner).signals.ready.notify_one();
    }
    Ok(Attempt::Published(ids))
}

fn insert(inner: &Inner, state: &mut State, candidate: Candidate, now: Now) -> TaskId {
    let Candidate { task, known } = candidate;
    let mut entry = Entry::new(task, now, || make_id(&mut state.ids));
    if let Some(known) = known {
        // What is done or dead is not done again.
        if known.state != EntryState::Open {
            return entry.task.id.clone();
        }
        (entry.deliveries, entry.attempts, entry.crashes) =
            (known.counts.deliveries, known.counts.attempts, known.counts.crashes);
        if !known.history.is_empty() {
            Arc::make_mut(&mut entry.task).history = known.history;
        }
    }
    if let Some(room) = state.rooms.get_mut(&entry.task.queue) {
        return room.publish(entry, now);
    }
    let queue = entry.task.queue.clone();
    state.room(&queue, inner).publish(entry, now)
}

/// Publishes follow-ups, checked before, whatever the bounds say: an ack that waited for space could wait for itself.
pub(super) fn follow_up(inner: &Inner, state: &mut State, tasks: Vec<NewTask>, now: Now) {
    for task in tasks {
        let name = task.queue.clone();
        insert(inner, state, Candidate { task, known: None }, now);
        state.room(&name, inner).signals.ready.notify_one();
    }
}

/// 26 digits of base 32: 128 random bits.
fn make_id(random: &mut fastrand::Rng) -> TaskId {
    const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let mut bits = random.u128(..);
    let mut text = [b'0'; 26];
    for place in text.iter_mut().rev() {
        *place = DIGITS[(bits & 31) as usize];
        bits >>= 5;
    }
    // All digits are ASCII.
    TaskId::from(str::from_utf8(&text).unwrap_or_default())
}

fn refused(task: &NewTask, reason: String) -> PublishError {
    PublishError::Refused {
        queue: task.queue.clone(),
        kind: task.kind.clone().into_owned(),
        reason,
    }
}

/// Counts a waiting publisher in its queues, so that newcomers queue up behind it.
struct Waiting<'a> {
    inner: &'a Inner,
    names: &'a [QueueName],
    signals: Vec<Arc<Signals>>,
}

impl<'a> Waiting<'a> {
    fn new(inner: &'a Inner, names: &'a [QueueName]) -> Self {
        let mut state = inner.lock();
        let enter = |name| {
            let room = state.room(name, inner);
            room.waiting += 1;
            Arc::clone(&room.signals)
        };
        let signals = names.iter().map(enter).collect();
        Self { inner, names, signals }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.inner.lock();
        for name in self.names {
            let room = state.room(name, self.inner);
            room.waiting -= 1;
            // Space that this publisher was told of, and did not use, is the next one's.
            if room.waiting > 0 {
                room.signals.space.notify_one();
            }
        }
    }
}
