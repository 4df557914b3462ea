//! Tasks and the ledger in SQLite.

mod comeback;
mod completion;
mod config;
mod conformance;
mod disk;
mod faults;
mod ground;
mod history;
mod killed;
mod letters;
mod power;
mod several;
mod synced;
mod torture;
