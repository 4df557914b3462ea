//! The ledger's content in memory: entries by source and key, and in the order of their states. It changes by events only,
//! and the same events give the same book; no input or output here.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::event::{End, Event, Saved};
use crate::ledger::{Counts, EntryState, Known, LedgerStats};
use crate::queue::{Cursor, DeadLetter, DeadPage};
use crate::task::{AttemptEnd, EndedAttempt, Origin, QueueName, TaskId, remember};

/// The content of a ledger.
#[derive(Default)]
pub(super) struct Book {
    sources: BTreeMap<String, Shelf>,
    /// Numbers changes of state, so that each state has an order.
    sequence: u64,
    settled_limit: usize,
}

/// What a ledger knows of one source.
#[derive(Default)]
struct Shelf {
    entries: HashMap<Arc<str>, Entry>,
    cursor: Option<String>,
    open: BTreeMap<u64, Arc<str>>,
    done: BTreeMap<u64, Arc<str>>,
    settled: BTreeMap<u64, Arc<str>>,
    dead: BTreeMap<u64, Arc<str>>,
}

struct Entry {
    state: EntryState,
    sequence: u64,
    counts: Counts,
    history: Vec<EndedAttempt>,
    in_hand: bool,
    published: bool,
    queue: String,
    kind: String,
}

impl Entry {
    fn known(&self) -> Known {
        Known {
            state: self.state,
            counts: self.counts,
            history: self.history.clone(),
            published: self.published,
        }
    }
}

impl Shelf {
    fn order(&mut self, state: EntryState) -> &mut BTreeMap<u64, Arc<str>> {
        match state {
            EntryState::Open => &mut self.open,
            EntryState::Done => &mut self.done,
            EntryState::Settled => &mut self.settled,
            EntryState::Dead => &mut self.dead,
        }
    }

    fn entry(&mut self, key: &str, sequence: &mut u64) -> &mut Entry {
        let key = match self.entries.get_key_value(key) {
            Some((key, _)) => Arc::clone(key),
            None => key.into(),
        };
        self.entries.entry(key).or_insert_with_key(|key| {
            *sequence += 1;
            self.open.insert(*sequence, Arc::clone(key));
            Entry {
                state: EntryState::Open,
                sequence: *sequence,
                counts: Counts::default(),
                history: Vec::new(),
                in_hand: false,
                published: false,
                queue: String::new(),
                kind: String::new(),
            }
        })
    }

    fn shift(&mut self, key: &str, state: EntryState, sequence: &mut u64) {
        let Some((key, entry)) = self.entries.get_key_value(key) else {
            return;
        };
        let (key, from, place) = (Arc::clone(key), entry.state, entry.sequence);
        *sequence += 1;
        self.order(from).remove(&place);
        self.order(state).insert(*sequence, Arc::clone(&key));
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.state = state;
            entry.sequence = *sequence;
            entry.in_hand = false;
            if state == EntryState::Settled {
                // Only the key is of interest from now on.
                entry.history = Vec::new();
                entry.queue = String::new();
                entry.kind = String::new();
            }
        }
    }

    fn remove(&mut self, key: &str) {
        if let Some(entry) = self.entries.remove(key) {
            self.order(entry.state).remove(&entry.sequence);
        }
    }
}

impl Book {
    /// An empty book that keeps at most so many settled entries of a source.
    pub(super) fn new(settled_limit: usize) -> Self {
        Self {
            settled_limit,
            ..Self::default()
        }
    }

    /// Whether an event would change anything that is worth a record.
    pub(super) fn changes(&self, event: &Event) -> bool {
        let state = |source: &str, key: &str| {
            let entry = self.sources.get(source).and_then(|shelf| shelf.entries.get(key));
            entry.map(|entry| entry.state)
        };
        match event {
            Event::Opened => self
                .sources
                .values()
                .any(|shelf| shelf.entries.values().any(|entry| entry.in_hand)),
            Event::Intake { source, keys } => keys.iter().any(|key| state(source, key).is_none()),
            Event::Delivered { origins } => !origins.is_empty(),
            Event::Ended { ends } => ends
                .iter()
                .any(|(origin, _)| matches!(state(&origin.source, &origin.key), None | Some(EntryState::Open))),
            Event::Settled { source, keys } => keys
                .iter()
                .any(|key| !matches!(state(source, key), None | Some(EntryState::Settled))),
            Event::Forgotten { source, keys } => keys.iter().any(|key| state(source, key) == Some(EntryState::Settled)),
            Event::Cursor { source, cursor } => self.cursor(source).as_ref() != Some(cursor),
            Event::Retried { origins } | Event::Dropped { origins } => !origins.is_empty(),
            Event::Entry(_) => true,
        }
    }

    /// Makes the change. Gives the counts of delivered entries, in order; nothing for other events.
    pub(super) fn apply(&mut self, event: &Event) -> Vec<Option<Counts>> {
        let mut counts = Vec::new();
        match event {
            Event::Opened => self.opened(),
            Event::Intake { source, keys } => {
                let shelf = self.sources.entry(source.clone()).or_default();
                for key in keys {
                    shelf.entry(key, &mut self.sequence).published = true;
                }
            }
            Event::Delivered { origins } => counts.extend(origins.iter().map(|origin| self.delivered(origin))),
            Event::Ended { ends } => ends.iter().for_each(|(origin, end)| self.ended(origin, end)),
            Event::Settled { source, keys } => {
                keys.iter().for_each(|key| self.shift(source, key, EntryState::Settled));
                self.trim(source);
            }
            Event::Forgotten { source, keys } => {
                if let Some(shelf) = self.sources.get_mut(source) {
                    for key in keys {
                        let settled = |entry: &Entry| entry.state == EntryState::Settled;
                        if shelf.entries.get(key.as_str()).is_some_and(settled) {
                            shelf.remove(key);
                        }
                    }
                }
            }
            Event::Cursor { source, cursor } => {
                self.sources.entry(source.clone()).or_default().cursor = Some(cursor.clone());
            }
            Event::Retried { origins } => origins.iter().for_each(|origin| self.retried(origin)),
            Event::Dropped { origins } => {
                for origin in origins.iter().filter(|origin| self.is_dead(origin)).collect::<Vec<_>>() {
                    self.shift(&origin.source, &origin.key, EntryState::Settled);
                    self.trim(&origin.source);
                }
            }
            Event::Entry(saved) => self.restore(saved),
        }
        counts
    }

    fn opened(&mut self) {
        for entry in self.sources.values_mut().flat_map(|shelf| shelf.entries.values_mut()) {
            if std::mem::take(&mut entry.in_hand) {
                entry.counts.crashes += 1;
            }
        }
    }

    fn delivered(&mut self, origin: &Origin) -> Option<Counts> {
        let shelf = self.sources.entry(origin.source.to_string()).or_default();
        let entry = shelf.entry(&origin.key, &mut self.sequence);
        if entry.state != EntryState::Open {
            return None;
        }
        if std::mem::replace(&mut entry.in_hand, true) {
            entry.counts.crashes += 1;
        }
        entry.counts.deliveries += 1;
        entry.published = true;
        Some(entry.counts)
    }

    fn ended(&mut self, origin: &Origin, end: &End) {
        let shelf = self.sources.entry(origin.source.to_string()).or_default();
        let entry = shelf.entry(&origin.key, &mut self.sequence);
        if entry.state != EntryState::Open {
            return;
        }
        entry.in_hand = false;
        match end {
            End::Released => {}
            End::Failed(attempt) => {
                entry.counts.attempts += 1;
                remember(&mut entry.history, attempt.clone());
            }
            End::Done => shelf.shift(&origin.key, EntryState::Done, &mut self.sequence),
            End::Dead { attempt, queue, kind } => {
                entry.counts.attempts += u32::from(attempt.how != AttemptEnd::Crashed);
                remember(&mut entry.history, attempt.clone());
                entry.queue.clone_from(queue);
                entry.kind.clone_from(kind);
                shelf.shift(&origin.key, EntryState::Dead, &mut self.sequence);
            }
        }
    }

    fn retried(&mut self, origin: &Origin) {
        if !self.is_dead(origin) {
            return;
        }
        self.shift(&origin.source, &origin.key, EntryState::Open);
        let shelf = self.sources.get_mut(&*origin.source);
        if let Some(entry) = shelf.and_then(|shelf| shelf.entries.get_mut(&origin.key)) {
            entry.counts = Counts::default();
            entry.published = false;
        }
    }

    fn restore(&mut self, saved: &Saved) {
        let shelf = self.sources.entry(saved.source.clone()).or_default();
        let entry = shelf.entry(&saved.key, &mut self.sequence);
        entry.counts = saved.counts;
        entry.history.clone_from(&saved.history);
        entry.queue.clone_from(&saved.queue);
        entry.kind.clone_from(&saved.kind);
        if saved.state != EntryState::Open {
            shelf.shift(&saved.key, saved.state, &mut self.sequence);
        } else {
            entry.in_hand = saved.in_hand;
        }
    }

    fn shift(&mut self, source: &str, key: &str, state: EntryState) {
        if let Some(shelf) = self.sources.get_mut(source) {
            shelf.shift(key, state, &mut self.sequence);
        }
    }

    /// Forgets the longest settled of too many.
    fn trim(&mut self, source: &str) {
        let limit = self.settled_limit;
        let Some(shelf) = self.sources.get_mut(source) else {
            return;
        };
        while shelf.settled.len() > limit
            && let Some((_, key)) = shelf.settled.pop_first()
        {
            shelf.entries.remove(&key);
        }
    }

    fn is_dead(&self, origin: &Origin) -> bool {
        let shelf = self.sources.get(&*origin.source);
        let entry = shelf.and_then(|shelf| shelf.entries.get(&origin.key));
        entry.is_some_and(|entry| entry.state == EntryState::Dead)
    }

    pub(super) fn known(&self, source: &str, key: &str) -> Option<Known> {
        Some(self.sources.get(source)?.entries.get(key)?.known())
    }

    /// A new process has published nothing yet.
    pub(super) fn unpublish(&mut self) {
        for entry in self.sources.values_mut().flat_map(|shelf| shelf.entries.values_mut()) {
            entry.published = false;
        }
    }

    pub(super) fn pending(&self, source: &str, limit: usize) -> Vec<Arc<str>> {
        let Some(shelf) = self.sources.get(source) else {
            return Vec::new();
        };
        let unpublished = |key: &&Arc<str>| shelf.entries.get(*key).is_some_and(|entry| !entry.published);
        shelf.open.values().filter(unpublished).take(limit).cloned().collect()
    }

    pub(super) fn unsettled(&self, source: &str, limit: usize) -> Vec<Arc<str>> {
        let shelf = self.sources.get(source);
        shelf
            .map(|shelf| shelf.done.values().take(limit).cloned().collect())
            .unwrap_or_default()
    }

    pub(super) fn cursor(&self, source: &str) -> Option<String> {
        self.sources.get(source)?.cursor.clone()
    }

    /// The dead entries of this queue whose tasks have these ids.
    pub(super) fn dead_origins(&self, queue: &QueueName, ids: &[TaskId]) -> Vec<Origin> {
        let of_queue = |origin: &Origin| {
            let entry = self.sources.get(&*origin.source)?.entries.get(&origin.key)?;
            Some(entry.state == EntryState::Dead && entry.queue == queue.as_str())
        };
        let origin = |id: &TaskId| {
            // A source's name may contain a slash, so every way to split the id is tried.
            let splits = id
                .as_str()
                .match_indices('/')
                .map(|(place, _)| id.as_str().split_at(place));
            let mut origins = splits.map(|(source, key)| Origin::new(source, &key[1..]));
            origins.find(|origin| of_queue(origin) == Some(true))
        };
        ids.iter().filter_map(origin).collect()
    }

    pub(super) fn dead_letters(&self, cursor: Option<&Cursor>, limit: usize) -> DeadPage {
        let after: u64 = cursor.and_then(|cursor| cursor.0.parse().ok()).unwrap_or(0);
        let mut found = BTreeMap::new();
        for (source, shelf) in &self.sources {
            for (sequence, key) in shelf.dead.range(after + 1..).take(limit + 1) {
                found.insert(*sequence, (source, key, shelf));
            }
        }
        let mut page = DeadPage::default();
        let mut last = after;
        for (sequence, (source, key, shelf)) in found {
            if page.letters.len() == limit {
                page.next = Some(Cursor(last.to_string()));
                break;
            }
            last = sequence;
            if let Some(entry) = shelf.entries.get(key) {
                page.letters.push(letter(source, key, entry));
            }
        }
        page
    }

    pub(super) fn stats(&self) -> Vec<LedgerStats> {
        let stats = |(source, shelf): (&String, &Shelf)| LedgerStats {
            source: source.clone(),
            open: shelf.open.len() as u64,
            unsettled: shelf.done.len() as u64,
            settled: shelf.settled.len() as u64,
            dead: shelf.dead.len() as u64,
        };
        self.sources.iter().map(stats).collect()
    }

    /// The events that make an equal book.
    pub(super) fn snapshot(&self) -> impl Iterator<Item = Event> {
        self.sources.iter().flat_map(|(source, shelf)| {
            let cursor = shelf.cursor.clone().map(|cursor| Event::Cursor {
                source: source.clone(),
                cursor,
            });
            let mut keys: Vec<_> = shelf.entries.iter().collect();
            keys.sort_unstable_by_key(|(_, entry)| entry.sequence);
            let entries = keys.into_iter().map(move |(key, entry)| {
                Event::Entry(Box::new(Saved {
                    source: source.clone(),
                    key: key.to_string(),
                    state: entry.state,
                    counts: entry.counts,
                    in_hand: entry.in_hand,
                    history: entry.history.clone(),
                    queue: entry.queue.clone(),
                    kind: entry.kind.clone(),
                }))
            });
            cursor.into_iter().chain(entries)
        })
    }
}

fn letter(source: &str, key: &Arc<str>, entry: &Entry) -> DeadLetter {
    let origin = Origin::new(source, Arc::clone(key));
    let last = entry.history.last();
    DeadLetter {
        id: origin.task_id(),
        queue: QueueName::from(entry.queue.as_str()),
        kind: entry.kind.clone(),
        origin: Some(origin),
        died: last.map(|attempt| attempt.at).unwrap_or_default(),
        reason: last.map(|attempt| attempt.reason.clone()).unwrap_or_default(),
        deliveries: entry.counts.deliveries,
        history: entry.history.clone(),
    }
}
