//! `cargo xtask sim`: random schedules against the step machine of supervision, by the million. The simulation itself is
//! a test of the runtime; here it is built for speed, run alone, and what it tells is passed on.

use std::io;
use std::path::PathBuf;
use std::process::Stdio;

use serde_json::Value;

use crate::{Outcome, Stop, cargo};

const TEST: &str = "supervisor::machine::simulation::runs::any_schedule_keeps_the_promises";
const SEEDS: &str = "PLBA_SIM_SEEDS";
const SEED: &str = "PLBA_SIM_SEED";

pub(crate) fn run(arguments: &[String]) -> Outcome {
    let request = Request::parse(arguments)?;
    let program = build()?;
    let (variable, number) = match request {
        Request::Seeds(seeds) => (SEEDS, seeds),
        Request::Seed(seed) => (SEED, seed),
    };
    // The report is on standard error, apart from what the test harness says of the test.
    let status = std::process::Command::new(program)
        .args(["--exact", TEST, "--nocapture"])
        .env_remove(SEEDS)
        .env_remove(SEED)
        .env(variable, number.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(io::stdout())
        .status()
        .map_err(|error| Stop::Failed(format!("could not run the simulation: {error}")))?;
    match status.success() {
        true => Ok(()),
        false => Err(Stop::Failed(
            "a promise was broken: see above; `cargo xtask sim --seed S` tells a seed again".to_owned(),
        )),
    }
}

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
enum Request {
    /// This many seeds, from 0.
    Seeds(u64),
    /// This one, step by step.
    Seed(u64),
}

impl Request {
    fn parse(arguments: &[String]) -> Result<Self, Stop> {
        let [option, number] = arguments else {
            return Err(Stop::Usage("`sim` takes `--seeds N` or `--seed S`".to_owned()));
        };
        let number = number.parse();
        let number = number.map_err(|_| Stop::Usage(format!("`{option}` takes a whole number")))?;
        match option.as_str() {
            "--seeds" if number > 0 => Ok(Self::Seeds(number)),
            "--seeds" => Err(Stop::Usage("no seeds prove nothing".to_owned())),
            "--seed" => Ok(Self::Seed(number)),
            unknown => Err(Stop::Usage(format!("`sim` has no option `{unknown}`"))),
        }
    }
}

/// Builds the tests of the runtime for speed and gives the program.
fn build() -> Result<PathBuf, Stop> {
    let output = cargo::command(&["test", "--release", "-p", "plba-runtime", "--lib", "--no-run"])
        .arg("--message-format=json-render-diagnostics")
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| Stop::Failed(format!("could not run cargo: {error}")))?;
    if !output.status.success() {
        return Err(Stop::Failed("the simulation does not build: see above".to_owned()));
    }
    let built = executable(&String::from_utf8_lossy(&output.stdout));
    built.ok_or_else(|| Stop::Failed("cargo named no program that it built".to_owned()))
}

/// The one program among cargo's messages.
pub(crate) fn executable(messages: &str) -> Option<PathBuf> {
    let mut messages = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    messages.find_map(|message| Some(PathBuf::from(message["executable"].as_str()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(line: &str) -> Result<Request, Stop> {
        Request::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn seeds_are_counted_or_one_is_named() {
        assert_eq!(request("--seeds 1000"), Ok(Request::Seeds(1000)));
        assert_eq!(request("--seed 0"), Ok(Request::Seed(0)));
        for line in ["", "--seeds", "--seeds 0", "--seeds many", "--speed 3", "--seed 1 2"] {
            assert!(matches!(request(line), Err(Stop::Usage(_))), "{line}");
        }
    }

    #[test]
    fn the_program_is_found_among_cargos_messages() {
        let messages = r#"{"reason":"compiler-artifact","executable":null}
{"reason":"compiler-artifact","executable":"/target/release/deps/plba_runtime-1"}
{"reason":"build-finished","success":true}
"#;
        assert_eq!(executable(messages), Some("/target/release/deps/plba_runtime-1".into()));
        assert_eq!(executable(""), None);
    }
}
