//! Publishing: checks, space, and rows of new tasks. Who waits for space is [`super::SqliteTaskQueue`]'s business.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use plba_tasks::envelope::{Envelope, expiry};
use plba_tasks::task::{NewTask, QueueName, TaskId};
use rusqlite::params;

use super::{lines, sweep, unique};
use crate::sqlite::ledger::entries;
use crate::sqlite::session::{Hot, Session, span};
use crate::sqlite::settings::SqliteSettings;
use crate::sqlite::signals::Signal;
use crate::sqlite::state::{State, ready_rank};

/// Payloads up to so many bytes lie in the task's own row; moves rewrite that.
const SMALL: usize = 1_024;

/// A task that is to be published, as far as it can be prepared outside the transaction.
pub(super) struct Draft {
    pub(super) task: NewTask,
    pub(super) envelope: Vec<u8>,
    pub(super) published: Timestamp,
    pub(super) expires: Option<i64>,
    pub(super) bytes: i64,
}

impl Draft {
    pub(super) fn new(task: NewTask, published: Timestamp) -> Self {
        Self {
            envelope: Envelope::encode_new(&task, published),
            published,
            expires: expiry(&task, published).map(Timestamp::as_microsecond),
            bytes: task.size() as i64,
            task,
        }
    }

    fn restamp(&mut self, published: Timestamp) {
        self.envelope = Envelope::encode_new(&self.task, published);
        self.expires = expiry(&self.task, published).map(Timestamp::as_microsecond);
        self.published = published;
    }
}

/// What is wrong with a task, for this backend.
pub(super) fn check(settings: &SqliteSettings, task: &NewTask) -> Result<(), String> {
    task.check()?;
    let (size, limit) = (task.size(), settings.task_bytes);
    if size > limit {
        return Err(format!(
            "it takes {size} bytes and a task may take {limit}; publish where the data is, not the data"
        ));
    }
    Ok(())
}

/// A whole batch.
pub(super) struct Batch {
    drafts: Vec<Draft>,
    /// How many tasks and bytes go to each queue.
    needs: BTreeMap<QueueName, (i64, i64)>,
}

impl Batch {
    pub(super) fn new(drafts: Vec<Draft>) -> Self {
        let mut needs: BTreeMap<QueueName, (i64, i64)> = BTreeMap::new();
        for draft in &drafts {
            match needs.get_mut(&draft.task.queue) {
                Some(need) => *need = (need.0 + 1, need.1 + draft.bytes),
                None => {
                    needs.insert(draft.task.queue.clone(), (1, draft.bytes));
                }
            }
        }
        Self { drafts, needs }
    }

    /// Published now instead: it has waited for space.
    pub(super) fn restamp(&mut self, published: Timestamp) {
        self.drafts.iter_mut().for_each(|draft| draft.restamp(published));
    }

    pub(super) fn first(&self) -> Option<&NewTask> {
        self.drafts.first().map(|draft| &draft.task)
    }

    /// The queues it goes to, in the order of their names.
    pub(super) fn queues(&self) -> impl Iterator<Item = &QueueName> {
        self.needs.keys()
    }
}

/// What became of a batch.
pub(super) enum Attempt {
    Published(Vec<TaskId>),
    /// One of its queues has no space.
    Full(Arc<Signal>),
    /// There are as many queues as may be.
    Crowded,
}

/// Publishes the whole batch, or nothing of it. A polite one gives way to those that wait for space already.
pub(super) fn publish(session: &mut Session<'_>, batch: &Batch, polite: bool) -> rusqlite::Result<Attempt> {
    for (name, need) in &batch.needs {
        let Some(room) = session.room(name)? else {
            return Ok(Attempt::Crowded);
        };
        let waits = polite && session.rooms[room].signal.is_crowded();
        if waits || !fits(session, room, *need)? {
            return Ok(Attempt::Full(Arc::clone(&session.rooms[room].signal)));
        }
    }
    let mut ids = Vec::with_capacity(batch.drafts.len());
    for draft in &batch.drafts {
        match insert(session, draft)? {
            Some(id) => ids.push(id),
            None => return Ok(Attempt::Crowded),
        }
    }
    Ok(Attempt::Published(ids))
}

/// Whether so much more fits. An empty queue takes whatever comes, or a large batch could never be published.
fn fits(session: &mut Session<'_>, room: usize, (count, bytes): (i64, i64)) -> rusqlite::Result<bool> {
    let capacity = i64::try_from(session.settings.capacity).unwrap_or(i64::MAX / 2);
    let most = i64::try_from(session.settings.bytes).unwrap_or(i64::MAX / 2);
    for swept in [false, true] {
        if swept {
            // What expired, or died with its consumer, takes no space.
            sweep::advance(session, room, sweep::PASS)?;
        }
        let there = &session.rooms[room];
        let within = there.count() + count <= capacity && there.bytes + bytes <= most;
        if within || there.count() == 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Makes the row of a new task. One that is known already stays as it is. `None` when its queue can't be made.
pub(super) fn insert(session: &mut Session<'_>, draft: &Draft) -> rusqlite::Result<Option<TaskId>> {
    let task = &draft.task;
    let Some(room) = session.room(&task.queue)? else {
        return Ok(None);
    };
    let id = match &task.id {
        Some(id) => id.clone(),
        None => make_id(session),
    };
    // What depends on more than the id must know first whether that is there.
    let plain = task.unique.is_none() && !task.ordered && (task.origin.is_none() || !session.ledger);
    if !plain && task.id.is_some() && is_known(session, room, &id)? {
        return Ok(Some(id));
    }
    let entry = match &task.origin {
        Some(origin) if session.ledger => match entries::take_in(session, origin)? {
            Some(entry) => Some(entry),
            // Done, or dead, or dropped: it is not done again.
            None => return Ok(Some(id)),
        },
        _ => None,
    };
    if let unique::Claim::Stands(other) = unique::claim(session, room, draft)? {
        return Ok(Some(other));
    }
    let seq = session.tick();
    let due = session.now.saturating_add(span(task.delay));
    let priority = i64::from(task.priority as u8);
    let waits = match &task.key {
        Some(key) if task.ordered => lines::has_line(session, room, key)?,
        _ => false,
    };
    let (state, rank, since) = if waits {
        (State::Held, seq, due)
    } else if due > session.now {
        (State::Delayed, due, session.now)
    } else {
        (State::Ready, ready_rank(priority, seq), session.now)
    };
    let small = (task.payload.len() <= SMALL).then_some(&*task.payload);
    let queue = session.rooms[room].number;
    let inserted = session.hot(Hot::Insert)?.execute(params![
        seq,
        queue,
        state.number(),
        rank,
        since,
        priority,
        draft.bytes,
        task.ordered,
        draft.expires,
        task.key.as_deref(),
        task.unique.as_ref().map(|unique| &*unique.key),
        entry,
        id.as_str(),
        draft.envelope,
        small
    ])?;
    if inserted == 0 {
        return Ok(Some(id));
    }
    if small.is_none() {
        put_large(session, seq, &task.payload)?;
    }
    unique::take(session, room, draft, seq, id.as_str())?;
    let counts = &mut session.rooms[room];
    counts.enter(state, draft.bytes);
    counts.bytes += draft.bytes;
    counts.tally.published += 1;
    Ok(Some(id))
}

/// Puts a payload where a task's payload lies.
pub(super) fn put_payload(session: &Session<'_>, seq: i64, payload: &[u8]) -> rusqlite::Result<()> {
    let small = (payload.len() <= SMALL).then_some(payload);
    session
        .connection
        .prepare_cached("UPDATE plba_tasks SET payload = ?2 WHERE seq = ?1")?
        .execute(params![seq, small])?;
    match small {
        Some(_) => Ok(()),
        None => put_large(session, seq, payload),
    }
}

fn put_large(session: &Session<'_>, seq: i64, payload: &[u8]) -> rusqlite::Result<()> {
    session
        .connection
        .prepare_cached("INSERT OR REPLACE INTO plba_payloads (seq, payload) VALUES (?1, ?2)")?
        .execute(params![seq, payload])
        .map(drop)
}

fn is_known(session: &Session<'_>, room: usize, id: &TaskId) -> rusqlite::Result<bool> {
    session
        .connection
        .prepare_cached("SELECT 1 FROM plba_tasks WHERE queue = ?1 AND id = ?2")?
        .exists(params![session.rooms[room].number, id.as_str()])
}

/// 26 digits of base 32: 48 bits of time in milliseconds, so that new ids lie together in their index, and 80 random ones.
fn make_id(session: &mut Session<'_>) -> TaskId {
    const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let time = (session.now / 1_000).unsigned_abs() & ((1 << 48) - 1);
    let mut bits = (u128::from(time) << 80) | (session.random.u128(..) >> 48);
    let mut text = [b'0'; 26];
    for place in text.iter_mut().rev() {
        *place = DIGITS[(bits & 31) as usize];
        bits >>= 5;
    }
    // All digits are ASCII.
    TaskId::from(str::from_utf8(&text).unwrap_or_default())
}
