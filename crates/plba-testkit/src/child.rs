//! A test as a child process: the very program that runs the tests, run again with one of them, which is the child's life.
//! Nothing more has to be built. What a child is told comes in its environment; without that, such a test does nothing.

use std::process::{Command, Stdio};

/// A command that runs the test with this full name and no other, without input; what it prints is shown as it comes.
///
/// # Panics
/// When the system does not say which program this is.
pub fn command(test: &str) -> Command {
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => panic!("nobody knows which program this is: {error}"),
    };
    let mut command = Command::new(program);
    command
        .args(["--exact", test, "--nocapture", "--test-threads=1", "--quiet"])
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null());
    command
}
