//! The journal of a run: what the supervisor saw, what was in hand, and how it ended, for the next start to tell. How it
//! is read lives in `previous_run`.
//!
//! It is `run.jsonl` in the state directory, a JSON object a line; at a start the one before is put aside as
//! `run.1.jsonl`. Nothing is synced to the disk: what was written survives the end of the process in the system's page
//! cache, and if the machine goes down, only its last seconds are missed. Writing is a thread of its own, so that a slow
//! disk delays no worker, and what it can't keep up with is left out.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use plba_contracts::clock::Clock;
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::TARGET;
use crate::previous_run::{InHand, PreviousRun, RunEnd};
use crate::shutdown::{ExitReason, StopReport};
use crate::supervisor::{RecordedEvent, StopOutcome, WorkerSupervisor};

/// The version of the journal's form.
pub(crate) const VERSION: u32 = 1;

/// Past this size the journal is written anew with its latest entries.
pub(crate) const MOST_BYTES: u64 = 256 * 1024;

/// How many events are kept when it is, and how many things in hand an entry names.
const KEPT: usize = 100;

/// The longest text that an entry quotes, in characters.
const LONGEST: usize = 500;

/// How many events may wait to be written.
const WAITING: usize = 4096;

/// How often it is looked at what is in hand. Where a look takes long, there are so many times as long between two.
const LOOK: Duration = Duration::from_millis(500);
const SHARE: u32 = 100;

/// How often the file's time is set, which tells until when the process lived.
const TOUCH: Duration = Duration::from_secs(5);

/// A line of the journal.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "snake_case")]
pub(crate) enum Entry {
    /// The first one.
    Began(Began),
    /// The supervisor saw or did something.
    Saw { event: RecordedEvent },
    /// Something else is in hand than before.
    InHand {
        at: Timestamp,
        count: usize,
        things: Vec<InHand>,
    },
    /// Something panicked; whether that ended the process shows in what follows.
    Panicked { at: Timestamp, message: String },
    /// The panic before did not end the process.
    Alive { at: Timestamp },
    /// The process was about to end.
    Ended {
        at: Timestamp,
        how: RunEnd,
        cause: Option<String>,
    },
}

/// Which run a journal is of.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Began {
    pub(crate) version: u32,
    pub(crate) application: String,
    pub(crate) pid: u32,
    pub(crate) at: Timestamp,
    /// Which start of the machine, where the system tells it.
    pub(crate) machine: Option<String>,
}

/// The journal of this run. Dropped without a word on how the run ended, it says that the start failed, or, in a panic,
/// that the process crashed.
pub struct RunJournal {
    clock: Arc<dyn Clock>,
    pages: Arc<Mutex<Pages>>,
}

/// The file, and what is needed to write it anew.
struct Pages {
    path: PathBuf,
    file: File,
    bytes: u64,
    began: Entry,
    events: VecDeque<RecordedEvent>,
    in_hand: (usize, Vec<InHand>),
    /// Whether the latest entry tells of a panic.
    panicked: bool,
    ended: bool,
    /// Whether a failure to write has been told.
    told: bool,
}

impl RunJournal {
    /// Begins the journal of this run; gives how the one before ended, if there was one.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn begin(
        directory: &Path,
        application: &str,
        clock: Arc<dyn Clock>,
    ) -> std::io::Result<(Self, Option<PreviousRun>)> {
        let path = directory.join("run.jsonl");
        let machine = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
        let machine = machine.map(|id| id.trim().to_owned());
        let previous = PreviousRun::read(&path, machine.as_deref());
        match fs::rename(&path, path.with_extension("1.jsonl")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let began = Entry::Began(Began {
            version: VERSION,
            application: application.to_owned(),
            pid: std::process::id(),
            at: clock.now(),
            machine,
        });
        let mut pages = Pages {
            file: append(&path)?,
            path,
            bytes: 0,
            began,
            events: VecDeque::new(),
            in_hand: (0, Vec::new()),
            panicked: false,
            ended: false,
            told: false,
        };
        let first = pages.began.clone();
        pages.put(&first)?;
        let pages = Arc::new(Mutex::new(pages));
        Ok((Self { clock, pages }, previous))
    }

    /// From now on keeps what this supervisor sees and does, and what its workers have in hand.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn follow(&self, supervisor: WorkerSupervisor) -> std::io::Result<()> {
        let (sender, receiver) = sync_channel(WAITING);
        supervisor.events().subscribe(move |event| {
            // Full: the disk does not keep up. The latest events are the ones that come through once it does.
            let _ = sender.try_send(event.clone());
        });
        let (pages, clock) = (Arc::clone(&self.pages), Arc::clone(&self.clock));
        let thread = std::thread::Builder::new().name("run-journal".into());
        thread.spawn(move || write_along(&pages, &*clock, &receiver, &supervisor))?;
        Ok(())
    }

    /// From now on notes every panic, before whatever else was to be done with it.
    pub fn note_panics(&self) {
        let (pages, clock) = (Arc::clone(&self.pages), Arc::clone(&self.clock));
        let next = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let said = panic.payload_as_str().unwrap_or("with a payload that is no text");
            let message = short(format!("panic: {said}"));
            let at = clock.now();
            let mut pages = lock(&pages);
            pages.write(&Entry::Panicked { at, message });
            pages.panicked = true;
            drop(pages);
            next(panic);
        }));
    }

    /// Says how the run ended.
    pub fn end(&self, report: &StopReport, failure: Option<&str>) {
        let how = match report.outcome {
            ExitReason::Clean => RunEnd::Clean,
            ExitReason::Forced => RunEnd::Forced,
            ExitReason::Abandoned => RunEnd::Abandoned,
            ExitReason::StartFailed | ExitReason::Misconfigured => RunEnd::StartFailed,
            ExitReason::WorkerFailed => RunEnd::WorkerFailed,
        };
        let held = report.workers.iter().filter(|stop| stop.how != StopOutcome::Drained);
        let held = held.filter_map(|stop| {
            Some(InHand {
                worker: stop.worker.clone(),
                what: stop.held.clone()?,
            })
        });
        let cause = failure.unwrap_or(&report.cause).to_owned();
        let mut pages = lock(&self.pages);
        pages.look(held.collect(), self.clock.now());
        pages.end(self.clock.now(), how, Some(short(cause)));
    }
}

impl Drop for RunJournal {
    fn drop(&mut self) {
        let how = match std::thread::panicking() {
            true => RunEnd::Crashed,
            false => RunEnd::StartFailed,
        };
        lock(&self.pages).end(self.clock.now(), how, None);
    }
}

/// Writes events as they come, and in between looks at what is in hand.
fn write_along(
    pages: &Mutex<Pages>,
    clock: &dyn Clock,
    receiver: &Receiver<RecordedEvent>,
    supervisor: &WorkerSupervisor,
) {
    let (mut look, mut touch) = (clock.monotonic() + LOOK, clock.monotonic() + TOUCH);
    loop {
        match receiver.recv_timeout(look.saturating_sub(clock.monotonic())) {
            Ok(event) => lock(pages).saw(event),
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {}
        }
        let since = clock.monotonic();
        if since < look {
            continue;
        }
        let busy = in_hand(supervisor);
        let now = clock.monotonic();
        look = now + LOOK.max(now.saturating_sub(since) * SHARE);
        let mut pages = lock(pages);
        if pages.ended {
            return;
        }
        pages.look(busy, clock.now());
        if touch <= now {
            touch = now + TOUCH;
            // Only tells more exactly until when the process lived.
            let _ = pages.file.set_modified(clock.now().into());
        }
    }
}

fn in_hand(supervisor: &WorkerSupervisor) -> Vec<InHand> {
    let busy = supervisor.snapshot().into_iter().flat_map(|worker| {
        let name = worker.name;
        let things = worker.slots.into_iter().filter_map(|slot| slot.busy);
        things.map(move |busy| InHand {
            worker: name.clone(),
            what: short(busy.what),
        })
    });
    busy.collect()
}

impl Pages {
    fn saw(&mut self, event: RecordedEvent) {
        if self.events.len() == KEPT {
            self.events.pop_front();
        }
        self.events.push_back(event.clone());
        self.write(&Entry::Saw { event });
    }

    fn look(&mut self, mut things: Vec<InHand>, at: Timestamp) {
        let count = things.len();
        things.truncate(KEPT);
        if self.in_hand != (count, things.clone()) {
            self.in_hand = (count, things.clone());
            self.write(&Entry::InHand { at, count, things });
        } else if self.panicked {
            self.write(&Entry::Alive { at });
        }
    }

    fn end(&mut self, at: Timestamp, how: RunEnd, cause: Option<String>) {
        if !self.ended {
            self.write(&Entry::Ended { at, how, cause });
            self.ended = true;
        }
    }

    /// Writes an entry; that it can't be is told once.
    fn write(&mut self, entry: &Entry) {
        self.panicked = false;
        let written = match self.bytes > MOST_BYTES {
            true => self.anew().and_then(|()| self.put(entry)),
            false => self.put(entry),
        };
        if let Err(error) = written
            && !self.told
        {
            self.told = true;
            warn!(target: TARGET, file = %self.path.display(), %error, "the journal of this run can't be written");
        }
    }

    /// Starts the file again with its latest entries. A run that ends in between leaves the old one or the new one.
    fn anew(&mut self) -> std::io::Result<()> {
        let draft = self.path.with_extension("new");
        let _ = fs::remove_file(&draft);
        (self.file, self.bytes) = (append(&draft)?, 0);
        let (count, things) = self.in_hand.clone();
        let events = self.events.iter().cloned().map(|event| Entry::Saw { event });
        let mut entries = vec![self.began.clone()];
        entries.extend(events);
        if let Some(at) = self.events.back().map(|event| event.at).filter(|_| count > 0) {
            entries.push(Entry::InHand { at, count, things });
        }
        entries.iter().try_for_each(|entry| self.put(entry))?;
        fs::rename(&draft, &self.path)
    }

    fn put(&mut self, entry: &Entry) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        self.file.write_all(&line)?;
        self.bytes += line.len() as u64;
        Ok(())
    }
}

fn lock(pages: &Mutex<Pages>) -> MutexGuard<'_, Pages> {
    pages.lock().unwrap_or_else(PoisonError::into_inner)
}

fn append(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

fn short(text: String) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::supervisor::SupervisorEvent;

    fn directory(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("plba-journal-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        path
    }

    fn begin(path: &Path) -> (RunJournal, Option<PreviousRun>) {
        RunJournal::begin(path, "bot", Arc::new(SystemClock::new())).unwrap()
    }

    fn event(number: usize) -> RecordedEvent {
        let worker = format!("worker-{number}");
        RecordedEvent {
            at: Timestamp::UNIX_EPOCH,
            event: SupervisorEvent::Added { worker },
        }
    }

    #[test]
    fn a_run_that_ends_without_a_word_was_killed_and_what_it_had_in_hand_is_known() {
        let path = directory("killed");
        let (journal, none) = begin(&path);
        assert_eq!(none, None);
        lock(&journal.pages).saw(event(1));
        let thing = InHand {
            worker: "w".into(),
            what: "t-1".into(),
        };
        lock(&journal.pages).look(vec![thing.clone()], Timestamp::UNIX_EPOCH);
        // Killed: nothing more is written, not even by the drop.
        std::mem::forget(journal);
        let (journal, previous) = begin(&path);
        let previous = previous.unwrap();
        assert_eq!((previous.how, previous.in_hand_count), (RunEnd::Killed, 1));
        assert_eq!((previous.in_hand, previous.events), (vec![thing], vec![event(1)]));
        drop(journal);
        assert_eq!(begin(&path).1.unwrap().how, RunEnd::StartFailed);
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn it_stays_small_and_keeps_the_latest() {
        let path = directory("small");
        let (journal, _) = begin(&path);
        for number in 0..20_000 {
            lock(&journal.pages).saw(event(number));
        }
        let size = fs::metadata(path.join("run.jsonl")).unwrap().len();
        assert!(size <= MOST_BYTES + 1_000, "{size}");
        std::mem::forget(journal);
        let (_journal, previous) = begin(&path);
        let events = previous.unwrap().events;
        assert_eq!((events.len(), &events[0]), (20, &event(19_999)));
        fs::remove_dir_all(path).unwrap();
    }
}
