//! Redis as a backend: a task queue on streams with consumer groups, the ledger of sources beside it, and leases. What a
//! task means, and what a queue promises, lives in `plba-tasks`; whom TLS trusts and how one connects, in `plba-net`.
#![doc = include_str!("schema.md")]

mod backend;
mod check;
mod failure;
mod identity;
mod keys;
mod lease;
mod ledger;
mod link;
mod pack;
mod queue;
mod record;
mod reply;
mod script;
mod settings;
mod status;

pub use backend::RedisBackend;
pub use lease::{FenceError, RedisLease};
pub use ledger::RedisLedger;
pub use link::OpenError;
pub use queue::RedisTaskQueue;
pub use settings::{RedisSettings, Site};
pub use status::RedisStatus;
