//! A test's own database on a PostgreSQL server.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::server::Server;
use crate::blocking::blocking;
use crate::{CommandError, command};

/// An empty database that no other test has. It keeps the server alive. Dropping it drops the database, whoever is
/// connected.
#[derive(Debug)]
pub struct PostgresDatabase {
    server: Arc<Server>,
    name: String,
}

impl PostgresDatabase {
    pub(super) fn create(server: &Arc<Server>) -> Result<PostgresDatabase, CommandError> {
        let number = server.databases.fetch_add(1, Ordering::Relaxed);
        let name = format!("t{number}");
        // Made from `template0`: nobody is ever connected to that one, which would forbid it.
        server.execute(&format!("CREATE DATABASE {name} TEMPLATE template0"))?;
        Ok(PostgresDatabase {
            server: Arc::clone(server),
            name,
        })
    }

    /// `postgres://USER:PASSWORD@127.0.0.1:PORT/NAME`.
    pub fn url(&self) -> String {
        self.server.url(&self.name)
    }

    /// Its name, which no other test of the server has.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Like [`PostgresServer::cli`](super::PostgresServer::cli), on this database.
    ///
    /// # Errors
    ///
    /// When the server refuses the statement or can't be reached.
    pub async fn cli<A: AsRef<str>>(&self, arguments: impl IntoIterator<Item = A>) -> Result<String, CommandError> {
        let (server, name, arguments) = (Arc::clone(&self.server), self.name.clone(), command::owned(arguments));
        blocking(move || server.cli(&name, &arguments)).await
    }

    /// What one statement prints: rows as lines, columns separated by `|`.
    ///
    /// # Errors
    ///
    /// Those of [`cli`](Self::cli).
    pub async fn query(&self, statement: &str) -> Result<String, CommandError> {
        self.cli(["-c", statement]).await
    }

    /// Ends all sessions on this database and says how many they were.
    ///
    /// # Errors
    ///
    /// When the server can't be reached.
    pub async fn terminate_backends(&self) -> Result<usize, CommandError> {
        let (server, name) = (Arc::clone(&self.server), self.name.clone());
        blocking(move || super::terminate(&server, Some(&name))).await
    }
}

impl Drop for PostgresDatabase {
    fn drop(&mut self) {
        // Blocks for some milliseconds. A paused server would not answer; an ended one takes the database with it.
        if self.server.ground.slot.is_running() && !self.server.ground.slot.is_paused() {
            let _ = self
                .server
                .execute(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
        }
    }
}
