//! What a location of configuration says, and how the database is named in messages.

use std::time::Duration;

use plba_contracts::config::Location;

use crate::config::on_or_off;
use crate::postgres::settings::PostgresSettings;

/// The parameters that mean something here; the others are those of queues.
const KNOWN: &[&str] = &[
    "create",
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

/// Reads a `postgres:` or `postgresql:` location of configuration; and whether a table that is missing is made.
pub(super) fn read(location: &Location) -> Result<(PostgresSettings, bool), String> {
    if let Some((name, _)) = location.query().find(|(name, _)| !KNOWN.contains(name)) {
        let known = KNOWN[..KNOWN.len() - 1].join(", ");
        return Err(format!(
            "configuration in \"postgres:\" knows no \"{name}\", but {known}"
        ));
    }
    let says = |wanted: &str| location.query().find(|(name, _)| *name == wanted);
    let create = says("create").map_or(Ok(false), |(_, value)| on_or_off(value))?;
    let theirs: Vec<String> = location
        .query()
        .filter(|(name, _)| *name != "create")
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let (place, _) = location.as_str().split_once('?').unwrap_or((location.as_str(), ""));
    let rest = Location::from(format!("{place}?{}", theirs.join("&")).as_str());
    let mut settings = PostgresSettings::from_location(&rest)?;
    if says("poll").is_none() {
        settings.poll = POLL;
    }
    if says("statement_timeout").is_none() {
        settings.statement_timeout = STATEMENT;
    }
    Ok((settings, create))
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
        read(&Location::from(location)).map(|(settings, _)| settings)
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
        for (location, create) in [("postgres://u@h/d?create=on&poll=9", true), ("postgres://u@h/d", false)] {
            assert_eq!(read(&Location::from(location)).unwrap().1, create);
        }
        for (location, says) in [
            (
                "postgres://u:secret@h/d?lease=30",
                "knows no \"lease\", but create, schema, listen, poll",
            ),
            ("postgres://u:secret@h/d?poll=soon", "poll takes a whole number"),
            ("postgres:///d", "names no host"),
            ("postgres://u@h/d?create=yes", "create is on or off, not \"yes\""),
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
