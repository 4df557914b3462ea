//! What plba keeps in PostgreSQL: tasks, the ledger of their sources, leases, and configuration. What they promise lives in
//! the task toolkit and the contracts; the tables and functions in `sql/`.
//!
//! # The schema
//!
//! One schema, `plba` unless the location says otherwise, made and brought up to date when it is opened. Times are
//! microseconds since 1970 by the server's clock.
//!
//! | table | a row is | |
//! |---|---|---|
//! | `tasks` | a task, in whatever state | `place` says where it is: see below |
//! | `queues` | a named queue | paused until, who is to be told, counts of rules that are in use |
//! | `grants` | tasks that were handed out together | looked at once when their lease has run out |
//! | `holders` | a consumer | for people |
//! | `uniques`, `key_states` | a unique key that is taken; a key with rules | |
//! | `ledger`, `cursors` | what a source took in; where it has got to | |
//! | `leases` | a lease of a singleton worker | |
//! | `plba_schema` | a migration | |
//! | `config`, `config_schema` | a value of the [configuration](crate::config), if it is kept there; a migration of its own | |
//!
//! `tasks.place` is a region (suspects, three priorities, delayed, held, dead) and an order in it; one index over queue and
//! place finds what is ready, what is due and what is dead. A task that is leased keeps its place: handing out changes
//! columns that no index has, which PostgreSQL does within the page (HOT), and ending it deletes the row. The table is
//! filled by half for that, and vacuumed early. A place is never used twice, and so is the fence of a delivery.
//!
//! Every verb is one function call, so that a connection that is lost leaves nothing open, and a pooler in transaction mode
//! does not matter (`?listen=off`). In sessions of our own what comes again is prepared. Locks are taken in one order:
//! buckets of keys (advisory), queues whose leases are counted, rows by their places, new ids in their order.

mod backend;
mod check;
mod client;
mod config;
mod fault;
mod lease;
mod ledger;
mod link;
mod pool;
mod prepared;
mod queue;
mod schema;
mod settings;
mod tls;
mod transaction;

pub use self::backend::PostgresBackend;
pub use self::client::{PostgresClient, is_passing};
pub use self::config::PostgresConfigBackend;
pub use self::lease::{FenceError, PostgresLease, check_fence};
pub use self::ledger::PostgresLedger;
pub use self::queue::PostgresTaskQueue;
pub use self::settings::PostgresSettings;
pub use self::transaction::{PostgresTransaction, done_with, transaction};
/// The PostgreSQL client, whose values and rows [`PostgresTransaction`] takes and gives.
pub use tokio_postgres;
