//! What can go wrong with PostgreSQL, in sentences that say what to do. What follows from it is the callers' business.

use std::error::Error as _;

use plba_contracts::BoxError;
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

/// Why PostgreSQL did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    text: String,
    source: Option<BoxError>,
}

/// What is to be done about a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Two transactions were in each other's way: at once, again.
    Conflict,
    /// The connection is of no use any more; whether what was asked for was done is unknown.
    Connection,
    /// Nothing was done, and trying again later may help.
    Later,
    /// Nothing was done, and somebody has to act first.
    Setup,
    /// The statement was wrong.
    Statement,
}

impl Fault {
    pub(crate) fn new(kind: Kind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
            source: None,
        }
    }

    pub(crate) fn caused(kind: Kind, text: impl Into<String>, source: impl Into<BoxError>) -> Self {
        Self {
            kind,
            text: text.into(),
            source: Some(source.into()),
        }
    }

    /// The same fault once more, for another who waited for the same exchange.
    pub(crate) fn again(&self) -> Self {
        Self::new(self.kind, plba_contracts::describe(self))
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let Some(server) = error.as_db_error() else {
            return foreign(error);
        };
        let (kind, advice) = judge(server.code());
        let detail = server.detail().map(|detail| format!(" ({detail})")).unwrap_or_default();
        let advice = if advice.is_empty() {
            String::new()
        } else {
            format!("; {advice}")
        };
        Self::new(
            kind,
            format!(
                "PostgreSQL: {}{detail} [{}]{advice}",
                server.message(),
                server.code().code()
            ),
        )
    }
}

/// An error that no server sent.
fn foreign(error: Error) -> Fault {
    if error.is_closed() {
        return Fault::new(
            Kind::Connection,
            "the connection to PostgreSQL was closed; a new one is opened",
        );
    }
    let broken = error.source().is_some_and(|source| source.is::<std::io::Error>());
    if broken {
        return Fault::caused(
            Kind::Connection,
            "the connection to PostgreSQL broke; a new one is opened",
            error,
        );
    }
    // Values that don't fit a statement, or rows that don't fit what is read from them.
    Fault::caused(Kind::Statement, "PostgreSQL was not understood", error)
}

/// What an error code means, and what to do.
fn judge(code: &SqlState) -> (Kind, &'static str) {
    match code.code() {
        "40001" | "40P01" => (Kind::Conflict, "it is tried again"),
        "26000" => (
            Kind::Conflict,
            "somebody removed what this session had prepared; it is tried again without",
        ),
        "57P01" | "57P02" | "57P05" => (Kind::Connection, "the server ended the session; a new one is opened"),
        "25P03" => (
            Kind::Connection,
            "a transaction stood idle for too long; keep effects short",
        ),
        "57P03" => (Kind::Later, "the server is starting or stopping; it is tried again"),
        "53300" => (
            Kind::Later,
            "raise max_connections on the server, or lower `pool` and `handlers` of the location",
        ),
        "53100" => (
            Kind::Later,
            "the server's disk is full: make room there; nothing is lost, publishing waits",
        ),
        "53200" => (
            Kind::Later,
            "the server is out of memory: lower its load or raise its limits",
        ),
        "58030" => (Kind::Later, "the server's disk fails: look at it now"),
        "55P03" => (
            Kind::Later,
            "somebody holds a lock for long: look for it in pg_stat_activity",
        ),
        "57014" => (
            Kind::Later,
            "it took longer than `statement_timeout`: look for locks and load on the server",
        ),
        "25006" => (
            Kind::Connection,
            "this server is read-only, a standby or fenced: name the primary in the location, or several hosts",
        ),
        "28000" | "28P01" => (
            Kind::Setup,
            "check user and password of the location, and pg_hba.conf on the server",
        ),
        "3D000" => (Kind::Setup, "create the database first: CREATE DATABASE"),
        "42501" => (
            Kind::Setup,
            "grant the user CREATE on the database, or USAGE on the schema and all rights on what is in it",
        ),
        "42P01" | "42883" | "3F000" => (
            Kind::Setup,
            "tables or functions are missing: somebody removed them; start the program again to create them",
        ),
        code if code.starts_with("08") => (Kind::Connection, "a new connection is opened"),
        code if code.starts_with("53") => (Kind::Later, "the server lacks something: see its log"),
        code if code.starts_with("57") => (Kind::Later, "it is tried again"),
        _ => (Kind::Statement, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_by_itself_is_told_from_what_does_not() {
        for (code, kind) in [
            (SqlState::T_R_DEADLOCK_DETECTED, Kind::Conflict),
            (SqlState::T_R_SERIALIZATION_FAILURE, Kind::Conflict),
            (SqlState::INVALID_SQL_STATEMENT_NAME, Kind::Conflict),
            (SqlState::ADMIN_SHUTDOWN, Kind::Connection),
            (SqlState::READ_ONLY_SQL_TRANSACTION, Kind::Connection),
            (SqlState::TOO_MANY_CONNECTIONS, Kind::Later),
            (SqlState::DISK_FULL, Kind::Later),
            (SqlState::INVALID_PASSWORD, Kind::Setup),
            (SqlState::UNDEFINED_FUNCTION, Kind::Setup),
            (SqlState::SYNTAX_ERROR, Kind::Statement),
        ] {
            assert_eq!(judge(&code).0, kind, "{code:?}");
        }
    }
}
