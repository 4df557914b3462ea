//! Redis 7: one server ([`RedisServer`]), a primary with replicas and sentinels ([`RedisSentinels`]), a cluster
//! ([`RedisCluster`]). What may be asked of a server is in `options`, its configuration file in `config`, the first PING
//! in `ready`, a test's own part of a shared server in `database`.

mod cluster;
mod config;
mod database;
mod options;
mod ready;
mod sentinels;
mod server;

use std::path::Path;
use std::sync::{Arc, OnceLock};

use crate::blocking::blocking;
use crate::certificate::Validity;
use crate::served::{Served, lifecycle};
use crate::{CommandError, StartError, command};

pub use cluster::RedisCluster;
pub use database::RedisDatabase;
pub use options::{AppendOnly, RedisOptions};
pub use sentinels::RedisSentinels;

use config::Role;
use server::Server;

/// A Redis server on 127.0.0.1, with its own directory and port, which it keeps through every end and start.
///
/// Dropping it kills it and removes its directory. All methods may be called from several tasks; operations on the
/// process come one after the other. A dropped operation is done to its end in the background.
#[derive(Debug)]
pub struct RedisServer {
    server: Arc<Server>,
}

impl RedisServer {
    /// Starts a server with the default options and waits until it answers.
    ///
    /// # Errors
    ///
    /// [`StartError::NotRun`] when Redis isn't installed; [`StartError::Failed`], with the server's log, otherwise.
    ///
    /// # Cancel safety
    ///
    /// A dropped start ends in the background, and what it started ends with it. Real time is used throughout, so a
    /// paused tokio clock neither hastens nor fails a start.
    pub async fn start() -> Result<RedisServer, StartError> {
        RedisServer::start_with(RedisOptions::default()).await
    }

    /// Like [`start`](Self::start), with these options.
    ///
    /// # Errors
    ///
    /// Those of [`start`](Self::start). A setting that Redis doesn't know is one of them.
    pub async fn start_with(options: RedisOptions) -> Result<RedisServer, StartError> {
        RedisServer::in_role(options, Role::Alone).await
    }

    /// The server that all tests of this process share, started by the first one; it ends with the process. For tests
    /// that neither end it nor change its settings and keep to a [`fresh_database`](Self::fresh_database). Its data lie in
    /// memory where there is room.
    ///
    /// # Errors
    ///
    /// Those of [`start`](Self::start), the same ones at each call.
    pub async fn shared() -> Result<&'static RedisServer, StartError> {
        static SHARED: OnceLock<Result<RedisServer, StartError>> = OnceLock::new();
        let options = RedisOptions {
            in_memory: true,
            ..RedisOptions::default()
        };
        blocking(|| SHARED.get_or_init(|| RedisServer::blocking_start(options, Role::Alone)))
            .await
            .as_ref()
            .map_err(Clone::clone)
    }

    async fn in_role(options: RedisOptions, role: Role) -> Result<RedisServer, StartError> {
        blocking(move || RedisServer::blocking_start(options, role)).await
    }

    fn blocking_start(options: RedisOptions, role: Role) -> Result<RedisServer, StartError> {
        let server = Arc::new(Server::start(options, role)?);
        Ok(RedisServer { server })
    }

    /// The port, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.server.ports.plain
    }

    /// `redis://127.0.0.1:PORT/0`, with the password if there is one.
    pub fn url(&self) -> String {
        self.server.url(0)
    }

    /// The same over TLS, `rediss://localhost:PORT/0`, if that was asked for.
    pub fn tls_url(&self) -> Option<String> {
        self.server.tls_url()
    }

    /// An empty numbered database (`SELECT n`) that nobody else got from this server. A cluster's node has none.
    ///
    /// # Panics
    ///
    /// When all of the server's 1023 databases are taken.
    pub fn fresh_database(&self) -> RedisDatabase {
        RedisDatabase::next(&self.server)
    }

    /// What `redis-cli` prints for a command on database 0, without the last line break. An error reply is an error.
    ///
    /// # Errors
    ///
    /// When the server refuses the command or can't be reached.
    pub async fn cli<A: AsRef<str>>(&self, arguments: impl IntoIterator<Item = A>) -> Result<String, CommandError> {
        let (server, arguments) = (Arc::clone(&self.server), command::owned(arguments));
        blocking(move || server.cli(0, &arguments)).await
    }
}

lifecycle!(RedisServer);
