//! What plba keeps in SQL databases: leases in SQLite, and the check by which a database refuses writes of a stale holder.
//! What a lease is for lives in the contracts; which worker runs under one is the runtime's.

mod fence;
mod lease;
mod schema;

pub use fence::{FenceError, check_fence};
pub use lease::{OpenError, SqliteLease};

/// The SQLite library, whose transactions [`check_fence`] takes: an application that writes with another version of it
/// can't pass its transactions here.
pub use rusqlite;
