//! Runs of many schedules, on all cores, and what is told of them. `cargo xtask sim` runs the first test here alone, with
//! `PLBA_SIM_SEEDS` for how many seeds or `PLBA_SIM_SEED` for one that is told step by step.

use std::num::NonZero;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use super::super::planted::{self, Bug};
use super::*;
use crate::supervisor::instance::panic_message;

/// How many seeds run where `PLBA_SIM_SEEDS` does not say otherwise.
pub(super) const SEEDS: u64 = 10_000;

/// What schedules have to reach at least once; nothing would be known about what they don't.
const RARE: [&str; 17] = [
    "abandoned",
    "answer: failed",
    "answer: overtaken",
    "backing_off",
    "dropped",
    "finished",
    "forced",
    "given_up",
    "gone",
    "hung",
    "one for all",
    "pause over",
    "paused",
    "rest for one",
    "stop: abandoned",
    "stop: drained",
    "stop: forced",
];

#[test]
fn any_schedule_keeps_the_promises() {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let (one, many) = (number("PLBA_SIM_SEED"), number("PLBA_SIM_SEEDS"));
    if one.or(many).is_some() {
        // This test runs alone then: what fails is told below, once and without the thread's number.
        panic::set_hook(Box::new(|_| {}));
    }
    if let Some(seed) = one {
        assert!(replay(seed), "seed {seed} fails");
        return;
    }
    let seeds = many.unwrap_or(SEEDS);
    let tally = run(seeds, None);
    eprintln!("{} seeds, {} steps", tally.seeds, tally.seen.steps);
    for (what, count) in &tally.seen.counts {
        eprintln!("{count:>12}  {what}");
    }
    if let Some(seed) = tally.failing {
        replay(seed);
        panic!("seed {seed} fails");
    }
    let missing: Vec<&str> = RARE
        .into_iter()
        .filter(|rare| !tally.seen.counts.contains_key(rare))
        .collect();
    // A few seeds can't reach everything.
    if seeds >= SEEDS && !missing.is_empty() {
        eprintln!("not reached: {}", missing.join(", "));
        panic!("no schedule reached {missing:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_schedule() {
    for seed in 0..50 {
        assert_eq!(traced(seed), traced(seed), "seed {seed}");
    }
}

/// What was reached, how often, and in how many steps.
#[derive(Default)]
pub(super) struct Seen {
    steps: u64,
    counts: BTreeMap<&'static str, u64>,
}

impl Seen {
    pub(super) fn note(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        for (what, count) in &other.counts {
            *self.counts.entry(what).or_default() += count;
        }
    }
}

/// What came of many seeds.
#[derive(Default)]
pub(super) struct Tally {
    seeds: u64,
    seen: Seen,
    /// The lowest seed that failed.
    pub(super) failing: Option<u64>,
}

/// Runs this many seeds on all cores, with a bug planted or none, up to the first that fails. Which one that is does not
/// depend on the cores: seeds are handed out in order, and those below a failing one are finished.
pub(super) fn run(seeds: u64, bug: Option<Bug>) -> Tally {
    let next = AtomicU64::new(0);
    let failing = AtomicU64::new(u64::MAX);
    let work = || {
        planted::plant(bug);
        let mut tally = Tally::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.min(failing.load(Ordering::Relaxed)) {
                return tally;
            }
            let mut world = World::new(seed, false);
            let mut seen = Seen::default();
            let ran = panic::catch_unwind(AssertUnwindSafe(|| world.run(&mut seen)));
            seen.steps = world.steps;
            tally.seeds += 1;
            tally.seen.add(&seen);
            if ran.is_err() {
                failing.fetch_min(seed, Ordering::Relaxed);
            }
        }
    };
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let mut whole = Tally::default();
    thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            let tally = thread.join().unwrap();
            whole.seeds += tally.seeds;
            whole.seen.add(&tally.seen);
        }
    });
    let failing = failing.into_inner();
    whole.failing = (failing < u64::MAX).then_some(failing);
    whole
}

/// Tells a seed step by step, twice over to see that it is the same; false if it fails.
fn replay(seed: u64) -> bool {
    let (trace, failure) = traced(seed);
    for line in &trace {
        eprintln!("{line}");
    }
    if let Some(failure) = &failure {
        eprintln!("seed {seed} fails after {} lines: {failure}", trace.len());
    } else {
        eprintln!("seed {seed} holds");
    }
    let holds = failure.is_none();
    assert_eq!((trace, failure), traced(seed), "seed {seed} is not the same twice");
    holds
}

/// All that happens with this seed, and why it fails if it does.
fn traced(seed: u64) -> (Vec<String>, Option<String>) {
    let mut world = World::new(seed, true);
    let ran = panic::catch_unwind(AssertUnwindSafe(|| world.run(&mut Seen::default())));
    (world.trace.take().unwrap_or_default(), ran.err().map(panic_message))
}
