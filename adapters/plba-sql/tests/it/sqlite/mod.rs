//! Tasks and the ledger in SQLite.

mod comeback;
mod completion;
mod conformance;
mod faults;
mod ground;
mod killed;
mod several;
mod torture;
