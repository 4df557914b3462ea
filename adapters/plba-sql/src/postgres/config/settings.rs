//! What a location of configuration says, and how the database is named in messages.

use std::time::Duration;

use plba_contracts::config::Location;

use crate::postgres::settings::PostgresSettings;

/// The parameters that mean something here; the others are those of queues.
const KNOWN: &[&str] = &[
    "schema",
    "listen",
    "poll",
    "statement_timeout",
    "sslmode",
    "sslrootcert",
    "application_name",
    "options",
    "host",
];

/// How often it is looked where the server can't tell.
const POLL: Duration = Duration::from_secs(5);

/// How long a statement may take: its error is to come before the one of whoever waits for it.
const STATEMENT: Duration = Duration::from_secs(4);

/// Reads a `postgres:` or `postgresql:` location of configuration.
pub(super) fn read(location: &Location) -> Result<PostgresSettings, String> {
    if let Some((name, _)) = location.query().find(|(name, _)| !KNOWN.contains(name)) {
        let known = KNOWN[..KNOWN.len() - 1].join(", ");
        return Err(format!(
            "configuration in \"postgres:\" knows no \"{name}\", but {known}"
        ));
    }
    let mut settings = PostgresSettings::from_location(location)?;
    let says = |wanted: &str| location.query().any(|(name, _)| name == wanted);
    if !says("poll") {
        settings.poll = POLL;
    }
    if !says("statement_timeout") {
        settings.statement_timeout = STATEMENT;
    }
    Ok(settings)
}

/// The database for people: hosts and name, never user or password.
pub(super) fn name(settings: &PostgresSettings) -> String {
    let server = &settings.server;
    let database = server.get_dbname().or(server.get_user()).unwrap_or("postgres");
    format!("PostgreSQL {}/{database}", settings.site())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(location: &str) -> Result<PostgresSettings, String> {
        read(&Location::from(location))
    }

    #[test]
    fn what_a_location_says_is_read_and_what_is_for_queues_is_refused() {
        let settings = of("postgres://u:secret@db.example,10.0.0.2:5433/shop?schema=c&poll=250").unwrap();
        assert_eq!(
            (settings.schema.as_str(), settings.poll),
            ("c", Duration::from_millis(250))
        );
        assert_eq!(settings.statement_timeout, STATEMENT);
        assert_eq!(of("postgres://u@h/d").unwrap().poll, POLL);
        for (location, says) in [
            (
                "postgres://u:secret@h/d?lease=30",
                "knows no \"lease\", but schema, listen, poll",
            ),
            ("postgres://u:secret@h/d?poll=soon", "poll takes a whole number"),
            ("postgres:///d", "names no host"),
        ] {
            let refused = of(location).unwrap_err();
            assert!(refused.contains(says), "{refused}");
            assert!(!refused.contains("secret"), "{refused}");
        }
    }

    #[test]
    fn the_name_has_neither_user_nor_password() {
        let settings = of("postgres://user:secret@db.example:5433,10.0.0.2:5434/shop").unwrap();
        assert_eq!(name(&settings), "PostgreSQL db.example:5433,10.0.0.2:5434/shop");
    }
}
