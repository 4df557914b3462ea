//! The store in a schema of a PostgreSQL database. Calls block, as those of the SQLite store do: they are made on blocking
//! threads, and the connections run on the runtime that opened the store.

use plba::config::Location;
use plba::sql::postgres::tokio_postgres::types::{ToSql, Type};
use plba::sql::postgres::{PostgresClient, PostgresSettings, PostgresTransaction, tokio_postgres};
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;

use super::session::{Answer, Cell, Row, Session, Value};
use super::{StoreError, schema};

/// The schema of the store's tables, unless the location names another one.
const SCHEMA: &str = "mail_order_bot";

/// Reads a store's location: as a queue's, but with a schema of its own.
///
/// # Errors
/// What is wrong with it, in a sentence.
pub fn settings(location: &Location) -> Result<PostgresSettings, String> {
    let mut settings = PostgresSettings::from_location(location)?;
    if !location.query().any(|(name, _)| name == "schema") {
        SCHEMA.clone_into(&mut settings.schema);
    }
    Ok(settings)
}

/// Connections to the database. Cheap to clone.
#[derive(Clone)]
pub(crate) struct PostgresDatabase {
    client: PostgresClient,
    runtime: Handle,
    schema: String,
}

impl PostgresDatabase {
    /// Brings the tables up to date, if it may `create` them. Blocks; `None` where there are none and none may be made.
    pub(super) fn open(location: &Location, create: bool) -> Result<Option<Self>, StoreError> {
        let settings = settings(location).map_err(StoreError::Setting)?;
        let schema = settings.schema.clone();
        let database = Self {
            client: PostgresClient::new(settings).map_err(StoreError::Postgres)?,
            runtime: Handle::current(),
            schema,
        };
        let ready = database
            .runtime
            .block_on(schema::postgres::prepare(&database.client, &database.schema, create))?;
        Ok(ready.then_some(database))
    }

    /// The schema of its tables.
    pub(super) fn schema(&self) -> &str {
        &self.schema
    }

    /// Runs `work` in a transaction, which is committed if it succeeds. Blocks.
    pub(crate) fn write<T>(
        &self,
        work: impl AsyncFnOnce(&mut PostgresSession<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.runtime.block_on(async {
            let mut transaction = self.client.begin().await.map_err(StoreError::Postgres)?;
            let done = work(&mut PostgresSession::new(&mut transaction, &self.schema)).await?;
            transaction.commit().await.map_err(StoreError::Postgres)?;
            Ok(done)
        })
    }

    /// Runs `work` on one snapshot. Blocks.
    pub(crate) fn read<T>(
        &self,
        work: impl AsyncFnOnce(&mut PostgresSession<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.write(async |session| {
            let snapshot = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY";
            session.query(snapshot, &[]).await?;
            work(session).await
        })
    }
}

/// An open transaction: one of the store's own, or that of a task's completion.
pub(crate) struct PostgresSession<'t> {
    transaction: &'t mut PostgresTransaction,
    /// In quotation marks and with its dot.
    prefix: String,
}

impl<'t> PostgresSession<'t> {
    pub(crate) fn new(transaction: &'t mut PostgresTransaction, schema: &str) -> Self {
        Self {
            transaction,
            prefix: format!("\"{schema}\"."),
        }
    }

    async fn rows(&mut self, statement: &str, values: &[Value<'_>]) -> Result<Vec<Row>, StoreError> {
        let text = statement.replace('~', &self.prefix);
        let typed: Vec<(&(dyn ToSql + Sync), Type)> = values.iter().map(typed).collect();
        let rows = self.transaction.query_typed(&text, &typed).await;
        rows.map_err(StoreError::Postgres)?.iter().map(row).collect()
    }
}

impl Session for PostgresSession<'_> {
    fn query<'a>(&'a mut self, statement: &'a str, values: &'a [Value<'a>]) -> Answer<'a, Vec<Row>> {
        Box::pin(self.rows(statement, values))
    }

    fn hold<'a>(&'a mut self, names: &'a [&'a str]) -> Answer<'a, ()> {
        Box::pin(async move {
            let mut locks: Vec<i64> = names.iter().map(|name| lock(&self.prefix, name)).collect();
            // In one order, whoever comes.
            locks.sort_unstable();
            locks.dedup();
            for lock in locks {
                self.rows("SELECT pg_advisory_xact_lock($1)", &[lock.into()]).await?;
            }
            Ok(())
        })
    }
}

/// The number of the advisory lock of a name.
pub(super) fn lock(space: &str, name: &str) -> i64 {
    let digest = Sha256::digest(format!("mail-order-bot\n{space}\n{name}"));
    i64::from_be_bytes(std::array::from_fn(|at| digest[at]))
}

fn typed<'v>(value: &'v Value<'_>) -> (&'v (dyn ToSql + Sync), Type) {
    match value {
        Value::Int(value) => (value, Type::INT8),
        Value::Text(value) => (value, Type::TEXT),
        Value::Bytes(value) => (value, Type::BYTEA),
    }
}

fn row(row: &tokio_postgres::Row) -> Result<Row, StoreError> {
    let cell = |(at, column): (usize, &tokio_postgres::Column)| -> Result<Cell, tokio_postgres::Error> {
        let kind = column.type_();
        Ok(if *kind == Type::INT8 {
            row.try_get::<_, Option<i64>>(at)?.map_or(Cell::Null, Cell::Int)
        } else if *kind == Type::INT4 {
            row.try_get::<_, Option<i32>>(at)?
                .map_or(Cell::Null, |value| Cell::Int(value.into()))
        } else if *kind == Type::BYTEA {
            row.try_get::<_, Option<Vec<u8>>>(at)?.map_or(Cell::Null, Cell::Bytes)
        } else if *kind == Type::VOID {
            Cell::Null
        } else {
            row.try_get::<_, Option<String>>(at)?.map_or(Cell::Null, Cell::Text)
        })
    };
    let cells = row.columns().iter().enumerate().map(cell).collect::<Result<_, _>>();
    cells.map(Row).map_err(|error| StoreError::Postgres(error.into()))
}
