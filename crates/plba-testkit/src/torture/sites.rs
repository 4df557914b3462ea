//! Every failpoint once: a process is hit at it, another one carries on, and the judge looks at what is left. A machine
//! counts that each was executed.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Child;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use super::judge::{Judge, Verdict};
use super::kills::Tail;
use super::orders::{Orders, Produce};
use super::record::{Event, Recorder};
use super::report::RECOVERY;
use super::subject::Subject;
use super::workload;
use crate::directory::Directory;
use crate::failpoint::{Action, Failpoint};

/// How many failpoints are tried at a time: most of the time they wait for leases.
const AT_ONCE: usize = 8;

/// How long a process may take to reach its failpoint, and how long draining may take.
const REACH: Duration = Duration::from_secs(30);
const DRAIN: Duration = Duration::from_secs(45);

/// How long a process that survived goes on before it is killed, as one that hangs would be.
const AFTERLIFE: Duration = Duration::from_millis(300);

/// Hits a process at each failpoint, once. Prints the list of all, and gives how many were executed.
///
/// # Panics
/// When one was not executed, or broke a promise.
pub fn sites(subject: &Subject) -> usize {
    let all = Failpoint::all();
    let (next, results) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(point) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = Case::new(subject, *point).run();
                    results.lock().unwrap().push((*point, result));
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap();
    results.sort_by_key(|(point, _)| all.iter().position(|other| other == point));
    let executed = results.iter().filter(|(_, verdict)| verdict.hit).count();
    let (list, faults) = list(&results, subject.lease);
    eprint!("{list}");
    eprintln!("{}: {executed} of {} failpoints executed", subject.name, all.len());
    assert!(faults.is_empty(), "{}: {faults}", subject.name);
    assert_eq!(
        executed,
        all.len(),
        "{}: some were not executed: see above",
        subject.name
    );
    executed
}

fn list(results: &[(Failpoint, Verdict)], lease: Duration) -> (String, String) {
    let (mut list, mut faults) = (String::new(), String::new());
    for (point, verdict) in results {
        let hit = if verdict.hit { "executed" } else { "NOT EXECUTED" };
        // Writing to memory can't fail.
        let _ = writeln!(
            list,
            "  {:<24} {hit}, {} tasks, {} lost, {} duplicates, recovered in {:.3} s",
            point.to_string(),
            verdict.tasks,
            verdict.lost.len(),
            verdict.duplicates,
            verdict.worst_recovery.as_secs_f64()
        );
        for fault in verdict.faults() {
            let _ = writeln!(faults, "{point}: {fault}");
        }
        if verdict.worst_recovery > lease + RECOVERY {
            let _ = writeln!(faults, "{point}: recovered only in {:?}", verdict.worst_recovery);
        }
    }
    (list, faults)
}

/// One failpoint.
struct Case<'a> {
    subject: &'a Subject,
    point: Failpoint,
}

impl<'a> Case<'a> {
    fn new(subject: &'a Subject, point: Failpoint) -> Self {
        Self { subject, point }
    }

    fn run(&self) -> Verdict {
        let (directory, place) = (Directory::new(), self.subject.place());
        let (ledger, said) = (directory.path().join("ledger"), directory.path().join("said"));
        let recorder = Recorder::open(&ledger).unwrap();
        let mut watch = Watch::new(&ledger, self.subject.lease);
        let orders = |failpoint, again, produce, drain| Orders {
            location: place.location.clone(),
            ledger: ledger.clone(),
            number: 1,
            seed: 1,
            produce,
            again,
            failpoint,
            planted: self.subject.planted,
            drain,
        };
        let start = |orders: Orders| {
            let child = self.subject.spawn(&orders, &said);
            recorder.write(&Event::Spawned(child.id()));
            child
        };
        let mut child = start(orders(Some(self.point), Vec::new(), Produce::Sample, false));
        watch.until(REACH, |judge| judge.so_far().hit);
        if self.point.action != Action::Kill {
            watch.until(AFTERLIFE, |_| false);
        }
        recorder.write(&Event::Killing(child.id()));
        end(&mut child);
        watch.until(Duration::ZERO, |_| true);
        let again = watch.judge.unpublished(workload::sample(1));
        let mut child = start(orders(None, again, Produce::Nothing, true));
        watch.until(DRAIN, |judge| judge.so_far().drained);
        recorder.write(&Event::Killing(child.id()));
        end(&mut child);
        let verdict = watch.end();
        if !verdict.faults().is_empty() || !verdict.hit {
            let kept = directory.path().display().to_string();
            std::mem::forget(directory);
            eprintln!("{}: {}: the ledger is in {kept}", self.subject.name, self.point);
        }
        verdict
    }
}

/// Kills a child that may have ended by itself.
fn end(child: &mut Child) {
    let _ = child.kill();
    child.wait().unwrap();
}

/// A judge who reads along.
struct Watch {
    tail: Tail,
    judge: Judge,
}

impl Watch {
    fn new(ledger: &Path, lease: Duration) -> Self {
        Self {
            tail: Tail::new(ledger),
            judge: Judge::new(lease),
        }
    }

    /// Reads until something is so, or the time is over.
    fn until(&mut self, longest: Duration, is_so: impl Fn(&Judge) -> bool) {
        let limit = Instant::now() + longest;
        let (_sender, never) = channel::<()>();
        loop {
            self.tail.read_into(&mut self.judge);
            if is_so(&self.judge) || Instant::now() >= limit {
                return;
            }
            let _ = never.recv_timeout(Duration::from_millis(10));
        }
    }

    fn end(mut self) -> Verdict {
        self.tail.read_into(&mut self.judge);
        self.judge.verdict()
    }
}
