//! PostgreSQL 15 or newer. What may be asked of a server is in `options`, its configuration in `config`, how new data come
//! about in `template`, a test's own part of a shared server in `database`.

mod config;
mod database;
mod options;
mod programs;
mod ready;
mod server;
mod template;

use std::path::Path;
use std::sync::{Arc, OnceLock};

use crate::blocking::blocking;
use crate::certificate::Validity;
use crate::served::{Served, lifecycle};
use crate::{CommandError, NotRun, StartError, command};

pub use database::PostgresDatabase;
pub use options::PostgresOptions;

use server::Server;

const WHAT: &str = "PostgreSQL";
const MISSING: NotRun = NotRun {
    what: WHAT,
    install: "apt-get install postgresql",
};

/// The superuser; the only user until a test makes another.
const USER: &str = "plba";
const PASSWORD: &str = "secret";

/// The database that is there from the start.
const DATABASE: &str = "postgres";

/// A PostgreSQL server on 127.0.0.1, with its own directory and port, which it keeps through every end and start.
///
/// Dropping it ends it at once and removes its directory. All methods may be called from several tasks; operations on
/// the process come one after the other. A dropped operation is done to its end in the background.
#[derive(Debug)]
pub struct PostgresServer {
    server: Arc<Server>,
}

impl PostgresServer {
    /// Starts a server with the default options and waits until it takes connections. The first start in a process makes
    /// the data that the others copy, and takes a second longer.
    ///
    /// # Errors
    ///
    /// [`StartError::NotRun`] when PostgreSQL isn't installed; [`StartError::Failed`], with the server's log, otherwise.
    ///
    /// # Cancel safety
    ///
    /// A dropped start ends in the background, and what it started ends with it. Real time is used throughout, so a
    /// paused tokio clock neither hastens nor fails a start.
    pub async fn start() -> Result<PostgresServer, StartError> {
        PostgresServer::start_with(PostgresOptions::default()).await
    }

    /// Like [`start`](Self::start), with these options.
    ///
    /// # Errors
    ///
    /// Those of [`start`](Self::start). A setting that PostgreSQL doesn't know is one of them.
    pub async fn start_with(options: PostgresOptions) -> Result<PostgresServer, StartError> {
        blocking(move || PostgresServer::blocking_start(options)).await
    }

    /// The server that all tests of this process share, started by the first one; it ends with the process. For tests
    /// that neither end it nor change its settings and keep to a [`fresh_database`](Self::fresh_database). Its data lie in
    /// memory where there is room, and 300 may connect.
    ///
    /// # Errors
    ///
    /// Those of [`start`](Self::start), the same ones at each call.
    pub async fn shared() -> Result<&'static PostgresServer, StartError> {
        static SHARED: OnceLock<Result<PostgresServer, StartError>> = OnceLock::new();
        let options = PostgresOptions {
            in_memory: true,
            max_connections: 300,
            ..PostgresOptions::default()
        };
        blocking(|| SHARED.get_or_init(|| PostgresServer::blocking_start(options)))
            .await
            .as_ref()
            .map_err(Clone::clone)
    }

    fn blocking_start(options: PostgresOptions) -> Result<PostgresServer, StartError> {
        let server = Arc::new(Server::start(options)?);
        Ok(PostgresServer { server })
    }

    /// The port, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.server.port
    }

    /// The superuser's name.
    pub fn user(&self) -> &str {
        USER
    }

    /// The superuser's password.
    pub fn password(&self) -> &str {
        PASSWORD
    }

    /// `postgres://USER:PASSWORD@127.0.0.1:PORT/postgres`: the database that is there from the start.
    pub fn url(&self) -> String {
        self.server.url(DATABASE)
    }

    /// Makes an empty database of its own name, dropped with the value.
    ///
    /// # Errors
    ///
    /// When the server can't be reached.
    pub async fn fresh_database(&self) -> Result<PostgresDatabase, CommandError> {
        let server = Arc::clone(&self.server);
        blocking(move || PostgresDatabase::create(&server)).await
    }

    /// What `psql` prints with these arguments, without the last line break: rows as lines, columns separated by `|`. It
    /// connects over a socket, without a password, and stops at the first error.
    ///
    /// # Errors
    ///
    /// When the server refuses a statement or can't be reached.
    pub async fn cli<A: AsRef<str>>(&self, arguments: impl IntoIterator<Item = A>) -> Result<String, CommandError> {
        let (server, arguments) = (Arc::clone(&self.server), command::owned(arguments));
        blocking(move || server.cli(DATABASE, &arguments)).await
    }

    /// What one statement prints in the database `postgres`.
    ///
    /// # Errors
    ///
    /// Those of [`cli`](Self::cli).
    pub async fn query(&self, statement: &str) -> Result<String, CommandError> {
        self.cli(["-c", statement]).await
    }

    /// Ends all sessions (`pg_terminate_backend`) and says how many they were: their connections close, and the server
    /// takes new ones.
    ///
    /// # Errors
    ///
    /// When the server can't be reached.
    pub async fn terminate_backends(&self) -> Result<usize, CommandError> {
        let server = Arc::clone(&self.server);
        blocking(move || terminate(&server, None)).await
    }
}

lifecycle!(PostgresServer);

fn terminate(server: &Server, database: Option<&str>) -> Result<usize, CommandError> {
    let only = database
        .map(|name| format!(" AND datname = '{name}'"))
        .unwrap_or_default();
    let ended = server.execute(&format!(
        "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity \
         WHERE backend_type = 'client backend' AND pid <> pg_backend_pid(){only}"
    ))?;
    Ok(ended.trim().parse().unwrap_or(0))
}
