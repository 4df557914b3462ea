//! Tasks and the ledger in SQLite.

mod conformance;
mod ground;
