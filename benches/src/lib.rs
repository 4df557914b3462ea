//! What the benches share: results beside a peer, and how they are reported. What is measured lives with each bench.

pub mod pairs;
pub mod report;
