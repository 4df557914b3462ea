//! What a test does when its server is missing: say so, or fail where servers are required.

use std::env;

use crate::StartError;

/// Set to `1` by `cargo xtask test`, which installs the servers first: a missing one is then a failure.
const REQUIRED: &str = "PLBA_REQUIRE_SERVERS";

/// The started server, or `None` after printing `not run: …` when it is not installed here.
///
/// # Panics
///
/// When the server is installed and did not start, and when it is missing although the environment says
/// `PLBA_REQUIRE_SERVERS=1`: a test can't pass without its server.
#[track_caller]
pub fn require<T>(started: Result<T, StartError>) -> Option<T> {
    let required = env::var_os(REQUIRED).is_some_and(|value| value == "1");
    match decide(started, required) {
        Decision::Run(server) => Some(server),
        Decision::NotRun(line) => {
            report(&line);
            None
        }
        Decision::Fail(reason) => panic!("{reason}"),
    }
}

enum Decision<T> {
    Run(T),
    NotRun(String),
    Fail(String),
}

fn decide<T>(started: Result<T, StartError>, required: bool) -> Decision<T> {
    match started {
        Ok(server) => Decision::Run(server),
        Err(StartError::NotRun(missing)) if !required => Decision::NotRun(format!("not run: {missing}")),
        Err(error) => Decision::Fail(error.to_string()),
    }
}

fn report(line: &str) {
    eprintln!("{line}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NotRun;

    const MISSING: NotRun = NotRun {
        what: "Dovecot",
        install: "apt-get install dovecot-imapd",
    };

    #[test]
    fn a_missing_server_is_reported_as_not_run() {
        let Decision::NotRun(line) = decide::<()>(Err(MISSING.into()), false) else {
            panic!("not run expected")
        };
        assert_eq!(line, "not run: Dovecot is not installed: apt-get install dovecot-imapd");
    }

    #[test]
    fn a_missing_server_fails_where_servers_are_required() {
        assert!(matches!(decide::<()>(Err(MISSING.into()), true), Decision::Fail(_)));
    }

    #[test]
    fn a_server_that_is_there_but_broken_always_fails() {
        for required in [false, true] {
            let broken = StartError::failed("Dovecot", "port in use");
            assert!(matches!(decide::<()>(Err(broken), required), Decision::Fail(_)));
        }
    }

    #[test]
    fn a_started_server_is_handed_on() {
        assert_eq!(require(Ok(7)), Some(7));
    }
}
