//! `cargo xtask torture --backend …`: the test that kills processes which share a task queue, as often as asked for. What
//! a kill must not cost lives with the test, in `plba_testkit::torture`; here it is built, run alone, and what it found is
//! passed on.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;

use crate::sim::executable;
use crate::{Outcome, Stop, cargo, servers};

/// What the test reads: how often processes and servers are killed, the seed of all that is random, and where to write
/// the figures.
const KILLS: &str = "PLBA_TORTURE_KILLS";
const SERVER_EVERY: &str = "PLBA_TORTURE_SERVER_EVERY";
const SEED: &str = "PLBA_TORTURE_SEED";
const REPORT: &str = "PLBA_TORTURE_REPORT";

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request {
    backend: Backend,
    kills: u64,
    seed: Option<u64>,
    /// After how many kills of processes the server is killed.
    server_every: Option<u64>,
    json: bool,
}

/// Where the queue is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Backend {
    Redis,
    Postgres,
    Sqlite,
}

impl Backend {
    fn named(name: &str) -> Option<Self> {
        match name {
            "redis" => Some(Self::Redis),
            "postgres" => Some(Self::Postgres),
            "sqlite" => Some(Self::Sqlite),
            _ => None,
        }
    }

    /// The package whose tests have it, and the test.
    fn test(self) -> (&'static str, &'static str) {
        match self {
            Self::Redis => ("plba-redis", "torture::failure_1_kills_at_random_moments_lose_nothing"),
            Self::Postgres => (
                "plba-sql",
                "postgres::torture::failure_1_kills_at_random_moments_lose_nothing",
            ),
            Self::Sqlite => (
                "plba-sql",
                "sqlite::torture::failures_1_and_38_kills_at_random_moments_lose_nothing_and_leave_the_file_sound",
            ),
        }
    }
}

impl Request {
    pub(crate) fn parse(arguments: &[String]) -> Result<Self, Stop> {
        let mut request = Self {
            backend: Backend::Sqlite,
            kills: 100,
            seed: None,
            server_every: None,
            json: false,
        };
        let mut backend = None;
        let mut arguments = arguments.iter();
        while let Some(option) = arguments.next() {
            if option == "--json" {
                request.json = true;
                continue;
            }
            let value = arguments.next().map(String::as_str).unwrap_or_default();
            let number = || {
                let number = value.parse::<u64>();
                number.map_err(|_| Stop::Usage(format!("`{option}` takes a whole number, not `{value}`")))
            };
            match option.as_str() {
                "--backend" => {
                    let known = Backend::named(value);
                    let unknown = || Stop::Usage(format!("a backend is redis, postgres or sqlite, not `{value}`"));
                    backend = Some(known.ok_or_else(unknown)?);
                }
                "--kills" => request.kills = number()?,
                "--seed" => request.seed = Some(number()?),
                "--server-every" => request.server_every = Some(number()?),
                unknown => return Err(Stop::Usage(format!("`torture --backend` has no option `{unknown}`"))),
            }
        }
        request.backend = backend.ok_or_else(|| Stop::Usage("`--kills` needs a `--backend`".to_owned()))?;
        if request.kills == 0 {
            return Err(Stop::Usage("no kills prove nothing".to_owned()));
        }
        if request.server_every.is_some() && request.backend == Backend::Sqlite {
            return Err(Stop::Usage("SQLite has no server to kill".to_owned()));
        }
        Ok(request)
    }

    pub(crate) fn run(&self) -> Outcome {
        let (package, test) = self.backend.test();
        // It speaks on standard output; without it a missing server is a failure that says so.
        if !self.json {
            servers::ensure(&[package.to_owned()])?;
        }
        let program = kept(&build(package)?)?;
        let report = std::env::temp_dir().join(format!("plba-torture-{}.json", std::process::id()));
        let mut command = std::process::Command::new(&program);
        command
            .args(["--exact", test, "--nocapture"])
            .env(KILLS, self.kills.to_string())
            .env(REPORT, &report)
            .env("PLBA_REQUIRE_SERVERS", "1")
            .env_remove(SEED)
            .env_remove(SERVER_EVERY)
            .stdin(Stdio::null())
            // What the test harness says; the test itself tells its progress and its table on standard error.
            .stdout(Stdio::null());
        for (name, number) in [(SEED, self.seed), (SERVER_EVERY, self.server_every)] {
            if let Some(number) = number {
                command.env(name, number.to_string());
            }
        }
        let status = command.status();
        let figures = std::fs::read_to_string(&report);
        // It may never have been written; the program's other name is only in nobody's way.
        let _ = (std::fs::remove_file(&report), std::fs::remove_file(&program));
        let status = status.map_err(|error| Stop::Failed(format!("could not run the torture: {error}")))?;
        let figures = figures.ok().and_then(|text| serde_json::from_str::<Value>(&text).ok());
        if let Some(figures) = figures.as_ref().filter(|_| self.json) {
            println!("{figures}");
        }
        match figures {
            Some(_) if status.success() => Ok(()),
            _ => Err(Stop::Failed(
                "a task was lost or a promise broken: see above".to_owned(),
            )),
        }
    }
}

/// Another name for the program, which starts itself again and again: a build meanwhile replaces what has the first one.
fn kept(program: &Path) -> Result<PathBuf, Stop> {
    let kept = program.with_extension(format!("torture-{}", std::process::id()));
    match std::fs::hard_link(program, &kept) {
        Ok(()) => Ok(kept),
        Err(error) => Err(Stop::Failed(format!("could not link {}: {error}", kept.display()))),
    }
}

/// Builds the tests of a backend and gives the program.
fn build(package: &str) -> Result<PathBuf, Stop> {
    let output = cargo::command(&["test", "--quiet", "-p", package, "--test", "it", "--no-run"])
        .arg("--message-format=json-render-diagnostics")
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| Stop::Failed(format!("could not run cargo: {error}")))?;
    if !output.status.success() {
        return Err(Stop::Failed("the torture does not build: see above".to_owned()));
    }
    let built = executable(&String::from_utf8_lossy(&output.stdout));
    built.ok_or_else(|| Stop::Failed("cargo named no program that it built".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Request, Stop> {
        Request::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn a_backend_is_named_and_kills_are_counted() {
        let request = parse("--backend redis --kills 10000 --seed 7 --server-every 50 --json").unwrap();
        let expected = Request {
            backend: Backend::Redis,
            kills: 10_000,
            seed: Some(7),
            server_every: Some(50),
            json: true,
        };
        assert_eq!(request, expected);
        assert_eq!(parse("--backend sqlite").unwrap().kills, 100);
        for line in [
            "--kills 100",
            "--backend",
            "--backend mysql",
            "--backend redis --kills 0",
            "--backend redis --kills many",
            "--backend sqlite --server-every 5",
            "--backend redis --signals 5",
        ] {
            assert!(matches!(parse(line), Err(Stop::Usage(_))), "{line}");
        }
    }
}
