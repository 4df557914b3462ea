//! Publishing: checks, waiting while a queue is full, and one statement for what several callers publish at once.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use plba_tasks::queue::PublishError;
use plba_tasks::task::{NewTask, TaskId};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use tokio_postgres::types::Type;

use super::super::fault::{Fault, Kind};
use super::Inner;
use super::combine::Weighed;
use super::record::{Columns, Record, counting, sorted};
use super::room::{Room, add};

/// After having met ids that were known, so many publishes ask first.
const CAREFUL: u32 = 20;

/// A caller's tasks on their way, and where the answer goes.
pub(super) struct Request {
    records: Vec<Record>,
    /// The queues whose tasks are to be counted before, and what goes there.
    counted: Vec<Goes>,
    answer: oneshot::Sender<(Vec<Record>, Result<Answer, Fault>)>,
}

/// What one call brings to one queue.
#[derive(Clone)]
struct Goes {
    room: Arc<Room>,
    count: u64,
    bytes: u64,
}

enum Answer {
    /// With the ids that others have instead: the position in the call, and the id.
    Published(Vec<(usize, TaskId)>),
    Full(i32),
}

impl Weighed for Request {
    fn rows(&self) -> usize {
        self.records.len()
    }

    fn bytes(&self) -> usize {
        self.records.iter().map(Record::bytes).sum()
    }

    fn alone(&self) -> bool {
        !self.counted.is_empty()
    }
}

pub(super) async fn publish(inner: &Arc<Inner>, tasks: Vec<NewTask>) -> Result<Vec<TaskId>, PublishError> {
    for task in &tasks {
        inner.check(task).map_err(|reason| PublishError::Refused {
            queue: task.queue.clone(),
            kind: task.kind.clone().into_owned(),
            reason,
        })?;
    }
    if tasks.is_empty() {
        return Ok(Vec::new());
    }
    let mut goes: Vec<Goes> = Vec::with_capacity(1);
    let mut records = Vec::with_capacity(tasks.len());
    for task in tasks {
        let place = match goes.iter().position(|goes| goes.room.name == task.queue) {
            Some(place) => place,
            None => {
                let room = inner.room(&task.queue).await?;
                goes.push(Goes {
                    room,
                    count: 0,
                    bytes: 0,
                });
                goes.len() - 1
            }
        };
        let record = Record::new(task, goes[place].room.number, || inner.make_id());
        goes[place].count += 1;
        goes[place].bytes += u64::try_from(record.size).unwrap_or(0);
        records.push(record);
    }
    let mut ids: Vec<TaskId> = records.iter().map(|record| record.id.clone()).collect();
    goes.sort_by_key(|goes| goes.room.number);
    let polite = goes.iter().all(|goes| goes.room.waiting.load(Ordering::Relaxed) == 0);
    let mut changed = None;
    if polite {
        let (back, answer) = attempt(inner, records, to_count(inner, &goes)).await;
        match answer? {
            Answer::Published(others) => changed = Some(others),
            Answer::Full(_) => {}
        }
        records = back;
    }
    let changed = match changed {
        Some(changed) => changed,
        None => in_line(inner, records, &goes).await?,
    };
    for (place, id) in changed {
        ids[place] = id;
    }
    Ok(ids)
}

/// One of the queues is full, or others wait already: publishes as soon as there is space, first come, first served among
/// the publishers of this process.
async fn in_line(inner: &Arc<Inner>, mut records: Vec<Record>, goes: &[Goes]) -> Result<Vec<(usize, TaskId)>, Fault> {
    let _waiting = Waiting::new(goes);
    let mut gates = Vec::with_capacity(goes.len());
    for goes in goes {
        // Always in the order of their numbers, so that two publishers never wait for each other.
        gates.push(Arc::clone(&goes.room.gate).lock_owned().await);
    }
    let mut pause = Duration::from_millis(10);
    loop {
        let (back, answer) = attempt(inner, records, to_count(inner, goes)).await;
        let full = match answer? {
            Answer::Published(changed) => return Ok(changed),
            Answer::Full(number) => number,
        };
        records = back;
        // Other processes make space too, and don't tell.
        let jittered = pause.mul_f64(0.5 + fastrand::f64() / 2.0);
        pause = (pause * 2).min(Duration::from_millis(250));
        match goes.iter().find(|goes| goes.room.number == full) {
            Some(goes) => _ = timeout(jittered, goes.room.space.notified()).await,
            None => sleep(jittered).await,
        }
    }
}

/// Counts a waiting publisher in its queues.
struct Waiting<'a>(&'a [Goes]);

impl<'a> Waiting<'a> {
    fn new(goes: &'a [Goes]) -> Self {
        for goes in goes {
            goes.room.waiting.fetch_add(1, Ordering::Relaxed);
        }
        Self(goes)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        for goes in self.0 {
            goes.room.waiting.fetch_sub(1, Ordering::Relaxed);
            // Space that this publisher was told of, and did not use, is the next one's.
            goes.room.space.notify_one();
        }
    }
}

fn to_count(inner: &Inner, goes: &[Goes]) -> Vec<Goes> {
    let bounds = (inner.settings.capacity as u64, inner.settings.bytes as u64);
    let must = |goes: &&Goes| goes.room.must_count((goes.count, goes.bytes), bounds);
    goes.iter().filter(must).cloned().collect()
}

/// Publishes all of the records or, when a queue is full, none. Dropped, it has done the one or the other.
async fn attempt(inner: &Arc<Inner>, records: Vec<Record>, counted: Vec<Goes>) -> (Vec<Record>, Result<Answer, Fault>) {
    let (answer, answered) = oneshot::channel();
    let request = Request {
        records,
        counted,
        answer,
    };
    if let Some(flight) = inner.publishes.submit(request) {
        flight.hand_over();
        let inner = Arc::clone(inner);
        inner.target.executor().clone().spawn(async move {
            let mut flight = inner.publishes.resume();
            loop {
                let batch = flight.next();
                if batch.is_empty() {
                    return;
                }
                fly(&inner, batch).await;
            }
        });
    }
    let stopping = || Fault::new(Kind::Later, "the workers' executor is shutting down");
    answered.await.unwrap_or_else(|_| (Vec::new(), Err(stopping())))
}

/// One statement for several callers.
async fn fly(inner: &Arc<Inner>, mut batch: Vec<Request>) {
    batch.retain(|request| !request.answer.is_closed());
    if batch.is_empty() {
        return;
    }
    let outcome = send(inner, &batch).await;
    // A statement that is refused for what it says is one caller's fault, and none of the others'.
    if matches!(&outcome, Err(fault) if fault.kind == Kind::Statement) && batch.len() > 1 {
        for request in batch {
            let outcome = send(inner, std::slice::from_ref(&request)).await;
            answer(inner, vec![request], outcome);
        }
        return;
    }
    answer(inner, batch, outcome);
}

/// What the server said of a whole batch.
enum Sent {
    Published(Vec<(usize, TaskId)>),
    Full(i32),
}

async fn send(inner: &Inner, batch: &[Request]) -> Result<Sent, Fault> {
    let columns = Columns::new(batch.iter().flat_map(|request| &request.records));
    let counted: Vec<&Goes> = batch.iter().flat_map(|request| &request.counted).collect();
    let locks = batch
        .iter()
        .flat_map(|request| &request.records)
        .flat_map(Record::locks);
    let locks = sorted(
        locks
            .chain(counted.iter().map(|goes| counting(goes.room.number)))
            .collect(),
    );
    let queues: Vec<i32> = counted.iter().map(|goes| goes.room.number).collect();
    let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let counts: Vec<i64> = counted.iter().map(|goes| signed(goes.count)).collect();
    let bytes: Vec<i64> = counted.iter().map(|goes| signed(goes.bytes)).collect();
    let (capacity, room) = (
        signed(inner.settings.capacity as u64),
        signed(inner.settings.bytes as u64),
    );
    let now = inner.now();
    let careful = inner.careful.load(Ordering::Relaxed);
    let is_careful = careful > 0;
    let mut values = vec![
        (&now as _, Type::INT8),
        (&inner.channel as _, Type::TEXT),
        (&locks as _, Type::INT4_ARRAY),
        (&queues as _, Type::INT4_ARRAY),
        (&counts as _, Type::INT8_ARRAY),
        (&bytes as _, Type::INT8_ARRAY),
        (&capacity as _, Type::INT8),
        (&room as _, Type::INT8),
        (&is_careful as _, Type::BOOL),
    ];
    values.extend(columns.values());
    let rows = inner.verbs.query(&inner.texts.publish, &values).await?;
    let Some(row) = rows.first() else {
        return Err(Fault::new(
            Kind::Statement,
            "PostgreSQL did not tell what was published",
        ));
    };
    if let Some(full) = row.try_get(0)? {
        return Ok(Sent::Full(full));
    }
    let inserted = row.try_get::<_, Option<i32>>(1)?.unwrap_or(0);
    let known = usize::try_from(inserted).unwrap_or(0) < columns.len();
    let careful = if known { CAREFUL } else { careful.saturating_sub(1) };
    inner.careful.store(careful, Ordering::Relaxed);
    let (changed, ids): (Option<Vec<i32>>, Option<Vec<Vec<u8>>>) = (row.try_get(2)?, row.try_get(3)?);
    let (counts, bytes): (Option<Vec<i64>>, Option<Vec<i64>>) = (row.try_get(4)?, row.try_get(5)?);
    let there = counts.unwrap_or_default().into_iter().zip(bytes.unwrap_or_default());
    for (goes, (count, bytes)) in counted.iter().zip(there) {
        goes.room.counted((count.cast_unsigned(), bytes.cast_unsigned()));
    }
    let changed = changed.unwrap_or_default().into_iter().zip(ids.unwrap_or_default());
    let id = |bytes: Vec<u8>| TaskId::from(String::from_utf8_lossy(&bytes).into_owned());
    let place = |order: i32| usize::try_from(order - 1).unwrap_or(0);
    Ok(Sent::Published(
        changed.map(|(order, bytes)| (place(order), id(bytes))).collect(),
    ))
}

/// Tells the callers, and the consumers of this process.
fn answer(inner: &Inner, batch: Vec<Request>, outcome: Result<Sent, Fault>) {
    let mut first = 0;
    for request in batch {
        let Request { records, answer, .. } = request;
        let here = first..first + records.len();
        first = here.end;
        let outcome = match &outcome {
            Err(fault) => Err(fault.again()),
            Ok(Sent::Full(number)) => Ok(Answer::Full(*number)),
            Ok(Sent::Published(changed)) => {
                note(inner, &records);
                let mine = changed.iter().filter(|(place, _)| here.contains(place));
                Ok(Answer::Published(
                    mine.map(|(place, id)| (place - here.start, id.clone())).collect(),
                ))
            }
        };
        // Nobody waits any more for what is published all the same.
        let _dropped = answer.send((records, outcome));
    }
}

/// Records were published: counts them, and wakes who waits for them.
pub(super) fn note<'a>(inner: &Inner, records: impl IntoIterator<Item = &'a Record>) {
    let mut sums: Vec<(i32, u64, u64)> = Vec::with_capacity(1);
    for record in records {
        let bytes = u64::try_from(record.size).unwrap_or(0);
        match sums.iter_mut().find(|sum| sum.0 == record.queue) {
            Some(sum) => (sum.1, sum.2) = (sum.1 + 1, sum.2 + bytes),
            None => sums.push((record.queue, 1, bytes)),
        }
    }
    for (number, count, bytes) in sums {
        if let Some(room) = inner.known(number) {
            add(&room.counts.published, count);
            room.added(count, bytes);
            room.ready.notify_one();
        }
    }
}
