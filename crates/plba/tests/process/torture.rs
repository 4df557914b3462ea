//! SIGTERM at random moments, the start included: whatever a process was doing, it ends within its stop budget and one
//! second more, and its stop report is right. `cargo xtask torture --signals N` runs this test with more signals. Which
//! stops are awkward in themselves is tested in `stops`.
//!
//! A process can only answer for what it hears. Until it listens to SIGTERM, the system ends it by that very signal: some
//! signals are sent that early on purpose; they are counted apart, and the next start on the same directory must succeed.
//! There is nothing in between: a signal that neither ends the process nor is heard by it is lost, which is a fault.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;
use rustix::process::Signal;
use serde_json::Value;

use crate::application::{Application, Home, application, drop_work, example, lies_there, pause};

/// How many signals are heard, and the seed of all that is random.
const SIGNALS: &str = "PLBA_TORTURE_SIGNALS";
const SEED: &str = "PLBA_TORTURE_SEED";

/// How many processes run at a time: they mostly wait, and a busy machine is part of the torture.
const AT_ONCE: usize = 8;

/// What a process may take beyond its budget.
const GRACE: Duration = Duration::from_secs(1);

#[test]
fn a_signal_at_any_moment_ends_the_process_in_time_and_with_a_right_report() {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let signals = u32::try_from(number(SIGNALS).unwrap_or(100)).unwrap();
    let seed = number(SEED).unwrap_or_else(|| fastrand::u64(..));
    eprintln!("{signals} signals; again with {SEED}={seed}");
    let subjects = Subject::built();
    let (next, heard) = (AtomicU32::new(0), AtomicU32::new(0));
    let one_more = |heard| (heard < signals).then_some(heard + 1);
    let summary = Mutex::new(Summary::default());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                // Who is sent too early to be heard does not count, so there may be more cases than signals.
                while heard
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
                    .is_ok()
                {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let end = Case::new(seed.wrapping_add(number.into()), &subjects).run();
                    if end.unheard {
                        heard.fetch_sub(1, Ordering::Relaxed);
                    }
                    summary.lock().unwrap().count(number, end);
                }
            });
        }
    });
    let summary = summary.into_inner().unwrap();
    eprint!("{}", summary.table());
    assert!(
        summary.faults.is_empty(),
        "again with {SEED}={seed}:\n{}",
        summary.faults.join("\n")
    );
}

/// What is sent a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    /// One worker, nothing else: what the platform itself takes.
    Pulse,
    /// A queue and its handlers, of which some wait or block for ever.
    Faults,
    /// The default run of a whole application.
    Bot,
}

impl Subject {
    /// Those that are there. The examples always are; the application is when somebody has built it.
    fn built() -> Vec<Self> {
        let mut subjects = vec![Self::Pulse, Self::Faults];
        if application(Self::Bot.name()).exists() {
            subjects.push(Self::Bot);
        } else {
            eprintln!("not run with {}: it is not built", Self::Bot.name());
        }
        subjects
    }

    fn name(self) -> &'static str {
        match self {
            Self::Pulse => "pulse",
            Self::Faults => "faults",
            Self::Bot => "mail-order-bot",
        }
    }
}

/// A process, what it has to do, and when it is sent which signals.
struct Case {
    subject: Subject,
    settings: Vec<String>,
    work: Vec<String>,
    budget: Duration,
    /// Not before it listens to signals.
    listening: bool,
    moment: Duration,
    /// A second signal, that long after the first.
    again: Option<Duration>,
}

impl Case {
    fn new(seed: u64, subjects: &[Subject]) -> Self {
        let mut random = Rng::with_seed(seed);
        let subject = *random.choice(subjects).unwrap();
        let (seconds, work, mut settings) = match subject {
            Subject::Pulse => (25, Vec::new(), Vec::new()),
            Subject::Bot => (10, Vec::new(), Vec::new()),
            Subject::Faults => (random.u64(1..=2), work(&mut random), faults(&mut random)),
        };
        settings.push(format!("platform.stop_budget={seconds}s"));
        let listening = random.u8(..10) > 0;
        let moment = match random.u8(..3) {
            _ if !listening => Duration::from_micros(random.u64(..5_000)),
            // A start takes some tens of milliseconds.
            0 | 1 => Duration::from_micros(random.u64(..150_000)),
            _ => Duration::from_millis(random.u64(150..1_500)),
        };
        let again = (random.u8(..6) == 0).then(|| Duration::from_micros(random.u64(..300_000)));
        Self {
            subject,
            settings,
            work,
            budget: Duration::from_secs(seconds),
            listening,
            moment,
            again,
        }
    }

    fn run(&self) -> End {
        let settings: Vec<&str> = self.settings.iter().map(String::as_str).collect();
        let home = example(self.subject.name(), "torture", &settings);
        if self.subject == Subject::Faults {
            drop_work(&home, &self.work.iter().map(String::as_str).collect::<Vec<_>>());
        }
        let mut app = home.start(&[]);
        if self.listening {
            app.wait("listening", |app| hears(app).then_some(()));
        }
        pause(self.moment);
        let (heard, ready) = (hears(&app), is_ready(&app));
        let sent = Instant::now();
        app.signal(Signal::TERM);
        if let Some(again) = self.again {
            pause(again);
            app.signal(Signal::TERM);
        }
        let lost = !heard && !is_over(&app, self.budget + GRACE);
        if lost {
            app.signal(Signal::TERM);
        }
        let status = app.end();
        let took = sent.elapsed();
        let mut faults = Vec::new();
        // Between the look and the signal it may have begun to listen: then it has to answer for the signal.
        let unheard = !heard && status.signal() == Some(Signal::TERM.as_raw());
        if lost {
            faults.push(format!("the signal was lost; the next one ended it with {status}"));
        } else if unheard {
            faults.extend(can_start_again(&home).err());
        } else {
            faults.extend(self.judge(&home, &app, status.code(), took));
        }
        let faults = faults
            .into_iter()
            .map(|fault| format!("{fault}; {self}\n{}", app.log()));
        End {
            subject: self.subject,
            faults: faults.collect(),
            code: status.code(),
            took,
            lost,
            unheard,
            ready,
        }
    }

    /// What is wrong with an end.
    fn judge(&self, home: &Home, app: &Application, code: Option<i32>, took: Duration) -> Vec<String> {
        let Ok(text) = fs::read(home.join("var/stop-report.json")) else {
            return vec![format!("no stop report, exit code {code:?}")];
        };
        let Ok(report) = serde_json::from_slice::<Value>(&text) else {
            return vec!["the stop report is no JSON".to_owned()];
        };
        let mut faults = Vec::new();
        let mut require = |right: bool, what: &str| {
            if !right {
                faults.push(format!("{what}: exit code {code:?} after {took:?}, {report}"));
            }
        };
        let limit = self.budget + GRACE;
        let told = Duration::from_secs_f64(report["took"].as_f64().unwrap_or(1e9));
        require(took <= limit, "too late");
        require(told <= took, "the report tells of a longer stop than there was");
        require(report["application"] == self.subject.name(), "another application");
        require(report["cause"] == "SIGTERM", "another cause");
        require(report["budget"] == self.budget.as_secs_f64(), "another budget");
        require(app.log().contains("asked by SIGTERM"), "not told on the log");
        let lines = report["workers"].as_array().cloned().unwrap_or_default();
        require(
            code == Some(expected(&report["outcome"])),
            "an exit code beside the outcome",
        );
        require(code == Some(worst(&lines)), "an exit code beside the workers");
        let slots: BTreeSet<String> = lines
            .iter()
            .map(|line| format!("{}{}", line["worker"], line["slot"]))
            .collect();
        require(slots.len() == lines.len(), "an instance is told of twice");
        require(lines.iter().all(is_sensible), "what was held does not fit");
        let eternal = self
            .work
            .iter()
            .filter(|name| name.starts_with("hangs") || name.starts_with("blocks"));
        require(
            eternal.into_iter().all(|name| lies_there(home, name)),
            "unfinished work is gone",
        );
        let interruptible = self.subject == Subject::Faults || self.again.is_some();
        require(
            interruptible || code == Some(0),
            "nothing was in the way of a clean stop",
        );
        faults
    }
}

impl std::fmt::Display for Case {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            subject,
            moment,
            again,
            settings,
            work,
            ..
        } = self;
        write!(
            out,
            "{subject:?} signalled after {moment:?}, again after {again:?}, with {settings:?} and {work:?}"
        )
    }
}

/// Up to forty pieces of work, and often some that never end by themselves.
fn work(random: &mut Rng) -> Vec<String> {
    let kinds = [("good", 25), ("panics", 5), ("fails", 10), ("hangs", 2), ("blocks", 2)];
    let mut work = Vec::new();
    for (kind, most) in kinds {
        let count = random.u32(0..=most);
        // A thread that blocks can't be freed, so each of these stops lasts as long as it may.
        let count = if kind == "blocks" && random.u8(..3) > 0 {
            0
        } else {
            count
        };
        work.extend((0..count).map(|number| format!("{kind}.{number}")));
    }
    work
}

fn faults(random: &mut Rng) -> Vec<String> {
    let opening = [0, 0, 30, 300][random.usize(..4)];
    vec![
        format!("faults.opening={opening}ms"),
        format!("faults.workers={}", random.u32(1..=3)),
        "faults.stall_after=200ms".to_owned(),
    ]
}

/// Whether the process listens to signals: from then on a stop is asked for, and before it the system ends the process.
/// SIGHUP is the last that gets a handler.
fn hears(app: &Application) -> bool {
    let caught = status_line(app, "SigCgt:").and_then(|mask| u64::from_str_radix(&mask, 16).ok());
    let bit = |signal: Signal| 1_u64 << (signal.as_raw() - 1);
    let all = bit(Signal::TERM) | bit(Signal::INT) | bit(Signal::HUP);
    caught.is_some_and(|mask| mask & all == all)
}

/// Whether the process is over, or is within this time; its exit status waits to be asked for.
fn is_over(app: &Application, within: Duration) -> bool {
    let limit = Instant::now() + within;
    while Instant::now() < limit {
        if status_line(app, "State:").is_none_or(|state| state.starts_with('Z')) {
            return true;
        }
        pause(Duration::from_millis(5));
    }
    false
}

/// What the system says about the process.
fn status_line(app: &Application, name: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{}/status", app.id())).ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(value.trim().to_owned())
}

fn is_ready(app: &Application) -> bool {
    app.log().contains(" is ready")
}

/// Starts on the directory of a process that was ended before it could hear anything, and ends that as well.
fn can_start_again(home: &Home) -> Result<(), String> {
    let mut app = home.start(&[]);
    app.wait("life", |app| hears(app).then_some(()));
    match app.stop() {
        Some(0 | 3 | 4) if home.join("var/stop-report.json").exists() => Ok(()),
        code => Err(format!("the next start ended with {code:?}: {}", app.log())),
    }
}

/// The exit code that belongs to an outcome.
fn expected(outcome: &Value) -> i32 {
    match outcome.as_str() {
        Some("clean") => 0,
        Some("forced") => 3,
        Some("abandoned") => 4,
        _ => -1,
    }
}

/// The exit code that belongs to the worst end of a worker.
fn worst(lines: &[Value]) -> i32 {
    let ends = lines.iter().map(|line| match line["how"].as_str() {
        Some("drained") => 0,
        Some("forced") => 3,
        Some("abandoned") => 4,
        _ => i32::MAX,
    });
    ends.max().unwrap_or(0)
}

/// Who drained held nothing; who was left behind held a piece of work of its own kind, or none.
fn is_sensible(line: &Value) -> bool {
    let worker = line["worker"].as_str().unwrap_or_default();
    match (line["how"].as_str(), line["held"].as_str()) {
        (Some("drained"), held) => held.is_none(),
        (_, Some(held)) => !held.starts_with("spool/") || held.starts_with(&format!("spool/{worker}.")),
        (_, None) => true,
    }
}

/// How a case ended.
struct End {
    subject: Subject,
    faults: Vec<String>,
    code: Option<i32>,
    took: Duration,
    /// The signal neither ended the process nor was heard by it.
    lost: bool,
    /// The signal came before that.
    unheard: bool,
    /// Whether the start was over when the signal was sent.
    ready: bool,
}

/// All ends.
#[derive(Default)]
struct Summary {
    rows: BTreeMap<&'static str, Row>,
    faults: Vec<String>,
}

/// All ends of a subject.
#[derive(Default)]
struct Row {
    codes: BTreeMap<i32, u32>,
    starting: u32,
    reports: u32,
    unheard: u32,
    lost: u32,
    slowest: Duration,
}

impl Summary {
    fn count(&mut self, number: u32, end: End) {
        let row = self.rows.entry(end.subject.name()).or_default();
        if end.unheard {
            row.unheard += 1;
        } else if end.lost {
            row.lost += 1;
        } else {
            row.reports += 1;
            row.starting += u32::from(!end.ready);
            *row.codes.entry(end.code.unwrap_or(-1)).or_default() += 1;
            row.slowest = row.slowest.max(end.took);
        }
        self.faults
            .extend(end.faults.into_iter().map(|fault| format!("case {number}: {fault}")));
    }

    fn table(&self) -> String {
        let mut text = format!(
            "{:<15} {:>8} {:>9} {:>8} {:>8} {:>8} {:>9} {:>8} {:>5}\n",
            "process", "reports", "starting", "code 0", "code 3", "code 4", "slowest", "unheard", "lost"
        );
        for (name, row) in &self.rows {
            let code = |code| row.codes.get(&code).copied().unwrap_or(0);
            text += &format!(
                "{name:<15} {:>8} {:>9} {:>8} {:>8} {:>8} {:>7.2} s {:>8} {:>5}\n",
                row.reports,
                row.starting,
                code(0),
                code(3),
                code(4),
                row.slowest.as_secs_f64(),
                row.unheard,
                row.lost
            );
        }
        let reports: u32 = self.rows.values().map(|row| row.reports).sum();
        text + &format!("{reports} reports checked, {} faults\n", self.faults.len())
    }
}
