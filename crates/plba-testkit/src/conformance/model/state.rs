//! The small model of a queue: what a task is and which moves there are, in the plainest way that is right. It knows no
//! rates and no periods of unique keys, which have cases of their own.

use std::collections::BTreeMap;
use std::time::Duration;

use plba_tasks::queue::SUSPECT_CRASHES;
use plba_tasks::task::Priority;

/// Where the model has a task that is not held by its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Ready, from a time on.
    Waiting(Duration),
    /// In hand until a time.
    Leased(Duration),
    Dead,
}

#[derive(Clone, Debug)]
pub(super) struct Modelled {
    pub(super) state: State,
    pub(super) deliveries: u32,
    pub(super) attempts: u32,
    pub(super) crashes: u32,
    pub(super) priority: Priority,
    pub(super) line: Option<u8>,
    pub(super) unique: Option<u8>,
    pub(super) expires: Option<Duration>,
}

#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) tasks: BTreeMap<String, Modelled>,
    /// The living tasks of each line, the head first.
    pub(super) lines: BTreeMap<u8, Vec<String>>,
    /// Who has which unique key.
    pub(super) uniques: BTreeMap<u8, String>,
    pub(super) paused: bool,
    pub(super) concurrency: Option<u32>,
}

/// How many tasks are where: ready, delayed, held, leased, dead.
pub(super) type Counts = (u64, u64, u64, u64, u64);

impl Model {
    pub(super) fn insert(&mut self, id: &str, task: Modelled) {
        if let Some(line) = task.line {
            self.lines.entry(line).or_default().push(id.to_owned());
        }
        self.tasks.insert(id.to_owned(), task);
    }

    pub(super) fn living(&self) -> usize {
        self.tasks.values().filter(|task| task.state != State::Dead).count()
    }

    pub(super) fn leased(&self) -> usize {
        let leased = |task: &&Modelled| matches!(task.state, State::Leased(_));
        self.tasks.values().filter(leased).count()
    }

    /// Whether it stands behind another one of its line.
    pub(super) fn is_held(&self, id: &str) -> bool {
        let line = self.tasks.get(id).and_then(|task| task.line);
        let line = line.and_then(|line| self.lines.get(&line));
        line.is_some_and(|line| line.contains(&id.to_owned()) && line[0] != id)
    }

    /// Whether the next consumer may get it.
    pub(super) fn is_ready(&self, id: &str, now: Duration) -> bool {
        let task = &self.tasks[id];
        matches!(task.state, State::Waiting(from) if from <= now) && !self.is_held(id) && !task.is_overdue(now)
    }

    /// Whether nothing at all is handed out now.
    pub(super) fn is_shut(&self) -> bool {
        let full = self.concurrency.is_some_and(|limit| self.leased() >= limit as usize);
        self.paused || full
    }

    /// It is done, dead or gone: what waited for that goes on.
    pub(super) fn depart(&mut self, id: &str) {
        for line in self.lines.values_mut() {
            line.retain(|other| other != id);
        }
        self.uniques.retain(|_, holder| holder != id);
    }

    pub(super) fn die(&mut self, id: &str) {
        self.depart(id);
        if let Some(task) = self.tasks.get_mut(id) {
            task.state = State::Dead;
        }
    }

    pub(super) fn remove(&mut self, id: &str) {
        self.depart(id);
        self.tasks.remove(id);
    }

    /// A dead letter is retried: it joins the end of its line, and takes its unique key if that is free.
    pub(super) fn retry(&mut self, id: &str, now: Duration) {
        let Some(mut task) = self.tasks.remove(id) else { return };
        (task.deliveries, task.attempts, task.crashes) = (0, 0, 0);
        task.state = State::Waiting(now);
        task.expires = task.expires.filter(|expires| *expires > now);
        if let Some(unique) = task.unique {
            self.uniques.entry(unique).or_insert_with(|| id.to_owned());
        }
        self.insert(id, task);
    }

    /// Leases that have run out by now.
    pub(super) fn let_run_out(&mut self, now: Duration, maximum_crashes: u32) -> Vec<String> {
        let lost = |(id, task): (&String, &Modelled)| {
            matches!(task.state, State::Leased(deadline) if deadline <= now).then(|| id.clone())
        };
        let lost: Vec<String> = self.tasks.iter().filter_map(lost).collect();
        for id in &lost {
            let Some(task) = self.tasks.get_mut(id) else { continue };
            task.crashes += 1;
            task.state = State::Waiting(now);
            if task.crashes >= maximum_crashes {
                self.die(id);
            }
        }
        lost
    }

    pub(super) fn counts(&self, now: Duration) -> Counts {
        let mut counts = (0, 0, 0, 0, 0);
        for (id, task) in &self.tasks {
            match task.state {
                State::Dead => counts.4 += 1,
                State::Leased(_) => counts.3 += 1,
                State::Waiting(_) if self.is_held(id) => counts.2 += 1,
                State::Waiting(from) if from > now => counts.1 += 1,
                State::Waiting(_) => counts.0 += 1,
            }
        }
        counts
    }

    /// When something will change by the passing of time.
    pub(super) fn edges(&self) -> impl Iterator<Item = Duration> {
        self.tasks.values().flat_map(|task| {
            let state = match task.state {
                State::Waiting(at) | State::Leased(at) => Some(at),
                State::Dead => None,
            };
            [state, task.expires].into_iter().flatten()
        })
    }
}

impl Modelled {
    pub(super) fn is_suspect(&self) -> bool {
        self.crashes >= SUSPECT_CRASHES
    }

    pub(super) fn is_overdue(&self, now: Duration) -> bool {
        matches!(self.state, State::Waiting(_)) && self.expires.is_some_and(|expires| expires <= now)
    }
}
