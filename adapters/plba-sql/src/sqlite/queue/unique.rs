//! Unique keys: who has one, and what becomes of a task that wants it too.

use std::sync::Arc;

use plba_tasks::envelope::Envelope;
use plba_tasks::task::{Conflict, TaskId, UniqueScope};
use rusqlite::{OptionalExtension, params};

use super::publish::{Draft, put_payload};
use super::row::Row;
use crate::sqlite::session::{Session, span};
use crate::sqlite::state::State;

/// What a new task's unique key says.
pub(super) enum Claim {
    /// Publish it; the key is to be [taken](take).
    Free,
    /// This task has the key, and stands for the new one.
    Stands(TaskId),
}

/// Looks whose the key is, and lets the new task replace that one where it wants to.
pub(super) fn claim(session: &mut Session<'_>, room: usize, draft: &Draft) -> rusqlite::Result<Claim> {
    let Some(unique) = &draft.task.unique else {
        return Ok(Claim::Free);
    };
    let queue = session.rooms[room].number;
    let found: Option<(i64, String, Option<i64>)> = session
        .connection
        .prepare_cached("SELECT seq, id, until FROM plba_uniques WHERE queue = ?1 AND key = ?2")?
        .query_row(params![queue, &*unique.key], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()?;
    let Some((seq, id, until)) = found else {
        return Ok(Claim::Free);
    };
    if until.is_some_and(|until| until <= session.now) {
        return Ok(Claim::Free);
    }
    if unique.conflict == Conflict::Keep {
        return Ok(Claim::Stands(TaskId::from(id)));
    }
    let there = Row::find(session, "seq = ?1", &[&seq], 1)?.pop();
    let Some(mut row) = there.filter(|row| row.state.waits()) else {
        return Ok(Claim::Free);
    };
    replace(session, room, &mut row, draft)?;
    take(session, room, draft, row.seq, &row.id)?;
    Ok(Claim::Stands(TaskId::from(id)))
}

/// The key is this task's from now on.
pub(super) fn take(session: &Session<'_>, room: usize, draft: &Draft, seq: i64, id: &str) -> rusqlite::Result<()> {
    let Some(unique) = &draft.task.unique else {
        return Ok(());
    };
    let until = match unique.scope {
        UniqueScope::UntilDone => None,
        UniqueScope::For(period) => Some(session.now.saturating_add(span(period))),
    };
    session
        .connection
        .prepare_cached(
            "INSERT INTO plba_uniques (queue, key, seq, id, until) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (queue, key) DO UPDATE SET seq = excluded.seq, id = excluded.id, until = excluded.until",
        )?
        .execute(params![session.rooms[room].number, &*unique.key, seq, id, until])
        .map(drop)
}

/// The task is done or dead: its key is free, unless it was taken for a period.
pub(super) fn free(session: &Session<'_>, room: usize, key: &str, seq: i64) -> rusqlite::Result<()> {
    session
        .connection
        .prepare_cached("DELETE FROM plba_uniques WHERE queue = ?1 AND key = ?2 AND seq = ?3 AND until IS NULL")?
        .execute(params![session.rooms[room].number, key, seq])
        .map(drop)
}

/// A dead letter that is retried takes its key again, unless another task has it.
pub(super) fn take_again(session: &Session<'_>, room: usize, row: &Row, key: &str) -> rusqlite::Result<()> {
    let until_done = row
        .envelope(session)?
        .and_then(|envelope| envelope.unique)
        .is_some_and(|unique| unique.scope == UniqueScope::UntilDone);
    if !until_done {
        return Ok(());
    }
    session
        .connection
        .prepare_cached(
            "INSERT INTO plba_uniques (queue, key, seq, id, until) VALUES (?1, ?2, ?3, ?4, NULL)
             ON CONFLICT (queue, key) DO UPDATE SET seq = excluded.seq, id = excluded.id, until = NULL
                 WHERE until <= ?5",
        )?
        .execute(params![session.rooms[room].number, key, row.seq, &*row.id, session.now])
        .map(drop)
}

/// Removes some of the keys whose period is over.
pub(super) fn forget_old(session: &Session<'_>) -> rusqlite::Result<()> {
    session
        .connection
        .prepare_cached(
            "DELETE FROM plba_uniques WHERE (queue, key) IN (SELECT queue, key FROM plba_uniques
                 WHERE until IS NOT NULL AND until <= ?1 ORDER BY until LIMIT 500)",
        )?
        .execute([session.now])
        .map(drop)
}

/// Puts the new task's content into the row of one that waits.
fn replace(session: &mut Session<'_>, room: usize, row: &mut Row, draft: &Draft) -> rusqlite::Result<()> {
    let old = row.envelope(session)?;
    let envelope = Envelope {
        origin: old.as_ref().and_then(|old| old.origin.clone()),
        history: old.map(|old| old.history).unwrap_or_default(),
        key: row.key.as_deref().map(Arc::from),
        ordered: row.ordered,
        ..Envelope::new(&draft.task, draft.published)
    };
    row.write_envelope(session, &envelope)?;
    let priority = i64::from(draft.task.priority as u8);
    super::row::delete_payload(session, row.seq)?;
    put_payload(session, row.seq, &draft.task.payload)?;
    session
        .connection
        .prepare_cached("UPDATE plba_tasks SET priority = ?2, bytes = ?3 WHERE seq = ?1")?
        .execute(params![row.seq, priority, draft.bytes])?;
    // The counts follow the row: it leaves with what it had, and comes with what it has now.
    session.rooms[room].bytes += draft.bytes - row.bytes;
    (row.priority, row.bytes, row.expires) = (priority, draft.bytes, draft.expires);
    let due = session.now.saturating_add(span(draft.task.delay));
    match row.state {
        State::Held if row.ordered => {
            let rank = row.rank;
            row.move_to(session, room, State::Held, rank, due)
        }
        State::Ready | State::Suspect if due <= session.now => row.resume(session, room),
        _ => row.make_ready_at(session, room, due),
    }
}
