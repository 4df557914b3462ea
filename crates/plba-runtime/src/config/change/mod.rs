//! Changing the configuration of a process that runs: what changed. How it is read and checked lives beside.

mod diff;

pub use diff::{ConfigChange, ConfigDiff, MAXIMUM_CHANGES};
