//! plba: a runtime for business applications that run for years, pull work from mailboxes, webhooks, schedules and
//! queues, and must not lose any of it.
//!
//! An application brings an [`ApplicationModule`](application::ApplicationModule), or just a closure, and its business
//! routines; the platform owns lifecycle, supervision, configuration, logging, health, traces and the control plane.
//!
//! ```no_run
//! use plba::prelude::*;
//!
//! fn main() -> ExitCode {
//!     plba::app("pulse", |app| {
//!         app.worker(worker::every("beat", secs(1), || async {
//!             info!("beat");
//!             Ok(())
//!         }));
//!         Ok(())
//!     })
//!     .run()
//! }
//! ```
//!
//! Here live the public namespace, the default wiring and the command line. Contracts live in `plba-contracts`, the
//! machinery in `plba-runtime`, the task toolkit in `plba-tasks`, and each outside thing in an adapter of its own.
//!
//! | feature | what it switches in |
//! |---|---|
//! | `http` (default) | the control plane over HTTP |
//! | `tasks` | sources, queues and handlers of tasks ([`tasks`]) |
//! | `mail` | Maildir and IMAP sources ([`mail`]) |
//! | `redis` | queues, ledgers of sources and leases on Redis ([`redis`]) |
//! | `sql` | queues, ledgers of sources and leases in SQLite and PostgreSQL ([`sql`]) |

pub mod app;
mod command;
pub mod prelude;
mod wiring;

pub use app::{App, app};
pub use plba_contracts::{
    BoxError, application, clock, config, control, describe, health, metrics, services, stop, trace,
};

#[cfg(feature = "http")]
pub use plba_http as http;
#[cfg(feature = "mail")]
pub use plba_mail as mail;
#[cfg(feature = "redis")]
pub use plba_redis as redis;
#[cfg(feature = "sql")]
pub use plba_sql as sql;
#[cfg(feature = "tasks")]
pub use plba_tasks as tasks;
#[cfg(feature = "tasks")]
pub use wiring::queue_backends;

/// Workers: the contract, and builders that make workers of plain functions.
pub mod worker {
    pub use plba_contracts::worker::*;
    pub use plba_runtime::worker::*;
}

/// Child processes, which end with the worker that started them.
pub mod process {
    pub use plba_runtime::children::*;
}

/// Leases, and workers that run on one instance of many.
pub mod lease {
    pub use plba_contracts::lease::*;
    pub use plba_runtime::lease::*;
    pub use plba_runtime::singleton::*;
}
