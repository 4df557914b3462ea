//! Keys: the lines of ordered tasks, and tasks that wait for a lease of their key.

use rusqlite::params;

use super::row::Row;
use crate::sqlite::session::Session;
use crate::sqlite::state::State;

/// Whether an ordered task with this key would have to wait behind another one.
pub(super) fn has_line(session: &Session<'_>, room: usize, key: &str) -> rusqlite::Result<bool> {
    let queue = session.rooms[room].number;
    session
        .connection
        .prepare_cached("SELECT 1 FROM plba_tasks WHERE queue = ?1 AND key = ?2 AND ordered = 1 AND state < 6 LIMIT 1")?
        .exists(params![queue, key])
}

/// How many leases there are on tasks with this key; counts no further than `limit`.
pub(super) fn leases(session: &Session<'_>, room: usize, key: &str, limit: i64) -> rusqlite::Result<i64> {
    let queue = session.rooms[room].number;
    let mut find = session.connection.prepare_cached(
        "SELECT 1 FROM plba_tasks WHERE queue = ?1 AND key = ?2 AND ordered IN (0, 1) AND state IN (4, 5)",
    )?;
    let mut rows = find.query(params![queue, key])?;
    let mut count = 0;
    while count < limit && rows.next()?.is_some() {
        count += 1;
    }
    Ok(count)
}

/// Something with this key has ended: the next of its line is ready, and those that waited for a lease.
pub(super) fn go_on(session: &mut Session<'_>, room: usize, key: &str) -> rusqlite::Result<()> {
    if session.rooms[room].held == 0 {
        return Ok(());
    }
    let queue = session.rooms[room].number;
    let has_head = session
        .connection
        .prepare_cached(
            "SELECT 1 FROM plba_tasks
             WHERE queue = ?1 AND key = ?2 AND ordered = 1 AND state IN (0, 1, 2, 4, 5) LIMIT 1",
        )?
        .exists(params![queue, key])?;
    if !has_head {
        let tail = "queue = ?1 AND key = ?2 AND ordered = 1 AND state = 3 ORDER BY rank";
        for mut row in Row::find(session, tail, &[&queue, &key], 1)? {
            let due = row.since;
            row.make_ready_at(session, room, due)?;
        }
    }
    /// How many go on at once where nothing limits them.
    const MANY: i64 = 1_000;
    let free = match session.rooms[room].rules.key_concurrency {
        Some(limit) => {
            let limit = i64::from(limit);
            limit - leases(session, room, key, limit)?
        }
        None => MANY,
    };
    if free > 0 {
        let tail = "queue = ?1 AND key = ?2 AND ordered = 0 AND state = 3 ORDER BY rank";
        for mut row in Row::find(session, tail, &[&queue, &key], free)? {
            row.resume(session, room)?;
        }
    }
    Ok(())
}

/// Lets go what older rules held; says whether that was all.
pub(super) fn apply_rules(session: &mut Session<'_>, room: usize) -> rusqlite::Result<bool> {
    /// How many tasks are looked at in one go.
    const PASS: i64 = 1_000;
    if session.rooms[room].held == 0 {
        return Ok(true);
    }
    let queue = session.rooms[room].number;
    let held = Row::find(session, "queue = ?1 AND state = 3 AND ordered = 0", &[&queue], PASS)?;
    let mut keys: Vec<_> = held.iter().filter_map(|row| row.key.as_ref()).collect();
    keys.sort_unstable();
    keys.dedup();
    for key in keys {
        go_on(session, room, key)?;
    }
    // Those that still have to wait would be looked at for ever.
    Ok((held.len() as i64) < PASS || session.rooms[room].rules.key_concurrency.is_some())
}

/// A task over its key's number of leases waits for one of them to end.
pub(super) fn hold(session: &mut Session<'_>, room: usize, row: &mut Row) -> rusqlite::Result<()> {
    let place = row.place;
    row.move_to(session, room, State::Held, place, session.now)
}
