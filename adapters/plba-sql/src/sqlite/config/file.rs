//! The file: opened for reading, its table made if it was never there, its rows read whole, and a mark of what they say.
//! Everything here blocks.

use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::path::Path;
use std::time::Duration;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::config::{MAXIMUM_BYTES, MAXIMUM_KEY, MAXIMUM_ROWS, MAXIMUM_VALUE, Row, SHOWN};
use crate::sqlite::database::create_private;
use crate::sqlite::failure::Failure;
use crate::sqlite::schema::{self, MigrateError, State};

/// How long a call waits for somebody who keeps the file locked.
const BUSY: Duration = Duration::from_secs(2);

/// All rows and their mark, as they were at one moment. With `create`, what is missing is made.
pub(super) fn read(path: &Path, create: bool) -> Result<(u64, Vec<Row>), Failure> {
    if !path.exists() {
        if !create {
            return Err(missing(path, "no such file"));
        }
        create_private(path).map_err(|error| {
            let path = path.display();
            Failure::new(format!(
                "{path} can't be made: {error}; check that its directory exists and is writable"
            ))
        })?;
        tracing::warn!(file = %path.display(), "there was no such file: configuration begins with an empty one");
    }
    let mut connection = open(path)?;
    make(&mut connection, path, create)?;
    rows(&connection, path)
}

/// A connection that only reads. It may write what a reader has to: undoing what somebody left who was killed.
pub(super) fn open(path: &Path) -> Result<Connection, Failure> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = Connection::open_with_flags(path, flags).and_then(|connection| {
        connection.busy_timeout(BUSY)?;
        connection.pragma_update(None, "query_only", true)?;
        Ok(connection)
    });
    opened.map_err(|error| explain(path, &error))
}

/// Finds that the table is there, brings it up to date, or makes it.
fn make(connection: &mut Connection, path: &Path, create: bool) -> Result<(), Failure> {
    let failed = |error: MigrateError| match error {
        MigrateError::Database(error) => explain(path, &error),
        MigrateError::Newer { found, known } => Failure::new(format!(
            "{}: plba_config is of version {found}, this program knows up to {known}; run the newer program",
            path.display()
        )),
    };
    let found = schema::state(connection, schema::CONFIG).map_err(failed)?;
    match found {
        State::Current => return Ok(()),
        // Made without being asked for, it would be empty: all that it said would be gone without a word.
        State::Missing if !create => return Err(missing(path, "no table plba_config in it")),
        State::Missing | State::Older => {}
    }
    let reading = |connection: &Connection, only: bool| connection.pragma_update(None, "query_only", only);
    reading(connection, false).map_err(|error| explain(path, &error))?;
    schema::migrate(connection, schema::CONFIG).map_err(failed)?;
    reading(connection, true).map_err(|error| explain(path, &error))
}

/// The rows, no more than one beyond what is allowed, and their mark.
pub(super) fn rows(connection: &Connection, path: &Path) -> Result<(u64, Vec<Row>), Failure> {
    let mut rows = Vec::new();
    let mut read = || -> rusqlite::Result<u64> {
        let (mut mark, mut total) = (DefaultHasher::new(), 0);
        let mut statement = connection.prepare(
            "SELECT key, octet_length(value), CASE WHEN octet_length(value) <= ?1 THEN value END,
                 substr(changed_by, 1, ?2), changed_at, substr(note, 1, ?2)
             FROM plba_config ORDER BY key LIMIT ?3",
        )?;
        let mut found = statement.query((MAXIMUM_VALUE as i64, SHOWN as i64, MAXIMUM_ROWS as i64 + 1))?;
        while let Some(found) = found.next()? {
            let row = Row {
                key: text(found.get_ref(0)?, MAXIMUM_KEY + 1).unwrap_or_default(),
                bytes: u64::try_from(found.get::<_, Option<i64>>(1)?.unwrap_or(0)).unwrap_or(0),
                value: text(found.get_ref(2)?, MAXIMUM_VALUE),
                by: text(found.get_ref(3)?, SHOWN * 4),
                at: text(found.get_ref(4)?, SHOWN),
                note: text(found.get_ref(5)?, SHOWN * 4),
            };
            total += row.value.as_ref().map_or(0, String::len) + row.key.len();
            (&row.key, &row.value, row.bytes).hash(&mut mark);
            (&row.by, &row.at, &row.note).hash(&mut mark);
            rows.push(row);
            if total > MAXIMUM_BYTES {
                break;
            }
        }
        Ok(mark.finish())
    };
    let mark = read().map_err(|error| explain(path, &error))?;
    Ok((mark, rows))
}

/// What a column has, as text of so many bytes at most.
fn text(found: ValueRef<'_>, limit: usize) -> Option<String> {
    match found {
        ValueRef::Null => None,
        ValueRef::Integer(number) => Some(number.to_string()),
        ValueRef::Real(number) => Some(number.to_string()),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
            let bytes = bytes.get(..limit).unwrap_or(bytes);
            Some(String::from_utf8_lossy(bytes).into_owned())
        }
    }
}

/// How often others have changed the file, as this connection counts it.
pub(super) fn version(connection: &Connection, path: &Path) -> Result<i64, Failure> {
    let read = connection.query_row("PRAGMA data_version", [], |row| row.get(0));
    read.map_err(|error| explain(path, &error))
}

fn missing(path: &Path, what: &str) -> Failure {
    Failure::new(format!(
        "{}: there is {what}; put it back, or, to begin with an empty one, start once with create=on in the location",
        path.display()
    ))
}

/// What to do about an error, where it is something else for configuration than for tasks.
fn explain(path: &Path, error: &rusqlite::Error) -> Failure {
    let path_shown = path.display();
    let said = error.to_string();
    if said.contains("no such table") {
        return Failure::new(format!(
            "{path_shown}: {said}; restore it from a backup, or, to begin with an empty one, DELETE FROM plba_schema WHERE \
             part = 'config' and start once with create=on in the location"
        ));
    }
    if said.contains("no such column") {
        return Failure::new(format!(
            "{path_shown}: {said}; add it again: plba_config has key, value, changed_by, changed_at, note"
        ));
    }
    match error.sqlite_error_code() {
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly) => Failure::new(format!(
            "{path_shown}: {error}; check the rights on it and its directory: who may only read needs a table that was made \
             before, in a file whose journal_mode is not WAL"
        )),
        _ => Failure::of(path, error),
    }
}
