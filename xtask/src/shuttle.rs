//! `cargo xtask shuttle`: the shell around supervision's step machine under very many schedules. The scenarios are tests of
//! `plba-schedules`; here they are built for speed, and what they tell is passed on.

use std::io;
use std::process::Stdio;

use crate::{Outcome, Stop, cargo};

const SCHEDULES: &str = "PLBA_SCHEDULES";
const SEED: &str = "PLBA_SCHEDULES_SEED";
const SCHEDULE: &str = "PLBA_SCHEDULE";

pub(crate) fn run(arguments: &[String]) -> Outcome {
    let variables = variables(arguments)?;
    let mut command = cargo::command(&[
        "test",
        "--release",
        "--quiet",
        "-p",
        "plba-schedules",
        "--",
        "--nocapture",
    ]);
    for name in [SCHEDULES, SEED, SCHEDULE] {
        command.env_remove(name);
    }
    let status = command
        .envs(variables)
        .stdout(Stdio::null())
        .stderr(io::stdout())
        .status()
        .map_err(|error| Stop::Failed(format!("could not run cargo: {error}")))?;
    match status.success() {
        true => Ok(()),
        false => Err(Stop::Failed(
            "a promise was broken: see above; `cargo xtask shuttle --replay SCENARIO SCHEDULE` plays a schedule again"
                .to_owned(),
        )),
    }
}

/// What the tests are told by.
fn variables(arguments: &[String]) -> Result<Vec<(&'static str, String)>, Stop> {
    let number = |name: &'static str, text: &str| match text.parse::<u32>() {
        Ok(number) if number > 0 || name == SEED => Ok((name, number.to_string())),
        _ => Err(Stop::Usage(format!("`{text}` is no number of schedules"))),
    };
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["--schedules", count] => Ok(vec![number(SCHEDULES, count)?]),
        ["--schedules", count, "--seed", seed] => Ok(vec![number(SCHEDULES, count)?, number(SEED, seed)?]),
        // A schedule is printed in lines.
        ["--replay", scenario, ref lines @ ..] if !lines.is_empty() => {
            let lines: String = lines.iter().flat_map(|line| line.split_whitespace()).collect();
            Ok(vec![(SCHEDULE, format!("{scenario}:{lines}"))])
        }
        _ => Err(Stop::Usage(
            "`shuttle` takes `--schedules N [--seed S]` or `--replay SCENARIO SCHEDULE`".to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(line: &str) -> Result<Vec<(&'static str, String)>, Stop> {
        variables(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn schedules_are_counted_or_one_is_played_again() {
        assert_eq!(asked("--schedules 9"), Ok(vec![(SCHEDULES, "9".to_owned())]));
        let seeded = vec![(SCHEDULES, "9".to_owned()), (SEED, "0".to_owned())];
        assert_eq!(asked("--schedules 9 --seed 0"), Ok(seeded));
        assert_eq!(
            asked("--replay Time 91\n02 03"),
            Ok(vec![(SCHEDULE, "Time:910203".to_owned())])
        );
        for line in [
            "",
            "--schedules",
            "--schedules 0",
            "--schedules many",
            "--seed 3",
            "--replay Time",
        ] {
            assert!(matches!(asked(line), Err(Stop::Usage(_))), "{line}");
        }
    }
}
