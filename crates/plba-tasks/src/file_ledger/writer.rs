//! The writer: one thread that collects the changes of all callers, appends them in one write, synchronises once, and only
//! then makes them visible and answers. Reading needs no writer.
//!
//! Counted deliveries have a thread of their own, because work waits for them: they are written beside a synchronisation
//! that is under way, made visible and answered at once, and synchronised with the writer's next write.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use super::book::Book;
use super::event::Event;
use super::journal::Journal;
use crate::ledger::{Counts, LedgerError};

/// How many changes one write takes at most.
const BATCH: usize = 1_000;

pub(super) type Answer = Result<Vec<Option<Counts>>, LedgerError>;

/// What the readers share with the writer.
pub(super) struct Shared(Mutex<Book>);

impl Shared {
    pub(super) fn new(book: Book) -> Arc<Self> {
        Arc::new(Self(Mutex::new(book)))
    }

    // Applying an event does not panic half-way: a poisoned lock is as good as a sound one.
    pub(super) fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Change {
    event: Event,
    answer: oneshot::Sender<Answer>,
}

/// What the writer is asked for.
enum Asked {
    Change(Change),
    /// Something was written that is to be on the disk soon.
    Synchronise,
}

/// The writer's handle. Dropping it waits until everything asked for is written.
pub(super) struct Writer {
    changes: Option<Sender<Asked>>,
    prompt: Option<Sender<Change>>,
    /// The prompt one first: it asks things of the other.
    threads: Vec<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(journal: Journal, shared: Arc<Shared>, compact_above: u64) -> io::Result<Self> {
        let (changes, asked) = channel();
        let (prompt, asked_promptly) = channel();
        let journal = Arc::new(Mutex::new(journal));
        let hurry = Prompt {
            journal: Arc::clone(&journal),
            shared: Arc::clone(&shared),
            writer: changes.clone(),
        };
        let thread = Thread {
            journal,
            shared,
            compact_above,
        };
        let named = |name: &str| std::thread::Builder::new().name(name.into());
        let writer = Self {
            changes: Some(changes),
            prompt: Some(prompt),
            threads: vec![
                named("plba-deliveries").spawn(move || hurry.run(&asked_promptly))?,
                named("plba-ledger").spawn(move || thread.run(&asked))?,
            ],
        };
        Ok(writer)
    }

    /// Asks for a change; the answer comes when it is on the disk.
    pub(super) fn write(&self, event: Event) -> oneshot::Receiver<Answer> {
        let (answer, answered) = oneshot::channel();
        if let Some(changes) = &self.changes {
            // Should the writer be gone, the answer's other end is dropped with the change, which the asker notices.
            drop(changes.send(Asked::Change(Change { event, answer })));
        }
        answered
    }

    /// Asks for a change; the answer comes when it is written, and it is on the disk soon after.
    pub(super) fn write_promptly(&self, event: Event) -> oneshot::Receiver<Answer> {
        let (answer, answered) = oneshot::channel();
        if let Some(prompt) = &self.prompt {
            drop(prompt.send(Change { event, answer }));
        }
        answered
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.changes = None;
        self.prompt = None;
        for thread in self.threads.drain(..) {
            // A panic in it has been reported by the panic hook.
            drop(thread.join());
        }
    }
}

/// Waits for one, and takes what else is there.
fn gather<T>(asked: &Receiver<T>) -> Option<Vec<T>> {
    let mut batch = vec![asked.recv().ok()?];
    while batch.len() < BATCH
        && let Ok(next) = asked.try_recv()
    {
        batch.push(next);
    }
    Some(batch)
}

fn refuse(batch: Vec<Change>, error: &io::Error) {
    let text = format!("it could not be written, see that its disk has space and works: {error}");
    for change in batch {
        // A caller that has gone away wants no answer.
        drop(change.answer.send(Err(LedgerError::new(text.clone()))));
    }
}

/// A write that did not panic half-way left the journal as it says; one that did left it suspect, which the next one mends.
fn lock(journal: &Mutex<Journal>) -> MutexGuard<'_, Journal> {
    journal.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Prompt {
    journal: Arc<Mutex<Journal>>,
    shared: Arc<Shared>,
    writer: Sender<Asked>,
}

impl Prompt {
    fn run(self, asked: &Receiver<Change>) {
        while let Some(batch) = gather(asked) {
            self.write(batch);
        }
    }

    fn write(&self, batch: Vec<Change>) {
        let mut journal = lock(&self.journal);
        if journal.is_suspect() {
            // Only the writer can mend that: it knows what else is on its way.
            drop(journal);
            for change in batch {
                drop(self.writer.send(Asked::Change(change)));
            }
            return;
        }
        let events: Vec<&Event> = batch.iter().map(|change| &change.event).collect();
        if let Err(error) = journal.append(&events) {
            drop(journal);
            return refuse(batch, &error);
        }
        // While the journal is held: a rewrite puts in it what the book says.
        let answers: Vec<_> = {
            let mut book = self.shared.book();
            let apply = |change: Change| (change.answer, book.apply(&change.event));
            batch.into_iter().map(apply).collect()
        };
        drop(journal);
        for (answer, counts) in answers {
            drop(answer.send(Ok(counts)));
        }
        drop(self.writer.send(Asked::Synchronise));
    }
}

struct Thread {
    journal: Arc<Mutex<Journal>>,
    shared: Arc<Shared>,
    compact_above: u64,
}

impl Thread {
    fn run(self, asked: &Receiver<Asked>) {
        while let Some(batch) = gather(asked) {
            let change = |asked| match asked {
                Asked::Change(change) => Some(change),
                Asked::Synchronise => None,
            };
            self.write(batch.into_iter().filter_map(change).collect());
        }
    }

    fn write(&self, batch: Vec<Change>) {
        if let Err(error) = self.record(&batch) {
            tracing::warn!(%error, "the ledger's journal could not be written");
            return refuse(batch, &error);
        }
        let mut answers = Vec::with_capacity(batch.len());
        {
            let mut book = self.shared.book();
            for change in batch {
                let counts = book.apply(&change.event);
                answers.push((change.answer, counts));
            }
        }
        // Before the answers: whoever closes the ledger after its answer finds no write going on.
        let mut journal = lock(&self.journal);
        if journal.is_overgrown(self.compact_above)
            && let Err(error) = self.compact(&mut journal)
        {
            tracing::warn!(%error, "the ledger's journal could not be compacted; it goes on growing for now");
        }
        drop(journal);
        for (answer, counts) in answers {
            drop(answer.send(Ok(counts)));
        }
    }

    /// Writes a batch, and puts all that is written on the disk. Deliveries are counted meanwhile.
    fn record(&self, batch: &[Change]) -> io::Result<()> {
        let unsynchronised = {
            let mut journal = lock(&self.journal);
            if journal.is_suspect() {
                self.compact(&mut journal)?;
            }
            let events: Vec<&Event> = {
                let book = self.shared.book();
                // Within a batch an event may matter only because of one before it: with more than one, all are written.
                let alone = batch.len() == 1;
                let worth = |event: &&Event| !alone || book.changes(event);
                batch.iter().map(|change| &change.event).filter(worth).collect()
            };
            if !events.is_empty() {
                journal.append(&events)?;
            }
            journal.unsynchronised()
        };
        match unsynchronised {
            Some(unsynchronised) => {
                let result = unsynchronised.synchronise();
                lock(&self.journal).synchronised(&unsynchronised, result)
            }
            None => Ok(()),
        }
    }

    /// Only here, and never between a write and its end: what is not in the book yet would be missing.
    fn compact(&self, journal: &mut Journal) -> io::Result<()> {
        let events: Vec<Event> = self.shared.book().snapshot().collect();
        journal.rewrite(events.into_iter())
    }
}
