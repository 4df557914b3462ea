//! What plba keeps in SQL databases, one module for each of them. What a lease is for lives in the contracts, what a task
//! queue promises in the task toolkit; which worker runs under a lease, and what becomes of configuration, is the runtime's.

pub mod config;
pub mod postgres;
pub mod sqlite;

pub use sqlite::{FenceError, OpenError, SqliteLease, check_fence};

/// The SQLite library, whose transactions [`check_fence`] takes: an application that writes with another version of it
/// can't pass its transactions here.
pub use rusqlite;
