//! Dead letters as people deal with them: listed, looked at, retried, dropped.

use bytes::Bytes;
use plba_tasks::envelope::Envelope;
use plba_tasks::queue::{Cursor, DeadFilter, DeadLetter, DeadPage, DeadTask, UNDECODABLE};
use plba_tasks::task::{Headers, QueueName, TaskId};
use rusqlite::{Connection, OptionalExtension, params};

use super::row::{Row, delete};
use super::{lines, unique};
use crate::sqlite::ledger::entries;
use crate::sqlite::session::{Session, stamp};
use crate::sqlite::state::State;

/// How many letters one page looks at, at most.
const LOOK: usize = 10_000;

const LEDGER: &str = "ledger:";

/// A page of dead letters: those of the queues by name, then those that only the ledger has.
pub(super) fn page(
    connection: &Connection,
    filter: &DeadFilter,
    cursor: Option<&Cursor>,
    limit: usize,
    ledger: bool,
) -> rusqlite::Result<DeadPage> {
    let cursor = cursor.map(|cursor| cursor.0.as_str()).unwrap_or_default();
    let mut page = DeadPage::default();
    if let Some(place) = cursor.strip_prefix(LEDGER) {
        return entries::dead_page(connection, filter, place.parse().unwrap_or(0), limit, true).map(in_ledger);
    }
    let (rank, name) = cursor.split_once(':').unwrap_or(("0", ""));
    let mut after: i64 = rank.parse().unwrap_or(0);
    let mut looked = 0;
    for (number, queue) in queues(connection, filter.queue.as_ref(), name)? {
        if queue != name {
            after = 0;
        }
        let mut find = connection.prepare_cached(
            "SELECT rank, id, since, reason, deliveries, envelope FROM plba_tasks
             WHERE queue = ?1 AND state = 6 AND rank > ?2 ORDER BY rank",
        )?;
        let mut rows = find.query(params![number, after])?;
        while let Some(row) = rows.next()? {
            if page.letters.len() == limit || looked == LOOK {
                page.next = Some(Cursor(format!("{after}:{queue}")));
                return Ok(page);
            }
            looked += 1;
            after = row.get(0)?;
            let letter = letter(row, 1, &queue)?;
            if filter.matches(&letter) {
                page.letters.push(letter);
            }
        }
    }
    if ledger {
        let rest = limit - page.letters.len();
        if rest == 0 {
            page.next = Some(Cursor(format!("{LEDGER}0")));
            return Ok(page);
        }
        let more = in_ledger(entries::dead_page(connection, filter, 0, rest, true)?);
        page.letters.extend(more.letters);
        page.next = more.next;
    }
    Ok(page)
}

fn in_ledger(mut page: DeadPage) -> DeadPage {
    page.next = page.next.map(|next| Cursor(format!("{LEDGER}{}", next.0)));
    page
}

/// The numbers and names of queues from a name on.
pub(super) fn queues(
    connection: &Connection,
    only: Option<&QueueName>,
    from: &str,
) -> rusqlite::Result<Vec<(i64, String)>> {
    let mut find = connection.prepare_cached(
        "SELECT number, name FROM plba_queues WHERE name >= ?1 AND (?2 IS NULL OR name = ?2) ORDER BY name",
    )?;
    let values = params![from, only.map(QueueName::as_str)];
    find.query_map(values, |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// Reads id, time, reason, deliveries and envelope, from a column on.
fn letter(row: &rusqlite::Row<'_>, from: usize, queue: &str) -> rusqlite::Result<DeadLetter> {
    let envelope: Vec<u8> = row.get(from + 4)?;
    let envelope = Envelope::decode(&envelope).ok();
    let kind = envelope
        .as_ref()
        .map_or(UNDECODABLE, |envelope| &envelope.kind)
        .to_owned();
    let (origin, history) = envelope.map_or((None, Vec::new()), |envelope| (envelope.origin, envelope.history));
    Ok(DeadLetter {
        id: TaskId::from(row.get::<_, String>(from)?),
        queue: QueueName::from(queue),
        kind,
        origin,
        died: stamp(row.get(from + 1)?),
        reason: row.get::<_, Option<String>>(from + 2)?.unwrap_or_default(),
        deliveries: row.get(from + 3)?,
        history,
    })
}

/// One dead letter, whole.
pub(super) fn task(
    connection: &Connection,
    queue: &QueueName,
    id: &TaskId,
    ledger: bool,
) -> rusqlite::Result<Option<DeadTask>> {
    let found = connection
        .prepare_cached(
            "SELECT plba_tasks.id, since, reason, deliveries, envelope,
                 coalesce(plba_tasks.payload, (SELECT payload FROM plba_payloads WHERE seq = plba_tasks.seq), x'')
             FROM plba_tasks JOIN plba_queues ON plba_queues.number = plba_tasks.queue
             WHERE plba_queues.name = ?1 AND plba_tasks.id = ?2 AND state = 6",
        )?
        .query_row(params![queue.as_str(), id.as_str()], |row| {
            let envelope: Vec<u8> = row.get(4)?;
            let payload: Vec<u8> = row.get(5)?;
            let letter = letter(row, 0, queue.as_str())?;
            Ok(match Envelope::decode(&envelope) {
                Ok(envelope) => DeadTask {
                    letter,
                    payload: Bytes::from(payload),
                    headers: envelope.headers,
                    decoded: true,
                },
                // Both halves of the record, as they are.
                Err(_) => DeadTask {
                    letter,
                    payload: Bytes::from([envelope, payload].concat()),
                    headers: Headers::new(),
                    decoded: false,
                },
            })
        })
        .optional()?;
    if found.is_some() || !ledger {
        return Ok(found);
    }
    entries::dead_task(connection, queue, id)
}

/// Makes dead tasks ready again; gives how many there were.
pub(in crate::sqlite) fn retry(
    session: &mut Session<'_>,
    queue: &QueueName,
    ids: &[TaskId],
) -> rusqlite::Result<usize> {
    let mut count = 0;
    for (room, mut row) in find(session, queue, ids)? {
        if row.envelope(session)?.is_none() {
            continue;
        }
        count += 1;
        revive(session, room, &mut row)?;
    }
    if session.ledger {
        count += entries::retry(session, queue, ids)?;
    }
    Ok(count)
}

fn revive(session: &mut Session<'_>, room: usize, row: &mut Row) -> rusqlite::Result<()> {
    (row.deliveries, row.attempts, row.crashes) = (0, 0, 0);
    if row.is_expired(session.now)
        && let Some(mut envelope) = row.envelope(session)?
    {
        envelope.expires = None;
        row.expires = None;
        row.write_envelope(session, &envelope)?;
    }
    let waits = match &row.key {
        Some(key) if row.ordered => lines::has_line(session, room, key)?,
        _ => false,
    };
    if waits {
        row.place = session.tick();
        let place = row.place;
        row.move_to(session, room, State::Held, place, session.now)?;
    } else {
        row.make_ready(session, room)?;
    }
    session
        .connection
        .prepare_cached("UPDATE plba_tasks SET reason = NULL WHERE seq = ?1")?
        .execute([row.seq])?;
    if let Some(key) = &row.unique_key {
        unique::take_again(session, room, row, key)?;
    }
    match row.entry {
        Some(entry) => entries::reopened(session, entry),
        None => Ok(()),
    }
}

/// Forgets dead tasks; gives how many there were.
pub(in crate::sqlite) fn drop_all(
    session: &mut Session<'_>,
    queue: &QueueName,
    ids: &[TaskId],
) -> rusqlite::Result<usize> {
    let mut count = 0;
    for (room, row) in find(session, queue, ids)? {
        count += 1;
        delete(session, row.seq)?;
        session.rooms[room].gone(row.state, row.bytes);
        if let Some(entry) = row.entry {
            entries::dropped(session, entry)?;
        }
    }
    if session.ledger {
        count += entries::drop_dead(session, queue, ids)?;
    }
    Ok(count)
}

/// The dead of a queue with these ids.
fn find(session: &mut Session<'_>, queue: &QueueName, ids: &[TaskId]) -> rusqlite::Result<Vec<(usize, Row)>> {
    let Some(room) = session.known_room(queue)? else {
        return Ok(Vec::new());
    };
    if session.rooms[room].dead == 0 {
        return Ok(Vec::new());
    }
    let queue = session.rooms[room].number;
    let mut found = Vec::new();
    for id in ids {
        let tail = "queue = ?1 AND id = ?2 AND state = 6";
        let rows = Row::find(session, tail, &[&queue, &id.as_str()], 1)?;
        found.extend(rows.into_iter().map(|row| (room, row)));
    }
    // Oldest death first, whatever the order they were asked for in; one asked for twice counts once.
    found.sort_by_key(|(_, row)| (row.rank, row.seq));
    found.dedup_by_key(|(_, row)| row.seq);
    Ok(found)
}
