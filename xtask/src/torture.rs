//! `cargo xtask torture`: the test that sends processes SIGTERM at random moments, with as many signals as asked for, on
//! all processes there are. What a right end is lives with the test, in `crates/plba/tests/process/torture.rs`. Kills of
//! processes that share a task queue are in `kills`.

use crate::{Outcome, Stop, cargo, kills};

/// The test, and the variables that it reads.
const TEST: &str = "torture::a_signal_at_any_moment_ends_the_process_in_time_and_with_a_right_report";
const SIGNALS: &str = "PLBA_TORTURE_SIGNALS";
const SEED: &str = "PLBA_TORTURE_SEED";

/// All that the processes are built with: the same for those who are tortured and for the test.
const FEATURES: [&str; 4] = ["-p", "plba", "--features", "http,mail,tasks"];

pub(crate) fn run(arguments: &[String]) -> Outcome {
    if arguments
        .iter()
        .any(|option| ["--backend", "--kills"].contains(&option.as_str()))
    {
        return kills::Request::parse(arguments)?.run();
    }
    let request = Request::parse(arguments)?;
    // `cargo test` with the name of one test builds neither examples nor applications.
    cargo_with(
        &["build", "--quiet", "-p", "mail-order-bot", "--bins"],
        &[],
        &[],
        &request,
    )?;
    cargo_with(&["build", "--quiet", "--examples"], &FEATURES, &[], &request)?;
    let test = ["--", "--exact", TEST, "--nocapture"];
    cargo_with(&["test", "--quiet", "--test", "process"], &FEATURES, &test, &request)
}

fn cargo_with(start: &[&str], middle: &[&str], end: &[&str], request: &Request) -> Outcome {
    let mut command = cargo::command(&[start, middle, end].concat());
    command.env(SIGNALS, request.signals.to_string());
    if let Some(seed) = request.seed {
        command.env(SEED, seed.to_string());
    }
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(Stop::Failed("not everything ended as it should: see above".to_owned())),
        Err(error) => Err(Stop::Failed(format!("could not run cargo: {error}"))),
    }
}

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    signals: u32,
    seed: Option<u64>,
}

impl Request {
    fn parse(arguments: &[String]) -> Result<Self, Stop> {
        let mut request = Self {
            signals: 100,
            seed: None,
        };
        let mut arguments = arguments.iter();
        while let Some(option) = arguments.next() {
            let value = arguments.next().map(String::as_str).unwrap_or_default();
            let wrong = || Stop::Usage(format!("`{option}` takes a whole number, not `{value}`"));
            match option.as_str() {
                "--signals" => match value.parse() {
                    Ok(signals) if signals > 0 => request.signals = signals,
                    _ => return Err(wrong()),
                },
                "--seed" => request.seed = Some(value.parse().map_err(|_| wrong())?),
                unknown => return Err(Stop::Usage(format!("`torture` has no option `{unknown}`"))),
            }
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Request, Stop> {
        Request::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn signals_and_seed_are_whole_numbers() {
        let request = |signals, seed| Ok(Request { signals, seed });
        assert_eq!(parse(""), request(100, None));
        assert_eq!(parse("--signals 1000 --seed 7"), request(1_000, Some(7)));
        for line in [
            "--signals",
            "--signals 0",
            "--signals many",
            "--seed -1",
            "--fast",
            "1000",
        ] {
            assert!(matches!(parse(line), Err(Stop::Usage(_))), "{line}");
        }
    }
}
