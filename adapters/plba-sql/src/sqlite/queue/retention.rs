//! How long dead letters and rates of keys are kept.

use super::row::{Row, delete};
use super::unique;
use crate::sqlite::ledger::entries;
use crate::sqlite::session::{Session, span};

/// How many go at once.
const PASS: i64 = 500;

/// Removes the oldest of too many dead letters.
pub(super) fn keep_within(session: &mut Session<'_>, room: usize) -> rusqlite::Result<()> {
    let counts = &session.rooms[room];
    let limit = i64::try_from(counts.rules.dead_limit).unwrap_or(i64::MAX);
    let over = (counts.dead - limit).min(PASS);
    if over <= 0 {
        return Ok(());
    }
    let tail = "queue = ?1 AND state = 6 ORDER BY rank";
    let rows = Row::find(session, tail, &[&counts.number], over)?;
    remove(session, room, rows, "there are too many")
}

/// Removes dead letters that are too old, and what else has had its time; some of each.
pub(super) fn forget_old(session: &mut Session<'_>, room: usize) -> rusqlite::Result<()> {
    let counts = &session.rooms[room];
    let before = session.now.saturating_sub(span(counts.rules.dead_age));
    let tail = "queue = ?1 AND state = 6 ORDER BY rank";
    let mut rows = match counts.dead {
        0 => Vec::new(),
        _ => Row::find(session, tail, &[&counts.number], PASS)?,
    };
    rows.retain(|row| row.since < before);
    remove(session, room, rows, "it is too old")?;
    keep_within(session, room)?;
    if session.ledger && session.rooms[room].signal.may_look(session.now) {
        forget_buried(session, room, before)?;
    }
    unique::forget_old(session)?;
    session
        .connection
        .prepare_cached(
            "DELETE FROM plba_key_rates WHERE (queue, key) IN (SELECT queue, key FROM plba_key_rates
                 WHERE next_token <= ?1 ORDER BY next_token LIMIT 500)",
        )?
        .execute([session.now])
        .map(drop)
}

/// Settles what was buried before it became a task, so that only the ledger knows it: by the same rules.
fn forget_buried(session: &mut Session<'_>, room: usize, before: i64) -> rusqlite::Result<()> {
    let (name, limit) = (session.rooms[room].name.clone(), session.rooms[room].rules.dead_limit);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let found = entries::buried(session, name.as_str(), (limit, before), PASS)?;
    for entry in &found {
        entries::dropped(session, *entry)?;
    }
    if !found.is_empty() {
        session.rooms[room].tally.dropped += found.len() as u64;
        let removed = found.len();
        tracing::warn!(
            queue = %name,
            removed,
            "the oldest letters that were dead before they were tasks are dropped: there are too many, or they are too old"
        );
    }
    Ok(())
}

fn remove(session: &mut Session<'_>, room: usize, rows: Vec<Row>, why: &str) -> rusqlite::Result<()> {
    for row in rows {
        delete(session, row.seq)?;
        if let Some(entry) = row.entry {
            entries::dropped(session, entry)?;
        }
        let counts = &mut session.rooms[room];
        counts.gone(row.state, row.bytes);
        counts.tally.dropped += 1;
        tracing::warn!(task = &*row.id, queue = %counts.name, "the oldest dead letter is dropped: {why}");
    }
    Ok(())
}
