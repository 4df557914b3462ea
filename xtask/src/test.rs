//! `cargo xtask test`: the servers, then `cargo test`, then one line that sums up.

use std::io::{self, BufRead, BufReader, Write};
use std::process::ExitStatus;

use crate::{Outcome, Stop, cargo, servers};

/// Makes a missing server a failure, see `plba_testservers::require`.
const REQUIRE_SERVERS: &str = "PLBA_REQUIRE_SERVERS";

pub(crate) fn run(arguments: &[String]) -> Outcome {
    let crates = packages(arguments);
    servers::ensure(&crates)?;
    let mut command = cargo::command(&["test", "--no-fail-fast"]);
    if crates.is_empty() {
        command.arg("--workspace");
    }
    command.args(arguments).env(REQUIRE_SERVERS, "1");

    // One pipe for both: cargo names a binary on standard error, and the binary answers on standard output.
    let (reader, writer) = io::pipe().map_err(|error| Stop::Failed(format!("no pipe: {error}")))?;
    let both = writer
        .try_clone()
        .map_err(|error| Stop::Failed(format!("no pipe: {error}")))?;
    command.stdout(writer).stderr(both);
    let mut child = command
        .spawn()
        .map_err(|error| Stop::Failed(format!("could not run cargo: {error}")))?;
    // It holds the pipe's other end, which has to close for the pipe to end.
    drop(command);
    let tally = stream(BufReader::new(reader), io::stdout().lock());
    let status = child
        .wait()
        .map_err(|error| Stop::Failed(format!("lost cargo: {error}")))?;
    conclude(tally, status)
}

/// The packages that the arguments select with `-p NAME`, `-pNAME`, `--package NAME` or `--package=NAME`.
fn packages(arguments: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    let mut arguments = arguments.iter().take_while(|argument| *argument != "--");
    while let Some(argument) = arguments.next() {
        if argument == "-p" || argument == "--package" {
            found.extend(arguments.next().cloned());
        } else if let Some(name) = argument.strip_prefix("--package=") {
            found.push(name.to_owned());
        } else if let Some(name) = argument.strip_prefix("-p") {
            found.push(name.trim_start_matches('=').to_owned());
        }
    }
    found
}

/// Tests counted over all binaries.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Tally {
    /// Counts a line like `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in …`.
    /// Tests that were filtered out weren't asked for and count nowhere.
    fn count(&mut self, line: &str) {
        let Some((_, counts)) = line.split_once("test result: ") else {
            return;
        };
        let Some((_, counts)) = counts.split_once(". ") else {
            return;
        };
        for part in counts.split(';') {
            let Some((number, kind)) = part.trim().split_once(' ') else {
                continue;
            };
            let Ok(number) = number.parse::<u64>() else { continue };
            match kind {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.skipped += number,
                _ => {}
            }
        }
    }
}

/// Passes everything through as it comes, and counts.
fn stream(mut output: impl BufRead, mut screen: impl Write) -> Tally {
    let mut tally = Tally::default();
    let mut line = Vec::new();
    while output.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        // A closed screen is no reason to leave the tests unread and unfinished.
        let _ = screen.write_all(&line).and_then(|()| screen.flush());
        tally.count(&String::from_utf8_lossy(&line));
        line.clear();
    }
    tally
}

fn conclude(mut tally: Tally, status: ExitStatus) -> Outcome {
    // A binary that did not build, or was killed, reports no counts.
    let unreported = !status.success() && tally.failed == 0;
    tally.failed += u64::from(unreported);
    println!(
        "\n{} passed, {} failed, {} skipped",
        tally.passed, tally.failed, tally.skipped
    );
    if unreported {
        Err(Stop::Failed(format!(
            "cargo test ended with {status} before all tests had reported: see above"
        )))
    } else if tally.failed > 0 {
        Err(Stop::Failed("some tests failed: see above".to_owned()))
    } else if tally.passed == 0 {
        Err(Stop::Failed("no test ran".to_owned()))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    const SUCCESS: i32 = 0;
    const FAILURE: i32 = 101 << 8;

    fn tally(passed: u64, failed: u64, skipped: u64) -> Tally {
        Tally {
            passed,
            failed,
            skipped,
        }
    }

    #[test]
    fn results_are_summed_over_binaries() {
        let output = "\
running 3 tests
test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 9 filtered out; finished in 0.00s
test a ... test result: nonsense
test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s
error: test failed, to rerun pass `-p a`
";
        let mut screen = Vec::new();
        assert_eq!(stream(output.as_bytes(), &mut screen), tally(3, 2, 1));
        assert_eq!(screen, output.as_bytes());
    }

    #[test]
    fn only_a_run_in_which_something_passed_and_nothing_failed_is_a_success() {
        let check = |tally, status, part: Option<&str>| match (conclude(tally, ExitStatus::from_raw(status)), part) {
            (Ok(()), None) => {}
            (Err(Stop::Failed(reason)), Some(part)) => assert!(reason.contains(part), "{reason}"),
            (outcome, part) => panic!("{outcome:?} instead of {part:?}"),
        };
        check(tally(3, 0, 1), SUCCESS, None);
        check(tally(3, 1, 0), FAILURE, Some("some tests failed"));
        check(tally(3, 0, 0), FAILURE, Some("before all tests had reported"));
        check(tally(0, 0, 0), SUCCESS, Some("no test ran"));
    }

    #[test]
    fn packages_are_read_from_every_way_to_name_them() {
        let arguments = [
            "-p",
            "a",
            "-pb",
            "--package",
            "c",
            "--package=d",
            "-p=e",
            "--lib",
            "--",
            "-p",
            "f",
        ];
        assert_eq!(packages(&arguments.map(str::to_owned)), ["a", "b", "c", "d", "e"]);
    }
}
