//! The tables in PostgreSQL and their version, which stands in a table of its own beside them. Migrations run one after
//! the other, each in one transaction with its number, under an advisory lock that two programs can't hold at once.

use plba::sql::postgres::{PostgresClient, PostgresTransaction};

use crate::store::StoreError;
use crate::store::postgres::lock;

/// What takes the schema from each version to the next; never changed once released.
const MIGRATIONS: &[&str] = &[
    include_str!("postgres_1.sql"),
    include_str!("postgres_2.sql"),
    include_str!("postgres_3.sql"),
];

/// The version of this program.
const CURRENT: i64 = MIGRATIONS.len() as i64;

/// Brings the tables up to date where it may `create` them; `false` where there are none and none may be made.
///
/// # Errors
/// A newer program's tables; older ones where none may be made; the database's faults.
pub(in crate::store) async fn prepare(client: &PostgresClient, schema: &str, create: bool) -> Result<bool, StoreError> {
    let mut looking = client.begin().await.map_err(StoreError::Postgres)?;
    let found = version(&mut looking, schema).await?;
    looking.commit().await.map_err(StoreError::Postgres)?;
    if found == Some(CURRENT) || !create {
        return match found {
            None => Ok(false),
            Some(found) if found < CURRENT => Err(StoreError::Older {
                store: format!("schema \"{schema}\""),
                found,
                known: CURRENT,
            }),
            Some(_) => Ok(true),
        };
    }
    for (migration, number) in MIGRATIONS.iter().zip(1_i64..) {
        migrate(client, schema, migration, number)
            .await
            .map_err(StoreError::Postgres)?;
    }
    Ok(true)
}

async fn migrate(client: &PostgresClient, schema: &str, migration: &str, number: i64) -> Result<(), plba::BoxError> {
    let mut transaction = client.begin().await?;
    let held = format!("SELECT pg_advisory_xact_lock({})", lock(schema, "migration"));
    transaction.batch_execute(&held).await?;
    let found = version(&mut transaction, schema).await?;
    if found.is_some_and(|found| found >= number) {
        return Ok(());
    }
    let script = format!(
        "CREATE SCHEMA IF NOT EXISTS \"{schema}\"; \
         CREATE TABLE IF NOT EXISTS \"{schema}\".order_store (version bigint PRIMARY KEY, made timestamptz NOT NULL \
         DEFAULT now()); {}; INSERT INTO \"{schema}\".order_store (version) VALUES ({number});",
        migration.replace('~', &format!("\"{schema}\"."))
    );
    transaction.batch_execute(&script).await?;
    transaction.commit().await
}

/// Which version the schema has, if any; refuses one that is newer than this program.
async fn version(transaction: &mut PostgresTransaction, schema: &str) -> Result<Option<i64>, StoreError> {
    // Read from the catalogue's tables, which a transaction that has waited for another's migration sees afresh.
    let exists = transaction
        .query_one(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE n.nspname = $1 AND c.relname = 'order_store')",
            &[&schema],
        )
        .await
        .map_err(StoreError::Postgres)?;
    if !exists.get::<_, bool>(0) {
        return Ok(None);
    }
    let newest = format!("SELECT max(version) FROM \"{schema}\".order_store");
    let found = transaction
        .query_one(&newest, &[])
        .await
        .map_err(StoreError::Postgres)?;
    match found.get::<_, Option<i64>>(0) {
        Some(found) if found > CURRENT => Err(StoreError::Newer {
            store: format!("schema \"{schema}\""),
            found,
            known: CURRENT,
        }),
        found => Ok(found),
    }
}
