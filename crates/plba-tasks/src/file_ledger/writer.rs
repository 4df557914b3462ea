//! The writer: one thread that collects the changes of all callers, appends them in one write, synchronises once, and only
//! then makes them visible and answers. Reading needs no writer.

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

/// The writer's handle. Dropping it waits until everything asked for is written.
pub(super) struct Writer {
    changes: Option<Sender<Change>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(journal: Journal, shared: Arc<Shared>, compact_above: u64) -> io::Result<Self> {
        let (changes, asked) = channel();
        let write = move || {
            Thread {
                journal,
                shared,
                compact_above,
            }
            .run(&asked)
        };
        let thread = std::thread::Builder::new().name("plba-ledger".into()).spawn(write)?;
        Ok(Self {
            changes: Some(changes),
            thread: Some(thread),
        })
    }

    /// Asks for a change; the answer comes when it is on the disk.
    pub(super) fn write(&self, event: Event) -> oneshot::Receiver<Answer> {
        let (answer, answered) = oneshot::channel();
        if let Some(changes) = &self.changes {
            // Should the writer be gone, the answer's other end is dropped with the change, which the asker notices.
            drop(changes.send(Change { event, answer }));
        }
        answered
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.changes = None;
        if let Some(thread) = self.thread.take() {
            // A panic in it has been reported by the panic hook.
            drop(thread.join());
        }
    }
}

struct Thread {
    journal: Journal,
    shared: Arc<Shared>,
    compact_above: u64,
}

impl Thread {
    fn run(mut self, asked: &Receiver<Change>) {
        while let Ok(first) = asked.recv() {
            let mut batch = vec![first];
            while batch.len() < BATCH
                && let Ok(next) = asked.try_recv()
            {
                batch.push(next);
            }
            self.write(batch);
        }
    }

    fn write(&mut self, batch: Vec<Change>) {
        if let Err(error) = self.record(&batch) {
            let text = format!("it could not be written, see that its disk has space and works: {error}");
            for change in batch {
                // A caller that has gone away wants no answer.
                drop(change.answer.send(Err(LedgerError::new(text.clone()))));
            }
            return;
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
        if self.journal.is_overgrown(self.compact_above)
            && let Err(error) = self.compact()
        {
            tracing::warn!(%error, "the ledger's journal could not be compacted; it goes on growing for now");
        }
        for (answer, counts) in answers {
            drop(answer.send(Ok(counts)));
        }
    }

    fn record(&mut self, batch: &[Change]) -> io::Result<()> {
        if self.journal.is_suspect() {
            self.compact()?;
        }
        let events: Vec<&Event> = {
            let book = self.shared.book();
            // Within a batch an event may matter only because of one before it: with more than one, all are written.
            let alone = batch.len() == 1;
            let worth = |event: &&Event| !alone || book.changes(event);
            batch.iter().map(|change| &change.event).filter(worth).collect()
        };
        if events.is_empty() {
            Ok(())
        } else {
            self.journal.append(&events)
        }
    }

    fn compact(&mut self) -> io::Result<()> {
        let events: Vec<Event> = self.shared.book().snapshot().collect();
        self.journal.rewrite(events.into_iter())
    }
}
