//! `cargo xtask fuzz`: changed samples through the bot's parsers and through the reader of configurations, for as long as there
//! is time. What is fuzzed and how samples are changed is a test beside what is fuzzed; here it is built, run alone, and what it
//! tells is passed on. It runs as tests do, without optimisation, because then arithmetic is checked too.

use std::io;
use std::path::PathBuf;
use std::process::Stdio;

use serde_json::Value;

use crate::{Outcome, Stop, cargo};

/// Where a target is tested.
#[derive(Debug, PartialEq, Eq)]
struct Program {
    /// How cargo is asked for it.
    build: &'static [&'static str],
    /// What cargo calls it when it was built.
    name: &'static str,
    /// The test that asks for the variables.
    test: &'static str,
}

const BOT: Program = Program {
    build: &["-p", "mail-order-bot", "--test", "process"],
    name: "process",
    test: "fuzz::what_the_command_asks_for",
};
const RUNTIME: Program = Program {
    build: &["-p", "plba-runtime", "--lib"],
    name: "plba_runtime",
    test: "config::tests::mutation::what_the_command_asks_for",
};
const TARGETS: [(&str, &Program); 4] = [
    ("orders", &BOT),
    ("spreadsheets", &BOT),
    ("replies", &BOT),
    ("configuration", &RUNTIME),
];
const VARIABLES: [&str; 4] = [
    "PLBA_FUZZ_TARGET",
    "PLBA_FUZZ_SECONDS",
    "PLBA_FUZZ_SEED",
    "PLBA_FUZZ_REPLAY",
];
/// How long a run takes that says nothing else.
const SECONDS: u64 = 60;

pub(crate) fn run(arguments: &[String]) -> Outcome {
    let request = Request::parse(arguments)?;
    let program = build(request.program)?;
    let mut command = std::process::Command::new(program);
    command
        .args(["--exact", request.program.test, "--nocapture"])
        .current_dir(cargo::root());
    for variable in VARIABLES {
        command.env_remove(variable);
    }
    command.env(VARIABLES[0], &request.target);
    match &request.input {
        Input::File(file) => command.env(VARIABLES[3], file),
        Input::Made { seconds, seed } => {
            if let Some(seed) = seed {
                command.env(VARIABLES[2], seed.to_string());
            }
            command.env(VARIABLES[1], seconds.to_string())
        }
    };
    // The report is on standard error, apart from what the test harness says of the test.
    let status = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(io::stdout())
        .status()
        .map_err(|error| Stop::Failed(format!("could not run the fuzzer: {error}")))?;
    match status.success() {
        true => Ok(()),
        false => Err(Stop::Failed("an input failed: see above".to_owned())),
    }
}

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    target: String,
    program: &'static Program,
    input: Input,
}

#[derive(Debug, PartialEq, Eq)]
enum Input {
    /// As many as there is time for, from this seed or any.
    Made { seconds: u64, seed: Option<u64> },
    /// This one.
    File(PathBuf),
}

impl Request {
    fn parse(arguments: &[String]) -> Result<Self, Stop> {
        let usage = |problem: String| Stop::Usage(problem);
        let known = TARGETS.map(|(name, _)| name).join(", ");
        let (target, mut rest) = arguments
            .split_first()
            .ok_or_else(|| usage(format!("`fuzz` takes a target: {known}")))?;
        let found = TARGETS.iter().find(|(name, _)| name == target);
        let (_, program) = found.ok_or_else(|| usage(format!("`fuzz` has no target `{target}`, but {known}")))?;
        let (mut seconds, mut seed, mut file) = (None, None, None);
        while let Some((option, after)) = rest.split_first() {
            let (value, after) = after
                .split_first()
                .ok_or_else(|| usage(format!("`{option}` takes a value")))?;
            let number = || {
                let number = value.parse::<u64>();
                number.map_err(|_| usage(format!("`{option}` takes a whole number")))
            };
            match option.as_str() {
                "--seconds" => seconds = Some(number()?),
                "--seed" => seed = Some(number()?),
                // The program runs in the root of the workspace, wherever the command was given.
                "--replay" => file = Some(std::path::absolute(value).map_err(|error| usage(error.to_string()))?),
                unknown => return Err(usage(format!("`fuzz` has no option `{unknown}`"))),
            }
            rest = after;
        }
        let input = match file {
            Some(file) if seconds.is_none() && seed.is_none() => Input::File(file),
            Some(_) => {
                return Err(usage(
                    "`--replay` goes with neither `--seconds` nor `--seed`".to_owned(),
                ));
            }
            None => Input::Made {
                seconds: seconds.unwrap_or(SECONDS),
                seed,
            },
        };
        Ok(Self {
            target: target.clone(),
            program,
            input,
        })
    }
}

/// Builds a program of tests and gives its path.
fn build(program: &Program) -> Result<PathBuf, Stop> {
    let output = cargo::command(&["test"])
        .args(program.build)
        .arg("--no-run")
        .arg("--message-format=json-render-diagnostics")
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| Stop::Failed(format!("could not run cargo: {error}")))?;
    if !output.status.success() {
        return Err(Stop::Failed("the fuzzer does not build: see above".to_owned()));
    }
    let built = executable(&String::from_utf8_lossy(&output.stdout), program.name);
    built.ok_or_else(|| Stop::Failed("cargo named no program that it built".to_owned()))
}

/// The program of the tests among cargo's messages; the bot's own is there too.
fn executable(messages: &str, name: &str) -> Option<PathBuf> {
    let messages = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut tests = messages.filter(|message| message["target"]["name"] == name);
    tests.find_map(|message| Some(PathBuf::from(message["executable"].as_str()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(line: &str) -> Result<Request, Stop> {
        Request::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn a_target_is_named_and_how_long_or_which_input() {
        let made = |seconds, seed| Input::Made { seconds, seed };
        assert_eq!(request("orders").unwrap().input, made(60, None));
        assert_eq!(request("configuration").unwrap().program, &RUNTIME);
        assert_eq!(request("replies --seed 7 --seconds 5").unwrap().input, made(5, Some(7)));
        let file = Input::File("/tmp/x".into());
        assert_eq!(request("spreadsheets --replay /tmp/x").unwrap().input, file);
        for line in [
            "",
            "letters",
            "orders --seconds",
            "orders --seconds many",
            "orders --speed 3",
            "orders --replay /tmp/x --seed 1",
        ] {
            assert!(matches!(request(line), Err(Stop::Usage(_))), "{line}");
        }
    }

    #[test]
    fn the_tests_are_told_from_the_program_that_they_test() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"mail-order-bot"},"executable":"/t/mail-order-bot"}
{"reason":"compiler-artifact","target":{"name":"process"},"executable":"/t/deps/process-1"}
"#;
        assert_eq!(executable(messages, BOT.name), Some("/t/deps/process-1".into()));
        assert_eq!(executable(messages, RUNTIME.name), None);
    }
}
