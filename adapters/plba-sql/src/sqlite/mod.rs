//! What plba keeps in an SQLite file, for several processes on one machine: configuration, tasks, the ledger of their sources,
//! and leases, with the check by which the file refuses writes of a stale holder. A file on a network drive won't do, because SQLite's
//! locks don't hold there; it is refused.
//!
//! | what | where |
//! |---|---|
//! | the port's verbs | `queue/` |
//! | one writer, one transaction for all that waits | `inbox`, `writer`, `session` |
//! | the tables | `schema` |
//! | the log, the disk, the place | `upkeep`, `failure`, `place` |
//! | effects in the completion transaction | [`SqliteTransaction`], [`done_with`] |
//! | configuration | `config/` |
//!
//! # The tables
//!
//! `plba_tasks` has a row for each task in whatever state, so that one update is one atomic move; payloads above 1 KiB lie
//! in `plba_payloads`, for moves rewrite rows. `plba_queues` has the counts of each queue, which every transaction keeps in
//! step; `plba_uniques` the unique keys, `plba_key_rates` the rates of keys, `plba_consumers` the names of those who hold
//! leases, `plba_tick` the counter that orders everything. `plba_ledger` and `plba_sources` are the ledger's, `plba_leases`
//! the leases', `plba_config` the [configuration](crate::config)'s, and `plba_schema` tells the version of each part. The names of the columns, with what they mean, stand in
//! `schema.rs`. Everything else in the file is the application's.
//!
//! # What it survives
//!
//! With `synchronous=full` (the default) everything that was answered survives the loss of power; with `normal`, the end of
//! the process. `off` is refused. SQLite's own promises end where disks lie about what they have written.

mod backend;
mod config;
mod database;
mod failure;
mod fence;
mod inbox;
mod lease;
mod ledger;
mod place;
mod queue;
mod schema;
mod session;
mod settings;
mod signals;
mod state;
mod transaction;
mod upkeep;
mod writer;

pub use backend::SqliteBackend;
pub use config::SqliteConfigBackend;
pub use failure::OpenDatabaseError;
pub use fence::{FenceError, check_fence};
pub use lease::{OpenError, SqliteLease};
pub use ledger::SqliteLedger;
pub use queue::SqliteTaskQueue;
pub use settings::{SqliteSettings, Synchronous};
pub use transaction::{SqliteTransaction, done_with};

/// The message of a panic.
fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without a message")
        .to_owned()
}
