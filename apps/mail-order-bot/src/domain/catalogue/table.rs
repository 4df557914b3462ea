//! A catalogue from a table (or view) in an SQLite database, opened read-only.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};

use super::row::Heading;
use super::{Catalogue, CatalogueBuilder, CatalogueError};

pub(super) fn load(path: &str, table: &str) -> Result<Catalogue, CatalogueError> {
    let place = format!("{path}, table {table}");
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if table.is_empty() || !table.chars().all(plain) {
        let problem = "a table's name has only letters, digits and `_`".to_owned();
        return Err(CatalogueError::Row { place, problem });
    }
    let failed = |source| CatalogueError::Table {
        place: place.clone(),
        source,
    };

    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    // The name was checked above: identifiers can't be bound as parameters.
    let mut statement = connection
        .prepare(&format!("SELECT * FROM \"{table}\""))
        .map_err(failed)?;
    let heading = Heading::new(statement.column_names()).map_err(|problem| CatalogueError::Row {
        place: place.clone(),
        problem,
    })?;
    let columns = statement.column_count();

    let mut builder = CatalogueBuilder::new(heading);
    let mut rows = statement.query([]).map_err(failed)?;
    let mut number = 0_u64;
    while let Some(row) = rows.next().map_err(failed)? {
        number += 1;
        let fields: Result<Vec<String>, rusqlite::Error> =
            (0..columns).map(|column| row.get_ref(column).map(text_of)).collect();
        builder.add(&fields.map_err(failed)?, format!("{place}, row {number}"))?;
    }
    builder.finish(&place)
}

fn text_of(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => String::new(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => String::from_utf8_lossy(bytes).into_owned(),
    }
}
