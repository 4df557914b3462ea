//! Random kills under load: several processes publish and work on one queue, and one after the other is killed at a
//! random moment and replaced. At the end the queue is drained, and the judge speaks.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use super::judge::Judge;
use super::orders::{Orders, Produce};
use super::record::{Event, Recorder};
use super::report::{self, Report};
use super::subject::{Place, Subject};
use crate::directory::Directory;

/// How many processes there are at a time.
const PROCESSES: usize = 3;

/// How long draining may take: the longest wait is for leases and for whatever kills its process several times.
const DRAIN: Duration = Duration::from_secs(120);

/// Kills a server and starts it again; blocks until it is up.
pub type ServerFault = Box<dyn Fn() + Send + Sync>;

/// How processes are killed.
pub struct Kills {
    /// How often.
    pub kills: u64,
    /// What all that is random follows; printed.
    pub seed: u64,
    /// The longest time between two kills.
    pub pause: Duration,
    /// After how many kills the server is killed too; never by default.
    pub server_every: Option<u64>,
}

impl Kills {
    /// As many as the environment asks for in `PLBA_TORTURE_KILLS`, or `kills`; from the seed in `PLBA_TORTURE_SEED`, or a
    /// random one; with a kill of the server every so many kills as `PLBA_TORTURE_SERVER_EVERY` says.
    ///
    /// # Panics
    /// When a variable holds no number.
    pub fn from_environment(kills: u64) -> Self {
        let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
        Self {
            kills: number("PLBA_TORTURE_KILLS").unwrap_or(kills),
            seed: number("PLBA_TORTURE_SEED").unwrap_or_else(|| fastrand::u64(..)),
            pause: Duration::from_millis(200),
            server_every: number("PLBA_TORTURE_SERVER_EVERY").filter(|every| *every > 0),
        }
    }
}

/// Kills processes at random moments, and gives what the ledger tells; the server too, if the plan says so and there is a
/// way. The seed is printed first, progress every few seconds, the figures at the end.
///
/// # Panics
/// When a task is lost, a promise is broken, or recovery or restart take too long.
pub fn kills(subject: &Subject, plan: &Kills, server: Option<&ServerFault>) -> Report {
    let (began, directory) = (Instant::now(), Directory::new());
    eprintln!(
        "{}: {} kills; again with PLBA_TORTURE_SEED={}",
        subject.name, plan.kills, plan.seed
    );
    let mut arena = Arena::new(subject, &directory, plan.seed);
    (0..PROCESSES).for_each(|slot| arena.fill(slot, Vec::new()));
    let (mut told, mut server_kills) = (Instant::now(), 0);
    for kill in 1..=plan.kills {
        arena.wait(plan.pause);
        arena.bury_the_dead();
        arena.kill_one();
        if let Some(server) = server
            && plan.server_every.is_some_and(|every| kill % every == 0)
        {
            arena.recorder.write(&Event::Server("killed"));
            server();
            arena.recorder.write(&Event::Server("up"));
            server_kills += 1;
        }
        if told.elapsed() > Duration::from_secs(5) {
            told = Instant::now();
            arena.tell(kill, plan.kills, began.elapsed());
        }
    }
    let verdict = arena.end();
    let report = Report {
        backend: subject.name,
        seed: plan.seed,
        kills: plan.kills,
        server_kills,
        took: began.elapsed(),
        verdict,
    };
    finish(subject, &report, directory);
    report
}

/// Prints, writes, and fails if it has to; then the ledger is kept.
fn finish(subject: &Subject, report: &Report, directory: Directory) {
    eprint!("{report}");
    if let Ok(path) = std::env::var(report::VARIABLE) {
        std::fs::write(path, report.json().to_string()).unwrap();
    }
    let faults = report.faults(subject.lease);
    if !faults.is_empty() {
        let kept = directory.path().display().to_string();
        // A fault that was planted need not be looked for.
        if subject.planted.is_none() {
            std::mem::forget(directory);
        }
        panic!(
            "{}: {}\nagain with PLBA_TORTURE_SEED={}; the ledger is in {kept}",
            subject.name,
            faults.join("\n"),
            report.seed
        );
    }
}

/// The processes, and the ledger that they share.
struct Arena<'a> {
    subject: &'a Subject,
    place: Place,
    random: fastrand::Rng,
    recorder: Recorder,
    ledger: PathBuf,
    said: PathBuf,
    tail: Tail,
    judge: Judge,
    slots: Vec<Option<Child>>,
    number: u64,
    never: Receiver<()>,
}

impl<'a> Arena<'a> {
    fn new(subject: &'a Subject, directory: &Directory, seed: u64) -> Self {
        let ledger = directory.path().join("ledger");
        let recorder = Recorder::open(&ledger).unwrap();
        // Nobody ever sends.
        let (sender, never) = channel();
        std::mem::forget(sender);
        Self {
            place: subject.place(),
            random: fastrand::Rng::with_seed(seed),
            recorder,
            said: directory.path().join("said"),
            tail: Tail::new(&ledger),
            ledger,
            judge: subject.judge(),
            slots: (0..PROCESSES).map(|_| None).collect(),
            number: 0,
            subject,
            never,
        }
    }

    /// Waits for a random part of a time.
    fn wait(&mut self, longest: Duration) {
        let pause = longest.mul_f64(self.random.f64());
        let _ = self.never.recv_timeout(pause);
    }

    fn fill(&mut self, slot: usize, again: Vec<String>) {
        let orders = self.orders(Produce::Endless, again, false);
        self.start(slot, &orders);
    }

    fn orders(&mut self, produce: Produce, again: Vec<String>, drain: bool) -> Orders {
        self.number += 1;
        Orders {
            location: self.place.location.clone(),
            ledger: self.ledger.clone(),
            number: self.number,
            seed: self.random.u64(..),
            produce,
            again,
            failpoint: None,
            planted: self.subject.planted,
            drain,
        }
    }

    fn start(&mut self, slot: usize, orders: &Orders) {
        let child = self.subject.spawn(orders, &self.said);
        self.recorder.write(&Event::Spawned(child.id()));
        self.slots[slot] = Some(child);
    }

    /// Kills one process and starts another, which publishes again what that one may not have published.
    fn kill_one(&mut self) {
        let slot = self.random.usize(..PROCESSES);
        let again = self.kill(slot);
        self.fill(slot, again);
    }

    fn kill(&mut self, slot: usize) -> Vec<String> {
        let Some(mut child) = self.slots[slot].take() else {
            return Vec::new();
        };
        self.recorder.write(&Event::Killing(child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
        self.tail.read_into(&mut self.judge);
        self.judge.unsure(child.id())
    }

    /// Replaces those that ended by themselves, as tasks make them do.
    fn bury_the_dead(&mut self) {
        for slot in 0..self.slots.len() {
            let ended = match &mut self.slots[slot] {
                Some(child) => child.try_wait().unwrap().is_some().then(|| child.id()),
                None => None,
            };
            if let Some(process) = ended {
                self.tail.read_into(&mut self.judge);
                let again = self.judge.unsure(process);
                self.fill(slot, again);
            }
        }
    }

    fn tell(&mut self, kill: u64, of: u64, took: Duration) {
        self.tail.read_into(&mut self.judge);
        let verdict = self.judge.so_far();
        eprintln!(
            "{}: {kill} of {of} kills, {} tasks, {} violations, worst recovery {:.3} s, {:.0} s",
            self.subject.name,
            self.judge.tasks(),
            verdict.violation_count,
            verdict.worst_recovery.as_secs_f64(),
            took.as_secs_f64()
        );
    }

    /// Ends all processes, has one drain the queue, and gives the verdict.
    fn end(mut self) -> super::Verdict {
        let again: Vec<String> = (0..PROCESSES).flat_map(|slot| self.kill(slot)).collect();
        let orders = self.orders(Produce::Nothing, again, true);
        // With a planted fault there may be no end.
        let drain = if self.subject.planted.is_some() {
            DRAIN / 20
        } else {
            DRAIN
        };
        let (limit, mut again) = (Instant::now() + drain, Some(orders));
        while Instant::now() < limit && !self.judge.so_far().drained {
            if let Some(orders) = again.take() {
                self.start(0, &orders);
            }
            let ended = match &mut self.slots[0] {
                Some(child) => child.try_wait().unwrap().is_some().then(|| child.id()),
                None => None,
            };
            self.tail.read_into(&mut self.judge);
            if let Some(process) = ended.filter(|_| !self.judge.so_far().drained) {
                let unsure = self.judge.unsure(process);
                again = Some(self.orders(Produce::Nothing, unsure, true));
            }
            self.wait(Duration::from_millis(40));
        }
        self.kill(0);
        let judge = std::mem::replace(&mut self.judge, self.subject.judge());
        judge.verdict()
    }
}

impl Drop for Arena<'_> {
    fn drop(&mut self) {
        for child in self.slots.iter_mut().flatten() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Reads what has been appended to a file since the last time, whole lines only.
pub(super) struct Tail {
    reader: BufReader<File>,
    rest: String,
}

impl Tail {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            reader: BufReader::with_capacity(1 << 16, File::open(path).unwrap()),
            rest: String::new(),
        }
    }

    pub(super) fn read_into(&mut self, judge: &mut Judge) {
        while self.reader.read_line(&mut self.rest).unwrap() > 0 && self.rest.ends_with('\n') {
            judge.read(self.rest.trim_end_matches('\n'));
            self.rest.clear();
        }
    }
}
