//! The rows of the table, read whole in one statement, no more of them than is allowed; and a mark of what is there.

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error, Row as Found};

use crate::config::{MAXIMUM_BYTES, MAXIMUM_KEY, MAXIMUM_ROWS, MAXIMUM_VALUE, Row, SHOWN};
use crate::postgres::fault::{Fault, Kind};
use crate::postgres::schema;

/// Marks contents: how many rows, and the sum of their hashes, whose order does not matter.
pub(super) type Mark = (i64, String);

/// The mark of a table as columns.
const MARK: &str = "count(*), coalesce(sum(hashtextextended(c::text, 0)::numeric), 0)::text";

/// What is there now.
pub(super) async fn mark(client: &Client, schema: &str) -> Result<Mark, Fault> {
    let text = format!("SELECT {MARK} FROM \"{schema}\".config c");
    let found = client.query_typed_one(&text, &[]).await;
    let found = found.map_err(|error| explain(error, schema))?;
    Ok((found.try_get(0)?, found.try_get(1)?))
}

/// All rows and their mark, as they were at one moment; with `create`, a table that is missing is made.
pub(super) async fn read(client: &Client, schema: &str, create: bool) -> Result<(Mark, Vec<Row>), Fault> {
    make(client, schema, create).await?;
    let found = client.query_typed(&statement(schema), &[]).await;
    let found = found.map_err(|error| explain(error, schema))?;
    let Some(first) = found.first() else {
        return Err(Fault::new(Kind::Later, "PostgreSQL gave no mark of the configuration"));
    };
    let mark = (first.try_get(0)?, first.try_get(1)?);
    let rows: Result<Vec<Option<Row>>, Error> = found.iter().map(row).collect();
    Ok((mark, rows?.into_iter().flatten().collect()))
}

/// Finds that the table is there, brings it up to date, or makes it.
async fn make(client: &Client, schema: &str, create: bool) -> Result<(), Fault> {
    let rights = |fault: Fault| match fault.kind {
        Kind::Setup => Fault::caused(
            Kind::Setup,
            format!(
                "the table {schema}.config can't be used; who reads it needs USAGE on the schema {schema} and SELECT on \
                 {schema}.config and {schema}.config_schema, who makes it CREATE on the database"
            ),
            fault,
        ),
        _ => fault,
    };
    let found = schema::version(client, schema, schema::CONFIG).await.map_err(rights)?;
    // Made without being asked for, it would be empty: all that it said would be gone without a word.
    if found.is_none() && !create {
        return Err(Fault::new(
            Kind::Setup,
            format!(
                "there is no table {schema}.config; restore it from a backup, or, to begin with an empty one, start once with \
                 create=on in the location"
            ),
        ));
    }
    schema::bring_up(client, schema, schema::CONFIG).await.map_err(rights)
}

/// Sums up before it sends: neither a large value nor too many of them cross the wire.
fn statement(schema: &str) -> String {
    format!(
        "WITH mark (rows, hash) AS (SELECT {MARK} FROM \"{schema}\".config c), \
         found AS MATERIALIZED (SELECT key, value::text AS value, changed_by, changed_at, note FROM \"{schema}\".config \
             ORDER BY key LIMIT {limit}), \
         sized AS (SELECT *, coalesce(octet_length(value), 0)::bigint AS bytes FROM found), \
         summed AS (SELECT *, sum(octet_length(key) + bytes) FILTER (WHERE bytes <= {MAXIMUM_VALUE}) \
             OVER (ORDER BY key) AS total FROM sized) \
         SELECT mark.rows, mark.hash, left(key, {key}), \
             CASE WHEN bytes <= {MAXIMUM_VALUE} AND total <= {MAXIMUM_BYTES} THEN value END, bytes, \
             left(changed_by, {SHOWN}), to_char(changed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), \
             left(note, {SHOWN}) \
         FROM mark LEFT JOIN summed ON true ORDER BY key",
        limit = MAXIMUM_ROWS + 1,
        key = MAXIMUM_KEY + 1,
    )
}

/// `None`: there is only the mark, for the table is empty.
fn row(found: &Found) -> Result<Option<Row>, Error> {
    let Some(key) = found.try_get::<_, Option<String>>(2)? else {
        return Ok(None);
    };
    Ok(Some(Row {
        key,
        value: found.try_get(3)?,
        bytes: u64::try_from(found.try_get::<_, i64>(4)?).unwrap_or(0),
        by: found.try_get(5)?,
        at: found.try_get(6)?,
        note: found.try_get(7)?,
    }))
}

/// An error of a statement on the table, with what is to be done about it here.
fn explain(error: Error, schema: &str) -> Fault {
    let code = error.code().cloned();
    let advice = if code == Some(SqlState::UNDEFINED_TABLE) || code == Some(SqlState::INVALID_SCHEMA_NAME) {
        format!(
            "the table {schema}.config is gone; restore it from a backup, or, to begin with an empty one, DROP TABLE \
             {schema}.config_schema and start once with create=on in the location"
        )
    } else if code == Some(SqlState::UNDEFINED_COLUMN) {
        format!("a column of {schema}.config is gone; add it again: key, value, changed_by, changed_at, note")
    } else if code == Some(SqlState::INSUFFICIENT_PRIVILEGE) {
        format!("grant the user USAGE on the schema {schema} and SELECT on {schema}.config and {schema}.config_schema")
    } else {
        return Fault::from(error);
    };
    Fault::caused(Kind::Setup, advice, error)
}
