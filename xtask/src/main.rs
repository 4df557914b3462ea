//! `cargo xtask`: everything a contributor runs. This file reads the command line and hands over; each command has a
//! file of its own. It builds before anything else does, so it needs little: the standard library and a JSON parser.
#![expect(clippy::print_stdout, reason = "a command line speaks on standard output")]

mod bench;
mod cargo;
mod fuzz;
mod kills;
mod servers;
mod shuttle;
mod sim;
mod test;
mod tidy;
mod torture;

use std::env;
use std::os::unix::process::CommandExt;
use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask <command>

  test [-p CRATE]… [CARGO TEST ARGUMENTS] [-- TEST ARGUMENTS]
                          run all tests, after installing the servers that they need
  tidy                    check the rules of the house that a compiler doesn't
  failures                write into FAILURES.md which tests there are for each failure
  bench [NAME…] [--json]  run the benches, all or those named
  bench queues [--backend memory|sqlite|postgres|redis]… [--million] [--json]
                          the queues beside their peers, all or these; also with a backlog of a million
  torture [--signals N] [--seed S]
                          end processes at random moments, N of them, and check how they end
  torture --backend redis|postgres|sqlite [--kills N] [--seed S] [--server-every N] [--json]
                          kill processes that share a task queue at random moments, N times, and the server after every
                          so many kills; tasks must not be lost, nor handed out after their ack
  sim --seeds N | --seed S
                          run random schedules against supervision: this many, or one told step by step
  shuttle --schedules N [--seed S] | --replay SCENARIO SCHEDULE
                          run supervision under schedules that interleave everything: this many, or one again
  fuzz orders|spreadsheets|replies|configuration [--seconds N] [--seed S] | [--replay FILE]
                          changed sample mails and workbooks through the bot's parsers, or configurations through their
                          reader, for a minute or N seconds, or one that failed again
  up [--redis] [--postgres] [--smtp] [DIRECTORY]
                          start a mail server, with the files of DIRECTORY as mail, and these, until Ctrl-C
";

/// What a command ends with: nothing went wrong, or a message for the last line of standard error.
type Outcome = Result<(), Stop>;

/// Why a command did not succeed.
#[derive(Debug, PartialEq, Eq)]
enum Stop {
    /// The command line makes no sense: exit code 2.
    Usage(String),
    /// What was to be done failed: exit code 1.
    Failed(String),
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Stop::Failed(reason)) => {
            eprintln!("xtask: {reason}");
            ExitCode::FAILURE
        }
        Err(Stop::Usage(reason)) => {
            eprintln!("xtask: {reason}\n\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &[String]) -> Outcome {
    let (command, rest) = arguments
        .split_first()
        .ok_or_else(|| Stop::Usage("which command?".to_owned()))?;
    match command.as_str() {
        "test" => test::run(rest),
        "tidy" => match rest {
            [] => tidy::run(),
            [extra, ..] => Err(Stop::Usage(format!("`tidy` takes no `{extra}`"))),
        },
        "failures" => match rest {
            [] => tidy::write_failures(),
            [extra, ..] => Err(Stop::Usage(format!("`failures` takes no `{extra}`"))),
        },
        "bench" => bench::run(rest),
        "torture" => torture::run(rest),
        "fuzz" => fuzz::run(rest),
        "shuttle" => shuttle::run(rest),
        "sim" => sim::run(rest),
        "up" => up(rest),
        "help" | "--help" | "-h" => {
            print!("{USAGE}");
            Ok(())
        }
        unknown => Err(Stop::Usage(format!("there is no command `{unknown}`"))),
    }
}

/// Becomes the program that starts the servers, so that Ctrl-C reaches it alone and nothing returns before it is done.
fn up(arguments: &[String]) -> Outcome {
    let mut directories = 0;
    for argument in arguments {
        if argument.starts_with('-') && !["--redis", "--postgres", "--smtp"].contains(&argument.as_str()) {
            return Err(Stop::Usage(format!("`up` has no option `{argument}`")));
        }
        directories += usize::from(!argument.starts_with('-'));
        if directories > 1 {
            return Err(Stop::Usage(format!("`up` takes one directory, not also `{argument}`")));
        }
    }
    servers::ensure(&[])?;
    let error = cargo::command(&["run", "--quiet", "-p", "plba-testservers", "--bin", "up", "--"])
        .args(arguments)
        .exec();
    Err(Stop::Failed(format!("could not run cargo: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_without_sense_is_a_matter_of_usage() {
        for line in [
            "",
            "tests",
            "tidy now",
            "up a b",
            "up --mysql",
            "bench --fast",
            "torture 9",
        ] {
            let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            assert!(matches!(run(&arguments), Err(Stop::Usage(_))), "{line}");
        }
    }
}
