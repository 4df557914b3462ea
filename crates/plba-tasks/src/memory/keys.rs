//! What is known of the keys of a named queue's tasks: lines of ordered tasks, leases and rates for each key, and the tasks
//! that are held for either reason. Tasks without a key cost nothing here.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::entry::Entry;
use super::gate::Gate;
use crate::queue::{QueueRules, Rate};

/// The keys of one named queue.
#[derive(Default)]
pub(super) struct Keys {
    keys: HashMap<Arc<str>, Key>,
    held: usize,
    /// Keys are looked through for idle ones when there are so many.
    sweep_at: usize,
}

#[derive(Default)]
struct Key {
    leased: u32,
    gate: Gate,
    /// Over the key's number of leases, in the order of publication.
    over: VecDeque<Entry>,
    /// Behind the head of an ordered key; `None` when there is no head.
    line: Option<VecDeque<Entry>>,
}

/// What the rules say to a task that would be handed out.
pub(super) enum Admission {
    /// Go on.
    Admitted(Entry),
    /// Not before this time.
    Later(Entry, Duration),
    /// When one of its key's leases ends; it is kept here.
    Held,
}

impl Keys {
    /// How many tasks are held.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// All tasks that are held.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.keys
            .values()
            .flat_map(|key| key.over.iter().chain(key.line.iter().flatten()))
    }

    /// The same, to change them.
    pub(super) fn entries_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.keys
            .values_mut()
            .flat_map(|key| key.over.iter_mut().chain(key.line.iter_mut().flatten()))
    }

    /// A task joins the line of its ordered key: given back when it is the head.
    pub(super) fn line_up(&mut self, entry: Entry) -> Option<Entry> {
        let Some(key) = entry.task.key.clone().filter(|_| entry.task.ordered) else {
            return Some(entry);
        };
        let key = self.keys.entry(key).or_default();
        match &mut key.line {
            Some(line) => {
                line.push_back(entry);
                self.held += 1;
                None
            }
            None => {
                key.line = Some(VecDeque::new());
                Some(entry)
            }
        }
    }

    /// The head of an ordered line is done, dead or gone: the next one, if there is one.
    pub(super) fn next_in_line(&mut self, head: &Entry, now: Duration) -> Option<Entry> {
        let name = head.task.key.as_ref().filter(|_| head.task.ordered)?;
        let key = self.keys.get_mut(name)?;
        let next = key.line.as_mut().and_then(VecDeque::pop_front);
        if next.is_some() {
            self.held -= 1;
        } else {
            key.line = None;
            self.forget_if_idle(name, now);
        }
        next
    }

    /// What the rules say of handing out a task now.
    pub(super) fn admit(&mut self, entry: Entry, rules: &QueueRules, now: Duration) -> Admission {
        let Some(name) = entry.task.key.clone() else {
            return Admission::Admitted(entry);
        };
        self.sweep(now);
        let key = self.keys.entry(name).or_default();
        if rules.key_concurrency.is_some_and(|limit| key.leased >= limit) {
            insert_by_sequence(&mut key.over, entry);
            self.held += 1;
            return Admission::Held;
        }
        if let Some(rate) = rules.key_rate {
            let opens = key.gate.opens(rate, now);
            if opens > now {
                return Admission::Later(entry, opens);
            }
        }
        Admission::Admitted(entry)
    }

    /// A task is handed out.
    pub(super) fn granted(&mut self, entry: &Entry, rate: Option<Rate>, now: Duration) {
        let Some(key) = entry.task.key.as_ref().and_then(|name| self.keys.get_mut(name)) else {
            return;
        };
        key.leased += 1;
        if let Some(rate) = rate {
            key.gate.pass(rate, now);
        }
    }

    /// A lease has ended, somehow: the task that was held for it.
    pub(super) fn lease_ended(&mut self, entry: &Entry, now: Duration) -> Option<Entry> {
        let name = entry.task.key.as_ref()?;
        let key = self.keys.get_mut(name)?;
        key.leased = key.leased.saturating_sub(1);
        let next = key.over.pop_front();
        if next.is_some() {
            self.held -= 1;
        } else {
            self.forget_if_idle(name, now);
        }
        next
    }

    /// All tasks that were held for a lease of their key: the rules have changed.
    pub(super) fn release_over(&mut self) -> Vec<Entry> {
        let released: Vec<Entry> = self.keys.values_mut().flat_map(|key| key.over.drain(..)).collect();
        self.held -= released.len();
        released
    }

    fn forget_if_idle(&mut self, name: &Arc<str>, now: Duration) {
        if self.keys.get(name).is_some_and(|key| key.is_idle(now)) {
            self.keys.remove(name);
        }
    }

    /// Keys whose rate was used are only idle some time later.
    fn sweep(&mut self, now: Duration) {
        const AT_LEAST: usize = 1_024;
        if self.keys.len() > self.sweep_at.max(AT_LEAST) {
            self.keys.retain(|_, key| !key.is_idle(now));
            self.sweep_at = self.keys.len() * 2;
        }
    }
}

impl Key {
    fn is_idle(&self, now: Duration) -> bool {
        self.leased == 0 && self.over.is_empty() && self.line.is_none() && self.gate.is_idle(now)
    }
}

/// Puts an entry before all that were published after it. It looks from the front, where such an entry belongs.
pub(super) fn insert_by_sequence(entries: &mut VecDeque<Entry>, entry: Entry) {
    if entries.back().is_none_or(|last| last.sequence < entry.sequence) {
        entries.push_back(entry);
        return;
    }
    let place = entries.iter().position(|other| other.sequence > entry.sequence);
    entries.insert(place.unwrap_or(entries.len()), entry);
}
