//! Fuzzing on stable Rust: the repository's own samples, changed where it hurts, through the parsers. The test run takes a
//! few hundred inputs of each target; `cargo xtask fuzz` takes as many as there is time for, with the same code.
//!
//! Every input follows from the seed and its number. One that fails is written to a file, and is tried again from there.

mod mutate;
mod targets;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use self::mutate::Mutator;
use self::targets::Target;

const TARGET: &str = "PLBA_FUZZ_TARGET";
const SECONDS: &str = "PLBA_FUZZ_SECONDS";
const SEED: &str = "PLBA_FUZZ_SEED";
const REPLAY: &str = "PLBA_FUZZ_REPLAY";

/// Inputs of each target in the test run.
const SHORT: u64 = 300;
/// The longest that one input may take, in a debug build on a busy machine. A workbook may use up its child, which takes 20 s.
const SLOW: Duration = Duration::from_secs(40);

/// How long a run goes on.
#[derive(Clone, Copy)]
enum Until {
    Inputs(u64),
    Time(Instant),
}

/// What `cargo xtask fuzz` runs; without its variables there is nothing to do.
#[test]
fn what_the_command_asks_for() {
    let Ok(name) = std::env::var(TARGET) else { return };
    let target = Target::named(&name).unwrap_or_else(|| panic!("no target {name:?}; there are {:?}", targets::NAMES));
    if let Ok(file) = std::env::var(REPLAY) {
        let input = fs::read(&file).unwrap();
        eprintln!("{name}: {file}, {} bytes", input.len());
        let told = target.run(&input);
        eprintln!("{name}: passed, {told}");
        return;
    }
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seed = number(SEED).unwrap_or_else(|| fastrand::u64(..));
    let seconds = number(SECONDS).unwrap_or(60);
    run(
        target,
        &name,
        seed,
        Until::Time(Instant::now() + Duration::from_secs(seconds)),
    );
}

#[test]
fn changed_samples_do_not_break_the_order_parser() {
    run(Target::Orders, "orders", fastrand::u64(..), Until::Inputs(SHORT));
}

#[test]
fn changed_workbooks_do_not_break_the_spreadsheet_reader() {
    run(
        Target::Spreadsheets,
        "spreadsheets",
        fastrand::u64(..),
        Until::Inputs(SHORT / 3),
    );
}

#[test]
fn changed_samples_do_not_break_the_reply_builder() {
    run(Target::Replies, "replies", fastrand::u64(..), Until::Inputs(SHORT));
}

#[track_caller]
fn run(target: Target, name: &str, seed: u64, until: Until) {
    eprintln!("{name}: seed {seed}");
    let mutator = Mutator::new(target.seeds());
    let began = Instant::now();
    let (mut inputs, mut slowest) = (0, Duration::ZERO);
    let mut told = std::collections::BTreeMap::<String, u64>::new();
    let goes_on = |inputs| match until {
        Until::Inputs(most) => inputs < most,
        Until::Time(end) => Instant::now() < end,
    };
    while goes_on(inputs) {
        let input = target.build(&mutator, seed, inputs);
        let before = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| target.run(&input)));
        let took = before.elapsed();
        slowest = slowest.max(took);
        match result {
            Ok(outcome) if took <= SLOW => *told.entry(outcome).or_default() += 1,
            other => {
                let file = keep(name, seed, inputs, &input);
                let why = if other.is_ok() {
                    format!("took {took:?}")
                } else {
                    "failed".to_owned()
                };
                panic!(
                    "{name}: input {inputs} of seed {seed} {why}; it is kept in {0}: cargo xtask fuzz {name} --replay {0}",
                    file.display()
                );
            }
        }
        inputs += 1;
    }
    let rate = inputs as f64 / began.elapsed().as_secs_f64();
    eprintln!("{name}: {inputs} inputs, {rate:.0} a second, the slowest {slowest:?}; {told:?}");
}

fn keep(name: &str, seed: u64, number: u64, input: &[u8]) -> PathBuf {
    let directory = std::env::temp_dir().join("mail-order-bot-fuzz");
    fs::create_dir_all(&directory).unwrap();
    let file = directory.join(format!("{name}-{seed}-{number}"));
    fs::write(&file, input).unwrap();
    file
}
