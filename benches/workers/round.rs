//! One round in a process of its own: the bench calls itself, told by a variable which variant to run, and reads three
//! numbers from what the child prints.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tokio::runtime::Builder;

use crate::variant::Variant;

/// The variable by which the child is told what to run.
const VARIANT: &str = "PLBA_BENCH_VARIANT";

/// What a round measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Round {
    /// Until every worker ran.
    pub(crate) start: Duration,
    /// Until every worker had ended.
    pub(crate) stop: Duration,
    /// By how much the resident set grew from before the start until every worker ran and rested.
    pub(crate) bytes: u64,
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
    println!("{} {} {}", round.start.as_nanos(), round.stop.as_nanos(), round.bytes);
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
    let [start, stop, bytes] = numbers[..] else {
        panic!("a round of {} printed {text}", variant.key())
    };
    Round {
        start: Duration::from_nanos(start),
        stop: Duration::from_nanos(stop),
        bytes,
    }
}

/// Times a start, then the memory, then a stop.
pub(crate) async fn timed<S, F>(start: impl Future<Output = S>, stop: impl FnOnce(S) -> F) -> Round
where
    F: Future<Output = ()>,
{
    let before = resident();
    let began = Instant::now();
    let started = start.await;
    let start = began.elapsed();
    let bytes = resident().saturating_sub(before);
    let began = Instant::now();
    stop(started).await;
    let stop = began.elapsed();
    Round { start, stop, bytes }
}

/// The bytes of this process that are in memory: the second field of `/proc/self/statm`, in pages.
fn resident() -> u64 {
    const PAGE: u64 = 4096;
    let statm = std::fs::read_to_string("/proc/self/statm").expect("this is Linux");
    let pages = statm
        .split_whitespace()
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok());
    pages.expect("statm has a second field") * PAGE
}
