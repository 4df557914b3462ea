//! Taking what is ready: under the queue's rules, suspects alone, each task under a lease of its own. Waiting is
//! [`super::consume`]'s.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use plba_tasks::envelope::Envelope;
use plba_tasks::queue::{Delivery, DeliveryToken, Presence};
use plba_tasks::task::{AttemptEnd, QueueName, TaskId};
use rusqlite::{OptionalExtension, params};

use super::row::{COLUMNS, Row};
use super::{limits, lines, retention, sweep};
use crate::sqlite::session::{Hot, Session, span};
use crate::sqlite::state::{GRANTS, State, fence};

/// How many tasks that may not be handed out are put aside on the way, at most.
const ASIDE: usize = 1_000;

/// What a consumer asks for.
#[derive(Clone)]
pub(super) struct Wish {
    pub(super) queue: QueueName,
    /// Who asks, with its incarnation.
    pub(super) holder: Arc<str>,
    /// What tells others that its process is gone.
    pub(super) presence: Option<Presence>,
    pub(super) max: usize,
}

/// What it gets.
#[derive(Default)]
pub(super) struct Taken {
    pub(super) deliveries: Vec<Delivery>,
    /// When their leases were granted.
    pub(super) granted: Option<Instant>,
    /// Whether there is more to take.
    pub(super) more: bool,
    /// When to look again, in microseconds since 1970.
    pub(super) due: Option<i64>,
    /// Whether the queue can't be made, because there are as many as may be.
    pub(super) crowded: bool,
}

/// A ready task with all that is handed out.
struct Ready {
    row: Row,
    envelope: Vec<u8>,
    payload: Option<Vec<u8>>,
}

/// Takes what is ready now.
pub(super) fn take(session: &mut Session<'_>, wish: &Wish) -> rusqlite::Result<Taken> {
    let mut taken = Taken::default();
    let Some(room) = session.room(&wish.queue)? else {
        taken.crowded = true;
        return Ok(taken);
    };
    sweep::advance(session, room, sweep::PASS)?;
    if let Some(at) = session.rooms[room]
        .signal
        .revised()
        .filter(|_| !session.rooms[room].applied)
    {
        limits::apply(session, room, at)?;
        session.rooms[room].applied = lines::apply_rules(session, room)?;
    }
    let quota = quota(session, room, wish.max, &mut taken.due);
    if quota > 0 {
        fill(session, room, wish, quota, &mut taken)?;
    }
    if !taken.deliveries.is_empty() {
        taken.granted = Some(Instant::now());
        let counts = &mut session.rooms[room];
        counts.changed = true;
        // What was there before, and is taken now, need not wake anybody; what is left is told of by the taker.
        counts.wake = false;
        if let Some(rate) = counts.rules.rate {
            let count = taken.deliveries.len() as i64;
            counts.next_token = limits::take(rate, counts.next_token, session.now, count);
        }
    }
    taken.more |= session.rooms[room].ready > 0 && taken.due.is_none();
    if taken.deliveries.is_empty() {
        // Nobody is in a hurry: time to see what is old.
        retention::forget_old(session, room)?;
        taken.due = [taken.due, sweep::next_due(session, room)?].into_iter().flatten().min();
    }
    Ok(taken)
}

/// How many the queue's rules let go now; and when more, if none.
fn quota(session: &Session<'_>, room: usize, max: usize, due: &mut Option<i64>) -> i64 {
    let counts = &session.rooms[room];
    if counts.paused > session.now {
        *due = Some(counts.paused).filter(|until| *until < i64::MAX);
        return 0;
    }
    let mut quota = i64::try_from(max.max(1)).unwrap_or(i64::MAX);
    if let Some(limit) = counts.rules.concurrency {
        quota = quota.min(i64::from(limit) - counts.leased).max(0);
    }
    if let Some(rate) = counts.rules.rate {
        let (free, next) = limits::tokens(rate, counts.next_token, session.now, quota);
        if free == 0 && quota > 0 {
            *due = Some(next);
        }
        quota = free;
    }
    quota
}

fn fill(session: &mut Session<'_>, room: usize, wish: &Wish, quota: i64, taken: &mut Taken) -> rusqlite::Result<()> {
    let holder = session.consumer(&wish.holder, wish.presence.as_ref())?;
    let mut keys = Keys::default();
    let mut aside = 0;
    if let Some(suspect) = suspect(session, room)? {
        if let Some(delivery) = hand_out(session, room, holder, suspect, &mut keys)? {
            taken.deliveries.push(delivery);
            return Ok(());
        }
        aside += 1;
    }
    while (taken.deliveries.len() as i64) < quota && aside < ASIDE {
        let wanted = quota - taken.deliveries.len() as i64;
        let ready = ready(session, room, State::Ready, wanted)?;
        let all = (ready.len() as i64) < wanted;
        for task in ready {
            match hand_out(session, room, holder, task, &mut keys)? {
                Some(delivery) => taken.deliveries.push(delivery),
                None => aside += 1,
            }
        }
        if all {
            return Ok(());
        }
    }
    taken.more = aside >= ASIDE;
    Ok(())
}

/// The least suspicious suspect, if none is in hand: one at a time, so that a task that kills its process takes no
/// innocent one down with it.
fn suspect(session: &Session<'_>, room: usize) -> rusqlite::Result<Option<Ready>> {
    let suspect = ready(session, room, State::Suspect, 1)?.pop();
    if suspect.is_none() {
        return Ok(None);
    }
    let out = session
        .connection
        .prepare_cached("SELECT 1 FROM plba_tasks WHERE queue = ?1 AND state = 5 LIMIT 1")?
        .exists([session.rooms[room].number])?;
    Ok(suspect.filter(|_| !out))
}

fn ready(session: &Session<'_>, room: usize, state: State, count: i64) -> rusqlite::Result<Vec<Ready>> {
    // As in `Row::find`, what is bound here must not change the plan.
    let mut find = session.connection.prepare_cached(&format!(
        "SELECT {COLUMNS}, envelope, payload FROM plba_tasks WHERE queue = ?1 AND state = {} ORDER BY rank",
        state.number()
    ))?;
    let values = [session.rooms[room].number];
    let ready = find.query_map(values, |row| {
        Ok(Ready {
            row: Row::read(row)?,
            envelope: row.get(17)?,
            payload: row.get(18)?,
        })
    })?;
    ready.take(usize::try_from(count).unwrap_or(0)).collect()
}

/// Leases a ready task, unless it may not be handed out: then it is put aside.
fn hand_out(
    session: &mut Session<'_>,
    room: usize,
    holder: i64,
    ready: Ready,
    keys: &mut Keys,
) -> rusqlite::Result<Option<Delivery>> {
    let Ready {
        mut row,
        envelope,
        payload,
    } = ready;
    if row.is_expired(session.now) {
        sweep::expire(session, room, row)?;
        return Ok(None);
    }
    let envelope = match Envelope::decode(&envelope) {
        Ok(envelope) => envelope,
        Err(error) => {
            let reason = format!("it can't be decoded: {error}");
            row.die(session, room, (AttemptEnd::Rejected, &reason), &reason)?;
            return Ok(None);
        }
    };
    if !keys.admit(session, room, &mut row)? {
        return Ok(None);
    }
    let payload = match payload {
        Some(payload) => payload,
        None => large(session, row.seq)?,
    };
    let waited = session.now.saturating_sub(row.since);
    grant(session, room, holder, &mut row)?;
    let (queue, id) = (session.rooms[room].name.clone(), TaskId::from(row.id));
    Ok(Some(Delivery {
        token: DeliveryToken {
            queue: queue.clone(),
            task: id.clone(),
            fence: fence(row.seq, row.grants),
            place: None,
        },
        deliveries: u32::try_from(row.deliveries).unwrap_or(u32::MAX),
        attempt: u32::try_from(row.attempts).unwrap_or(u32::MAX).saturating_add(1),
        waited: Duration::from_micros(u64::try_from(waited).unwrap_or(0)),
        task: Arc::new(envelope.into_task(id, queue, Bytes::from(payload))),
    }))
}

fn large(session: &Session<'_>, seq: i64) -> rusqlite::Result<Vec<u8>> {
    let payload = session
        .connection
        .prepare_cached("SELECT payload FROM plba_payloads WHERE seq = ?1")?
        .query_row([seq], |row| row.get(0))
        .optional()?;
    Ok(payload.unwrap_or_default())
}

fn grant(session: &mut Session<'_>, room: usize, holder: i64, row: &mut Row) -> rusqlite::Result<()> {
    let state = match row.state {
        State::Suspect => State::Alone,
        _ => State::Leased,
    };
    let deadline = session.now.saturating_add(span(session.settings.lease));
    row.grants = (row.grants + 1) % GRANTS;
    row.deliveries += 1;
    let now = session.now;
    session.hot(Hot::Grant)?.execute(params![
        row.seq,
        state.number(),
        deadline,
        now,
        row.grants,
        holder,
        row.deliveries
    ])?;
    let counts = &mut session.rooms[room];
    counts.leave(row.state, row.bytes);
    counts.enter(state, row.bytes);
    row.state = state;
    Ok(())
}

/// What is known of keys while a batch is taken.
#[derive(Default)]
struct Keys {
    leases: HashMap<Arc<str>, i64>,
}

impl Keys {
    /// Whether the rules for keys let this task go; if not, it is put aside.
    fn admit(&mut self, session: &mut Session<'_>, room: usize, row: &mut Row) -> rusqlite::Result<bool> {
        let rules = Arc::clone(&session.rooms[room].rules);
        let Some(key) = row.key.clone() else { return Ok(true) };
        if let Some(limit) = rules.key_concurrency {
            let limit = i64::from(limit);
            let leases = match self.leases.get(&key) {
                Some(leases) => *leases,
                None => lines::leases(session, room, &key, limit)?,
            };
            self.leases.insert(Arc::clone(&key), leases);
            if leases >= limit {
                lines::hold(session, room, row)?;
                return Ok(false);
            }
        }
        if let Some(rate) = rules.key_rate {
            let queue = session.rooms[room].number;
            let full_at: Option<i64> = session
                .connection
                .prepare_cached("SELECT next_token FROM plba_key_rates WHERE queue = ?1 AND key = ?2")?
                .query_row(params![queue, &*key], |row| row.get(0))
                .optional()?;
            let full_at = full_at.unwrap_or(0);
            let (free, next) = limits::tokens(rate, full_at, session.now, 1);
            if free == 0 {
                row.move_to(session, room, State::Delayed, next, session.now)?;
                return Ok(false);
            }
            session
                .connection
                .prepare_cached(
                    "INSERT INTO plba_key_rates (queue, key, next_token) VALUES (?1, ?2, ?3)
                     ON CONFLICT (queue, key) DO UPDATE SET next_token = excluded.next_token",
                )?
                .execute(params![queue, &*key, limits::take(rate, full_at, session.now, 1)])?;
        }
        if rules.key_concurrency.is_some() {
            *self.leases.entry(key).or_insert(0) += 1;
        }
        Ok(true)
    }
}
