//! Attempts to start a server: repeated with other ports when somebody took one between its choice and its use.

use std::fs;
use std::path::Path;

use crate::StartError;

/// How often a start is repeated with other ports.
const MOST: usize = 5;

/// How much of a log is shown: its end.
const LOG_SHOWN: usize = 8_000;

/// A failed attempt, and whether other ports would help.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: StartError,
    pub(crate) port_taken: bool,
}

impl Failure {
    /// A server that ended, or did not serve in time, with what it wrote to its log.
    pub(crate) fn of_server(what: &'static str, reason: String, log: &Path) -> Failure {
        let log = fs::read(log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log[log.len().saturating_sub(LOG_SHOWN)..]).into_owned();
        let port_taken = log.contains("Address already in use");
        Failure {
            error: StartError::Failed { what, reason, log },
            port_taken,
        }
    }
}

impl From<StartError> for Failure {
    /// Nothing that other ports would help.
    fn from(error: StartError) -> Failure {
        Failure {
            error,
            port_taken: false,
        }
    }
}

/// Attempts, with other ports each time, until one succeeds or fails for another reason than a port.
pub(crate) fn repeat<T>(mut attempt: impl FnMut() -> Result<T, Failure>) -> Result<T, StartError> {
    let mut attempts = 1;
    loop {
        match attempt() {
            Ok(started) => return Ok(started),
            Err(failure) if failure.port_taken && attempts < MOST => attempts += 1,
            Err(failure) => return Err(failure.error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_taken_port_is_tried_again_and_not_for_ever() {
        for (port_taken, expected) in [(false, 1), (true, MOST)] {
            let mut attempts = 0;
            let failed = repeat::<()>(|| {
                attempts += 1;
                Err(Failure {
                    error: StartError::failed("a test", "no"),
                    port_taken,
                })
            });
            assert!(failed.is_err());
            assert_eq!(attempts, expected);
        }
    }
}
