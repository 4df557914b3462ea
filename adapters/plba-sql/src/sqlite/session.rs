//! One transaction as its jobs see it: the time, ticks, and the rows of the queues it touches, which are written back once
//! before the commit. What the jobs do is told in their own files.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use plba_tasks::queue::{Presence, QueueRules};
use plba_tasks::task::QueueName;
use rusqlite::{CachedStatement, Connection, OptionalExtension, params};

use super::settings::SqliteSettings;
use super::signals::{Signal, Signals};
use super::state::State;

/// An open transaction.
pub(super) struct Session<'a> {
    pub(super) connection: &'a Connection,
    pub(super) settings: &'a SqliteSettings,
    /// Microseconds since 1970, read when the transaction had begun.
    pub(super) now: i64,
    /// Whether the ledger of sources is kept here too.
    pub(super) ledger: bool,
    pub(super) random: &'a mut fastrand::Rng,
    pub(super) rooms: Vec<Room>,
    hot: [Option<CachedStatement<'a>>; HOT.len()],
    signals: &'a Signals,
    defaults: &'a Arc<QueueRules>,
    consumers: &'a mut HashMap<Arc<str>, i64>,
    tick: i64,
    first_tick: i64,
}

/// A statement that runs for each task of a batch, and stays prepared for the whole transaction: finding it again by its
/// text would cost as much as running it.
#[derive(Clone, Copy)]
pub(super) enum Hot {
    Insert,
    Grant,
    Held,
    Remove,
}

const HOT: [&str; 4] = [
    "INSERT INTO plba_tasks (seq, queue, state, rank, place, since, grants, holder, priority, deliveries, attempts,
         crashes, bytes, ordered, expires, key, unique_key, entry, id, envelope, payload)
     VALUES (?1, ?2, ?3, ?4, ?1, ?5, 0, 0, ?6, 0, 0, 0, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)
     ON CONFLICT (queue, id) DO NOTHING",
    "UPDATE plba_tasks SET state = ?2, rank = ?3, since = ?4, grants = ?5, holder = ?6, deliveries = ?7 WHERE seq = ?1",
    // A `DELETE … RETURNING` would make and drop a table for its one row, which takes longer than all the rest.
    "SELECT state, bytes, entry, key, unique_key, payload IS NULL FROM plba_tasks
     WHERE seq = ?1 AND state IN (4, 5) AND grants = ?2 AND rank > ?3 AND queue = ?4 AND id = ?5",
    "DELETE FROM plba_tasks WHERE seq = ?1",
];

/// A named queue within a transaction.
pub(super) struct Room {
    pub(super) number: i64,
    pub(super) name: QueueName,
    pub(super) signal: Arc<Signal>,
    pub(super) rules: Arc<QueueRules>,
    /// Until when nothing is handed out.
    pub(super) paused: i64,
    /// When the bucket of its rate is full again.
    pub(super) next_token: i64,
    pub(super) ready: i64,
    pub(super) delayed: i64,
    pub(super) held: i64,
    pub(super) leased: i64,
    pub(super) dead: i64,
    /// Of all but the dead.
    pub(super) bytes: i64,
    pub(super) tally: Tally,
    /// Whether its row has to be written.
    pub(super) changed: bool,
    /// Whether there may be something to take that was not there before.
    pub(super) wake: bool,
    /// Whether there is space that was not there before.
    pub(super) space: bool,
    /// Whether what new rules let go has been let go.
    pub(super) applied: bool,
}

/// What happened in this process since it opened the database.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) published: u64,
    pub(super) acked: u64,
    pub(super) failed: u64,
    pub(super) lost: u64,
    pub(super) expired: u64,
    pub(super) dropped: u64,
}

impl Tally {
    pub(super) fn add(&mut self, more: Self) {
        self.published += more.published;
        self.acked += more.acked;
        self.failed += more.failed;
        self.lost += more.lost;
        self.expired += more.expired;
        self.dropped += more.dropped;
    }
}

impl Room {
    /// How many tasks it has, dead ones not counted.
    pub(super) fn count(&self) -> i64 {
        self.ready + self.delayed + self.held + self.leased
    }

    /// A task came into a state.
    pub(super) fn enter(&mut self, state: State, bytes: i64) {
        self.changed = true;
        *self.counter(state) += 1;
        if state == State::Dead {
            self.bytes -= bytes;
            self.space = true;
        }
        // Those who wait set their alarm anew for what is delayed.
        self.wake |= matches!(state, State::Ready | State::Suspect | State::Delayed);
    }

    /// A task left a state.
    pub(super) fn leave(&mut self, state: State, bytes: i64) {
        self.changed = true;
        *self.counter(state) -= 1;
        if state == State::Dead {
            self.bytes += bytes;
        }
    }

    /// A task is gone from this state for good.
    pub(super) fn gone(&mut self, state: State, bytes: i64) {
        self.leave(state, bytes);
        self.bytes -= bytes;
        self.space = true;
    }

    fn counter(&mut self, state: State) -> &mut i64 {
        match state {
            State::Ready | State::Suspect => &mut self.ready,
            State::Delayed => &mut self.delayed,
            State::Held => &mut self.held,
            State::Leased | State::Alone => &mut self.leased,
            State::Dead => &mut self.dead,
        }
    }
}

/// What a writer keeps from one transaction to the next.
pub(super) struct Memory {
    pub(super) random: fastrand::Rng,
    pub(super) defaults: Arc<QueueRules>,
    consumers: HashMap<Arc<str>, i64>,
}

impl Memory {
    pub(super) fn new(settings: &SqliteSettings) -> Self {
        Self {
            random: settings.seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed),
            defaults: Arc::new(QueueRules {
                dead_limit: settings.dead_capacity,
                ..QueueRules::default()
            }),
            consumers: HashMap::new(),
        }
    }

    /// A transaction was rolled back: what it had made known is not there.
    pub(super) fn forget(&mut self) {
        self.consumers.clear();
    }
}

/// What follows a commit.
pub(super) struct Aftermath(Vec<Room>);

impl Aftermath {
    /// Wakes who waits, and gives what happened in each queue.
    pub(super) fn tell(self) -> impl Iterator<Item = (QueueName, Tally)> {
        for room in &self.0 {
            if room.applied {
                room.signal.applied();
            }
            if room.wake {
                room.signal.ready.notify_one();
            }
            if room.space {
                room.signal.space.notify_one();
            }
        }
        self.0.into_iter().map(|room| (room.name, room.tally))
    }
}

impl<'a> Session<'a> {
    /// The session of a transaction that has begun.
    pub(super) fn open(
        connection: &'a Connection,
        settings: &'a SqliteSettings,
        signals: &'a Signals,
        memory: &'a mut Memory,
        (now, ledger): (i64, bool),
    ) -> rusqlite::Result<Self> {
        let tick = connection
            .prepare_cached("SELECT next FROM plba_tick")?
            .query_row([], |row| row.get(0))?;
        Ok(Self {
            connection,
            settings,
            now,
            ledger,
            random: &mut memory.random,
            rooms: Vec::new(),
            hot: [const { None }; HOT.len()],
            signals,
            defaults: &memory.defaults,
            consumers: &mut memory.consumers,
            tick,
            first_tick: tick,
        })
    }

    /// A statement of a batch.
    pub(super) fn hot(&mut self, which: Hot) -> rusqlite::Result<&mut CachedStatement<'a>> {
        let place = which as usize;
        if let Some(ref mut statement) = self.hot[place] {
            return Ok(statement);
        }
        let statement = self.connection.prepare_cached(HOT[place])?;
        Ok(self.hot[place].insert(statement))
    }

    /// A number that was never given before.
    pub(super) fn tick(&mut self) -> i64 {
        let tick = self.tick;
        self.tick += 1;
        tick
    }

    /// The time as a time.
    pub(super) fn stamp(&self) -> Timestamp {
        stamp(self.now)
    }

    /// The place of a queue among the rooms; it comes into being if it is not there. `None` when there are too many.
    pub(super) fn room(&mut self, name: &QueueName) -> rusqlite::Result<Option<usize>> {
        if let Some(place) = self.rooms.iter().position(|room| room.name == *name) {
            return Ok(Some(place));
        }
        if let Some(place) = self.known_room(name)? {
            return Ok(Some(place));
        }
        let count: i64 = self
            .connection
            .prepare_cached("SELECT count(*) FROM plba_queues")?
            .query_row([], |row| row.get(0))?;
        if count >= i64::try_from(self.settings.queues).unwrap_or(i64::MAX) {
            return Ok(None);
        }
        self.connection
            .prepare_cached("INSERT INTO plba_queues (name) VALUES (?1)")?
            .execute([name.as_str()])?;
        self.known_room(name)
    }

    /// The place of a queue that is there.
    pub(super) fn known_room(&mut self, name: &QueueName) -> rusqlite::Result<Option<usize>> {
        if let Some(place) = self.rooms.iter().position(|room| room.name == *name) {
            return Ok(Some(place));
        }
        let signal = self.signals.of(name);
        let rules = signal.rules().unwrap_or_else(|| Arc::clone(self.defaults));
        let room = self
            .connection
            .prepare_cached(
                "SELECT number, paused, next_token, ready, delayed, held, leased, dead, bytes FROM plba_queues
                 WHERE name = ?1",
            )?
            .query_row([name.as_str()], |row| {
                Ok(Room {
                    number: row.get(0)?,
                    name: name.clone(),
                    signal,
                    rules,
                    paused: row.get(1)?,
                    next_token: row.get(2)?,
                    ready: row.get(3)?,
                    delayed: row.get(4)?,
                    held: row.get(5)?,
                    leased: row.get(6)?,
                    dead: row.get(7)?,
                    bytes: row.get(8)?,
                    tally: Tally::default(),
                    changed: false,
                    wake: false,
                    space: false,
                    applied: false,
                })
            })
            .optional()?;
        Ok(room.map(|room| {
            self.rooms.push(room);
            self.rooms.len() - 1
        }))
    }

    /// The number under which a consumer is known.
    pub(super) fn consumer(&mut self, name: &Arc<str>, presence: Option<&Presence>) -> rusqlite::Result<i64> {
        if let Some(number) = self.consumers.get(name) {
            return Ok(*number);
        }
        self.connection
            .prepare_cached(
                "INSERT INTO plba_consumers (name, presence) VALUES (?1, ?2) ON CONFLICT (name) DO NOTHING",
            )?
            .execute(params![&**name, presence.map(Presence::to_string)])?;
        let number = self
            .connection
            .prepare_cached("SELECT number FROM plba_consumers WHERE name = ?1")?
            .query_row([&**name], |row| row.get(0))?;
        self.consumers.insert(Arc::clone(name), number);
        Ok(number)
    }

    /// Removes consumers that hold nothing any more. Their numbers are never given again: who has found the same ones gone
    /// at the same time must not meet others under them.
    pub(super) fn forget_consumers(&mut self, numbers: &[i64]) -> rusqlite::Result<()> {
        for number in numbers {
            self.connection
                .prepare_cached("DELETE FROM plba_consumers WHERE number = ?1")?
                .execute([number])?;
        }
        self.consumers.retain(|_, number| !numbers.contains(number));
        Ok(())
    }

    /// Writes back what is shared by the jobs of a transaction. The commit is the caller's.
    pub(super) fn close(self) -> rusqlite::Result<Aftermath> {
        if self.tick != self.first_tick {
            self.connection
                .prepare_cached("UPDATE plba_tick SET next = ?1")?
                .execute([self.tick])?;
        }
        for room in self.rooms.iter().filter(|room| room.changed) {
            self.connection
                .prepare_cached(
                    "UPDATE plba_queues SET paused = ?2, next_token = ?3, ready = ?4, delayed = ?5, held = ?6,
                         leased = ?7, dead = ?8, bytes = ?9 WHERE number = ?1",
                )?
                .execute(params![
                    room.number,
                    room.paused,
                    room.next_token,
                    room.ready,
                    room.delayed,
                    room.held,
                    room.leased,
                    room.dead,
                    room.bytes
                ])?;
        }
        Ok(Aftermath(self.rooms))
    }
}

/// A column that counts something.
pub(super) fn count(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<u64> {
    Ok(u64::try_from(row.get::<_, i64>(column)?).unwrap_or(0))
}

/// Microseconds since 1970 as a time.
pub(super) fn stamp(microseconds: i64) -> Timestamp {
    Timestamp::from_microsecond(microseconds).unwrap_or(Timestamp::MAX)
}

/// A span as microseconds.
pub(super) fn span(span: std::time::Duration) -> i64 {
    i64::try_from(span.as_micros())
        .unwrap_or(i64::MAX / 4)
        .min(i64::MAX / 4)
}
