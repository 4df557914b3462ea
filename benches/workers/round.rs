//! One round in a process of its own: the bench calls itself, told by a variable which variant to run, and reads four
//! numbers from what the child prints.

use std::fs;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::Builder;

use crate::variant::Variant;

/// The variable by which the child is told what to run.
const VARIANT: &str = "PLBA_BENCH_VARIANT";

/// How often those do something that do, and how often that was, all together.
pub(crate) const BEAT: Duration = Duration::from_secs(1);
pub(crate) static BEATS: AtomicU64 = AtomicU64::new(0);

/// How long those are left alone that wait, and how long those that do something are watched, after as long a rest.
pub(crate) const REST: Duration = Duration::ZERO;
pub(crate) const WATCH: Duration = Duration::from_secs(2);

/// What a round measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Round {
    /// Until every worker ran.
    pub(crate) start: Duration,
    /// Until every worker had ended.
    pub(crate) stop: Duration,
    /// By how much the resident set grew from before the start until every worker ran and rested.
    pub(crate) bytes: u64,
    /// The processor time that was taken in a second while nobody asked for anything; 0 if nobody watched.
    pub(crate) idle: Duration,
}

/// The variant that this process is to run, if it is a child.
pub(crate) fn asked_for() -> Option<Variant> {
    let name = std::env::var(VARIANT).ok()?;
    Some(Variant::by_key(&name).unwrap_or_else(|| panic!("{VARIANT} names no variant: {name}")))
}

/// Runs a round in this process and prints what it measured.
#[expect(clippy::print_stdout, reason = "the parent reads it")]
pub(crate) fn run_here(variant: Variant) {
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let runtime = Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .expect("the machine gives threads");
    let round = runtime.block_on(runtime.spawn(variant.run())).expect("no round panics");
    let (start, stop, idle) = (round.start.as_nanos(), round.stop.as_nanos(), round.idle.as_nanos());
    println!("{start} {stop} {} {idle}", round.bytes);
}

/// Runs a round in a process of its own.
pub(crate) fn run_elsewhere(variant: Variant) -> Round {
    let program = std::env::current_exe().expect("this program has a path");
    let output = Command::new(program)
        .env(VARIANT, variant.key())
        .stderr(Stdio::inherit())
        .output()
        .expect("this program can be run");
    assert!(
        output.status.success(),
        "a round of {} ended with {}",
        variant.key(),
        output.status
    );
    let text = String::from_utf8_lossy(&output.stdout);
    let numbers: Vec<u64> = text
        .split_whitespace()
        .map(|word| word.parse().expect("a number"))
        .collect();
    let [start, stop, bytes, idle] = numbers[..] else {
        panic!("a round of {} printed {text}", variant.key())
    };
    Round {
        start: Duration::from_nanos(start),
        stop: Duration::from_nanos(stop),
        bytes,
        idle: Duration::from_nanos(idle),
    }
}

/// Times a start, then the memory, then leaves them alone for twice this time and watches the second half, then a stop.
pub(crate) async fn timed<S, F>(start: impl Future<Output = S>, watch: Duration, stop: impl FnOnce(S) -> F) -> Round
where
    F: Future<Output = ()>,
{
    let before = resident();
    let began = Instant::now();
    let started = start.await;
    let start = began.elapsed();
    let bytes = resident().saturating_sub(before);
    let idle = if watch.is_zero() {
        Duration::ZERO
    } else {
        idle(watch).await
    };
    let began = Instant::now();
    stop(started).await;
    let stop = began.elapsed();
    Round {
        start,
        stop,
        bytes,
        idle,
    }
}

/// The processor time taken in a second, measured for this long after as long a rest.
async fn idle(watch: Duration) -> Duration {
    tokio::time::sleep(watch).await;
    let (before, beats, began) = (processor_time(), BEATS.load(Ordering::Relaxed), Instant::now());
    tokio::time::sleep(watch).await;
    let (taken, passed) = (processor_time().saturating_sub(before), began.elapsed());
    assert!(BEATS.load(Ordering::Relaxed) > beats, "nobody did anything meanwhile");
    taken.div_f64(passed.as_secs_f64())
}

/// The processor time that all threads of this process have taken: the first field of each `schedstat`, in nanoseconds.
fn processor_time() -> Duration {
    let threads = fs::read_dir("/proc/self/task").expect("this is Linux");
    let times = threads.filter_map(|thread| {
        let text = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(times.sum())
}

/// The bytes of this process that are in memory: the second field of `/proc/self/statm`, in pages.
fn resident() -> u64 {
    const PAGE: u64 = 4096;
    let statm = fs::read_to_string("/proc/self/statm").expect("this is Linux");
    let pages = statm
        .split_whitespace()
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok());
    pages.expect("statm has a second field") * PAGE
}
