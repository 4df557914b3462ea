//! A test's own part of a Redis server.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::config::DATABASES;
use super::server::Server;
use crate::blocking::blocking;
use crate::{CommandError, command};

/// A numbered database that no other test has. It keeps the server alive, and ends with it. Channels (PUBLISH) are the whole server's: tests
/// that use them put the [`name`](Self::name) into theirs.
#[derive(Debug)]
pub struct RedisDatabase {
    server: Arc<Server>,
    number: u32,
}

impl RedisDatabase {
    pub(super) fn next(server: &Arc<Server>) -> RedisDatabase {
        let number = server.databases.fetch_add(1, Ordering::Relaxed);
        assert!(
            number < DATABASES,
            "all {DATABASES} databases of this server are taken: start another server"
        );
        RedisDatabase {
            server: Arc::clone(server),
            number,
        }
    }

    /// `redis://127.0.0.1:PORT/NUMBER`, with the password if there is one.
    pub fn url(&self) -> String {
        self.server.url(self.number)
    }

    /// Its number, from 1.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// A name that no other test of the server has, `t` and the number: for prefixes of keys and channels.
    pub fn name(&self) -> String {
        format!("t{}", self.number)
    }

    /// Like [`RedisServer::cli`](super::RedisServer::cli), on this database.
    ///
    /// # Errors
    ///
    /// When the server refuses the command or can't be reached.
    pub async fn cli<A: AsRef<str>>(&self, arguments: impl IntoIterator<Item = A>) -> Result<String, CommandError> {
        let (server, number, arguments) = (Arc::clone(&self.server), self.number, command::owned(arguments));
        blocking(move || server.cli(number, &arguments)).await
    }
}
