//! What people see of tasks that are not dead: counts, and pages of summaries.

use std::collections::BTreeMap;
use std::time::Duration;

use plba_tasks::envelope::Envelope;
use plba_tasks::queue::{Cursor, QueueStats, TaskFilter, TaskPage, TaskState, TaskSummary, UNDECODABLE};
use plba_tasks::task::{Priority, QueueName, TaskId};
use rusqlite::{Connection, OptionalExtension, params};

use super::dead::queues;
use crate::sqlite::session::{count, stamp};
use crate::sqlite::state::{State, ready_rank};

/// How many tasks one page looks at, at most.
const LOOK: i64 = 10_000;

/// A queue with at most so many tasks is sorted; a larger one is read in the order of the table.
const SORTED: i64 = 20_000;

/// The counts of every queue; and those in which something is due that nobody has done yet.
pub(super) fn stats(connection: &Connection, now: i64) -> rusqlite::Result<(Vec<QueueStats>, Vec<QueueName>)> {
    let mut find = connection.prepare_cached(
        "SELECT number, name, paused, ready, delayed, held, leased, dead, bytes FROM plba_queues ORDER BY name",
    )?;
    let mut rows = find.query([])?;
    let (mut all, mut due) = (Vec::new(), Vec::new());
    while let Some(row) = rows.next()? {
        let number: i64 = row.get(0)?;
        let name: String = row.get(1)?;
        let paused: i64 = row.get(2)?;
        if is_due(connection, number, now)? {
            due.push(QueueName::from(name.as_str()));
        }
        let oldest = oldest(connection, number)?;
        all.push(QueueStats {
            queue: name,
            ready: count(row, 3)?,
            delayed: count(row, 4)?,
            held: count(row, 5)?,
            leased: count(row, 6)?,
            dead: count(row, 7)?,
            bytes: count(row, 8)?,
            oldest: oldest.map(|since| Duration::from_micros(u64::try_from(now - since).unwrap_or(0))),
            paused: paused > now,
            paused_until: (paused > now && paused < i64::MAX).then(|| stamp(paused)),
            ..QueueStats::default()
        });
    }
    Ok((all, due))
}

fn is_due(connection: &Connection, queue: i64, now: i64) -> rusqlite::Result<bool> {
    connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM plba_tasks WHERE queue = ?1 AND state = 2 AND rank <= ?2)
                 OR EXISTS (SELECT 1 FROM plba_tasks WHERE queue = ?1 AND state IN (4, 5) AND rank <= ?2)
                 OR EXISTS (SELECT 1 FROM plba_tasks
                     WHERE queue = ?1 AND expires IS NOT NULL AND state < 4 AND expires <= ?2)",
        )?
        .query_row([queue, now], |row| row.get(0))
}

/// Since when the task has been ready that has been ready longest: the first of its class, or a suspect.
fn oldest(connection: &Connection, queue: i64) -> rusqlite::Result<Option<i64>> {
    let mut first = connection.prepare_cached(
        "SELECT since FROM plba_tasks WHERE queue = ?1 AND state = ?2 AND rank >= ?3 AND rank < ?4 ORDER BY rank LIMIT 1",
    )?;
    let mut oldest = None;
    for (state, class) in [
        (State::Ready, 0),
        (State::Ready, 1),
        (State::Ready, 2),
        (State::Suspect, 0),
    ] {
        let values = params![queue, state.number(), ready_rank(class, 0), ready_rank(class + 1, 0)];
        let since: Option<i64> = first.query_row(values, |row| row.get(0)).optional()?;
        oldest = [oldest, since].into_iter().flatten().min();
    }
    Ok(oldest)
}

const COLUMNS: &str = "seq, id, state, rank, bytes, deliveries, attempts, envelope,
    (SELECT name FROM plba_consumers WHERE number = holder)";

/// A page of tasks: by queue, and within one in the order of publication.
pub(super) fn tasks(
    connection: &Connection,
    filter: &TaskFilter,
    cursor: Option<&Cursor>,
    limit: usize,
) -> rusqlite::Result<TaskPage> {
    let cursor = cursor.map(|cursor| cursor.0.as_str()).unwrap_or_default();
    let (seq, name) = cursor.split_once(':').unwrap_or(("0", ""));
    let mut after: i64 = seq.parse().unwrap_or(0);
    let mut page = TaskPage::default();
    for (number, queue) in queues(connection, filter.queue.as_ref(), name)? {
        if queue != name {
            after = 0;
        }
        let from = |after: i64| Some(Cursor(format!("{after}:{queue}")));
        let (found, end) = scan(connection, number, after)?;
        for (seq, task) in found {
            let task = summary(&queue, task);
            if filter.matches(&task) {
                if page.tasks.len() == limit {
                    page.next = from(after);
                    return Ok(page);
                }
                page.tasks.push(task);
            }
            after = seq;
        }
        if let Some(end) = end {
            page.next = from(end);
            return Ok(page);
        }
    }
    Ok(page)
}

/// A row of [`COLUMNS`].
struct Found {
    id: String,
    state: State,
    rank: i64,
    bytes: u64,
    deliveries: u32,
    attempts: u32,
    envelope: Vec<u8>,
    holder: Option<String>,
}

/// Some of a queue's tasks behind a tick, and the tick to go on from, if there may be more.
fn scan(connection: &Connection, queue: i64, after: i64) -> rusqlite::Result<(BTreeMap<i64, Found>, Option<i64>)> {
    let tasks: i64 = connection
        .prepare_cached("SELECT ready + delayed + held + leased FROM plba_queues WHERE number = ?1")?
        .query_row([queue], |row| row.get(0))?;
    if tasks == 0 {
        return Ok((BTreeMap::new(), None));
    }
    let read = |row: &rusqlite::Row<'_>| {
        let found = Found {
            id: row.get(1)?,
            state: State::of(row.get(2)?),
            rank: row.get(3)?,
            bytes: count(row, 4)?,
            deliveries: row.get(5)?,
            attempts: row.get(6)?,
            envelope: row.get(7)?,
            holder: row.get(8)?,
        };
        Ok((row.get::<_, i64>(0)?, found))
    };
    if tasks <= SORTED {
        let mut find = connection.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM plba_tasks INDEXED BY plba_tasks_state
             WHERE queue = ?1 AND state < 6 AND seq > ?2 ORDER BY seq LIMIT ?3"
        ))?;
        let found: BTreeMap<_, _> = find.query_map([queue, after, LOOK], read)?.collect::<Result<_, _>>()?;
        let last = found.last_key_value().map(|(seq, _)| *seq);
        let end = last.filter(|_| found.len() as i64 == LOOK);
        return Ok((found, end));
    }
    // The last of the next so many rows, whichever queue they belong to.
    let end: Option<i64> = connection
        .prepare_cached("SELECT seq FROM plba_tasks WHERE seq > ?1 ORDER BY seq LIMIT 1 OFFSET ?2")?
        .query_row([after, LOOK], |row| row.get(0))
        .optional()?;
    let mut find = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM plba_tasks NOT INDEXED
         WHERE queue = ?1 AND state < 6 AND seq > ?2 AND seq <= ?3 ORDER BY seq"
    ))?;
    let found = find
        .query_map([queue, after, end.unwrap_or(i64::MAX)], read)?
        .collect::<Result<_, _>>()?;
    Ok((found, end))
}

fn summary(queue: &str, found: Found) -> TaskSummary {
    let envelope = Envelope::decode(&found.envelope).ok();
    let state = match found.state {
        State::Ready | State::Suspect | State::Dead => TaskState::Ready,
        State::Delayed => TaskState::Delayed,
        State::Held => TaskState::Held,
        State::Leased | State::Alone => TaskState::Leased,
    };
    let due = matches!(state, TaskState::Delayed | TaskState::Leased).then(|| stamp(found.rank));
    let mut summary = TaskSummary {
        id: TaskId::from(found.id),
        queue: QueueName::from(queue),
        kind: UNDECODABLE.to_owned(),
        state,
        priority: Priority::Normal,
        key: None,
        origin: None,
        published: jiff::Timestamp::UNIX_EPOCH,
        due,
        attempts: found.attempts,
        deliveries: found.deliveries,
        bytes: found.bytes,
        holder: found.holder.filter(|_| state == TaskState::Leased),
        last: None,
    };
    if let Some(mut envelope) = envelope {
        summary.kind = envelope.kind.into_owned();
        summary.priority = envelope.priority;
        summary.key = envelope.key.map(|key| key.to_string());
        summary.origin = envelope.origin;
        summary.published = envelope.published;
        summary.last = envelope.history.pop();
    }
    summary
}
