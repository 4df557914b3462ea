//! Entries of the ledger within a transaction: what queues of the same database do with them in step with their tasks, and
//! what the ledger does itself.

use std::sync::Arc;

use bytes::Bytes;
use plba_tasks::envelope::Envelope;
use plba_tasks::ledger::EntryState;
use plba_tasks::queue::{Cursor, DeadFilter, DeadLetter, DeadPage, DeadTask};
use plba_tasks::task::{EndedAttempt, Headers, Origin, QueueName, TaskId};
use rusqlite::{Connection, OptionalExtension, params};

use crate::sqlite::session::Session;

/// How many settled entries of one source are kept, so that they are recognised.
pub(in crate::sqlite) const SETTLED: i64 = 100_000;

/// How many letters one page looks at, at most.
const LOOK: i64 = 10_000;

/// The number of a state in the table.
pub(super) fn number(state: EntryState) -> i64 {
    match state {
        EntryState::Open => 0,
        EntryState::Done => 1,
        EntryState::Settled => 2,
        EntryState::Dead => 3,
    }
}

/// The state with a number.
pub(super) fn state(number: i64) -> EntryState {
    match number {
        0 => EntryState::Open,
        1 => EntryState::Done,
        2 => EntryState::Settled,
        _ => EntryState::Dead,
    }
}

/// The number of a source; it comes into being if it is not there.
pub(super) fn source(session: &Session<'_>, name: &str) -> rusqlite::Result<i64> {
    if let Some(number) = known_source(session.connection, name)? {
        return Ok(number);
    }
    session
        .connection
        .prepare_cached("INSERT INTO plba_sources (name) VALUES (?1)")?
        .execute([name])?;
    Ok(session.connection.last_insert_rowid())
}

pub(super) fn known_source(connection: &Connection, name: &str) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("SELECT number FROM plba_sources WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()
}

/// The entry of a key and its state; it comes into being, open, if it is not there.
pub(super) fn entry(session: &mut Session<'_>, source: i64, key: &str) -> rusqlite::Result<(i64, EntryState)> {
    let found = session
        .connection
        .prepare_cached("SELECT entry, state FROM plba_ledger WHERE source = ?1 AND key = ?2")?
        .query_row(params![source, key], |row| Ok((row.get(0)?, state(row.get(1)?))))
        .optional()?;
    if let Some(found) = found {
        return Ok(found);
    }
    let place = session.tick();
    session
        .connection
        .prepare_cached("INSERT INTO plba_ledger (source, key, state, place) VALUES (?1, ?2, 0, ?3)")?
        .execute(params![source, key, place])?;
    Ok((session.connection.last_insert_rowid(), EntryState::Open))
}

/// A queue of this database takes the task of an origin: gives the entry, or `None` if it is done, dead or dropped.
pub(in crate::sqlite) fn take_in(session: &mut Session<'_>, origin: &Origin) -> rusqlite::Result<Option<i64>> {
    let source = source(session, &origin.source)?;
    let (entry, state) = entry(session, source, &origin.key)?;
    if state != EntryState::Open {
        return Ok(None);
    }
    session
        .connection
        .prepare_cached("UPDATE plba_ledger SET tasked = 1 WHERE entry = ?1")?
        .execute([entry])?;
    Ok(Some(entry))
}

/// The handler succeeded.
pub(in crate::sqlite) fn done(session: &mut Session<'_>, entry: i64) -> rusqlite::Result<()> {
    shift(session, entry, EntryState::Done, false)
}

/// A queue of this database has the dead letter.
pub(in crate::sqlite) fn died(
    session: &mut Session<'_>,
    entry: i64,
    queue: &str,
    envelope: Option<&Envelope>,
    deliveries: i64,
) -> rusqlite::Result<()> {
    shift(session, entry, EntryState::Dead, true)?;
    let (kind, history) = match envelope {
        Some(envelope) => (&*envelope.kind, &*envelope.history),
        None => (plba_tasks::queue::UNDECODABLE, &[][..]),
    };
    session
        .connection
        .prepare_cached("UPDATE plba_ledger SET queue = ?2, kind = ?3, history = ?4, deliveries = ?5 WHERE entry = ?1")?
        .execute(params![entry, queue, kind, write_history(history), deliveries])
        .map(drop)
}

/// The dead letter is a task again.
pub(in crate::sqlite) fn reopened(session: &mut Session<'_>, entry: i64) -> rusqlite::Result<()> {
    shift(session, entry, EntryState::Open, true)?;
    forget_counts(session, entry)
}

/// The dead letter is gone: the key stays known, and is not taken in again.
pub(in crate::sqlite) fn dropped(session: &mut Session<'_>, entry: i64) -> rusqlite::Result<()> {
    settle(session, entry)
}

/// Moves an entry into a state, and says whether a queue of this database has its task.
pub(super) fn shift(session: &mut Session<'_>, entry: i64, state: EntryState, tasked: bool) -> rusqlite::Result<()> {
    let place = session.tick();
    session
        .connection
        .prepare_cached("UPDATE plba_ledger SET state = ?2, place = ?3, tasked = ?4, in_hand = 0 WHERE entry = ?1")?
        .execute(params![entry, number(state), place, tasked])
        .map(drop)
}

/// Only the key of an entry is of interest from now on; of too many, the longest settled go.
pub(super) fn settle(session: &mut Session<'_>, entry: i64) -> rusqlite::Result<()> {
    shift(session, entry, EntryState::Settled, false)?;
    session
        .connection
        .prepare_cached("UPDATE plba_ledger SET history = NULL, queue = NULL, kind = NULL WHERE entry = ?1")?
        .execute([entry])?;
    let (source, settled): (i64, i64) = session
        .connection
        .prepare_cached(
            "UPDATE plba_sources SET settled = settled + 1
             WHERE number = (SELECT source FROM plba_ledger WHERE entry = ?1) RETURNING number, settled",
        )?
        .query_row([entry], |row| Ok((row.get(0)?, row.get(1)?)))?;
    if settled > SETTLED {
        let gone = session
            .connection
            .prepare_cached(
                "DELETE FROM plba_ledger WHERE entry IN
                     (SELECT entry FROM plba_ledger WHERE source = ?1 AND state = 2 ORDER BY place LIMIT ?2)",
            )?
            .execute([source, settled - SETTLED])?;
        unsettle(session, source, gone)?;
    }
    Ok(())
}

/// So many settled entries of a source are there no more.
pub(super) fn unsettle(session: &Session<'_>, source: i64, count: usize) -> rusqlite::Result<()> {
    session
        .connection
        .prepare_cached("UPDATE plba_sources SET settled = settled - ?2 WHERE number = ?1")?
        .execute(params![source, i64::try_from(count).unwrap_or(0)])
        .map(drop)
}

fn forget_counts(session: &Session<'_>, entry: i64) -> rusqlite::Result<()> {
    session
        .connection
        .prepare_cached(
            "UPDATE plba_ledger SET deliveries = 0, attempts = 0, crashes = 0, published = 0 WHERE entry = ?1",
        )?
        .execute([entry])
        .map(drop)
}

/// Makes dead entries that no queue has a letter of open and pending; gives how many there were.
pub(in crate::sqlite) fn retry(
    session: &mut Session<'_>,
    queue: &QueueName,
    ids: &[TaskId],
) -> rusqlite::Result<usize> {
    let found = find_dead(session, queue, ids)?;
    for entry in &found {
        shift(session, *entry, EntryState::Open, false)?;
        forget_counts(session, *entry)?;
    }
    Ok(found.len())
}

/// Settles dead entries that no queue has a letter of; gives how many there were.
pub(in crate::sqlite) fn drop_dead(
    session: &mut Session<'_>,
    queue: &QueueName,
    ids: &[TaskId],
) -> rusqlite::Result<usize> {
    let found = find_dead(session, queue, ids)?;
    for entry in &found {
        settle(session, *entry)?;
    }
    Ok(found.len())
}

/// The oldest dead entries of a queue that no queue has a letter of, at most `count`: those beyond `limit`, and those that died
/// before a time.
pub(in crate::sqlite) fn buried(
    session: &Session<'_>,
    queue: &str,
    (limit, before): (i64, i64),
    count: i64,
) -> rusqlite::Result<Vec<i64>> {
    let last: Option<i64> = session
        .connection
        .prepare_cached(
            "SELECT place FROM plba_ledger WHERE queue = ?1 AND state = 3 AND tasked = 0
             ORDER BY place DESC LIMIT 1 OFFSET ?2",
        )?
        .query_row(params![queue, limit], |row| row.get(0))
        .optional()?;
    let mut find = session.connection.prepare_cached(
        "SELECT entry, place, history FROM plba_ledger WHERE queue = ?1 AND state = 3 AND tasked = 0
         ORDER BY place LIMIT ?2",
    )?;
    let mut rows = find.query(params![queue, count])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let beyond = last.is_some_and(|last| row.get(1).is_ok_and(|place: i64| place <= last));
        let died = || -> rusqlite::Result<Option<i64>> {
            let history = read_history(row.get(2)?);
            Ok(history.last().map(|attempt| attempt.at.as_microsecond()))
        };
        if !beyond && died()?.is_some_and(|died| died >= before) {
            break;
        }
        found.push(row.get(0)?);
    }
    Ok(found)
}

/// The dead entries of this queue whose tasks have these ids, and of which no queue has a letter.
fn find_dead(session: &Session<'_>, queue: &QueueName, ids: &[TaskId]) -> rusqlite::Result<Vec<i64>> {
    let mut found = Vec::new();
    for id in ids {
        // A source's name may contain a slash, so every way to split the id is tried.
        for (place, _) in id.as_str().match_indices('/') {
            let (source, key) = id.as_str().split_at(place);
            let entry: Option<i64> = session
                .connection
                .prepare_cached(
                    "SELECT entry FROM plba_ledger JOIN plba_sources ON number = source
                     WHERE name = ?1 AND key = ?2 AND queue = ?3 AND state = 3 AND tasked = 0",
                )?
                .query_row([source, &key[1..], queue.as_str()], |row| row.get(0))
                .optional()?;
            found.extend(entry.filter(|entry| !found.contains(entry)));
        }
    }
    Ok(found)
}

/// Dead entries behind a place, oldest first; with `alone`, only those that no queue has a letter of.
pub(in crate::sqlite) fn dead_page(
    connection: &Connection,
    filter: &DeadFilter,
    after: i64,
    limit: usize,
    alone: bool,
) -> rusqlite::Result<DeadPage> {
    let mut find = connection.prepare_cached(
        "SELECT place, name, key, queue, kind, history, deliveries FROM plba_ledger JOIN plba_sources ON number = source
         WHERE state = 3 AND place > ?1 AND (tasked = 0 OR NOT ?2) ORDER BY place LIMIT ?3",
    )?;
    let mut rows = find.query(params![after, alone, LOOK])?;
    let (mut page, mut last, mut looked) = (DeadPage::default(), after, 0);
    while let Some(row) = rows.next()? {
        if page.letters.len() == limit {
            page.next = Some(Cursor(last.to_string()));
            return Ok(page);
        }
        looked += 1;
        last = row.get(0)?;
        let letter = letter(row)?;
        if filter.matches(&letter) {
            page.letters.push(letter);
        }
    }
    if looked == LOOK {
        page.next = Some(Cursor(last.to_string()));
    }
    Ok(page)
}

/// A dead entry that no queue has a letter of: its payload is still with its source.
pub(in crate::sqlite) fn dead_task(
    connection: &Connection,
    queue: &QueueName,
    id: &TaskId,
) -> rusqlite::Result<Option<DeadTask>> {
    for (place, _) in id.as_str().match_indices('/') {
        let (source, key) = id.as_str().split_at(place);
        let letter = connection
            .prepare_cached(
                "SELECT place, name, key, queue, kind, history, deliveries FROM plba_ledger
                     JOIN plba_sources ON number = source
                 WHERE name = ?1 AND key = ?2 AND queue = ?3 AND state = 3 AND tasked = 0",
            )?
            .query_row([source, &key[1..], queue.as_str()], letter)
            .optional()?;
        if let Some(letter) = letter {
            return Ok(Some(DeadTask {
                letter,
                payload: Bytes::new(),
                headers: Headers::new(),
                decoded: true,
            }));
        }
    }
    Ok(None)
}

fn letter(row: &rusqlite::Row<'_>) -> rusqlite::Result<DeadLetter> {
    let origin = Origin::new(row.get::<_, Arc<str>>(1)?, row.get::<_, Arc<str>>(2)?);
    let history = read_history(row.get(5)?);
    let last = history.last();
    Ok(DeadLetter {
        id: origin.task_id(),
        queue: QueueName::from(row.get::<_, Option<String>>(3)?.unwrap_or_default()),
        kind: row.get::<_, Option<String>>(4)?.unwrap_or_default(),
        origin: Some(origin),
        died: last.map(|attempt| attempt.at).unwrap_or_default(),
        reason: last.map(|attempt| attempt.reason.clone()).unwrap_or_default(),
        deliveries: row.get(6)?,
        history,
    })
}

pub(super) fn read_history(text: Option<String>) -> Vec<EndedAttempt> {
    text.and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default()
}

/// Nothing, for a history without attempts.
pub(super) fn write_history(history: &[EndedAttempt]) -> Option<String> {
    (!history.is_empty()).then(|| serde_json::to_string(history).unwrap_or_default())
}
