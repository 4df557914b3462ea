//! The toolkit of tasks under its own test kit: the reference implementations against the conformance suites, workers and
//! sources from end to end, the ledger under cuts, and the proxy that makes networks go wrong.
#![allow(clippy::unwrap_used, reason = "a panic in a test is its report")]

mod batches;
mod conformance;
mod cost;
mod cuts;
mod endpoints;
mod ends;
mod exchanges;
mod faulty;
mod proxy;
mod schedules;
mod singleton;
mod singleton_faults;
mod sources;
mod waiting;
mod workers;
