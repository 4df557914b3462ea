//! Queues, ledgers and leases on real Redis servers: the suites of their ports, and what only Redis can go through.
#![allow(clippy::unwrap_used, reason = "a panic in a test is its report, in helpers too")]

mod comeback;
mod conformance;
mod durability;
mod failures;
mod fence;
mod letters;
mod native;
mod network;
mod packs;
mod place;
mod several;
mod tls;
mod torture;
