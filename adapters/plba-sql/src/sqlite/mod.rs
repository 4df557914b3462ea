//! What plba keeps in an SQLite file: leases, and the check by which a database refuses writes of a stale holder. For
//! several processes on one machine; a file on a network drive won't do, because SQLite's locks don't hold there.

mod fence;
mod lease;
mod schema;

pub use fence::{FenceError, check_fence};
pub use lease::{OpenError, SqliteLease};
