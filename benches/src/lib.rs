//! What the benches share: a load, workers for it, results beside a peer, and how they are reported. What is measured lives
//! with each bench.

pub mod load;
pub mod pairs;
pub mod report;
pub mod team;
