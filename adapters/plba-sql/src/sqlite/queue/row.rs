//! A task's row without its envelope and payload, and its moves from one state to another, with the queue's counts kept
//! in step. Why a task moves is told where it does.

use std::sync::Arc;

use plba_tasks::envelope::Envelope;
use plba_tasks::queue::SUSPECT_CRASHES;
use plba_tasks::task::{AttemptEnd, EndedAttempt, remember};
use rusqlite::{OptionalExtension, params};

use crate::sqlite::ledger::entries;
use crate::sqlite::session::Session;
use crate::sqlite::state::{State, ready_rank, suspect_rank};

use super::{lines, retention, unique};

/// The columns of a [`Row`], in order.
pub(super) const COLUMNS: &str = "seq, state, rank, place, since, grants, priority, deliveries, attempts, crashes, bytes, \
                                  ordered, expires, key, unique_key, entry, id";

/// A task's row.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) seq: i64,
    pub(super) state: State,
    pub(super) rank: i64,
    pub(super) place: i64,
    pub(super) since: i64,
    pub(super) grants: i64,
    pub(super) priority: i64,
    pub(super) deliveries: i64,
    pub(super) attempts: i64,
    pub(super) crashes: i64,
    pub(super) bytes: i64,
    pub(super) ordered: bool,
    pub(super) expires: Option<i64>,
    pub(super) key: Option<Arc<str>>,
    pub(super) unique_key: Option<Arc<str>>,
    pub(super) entry: Option<i64>,
    pub(super) id: Arc<str>,
}

impl Row {
    pub(super) fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            seq: row.get(0)?,
            state: State::of(row.get(1)?),
            rank: row.get(2)?,
            place: row.get(3)?,
            since: row.get(4)?,
            grants: row.get(5)?,
            priority: row.get(6)?,
            deliveries: row.get(7)?,
            attempts: row.get(8)?,
            crashes: row.get(9)?,
            bytes: row.get(10)?,
            ordered: row.get(11)?,
            expires: row.get(12)?,
            key: row.get(13)?,
            unique_key: row.get(14)?,
            entry: row.get(15)?,
            id: row.get(16)?,
        })
    }

    /// The first rows that a condition finds; `tail` follows the `WHERE`. The limit is no part of the statement: SQLite
    /// plans with the value of a bound one, and so would prepare the statement anew each time.
    pub(super) fn find(
        session: &Session<'_>,
        tail: &str,
        values: &[&dyn rusqlite::ToSql],
        limit: i64,
    ) -> rusqlite::Result<Vec<Self>> {
        let mut find = session
            .connection
            .prepare_cached(&format!("SELECT {COLUMNS} FROM plba_tasks WHERE {tail}"))?;
        let rows = find.query_map(values, Self::read)?;
        rows.take(usize::try_from(limit).unwrap_or(0)).collect()
    }

    /// Whether nobody may be given it any more.
    pub(super) fn is_expired(&self, now: i64) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }

    /// Ready from now on, behind all others of its class.
    pub(super) fn make_ready(&mut self, session: &mut Session<'_>, room: usize) -> rusqlite::Result<()> {
        self.place = session.tick();
        self.resume(session, room)
    }

    /// Ready again, in the place where it stood.
    pub(super) fn resume(&mut self, session: &mut Session<'_>, room: usize) -> rusqlite::Result<()> {
        let (state, rank) = if self.crashes >= i64::from(SUSPECT_CRASHES) {
            (State::Suspect, suspect_rank(self.crashes, self.place))
        } else {
            (State::Ready, ready_rank(self.priority, self.place))
        };
        self.move_to(session, room, state, rank, session.now)
    }

    /// Ready at this time.
    pub(super) fn make_ready_at(&mut self, session: &mut Session<'_>, room: usize, due: i64) -> rusqlite::Result<()> {
        if due <= session.now {
            return self.make_ready(session, room);
        }
        self.move_to(session, room, State::Delayed, due, session.now)
    }

    /// Moves it, and counts the move.
    pub(super) fn move_to(
        &mut self,
        session: &mut Session<'_>,
        room: usize,
        state: State,
        rank: i64,
        since: i64,
    ) -> rusqlite::Result<()> {
        let counts = &mut session.rooms[room];
        counts.leave(self.state, self.bytes);
        counts.enter(state, self.bytes);
        (self.state, self.rank, self.since) = (state, rank, since);
        session
            .connection
            .prepare_cached(
                "UPDATE plba_tasks SET state = ?2, rank = ?3, place = ?4, since = ?5, deliveries = ?6, attempts = ?7,
                     crashes = ?8, expires = ?9 WHERE seq = ?1",
            )?
            .execute(params![
                self.seq,
                state.number(),
                rank,
                self.place,
                since,
                self.deliveries,
                self.attempts,
                self.crashes,
                self.expires
            ])
            .map(drop)
    }

    /// Its envelope; `None` if it can't be decoded.
    pub(super) fn envelope(&self, session: &Session<'_>) -> rusqlite::Result<Option<Envelope>> {
        let bytes: Option<Vec<u8>> = session
            .connection
            .prepare_cached("SELECT envelope FROM plba_tasks WHERE seq = ?1")?
            .query_row([self.seq], |row| row.get(0))
            .optional()?;
        Ok(bytes.and_then(|bytes| Envelope::decode(&bytes).ok()))
    }

    pub(super) fn write_envelope(&self, session: &Session<'_>, envelope: &Envelope) -> rusqlite::Result<()> {
        session
            .connection
            .prepare_cached("UPDATE plba_tasks SET envelope = ?2 WHERE seq = ?1")?
            .execute(params![self.seq, envelope.encode()])
            .map(drop)
    }

    /// Adds an ended attempt to its history.
    pub(super) fn remember(
        &self,
        session: &Session<'_>,
        how: AttemptEnd,
        reason: &str,
    ) -> rusqlite::Result<Option<Envelope>> {
        let Some(mut envelope) = self.envelope(session)? else {
            return Ok(None);
        };
        remember(&mut envelope.history, EndedAttempt::new(session.stamp(), how, reason));
        self.write_envelope(session, &envelope)?;
        Ok(Some(envelope))
    }

    /// Nobody will try it again unless told to.
    pub(super) fn die(
        &mut self,
        session: &mut Session<'_>,
        room: usize,
        (how, cause): (AttemptEnd, &str),
        reason: &str,
    ) -> rusqlite::Result<()> {
        let envelope = self.remember(session, how, cause)?;
        let tick = session.tick();
        self.move_to(session, room, State::Dead, tick, session.now)?;
        session
            .connection
            .prepare_cached("UPDATE plba_tasks SET reason = ?2 WHERE seq = ?1")?
            .execute(params![self.seq, reason])?;
        if let Some(entry) = self.entry {
            let queue = session.rooms[room].name.clone();
            entries::died(session, entry, queue.as_str(), envelope.as_ref(), self.deliveries)?;
        }
        self.left(session, room)?;
        retention::keep_within(session, room)
    }

    /// It is neither waiting nor in hand any more: what depended on it goes on.
    pub(super) fn left(&self, session: &mut Session<'_>, room: usize) -> rusqlite::Result<()> {
        if let Some(key) = &self.unique_key {
            unique::free(session, room, key, self.seq)?;
        }
        if let Some(key) = &self.key {
            lines::go_on(session, room, key)?;
        }
        Ok(())
    }

    /// It is in nobody's hand any more: whoever waits for a lease of its key goes on.
    pub(super) fn was_put_back(&self, session: &mut Session<'_>, room: usize) -> rusqlite::Result<()> {
        match &self.key {
            Some(key) => lines::go_on(session, room, key),
            None => Ok(()),
        }
    }
}

/// Deletes a row and its payload; the queue's counts are the caller's.
pub(super) fn delete(session: &Session<'_>, seq: i64) -> rusqlite::Result<()> {
    let connection = session.connection;
    let large: Option<bool> = connection
        .prepare_cached("SELECT payload IS NULL FROM plba_tasks WHERE seq = ?1")?
        .query_row([seq], |row| row.get(0))
        .optional()?;
    connection
        .prepare_cached("DELETE FROM plba_tasks WHERE seq = ?1")?
        .execute([seq])?;
    if large == Some(true) {
        delete_payload(session, seq)?;
    }
    Ok(())
}

/// Deletes a payload that was kept apart.
pub(super) fn delete_payload(session: &Session<'_>, seq: i64) -> rusqlite::Result<()> {
    session
        .connection
        .prepare_cached("DELETE FROM plba_payloads WHERE seq = ?1")?
        .execute([seq])
        .map(drop)
}
