//! Ending deliveries that need no effect: compare-and-set on the fence, then the move, the follow-ups, and the ledger.

use std::time::Duration;

use plba_tasks::queue::{DeliveryToken, EndError, Ending, How};
use plba_tasks::task::AttemptEnd;
use rusqlite::{OptionalExtension, params};

use super::publish::{Draft, check, insert};
use super::row::{self, Row};
use super::{lines, unique};
use crate::sqlite::ledger::entries;
use crate::sqlite::session::{Hot, Session, span};
use crate::sqlite::settings::SqliteSettings;
use crate::sqlite::state::{State, unfence};

/// An ending, as far as it can be prepared outside the transaction.
pub(super) struct Finish {
    pub(super) token: DeliveryToken,
    pub(super) how: Move,
}

/// What becomes of the task.
pub(super) enum Move {
    Ack(Vec<Draft>),
    Nack { delay: Duration, reason: String },
    Bury { reason: String },
    Release { delay: Duration },
}

impl Finish {
    /// Prepares an ending without an effect.
    ///
    /// # Errors
    /// A follow-up that can't be published.
    pub(super) fn new(ending: Ending, settings: &SqliteSettings, now: jiff::Timestamp) -> Result<Self, EndError> {
        let Ending { token, how } = ending;
        let how = match how {
            How::Ack { then, .. } => Move::Ack(drafts(then, settings, now)?),
            How::Nack { delay, reason } => Move::Nack { delay, reason },
            How::Bury { reason } => Move::Bury { reason },
            How::Release { delay } => Move::Release { delay },
        };
        Ok(Self { token, how })
    }
}

/// Prepares follow-ups.
pub(super) fn drafts(
    then: Vec<plba_tasks::task::NewTask>,
    settings: &SqliteSettings,
    now: jiff::Timestamp,
) -> Result<Vec<Draft>, EndError> {
    let draft = |task| match check(settings, &task) {
        Ok(()) => Ok(Draft::new(task, now)),
        Err(reason) => Err(EndError::Refused(format!(
            "task \"{}\" for queue \"{}\" can't be published: {reason}",
            task.kind, task.queue
        ))),
    };
    then.into_iter().map(draft).collect()
}

/// Ends one delivery.
pub(super) fn end(session: &mut Session<'_>, finish: &Finish) -> rusqlite::Result<Result<(), EndError>> {
    let token = &finish.token;
    let Some(room) = session.known_room(&token.queue)? else {
        return Ok(Err(EndError::LeaseLost));
    };
    if let Move::Ack(then) = &finish.how {
        return ack(session, room, token, then);
    }
    let Some(mut row) = held(session, room, token)? else {
        return Ok(Err(EndError::LeaseLost));
    };
    match &finish.how {
        Move::Ack(_) => {}
        Move::Nack { delay, reason } => {
            session.rooms[room].tally.failed += 1;
            row.attempts += 1;
            row.remember(session, AttemptEnd::Failed, reason)?;
            let due = session.now.saturating_add(span(*delay));
            row.make_ready_at(session, room, due)?;
            row.was_put_back(session, room)?;
        }
        Move::Bury { reason } => {
            session.rooms[room].tally.failed += 1;
            row.attempts += 1;
            row.die(session, room, (AttemptEnd::Rejected, reason), reason)?;
        }
        Move::Release { delay } => {
            if delay.is_zero() {
                row.resume(session, room)?;
            } else {
                let due = session.now.saturating_add(span(*delay));
                row.make_ready_at(session, room, due)?;
            }
            row.was_put_back(session, room)?;
        }
    }
    Ok(Ok(()))
}

/// The row of a delivery whose lease is held.
pub(super) fn held(session: &Session<'_>, room: usize, token: &DeliveryToken) -> rusqlite::Result<Option<Row>> {
    let (seq, grants) = unfence(token.fence);
    let tail = "seq = ?1 AND state IN (4, 5) AND grants = ?2 AND rank > ?3 AND queue = ?4 AND id = ?5";
    let queue = session.rooms[room].number;
    let found = Row::find(
        session,
        tail,
        &[&seq, &grants, &session.now, &queue, &token.task.as_str()],
        1,
    )?;
    Ok(found.into_iter().next())
}

/// The task is done, and gone; its follow-ups are there. They never wait for space, or an ack could wait for itself.
pub(super) fn ack(
    session: &mut Session<'_>,
    room: usize,
    token: &DeliveryToken,
    then: &[Draft],
) -> rusqlite::Result<Result<(), EndError>> {
    for draft in then {
        if session.room(&draft.task.queue)?.is_none() {
            let reason = format!("queue \"{}\" can't be made, there are too many", draft.task.queue);
            return Ok(Err(EndError::Refused(reason)));
        }
    }
    let Some(gone) = remove(session, room, token)? else {
        return Ok(Err(EndError::LeaseLost));
    };
    let (seq, _) = unfence(token.fence);
    if gone.large {
        row::delete_payload(session, seq)?;
    }
    let counts = &mut session.rooms[room];
    counts.gone(gone.state, gone.bytes);
    counts.tally.acked += 1;
    // A suspect out of the way lets the next one come; so does a lease where their number is limited.
    counts.wake |= gone.state == State::Alone || counts.rules.concurrency.is_some();
    if let Some(entry) = gone.entry {
        entries::done(session, entry)?;
    }
    if let Some(key) = &gone.unique_key {
        unique::free(session, room, key, seq)?;
    }
    if let Some(key) = &gone.key {
        lines::go_on(session, room, key)?;
    }
    for draft in then {
        insert(session, draft)?;
    }
    Ok(Ok(()))
}

/// What is to be known of a task that is done.
struct Gone {
    state: State,
    bytes: i64,
    entry: Option<i64>,
    key: Option<String>,
    unique_key: Option<String>,
    large: bool,
}

fn remove(session: &mut Session<'_>, room: usize, token: &DeliveryToken) -> rusqlite::Result<Option<Gone>> {
    let (seq, grants) = unfence(token.fence);
    let (now, queue) = (session.now, session.rooms[room].number);
    let held = session.hot(Hot::Held)?;
    let gone = held
        .query_row(params![seq, grants, now, queue, token.task.as_str()], |row| {
            Ok(Gone {
                state: State::of(row.get(0)?),
                bytes: row.get(1)?,
                entry: row.get(2)?,
                key: row.get(3)?,
                unique_key: row.get(4)?,
                large: row.get(5)?,
            })
        })
        .optional()?;
    if gone.is_some() {
        session.hot(Hot::Remove)?.execute([seq])?;
    }
    Ok(gone)
}

/// Renews one lease; says whether it was held.
pub(super) fn extend(session: &Session<'_>, token: &DeliveryToken) -> rusqlite::Result<bool> {
    let (seq, grants) = unfence(token.fence);
    let deadline = session.now.saturating_add(span(session.settings.lease));
    let extended = session
        .connection
        .prepare_cached(
            "UPDATE plba_tasks SET rank = ?4, since = ?3
             WHERE seq = ?1 AND state IN (4, 5) AND grants = ?2 AND rank > ?3 AND id = ?5",
        )?
        .execute(params![seq, grants, session.now, deadline, token.task.as_str()])?;
    Ok(extended == 1)
}

/// Puts deliveries back that were taken for somebody who is gone, as if they had not been taken.
pub(super) fn put_back(session: &mut Session<'_>, tokens: &[DeliveryToken]) -> rusqlite::Result<()> {
    for token in tokens.iter().rev() {
        let Some(room) = session.known_room(&token.queue)? else {
            continue;
        };
        if let Some(mut row) = held(session, room, token)? {
            row.resume(session, room)?;
            row.was_put_back(session, room)?;
        }
    }
    Ok(())
}
