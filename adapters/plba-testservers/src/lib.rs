//! Real servers for tests and for trying things by hand: on loopback, on random ports, in a temporary directory, as an
//! ordinary user. No containers. Each test starts its own and drops it, or takes a database of its own on the one that the
//! tests of a process share ([`PostgresServer::shared`], [`RedisServer::shared`]).
//!
//! What lives here: one folder per server ([`Dovecot`], [`Exim`], [`RedisServer`], [`PostgresServer`]) and, in the root, the skeleton
//! that they share: find the program (`program`), drop privileges (`account`), make a directory (`directory`), pick ports
//! (`port`, `attempt`), make certificates (`certificate`), run, end and pause processes (`served`, `post` for mail, `process`, `slot`), wait
//! until ready (`wait`), ask through the server's own client (`command`).
//!
//! What does not: clients, protocols under test, fakes and fault injection (those are `plba-testkit`).
//!
//! A server that this machine can't run is *not run*, never passed:
//!
//! ```no_run
//! # async fn test() {
//! use plba_testservers::{Dovecot, require};
//!
//! let Some(dovecot) = require(Dovecot::start().await) else { return };
//! dovecot.deliver(dovecot.user(), b"Subject: order\r\n\r\n2 x A-1\r\n").expect("a message in the mailbox");
//! # }
//! ```
//!
//! A server ends with the value that started it: dropping it kills the processes it started, by id, and removes its
//! directory. When the test process itself dies, a guard process does the same.

mod account;
mod attempt;
mod blocking;
mod certificate;
mod command;
mod directory;
mod dovecot;
mod error;
mod exim;
mod port;
mod post;
mod postgres;
mod process;
mod program;
mod redis;
mod require;
mod served;
mod slot;
mod wait;

pub use certificate::Validity;
pub use dovecot::{Dovecot, StoredMessage};
pub use error::{CommandError, NotRun, StartError};
pub use exim::Exim;
pub use postgres::{PostgresDatabase, PostgresOptions, PostgresServer};
pub use redis::{AppendOnly, RedisCluster, RedisDatabase, RedisOptions, RedisSentinels, RedisServer};
pub use require::require;
