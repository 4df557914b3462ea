//! What time does to tasks: delayed ones become ready, leases run out, waiting ones expire. Nothing here waits: whoever
//! takes or looks does on the way what is due.

use plba_tasks::task::AttemptEnd;

use super::row::Row;
use crate::sqlite::session::{Session, span, stamp};

const RAN_OUT: &str = "the lease ran out while the task was in hand";

/// How many tasks of each kind are moved at once.
pub(super) const PASS: usize = 1_000;

/// Moves what is due, at most `limit` leases; gives how many leases had run out.
pub(super) fn advance(session: &mut Session<'_>, room: usize, limit: usize) -> rusqlite::Result<usize> {
    let (queue, now, pass) = (session.rooms[room].number, session.now, PASS as i64);
    if session.rooms[room].delayed > 0 {
        let tail = "queue = ?1 AND state = 2 AND rank <= ?2 ORDER BY rank";
        for mut row in Row::find(session, tail, &[&queue, &now], pass)? {
            row.make_ready(session, room)?;
        }
    }
    let mut lost = 0;
    if session.rooms[room].leased > 0 {
        let limit = i64::try_from(limit.min(PASS)).unwrap_or(pass);
        let tail = "queue = ?1 AND state IN (4, 5) AND rank <= ?2";
        for row in Row::find(session, tail, &[&queue, &now], limit)? {
            lost += 1;
            run_out(session, room, row, RAN_OUT)?;
        }
        shorten(session, room)?;
    }
    if session.rooms[room].count() > session.rooms[room].leased {
        let tail = "queue = ?1 AND expires IS NOT NULL AND state < 4 AND expires <= ?2 ORDER BY expires";
        for row in Row::find(session, tail, &[&queue, &now], pass)? {
            expire(session, room, row)?;
        }
    }
    Ok(lost)
}

/// When [`advance`] will next have something to do.
pub(super) fn next_due(session: &Session<'_>, room: usize) -> rusqlite::Result<Option<i64>> {
    let counts = &session.rooms[room];
    let earliest = |sql: &str| -> rusqlite::Result<Option<i64>> {
        session
            .connection
            .prepare_cached(sql)?
            .query_row([counts.number], |row| row.get(0))
    };
    let mut due = None;
    let mut consider = |found: Option<i64>| due = [due, found].into_iter().flatten().min();
    if counts.delayed > 0 {
        consider(earliest(
            "SELECT min(rank) FROM plba_tasks WHERE queue = ?1 AND state = 2",
        )?);
    }
    if counts.leased > 0 {
        consider(earliest(
            "SELECT min(rank) FROM plba_tasks WHERE queue = ?1 AND state = 4",
        )?);
        consider(earliest(
            "SELECT min(rank) FROM plba_tasks WHERE queue = ?1 AND state = 5",
        )?);
    }
    if counts.held > 0 {
        consider(earliest(
            "SELECT min(expires) FROM plba_tasks WHERE queue = ?1 AND expires IS NOT NULL AND state < 4",
        )?);
    }
    Ok(due)
}

/// A task that was not handed out in time is dead.
pub(super) fn expire(session: &mut Session<'_>, room: usize, mut row: Row) -> rusqlite::Result<()> {
    let at = stamp(row.expires.unwrap_or(session.now));
    let reason = format!("expired at {at} before it could be carried out");
    session.rooms[room].tally.expired += 1;
    row.die(session, room, (AttemptEnd::Expired, &reason), &reason)
}

/// Whoever held the task has disappeared with it.
pub(super) fn run_out(session: &mut Session<'_>, room: usize, mut row: Row, cause: &str) -> rusqlite::Result<()> {
    session.rooms[room].tally.lost += 1;
    row.crashes += 1;
    if row.crashes >= i64::from(session.settings.maximum_crashes) {
        let reason = format!("{} consumers disappeared with it", row.crashes);
        return row.die(session, room, (AttemptEnd::Crashed, cause), &reason);
    }
    row.remember(session, AttemptEnd::Crashed, cause)?;
    row.resume(session, room)?;
    row.was_put_back(session, room)
}

/// The time of day was set back: what was left of leases that were given later counts from now on.
fn shorten(session: &mut Session<'_>, room: usize) -> rusqlite::Result<()> {
    let (queue, now) = (session.rooms[room].number, session.now);
    let far = now.saturating_add(span(session.settings.lease).saturating_mul(2));
    let tail = "queue = ?1 AND state IN (4, 5) AND rank > ?2 AND since > ?3";
    for mut row in Row::find(session, tail, &[&queue, &far, &now], 100)? {
        let (state, rest) = (row.state, row.rank - row.since);
        row.move_to(session, room, state, now.saturating_add(rest), now)?;
    }
    Ok(())
}
