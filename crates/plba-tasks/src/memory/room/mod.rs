//! One named queue as a plain state machine: no clock, no waiting, no locks. Time comes in as spans since the backend was
//! opened. Here is what it consists of, and what comes in; what goes out and what comes back have files of their own.

mod graves;
mod moves;
mod taking;
mod views;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

pub(super) use self::views::Seen;
use super::entry::{Condemned, Dead, Entry};
use super::gate::Gate;
use super::keys::Keys;
use super::leases::Leases;
use super::signals::Signals;
use super::uniques::Uniques;
use crate::queue::{QueueRules, QueueStats};
use crate::task::{Conflict, Priority, TaskId};

/// What bounds a named queue.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    pub(super) capacity: usize,
    pub(super) bytes: usize,
    pub(super) dead: usize,
    pub(super) crashes: u32,
    pub(super) lease: Duration,
    /// Whether dead letters of tasks with an origin are kept by a ledger.
    pub(super) ledger: bool,
}

/// A named queue.
pub(super) struct Room {
    pub(super) signals: Arc<Signals>,
    /// Publishers that wait for space; newcomers queue up behind them.
    pub(super) waiting: usize,
    bounds: Bounds,
    rules: QueueRules,
    gate: Gate,
    pause: Option<Pause>,
    /// One line for each priority.
    ready: [VecDeque<Entry>; Priority::ALL.len()],
    /// Ready tasks that were in hand when somebody disappeared, again; of one priority the least suspicious first. They are
    /// handed out alone and one at a time, so that a task that kills its process takes no innocent one down with it again
    /// and again.
    suspects: BTreeMap<(Priority, u32, u64), Entry>,
    suspects_out: usize,
    delayed: BTreeMap<(Duration, u64), Entry>,
    keys: Keys,
    uniques: Uniques,
    leases: Leases,
    dead: BTreeMap<u64, Dead>,
    /// Dead, but for their ledger, which has yet to hear of it.
    pub(super) condemned: Vec<Condemned>,
    ids: HashSet<TaskId>,
    /// Counts moves, so that what becomes ready at the same time keeps its order.
    moves: u64,
    /// Whether, beside what was asked for, something became ready or a new timer is to be heeded.
    stirred: bool,
    /// Whether there is more space than before.
    freed: bool,
    count: usize,
    bytes: usize,
    totals: Totals,
}

/// Nothing is handed out.
struct Pause {
    /// When it ends: as it was told, and as a span.
    until: Option<(Timestamp, Duration)>,
}

/// Counts since the backend was opened.
#[derive(Default)]
struct Totals {
    published: u64,
    acked: u64,
    failed: u64,
    lost: u64,
    expired: u64,
    dropped: u64,
}

/// The time, both kinds.
#[derive(Clone, Copy)]
pub(super) struct Now {
    pub(super) span: Duration,
    pub(super) stamp: Timestamp,
}

impl Room {
    pub(super) fn new(bounds: Bounds, rules: QueueRules) -> Self {
        Self {
            signals: Arc::default(),
            waiting: 0,
            bounds,
            rules,
            gate: Gate::default(),
            pause: None,
            ready: Default::default(),
            suspects: BTreeMap::new(),
            suspects_out: 0,
            delayed: BTreeMap::new(),
            keys: Keys::default(),
            uniques: Uniques::default(),
            leases: Leases::default(),
            dead: BTreeMap::new(),
            condemned: Vec::new(),
            ids: HashSet::new(),
            moves: 0,
            stirred: false,
            freed: false,
            count: 0,
            bytes: 0,
            totals: Totals::default(),
        }
    }

    /// Whether so much more fits. An empty queue takes whatever comes, or a large batch could never be published.
    pub(super) fn fits(&self, count: usize, bytes: usize) -> bool {
        let within = self.count + count <= self.bounds.capacity && self.bytes + bytes <= self.bounds.bytes;
        within || self.count == 0
    }

    /// Takes a new task in, unless its id is known or its unique key is another's; gives the id of the task that is there.
    pub(super) fn publish(&mut self, mut entry: Entry, now: Now) -> TaskId {
        let id = entry.task.id.clone();
        if entry.named && !self.ids.insert(id.clone()) {
            return id;
        }
        if entry.unique.is_some() {
            entry = match self.give_way(entry, now) {
                Ok(holder) => {
                    self.ids.remove(&id);
                    return holder;
                }
                Err(entry) => entry,
            };
        }
        self.totals.published += 1;
        self.count += 1;
        self.bytes += entry.size;
        self.enter(entry, now.span);
        id
    }

    /// Looks for another task with the same unique key, which gets or gives way; if there is none, takes the key and gives
    /// the entry back.
    fn give_way(&mut self, mut entry: Entry, now: Now) -> Result<TaskId, Entry> {
        let Some(unique) = entry.unique.clone() else {
            return Err(entry);
        };
        if let Some(holder) = self.uniques.holder(&unique.key, now.span).cloned() {
            if unique.conflict == Conflict::Keep {
                return Ok(holder);
            }
            entry = match self.replace(&holder, entry, now.span) {
                None => {
                    self.uniques.claim(&unique, holder.clone(), now.span);
                    return Ok(holder);
                }
                Some(entry) => entry,
            };
        }
        self.uniques.claim(&unique, entry.task.id.clone(), now.span);
        Err(entry)
    }

    /// Puts a new content into a task that waits; gives it back when that one does not wait.
    fn replace(&mut self, id: &TaskId, new: Entry, now: Duration) -> Option<Entry> {
        if let Some(held) = self.keys.entries_mut().find(|entry| entry.task.id == *id) {
            self.bytes = self.bytes - held.size + new.size;
            held.become_new(new);
            return None;
        }
        let in_line = |(class, line): (usize, &VecDeque<Entry>)| {
            let place = line.iter().position(|entry| entry.task.id == *id)?;
            Some((class, place))
        };
        let ready = self.ready.iter().enumerate().find_map(in_line);
        if let Some((class, place)) = ready {
            let stays = new.ready_at <= now && new.task.priority as usize == class;
            if let Some(entry) = self.ready[class].get_mut(place).filter(|_| stays) {
                self.bytes = self.bytes - entry.size + new.size;
                entry.become_new(new);
                return None;
            }
        }
        let removed = match ready {
            Some((class, place)) => self.ready[class].remove(place),
            None => self.remove_from_trees(id),
        };
        let Some(mut entry) = removed else { return Some(new) };
        self.bytes = self.bytes - entry.size + new.size;
        entry.become_new(new);
        self.place(entry, now);
        None
    }

    fn remove_from_trees(&mut self, id: &TaskId) -> Option<Entry> {
        let suspect = self.suspects.iter().find(|(_, entry)| entry.task.id == *id);
        if let Some(place) = suspect.map(|(place, _)| *place) {
            return self.suspects.remove(&place);
        }
        let delayed = self.delayed.iter().find(|(_, entry)| entry.task.id == *id);
        let place = delayed.map(|(place, _)| *place)?;
        self.delayed.remove(&place)
    }

    /// A task is published, or published again: an ordered one lines up.
    fn enter(&mut self, mut entry: Entry, now: Duration) {
        self.moves += 1;
        entry.sequence = self.moves;
        if entry.task.ordered {
            let Some(head) = self.keys.line_up(entry) else { return };
            entry = head;
        }
        self.place(entry, now);
    }

    /// Puts a task where it waits for its time or for a consumer.
    fn place(&mut self, entry: Entry, now: Duration) {
        self.moves += 1;
        let priority = entry.task.priority;
        if entry.ready_at > now {
            self.delayed.insert((entry.ready_at, self.moves), entry);
        } else if entry.is_suspect() {
            self.suspects.insert((priority, entry.crashes, self.moves), entry);
        } else {
            self.ready[priority as usize].push_back(entry);
        }
    }

    /// A task has left the queue, or died.
    fn make_space(&mut self, entry: &Entry) {
        self.count -= 1;
        self.bytes -= entry.size;
        self.freed = true;
    }

    /// Tells a publisher that waits of new space.
    pub(super) fn offer_space(&mut self) {
        if std::mem::take(&mut self.freed) && self.waiting > 0 {
            self.signals.space.notify_one();
        }
    }

    /// The rules have changed: what is held by the old ones is looked at anew.
    pub(super) fn govern(&mut self, rules: QueueRules, now: Now) {
        self.rules = rules;
        for entry in self.keys.release_over() {
            self.unhold(entry, now.span);
        }
        self.retain_dead(now.stamp);
    }

    pub(super) fn pause(&mut self, until: Option<Timestamp>, now: Now) {
        let span = |until: Timestamp| {
            let left = Duration::try_from(until.duration_since(now.stamp)).unwrap_or_default();
            (until, now.span.saturating_add(left))
        };
        self.pause = Some(Pause { until: until.map(span) });
    }

    pub(super) fn resume(&mut self) {
        self.pause = None;
    }

    /// The pause, if there is one now.
    fn paused(&self, now: Duration) -> Option<&Pause> {
        self.pause
            .as_ref()
            .filter(|pause| pause.until.is_none_or(|(_, until)| until > now))
    }

    pub(super) fn stats(&self, name: &str, now: Duration) -> QueueStats {
        let first = self.ready.iter().filter_map(VecDeque::front);
        let oldest = first.chain(self.suspects.values()).map(|entry| entry.ready_at).min();
        let ready: usize = self.ready.iter().map(VecDeque::len).sum();
        let paused = self.paused(now);
        QueueStats {
            queue: name.to_owned(),
            ready: (ready + self.suspects.len()) as u64,
            delayed: self.delayed.len() as u64,
            held: self.keys.held() as u64,
            leased: self.leases.len() as u64,
            dead: (self.dead.len() + self.condemned.len()) as u64,
            bytes: self.bytes as u64,
            published: self.totals.published,
            acked: self.totals.acked,
            failed: self.totals.failed,
            lost: self.totals.lost,
            expired: self.totals.expired,
            dropped: self.totals.dropped,
            oldest: oldest.map(|since| now.saturating_sub(since)),
            paused: paused.is_some(),
            paused_until: paused.and_then(|pause| pause.until).map(|(until, _)| until),
        }
    }
}
