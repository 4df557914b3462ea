//! Why a server is not there, or a question to it failed. What a test does about it is in `require`.

use std::io;

/// The program is not installed on this machine, so the test that needs it was not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} is not installed: {install}")]
pub struct NotRun {
    /// The missing server, as people call it.
    pub what: &'static str,
    /// The command that installs it.
    pub install: &'static str,
}

/// Why a server did not start.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StartError {
    /// Nothing is wrong except that the server isn't installed.
    #[error(transparent)]
    NotRun(#[from] NotRun),
    /// The server is installed and did not come up. That is a fault, whether servers are required or not.
    #[error("{what} did not start: {reason}\n{log}")]
    Failed {
        /// The server.
        what: &'static str,
        /// What went wrong.
        reason: String,
        /// The last lines that the server wrote, empty when there are none.
        log: String,
    },
}

impl StartError {
    pub(crate) fn failed(what: &'static str, reason: impl Into<String>) -> StartError {
        StartError::Failed {
            what,
            reason: reason.into(),
            log: String::new(),
        }
    }

    /// An error of the operating system on the way; `doing` continues the sentence "could not …".
    pub(crate) fn io(what: &'static str, doing: &str, error: &io::Error) -> StartError {
        StartError::failed(what, format!("could not {doing}: {error}"))
    }
}

/// Why a question to a server, asked through its own command line program, has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{program} {arguments}` ended with {status}: {said}")]
pub struct CommandError {
    /// The program that asked.
    pub program: &'static str,
    /// What it was asked, without the options that name the server.
    pub arguments: String,
    /// How it ended, or that it did not run.
    pub status: String,
    /// What it wrote, on standard error and standard output.
    pub said: String,
}
