//! The loss of power: failure 38. What is on a disk then is the file, and of its log all that was waited for, with any part of
//! what was written since. Copies that are made while a process works stand for it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use plba_sql::sqlite::{SqliteSettings, SqliteTaskQueue};
use plba_tasks::queue::TaskQueue;
use plba_testkit::child;
use plba_testkit::directory::Directory;
use plba_testkit::runtime;
use rustix::process::{Pid, Signal, kill_process};

use super::ground::{Ground, MovableClock, consumer, sound};
use super::killed::{Book, PLACE};

/// How often the process is stopped, and how many disks are made of each stop.
const STOPS: usize = 12;
const DISKS: usize = 4;
/// The header of a log, and what tells two logs apart in it (the file format of SQLite, section 4.1).
const HEADER: usize = 32;
const SALTS: std::ops::Range<usize> = 16..24;
/// What a disk writes as a whole.
const SECTOR: usize = 512;

/// A file and its log at one moment, and what had been said by then.
struct Moment {
    file: Vec<u8>,
    log: Vec<u8>,
    book: Book,
}

impl Moment {
    fn salts(&self) -> Option<&[u8]> {
        self.log.get(SALTS)
    }
}

fn stopped(child: &Child, said: &Path, path: &Path) -> Moment {
    let process = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(process, Signal::STOP).unwrap();
    // It stops when its threads come back from what they do now.
    let state = || fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
    let all_stopped = || {
        let threads = fs::read_dir(format!("/proc/{}/task", child.id())).unwrap();
        threads.flatten().all(|thread| {
            let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('T'))
        })
    };
    let deadline = Instant::now() + Duration::from_secs(10);
    while !all_stopped() {
        assert!(Instant::now() < deadline, "it does not stop: {}", state());
        std::thread::yield_now();
    }
    let mut book = Book::default();
    for line in fs::read_to_string(said).unwrap().split_inclusive('\n') {
        if let Some(line) = line.strip_suffix('\n') {
            book.read(line);
        }
    }
    let moment = Moment {
        file: fs::read(path).unwrap(),
        log: fs::read(log_of(path)).unwrap_or_default(),
        book,
    };
    kill_process(process, Signal::CONT).unwrap();
    moment
}

fn log_of(path: &Path) -> PathBuf {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    log.into()
}

/// Opens what a disk has, and looks for all that had been said by one moment, but for what was ended by a later one.
fn check(file: &[u8], log: &[u8], (book, later): (&Book, &Book), what: &str) {
    let directory = Directory::new();
    let path = directory.path().join("queue.db");
    fs::write(&path, file).unwrap();
    fs::write(log_of(&path), log).unwrap();
    let mut there = std::collections::BTreeSet::new();
    runtime::real(async {
        let settings = SqliteSettings {
            maximum_crashes: 1_000,
            ..SqliteSettings::new(&path)
        };
        let clock = MovableClock::new();
        // Long after every lease and delay.
        clock.advance(Duration::from_secs(400 * 366 * 86_400));
        let queue = SqliteTaskQueue::open(settings, Arc::clone(&clock) as _).await.unwrap();
        let (name, who) = ("orders".into(), consumer());
        queue.recover(None, 1_000_000).await.unwrap();
        loop {
            let taken = queue.exchange(Vec::new(), &name, &who, 10_000).await.taken.unwrap();
            if taken.is_empty() {
                break;
            }
            let suspect = taken.len() == 1;
            for delivery in taken {
                there.insert(delivery.task.id.to_string());
                if suspect {
                    // The next one comes when this one is out of the way.
                    queue
                        .end_one(delivery.token, plba_tasks::queue::How::ack(Vec::new()))
                        .await
                        .unwrap();
                }
            }
        }
    });
    sound(&path);
    let lost: Vec<&String> = book
        .published
        .iter()
        .filter(|id| !later.acked.contains_key(*id) && !later.begun.contains(*id) && !there.contains(*id))
        .collect();
    let back: Vec<&String> = book.acked.keys().filter(|id| there.contains(*id)).collect();
    assert!(lost.is_empty(), "{what}: lost: {lost:?}");
    assert!(back.is_empty(), "{what}: acked, and there again: {back:?}");
}

/// The later log, of which only what the earlier one has is sure.
fn torn(earlier: &Moment, later: &Moment, random: &mut fastrand::Rng) -> Vec<u8> {
    let mut log = later.log.clone();
    for first in (earlier.log.len()..log.len()).step_by(SECTOR) {
        if random.u8(..4) == 0 {
            let end = (first + SECTOR).min(log.len());
            log[first..end].fill(0);
        }
    }
    let end = random.usize(earlier.log.len()..=log.len());
    if random.bool() {
        log.truncate(end);
    }
    log
}

#[test]
fn failure_38_what_was_waited_for_survives_the_loss_of_power_at_any_moment() {
    let ground = Ground::new();
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let said = ground.directory.path().join("said");
    let mut child = child::command("sqlite::killed::child")
        .env(PLACE, &ground.path)
        .stdout(File::create(&said).unwrap())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut moments = Vec::with_capacity(STOPS);
    for _ in 0..STOPS {
        std::thread::park_timeout(Duration::from_millis(random.u64(30..250)));
        moments.push(stopped(&child, &said, &ground.path));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let mut tears = 0;
    for (number, pair) in moments.windows(2).enumerate() {
        let (earlier, later) = (&pair[0], &pair[1]);
        check(
            &later.file,
            &later.log,
            (&later.book, &later.book),
            &format!("stop {number}"),
        );
        // All that had been said at the first of two stops had been waited for by the second, if somebody waited since; a log
        // that was begun anew is another matter, and so is one whose pages were copied into the file meanwhile.
        let waited = later.book.published.len() > earlier.book.published.len();
        if !waited || earlier.salts() != later.salts() || earlier.file != later.file || earlier.log.len() < HEADER {
            continue;
        }
        for disk in 0..DISKS {
            tears += 1;
            let log = torn(earlier, later, &mut random);
            check(
                &later.file,
                &log,
                (&earlier.book, &later.book),
                &format!("stop {number}, disk {disk}"),
            );
        }
    }
    let last = moments.last().unwrap();
    assert!(tears > 0, "no log was torn: this shows little");
    assert!(last.book.published.len() > 100, "{}", last.book.published.len());
}
