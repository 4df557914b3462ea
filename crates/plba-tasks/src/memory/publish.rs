//! Publishing to the queue in memory: checks, what the ledger knows, and waiting for space in order.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::entry::Entry;
use super::room::Now;
use super::signals::Signals;
use super::{Inner, State};
use crate::ledger::{EntryState, Known, SourceLedger};
use crate::queue::PublishError;
use crate::task::{NewTask, QueueName, TaskId};

/// A checked task, made into an entry before the lock is taken: others work meanwhile.
struct Candidate {
    entry: Entry,
    /// Done or dead, as the ledger knows: not done again.
    finished: bool,
}

/// Candidates as of a time.
struct Batch {
    candidates: Vec<Candidate>,
    made: Now,
}

pub(super) async fn publish(inner: &Arc<Inner>, tasks: Vec<NewTask>) -> Result<Vec<TaskId>, PublishError> {
    for task in &tasks {
        check(inner, task).map_err(|reason| refused(task, reason))?;
    }
    let mut batch = prepare(inner, tasks).await?;
    let mut names: Vec<QueueName> = Vec::with_capacity(1);
    for Candidate { entry, .. } in &batch.candidates {
        if !names.contains(&entry.task.queue) {
            names.push(entry.task.queue.clone());
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

/// Makes entries, with what the ledger knows of them.
async fn prepare(inner: &Inner, tasks: Vec<NewTask>) -> Result<Batch, PublishError> {
    let made = inner.now();
    let mut ids = inner.ids();
    let candidate = |task| Candidate {
        entry: Entry::new(task, made, || make_id(&mut ids)),
        finished: false,
    };
    let mut candidates: Vec<_> = tasks.into_iter().map(candidate).collect();
    if let Some(ledger) = &inner.ledger {
        ask(ledger.as_ref(), &mut candidates).await?;
    }
    Ok(Batch { candidates, made })
}

/// Asks the ledger for what it knows, once for each source.
async fn ask(ledger: &dyn SourceLedger, candidates: &mut [Candidate]) -> Result<(), PublishError> {
    let mut sources: BTreeMap<Arc<str>, FromSource> = BTreeMap::new();
    for (place, candidate) in candidates.iter().enumerate() {
        if let Some(origin) = &candidate.entry.task.origin {
            let asked = sources.entry(Arc::clone(&origin.source)).or_default();
            asked.places.push(place);
            asked.keys.push(Arc::clone(&origin.key));
        }
    }
    for (source, FromSource { places, keys }) in sources {
        let known = ledger.known(&source, &keys).await;
        let known = known.map_err(|error| PublishError::Unknown { source: error.into() })?;
        for (place, known) in places.into_iter().zip(known) {
            if let Some(known) = known {
                candidates[place].learn(known);
            }
        }
    }
    Ok(())
}

impl Candidate {
    fn learn(&mut self, known: Known) {
        let Known {
            state, counts, history, ..
        } = known;
        self.finished = state != EntryState::Open;
        (self.entry.deliveries, self.entry.attempts, self.entry.crashes) =
            (counts.deliveries, counts.attempts, counts.crashes);
        if !history.is_empty() {
            Arc::make_mut(&mut self.entry.task).history = history;
        }
    }
}

enum Attempt {
    Published(Vec<TaskId>),
    Full(Arc<Signals>),
}

/// Publishes the whole batch, or nothing of it.
fn attempt(inner: &Inner, batch: &mut Batch, names: &[QueueName], polite: bool) -> Result<Attempt, PublishError> {
    let mut guard = inner.lock();
    let state = &mut *guard;
    let new = names.iter().filter(|name| !state.rooms.contains_key(*name)).count();
    if new > 0 && state.rooms.len() + new > inner.settings.queues {
        let reason = format!(
            "there are {} named queues, as many as `queues` allows; use fewer names",
            state.rooms.len()
        );
        return Err(match batch.candidates.first() {
            Some(Candidate { entry, .. }) => PublishError::Refused {
                queue: entry.task.queue.clone(),
                kind: entry.task.kind.clone().into_owned(),
                reason,
            },
            None => PublishError::Unknown { source: reason.into() },
        });
    }
    for name in names {
        let all = names.len() == 1;
        let inside = |candidate: &&Candidate| all || candidate.entry.task.queue == *name;
        let inside = batch.candidates.iter().filter(inside);
        let (count, bytes) = inside.fold((0, 0), |(count, bytes), candidate| {
            (count + 1, bytes + candidate.entry.size)
        });
        let room = state.room(name, inner);
        if (polite && room.waiting > 0) || !room.fits(count, bytes) {
            return Ok(Attempt::Full(Arc::clone(&room.signals)));
        }
    }
    // A publisher that waited for space publishes now, and not when it began to wait.
    let now = if polite { batch.made } else { inner.now() };
    let publish = |mut candidate: Candidate| {
        if candidate.finished {
            return candidate.entry.task.id.clone();
        }
        candidate.entry.put_off(batch.made, now);
        insert(inner, state, candidate.entry, now)
    };
    let ids = std::mem::take(&mut batch.candidates).into_iter().map(publish).collect();
    for name in names {
        state.room(name, inner).signals.ready.notify_one();
    }
    Ok(Attempt::Published(ids))
}

fn insert(inner: &Inner, state: &mut State, entry: Entry, now: Now) -> TaskId {
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
        let entry = Entry::new(task, now, || make_id(&mut inner.ids()));
        insert(inner, state, entry, now);
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
            // The next one at the gate looks for space by itself before it waits.
            state.room(name, self.inner).waiting -= 1;
        }
    }
}
