//! What plba keeps in SQL databases, under the suites of the ports and under the faults of disks and processes.
#![allow(clippy::unwrap_used, reason = "a panic in a test is its report, in helpers too")]

mod configured;
mod leases;
mod letters;
mod mounted;
mod postgres;
mod sqlite;
