//! The real servers, as tests get them: started, ended in each way, started again, and gone with the test process.
#![expect(clippy::unwrap_used, reason = "a panic in a test is its report, in helpers too")]

mod dovecot;
mod postgres;
mod processes;
mod redis;
