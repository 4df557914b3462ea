//! Leases in PostgreSQL, for singleton workers of several machines, and the fence against a stale holder's writes. The
//! store's time is the server's.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use plba_contracts::BoxError;
use plba_contracts::clock::Clock;
use plba_contracts::lease::{FencingToken, Grant, Holding, Lease, LeaseError, check_request};
use tokio_postgres::types::Type;
use tokio_postgres::{GenericClient, Row};

use super::fault::Fault;
use super::link::Target;
use super::pool::{Pool, Value};
use super::schema::{self, fill};
use super::settings::PostgresSettings;
use super::transaction::PostgresTransaction;

/// A store of leases in PostgreSQL, best the database that holds the data which their holders write: see
/// [`check_fence`]. Cheap to clone.
#[derive(Clone)]
pub struct PostgresLease {
    inner: Arc<Inner>,
}

struct Inner {
    pool: Pool,
    clock: Option<Arc<dyn Clock>>,
    acquire: String,
    renew: String,
    release: String,
    holding: String,
}

impl PostgresLease {
    /// Connects, and brings the tables up to date. Must be called within a runtime, on which its connection runs.
    ///
    /// # Errors
    /// What is wrong with the settings, the server or the schema, and what to do.
    ///
    /// # Cancel safety
    /// A dropped call leaves nothing open.
    pub async fn open(settings: PostgresSettings) -> Result<Self, BoxError> {
        Self::open_at(settings, None).await
    }

    /// As [`open`](Self::open), for tests: with a time of their own instead of the server's.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_with_clock(settings: PostgresSettings, clock: Arc<dyn Clock>) -> Result<Self, BoxError> {
        Self::open_at(settings, Some(clock)).await
    }

    async fn open_at(settings: PostgresSettings, clock: Option<Arc<dyn Clock>>) -> Result<Self, BoxError> {
        settings.validate()?;
        let schema = settings.schema.clone();
        let target = Arc::new(Target::new(settings)?);
        schema::migrate(&target).await?;
        let fill = |text: &str| fill(text, &schema);
        let inner = Inner {
            pool: Pool::new(target, "leases", 1),
            clock,
            acquire: fill("SELECT token, deadline FROM {schema}.acquire_lease_1($1, $2, $3, $4)"),
            renew: fill(
                "UPDATE {schema}.leases SET renewed = n.now, deadline = n.now + $4 FROM (SELECT {schema}.now_1($1) AS now \
                 OFFSET 0) n WHERE name = $2 AND token = $3 AND holder IS NOT NULL AND deadline > n.now \
                 RETURNING token, deadline",
            ),
            release: fill("UPDATE {schema}.leases SET holder = NULL WHERE name = $1 AND token = $2"),
            holding: fill(
                "SELECT token, deadline, holder, since FROM {schema}.leases WHERE name = $2 AND holder IS NOT NULL \
                 AND deadline > {schema}.now_1($1)",
            ),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    async fn ask(&self, name: &str, statement: &str, values: &[Value<'_>]) -> Result<Option<Row>, LeaseError> {
        let rows = self.inner.pool.query(statement, values).await;
        Ok(rows.map_err(|fault| unavailable(name, fault))?.into_iter().next())
    }

    fn now(&self) -> Option<i64> {
        self.inner.clock.as_ref().map(|clock| clock.now().as_microsecond())
    }
}

fn unavailable(name: &str, error: impl Into<BoxError>) -> LeaseError {
    LeaseError::Unavailable {
        name: name.to_owned(),
        source: error.into(),
    }
}

fn grant(name: &str, row: &Row) -> Result<Option<Grant>, LeaseError> {
    let read = || -> Result<Option<(i64, i64)>, tokio_postgres::Error> {
        let (token, deadline): (Option<i64>, Option<i64>) = (row.try_get(0)?, row.try_get(1)?);
        Ok(token.zip(deadline))
    };
    let found = read().map_err(|error| unavailable(name, Fault::from(error)))?;
    Ok(found.map(|(token, deadline)| Grant {
        token: FencingToken(u64::try_from(token).unwrap_or(0)),
        deadline: time(deadline),
    }))
}

fn time(microseconds: i64) -> Timestamp {
    Timestamp::from_microsecond(microseconds).unwrap_or(Timestamp::MAX)
}

/// A token as the table has it; none beyond what it counts was ever given.
fn number(token: FencingToken) -> Option<i64> {
    i64::try_from(token.0).ok()
}

fn microseconds(ttl: Duration) -> i64 {
    i64::try_from(ttl.as_micros()).unwrap_or(i64::MAX)
}

#[async_trait]
impl Lease for PostgresLease {
    async fn acquire(&self, name: &str, holder: &str, ttl: Duration) -> Result<Option<Grant>, LeaseError> {
        check_request(name, holder, ttl)?;
        let values = [
            (&self.now() as _, Type::INT8),
            (&name as _, Type::TEXT),
            (&holder as _, Type::TEXT),
            (&microseconds(ttl) as _, Type::INT8),
        ];
        match self.ask(name, &self.inner.acquire, &values).await? {
            Some(row) => grant(name, &row),
            None => Ok(None),
        }
    }

    async fn renew(&self, name: &str, token: FencingToken, ttl: Duration) -> Result<Option<Grant>, LeaseError> {
        check_request(name, "renews", ttl)?;
        let Some(token) = number(token) else { return Ok(None) };
        let values = [
            (&self.now() as _, Type::INT8),
            (&name as _, Type::TEXT),
            (&token as _, Type::INT8),
            (&microseconds(ttl) as _, Type::INT8),
        ];
        match self.ask(name, &self.inner.renew, &values).await? {
            Some(row) => grant(name, &row),
            None => Ok(None),
        }
    }

    async fn release(&self, name: &str, token: FencingToken) -> Result<(), LeaseError> {
        let Some(token) = number(token) else { return Ok(()) };
        let values = [(&name as _, Type::TEXT), (&token as _, Type::INT8)];
        self.ask(name, &self.inner.release, &values).await.map(drop)
    }

    async fn holding(&self, name: &str) -> Result<Option<Holding>, LeaseError> {
        let values = [(&self.now() as _, Type::INT8), (&name as _, Type::TEXT)];
        let Some(row) = self.ask(name, &self.inner.holding, &values).await? else {
            return Ok(None);
        };
        let read = || -> Result<Holding, tokio_postgres::Error> {
            Ok(Holding {
                token: FencingToken(u64::try_from(row.try_get::<_, i64>(0)?).unwrap_or(0)),
                deadline: time(row.try_get(1)?),
                holder: row.try_get(2)?,
                since: time(row.try_get(3)?),
            })
        };
        read().map(Some).map_err(|error| unavailable(name, Fault::from(error)))
    }
}

/// Why a write is refused.
#[derive(Debug, thiserror::Error)]
pub enum FenceError {
    /// The lease has been given to somebody else since, or was released: roll back, and act no more under this token.
    #[error("lease \"{name}\": token {token} is not in force any more (the newest is {newest}); the write is refused")]
    Stale {
        /// Which lease.
        name: String,
        /// The writer's token.
        token: FencingToken,
        /// The newest token that was given.
        newest: FencingToken,
    },
    /// Nobody ever took this lease in this database: leases and data must share one.
    #[error("lease \"{name}\" is not kept in schema \"{schema}\" of this database; open the leases where the data is")]
    Unknown {
        /// Which lease.
        name: String,
        /// The schema that was looked in.
        schema: String,
    },
    /// The database failed.
    #[error("the fence of lease \"{name}\" could not be read: {source}")]
    Database {
        /// Which lease.
        name: String,
        /// Why.
        source: BoxError,
    },
}

/// Refuses a write under a token that is not the newest of its lease; call it in the transaction that writes, in the
/// database that keeps the leases in this schema (`plba` unless the location says otherwise).
///
/// It locks the lease's row until the transaction ends: a take-over waits for its commit. No clock is asked: a holder whose
/// grant has run out may still write while nobody has taken over, because it disturbs nobody.
///
/// # Errors
/// [`FenceError`]; roll the transaction back.
///
/// # Cancel safety
/// A dropped call has looked or not; roll the transaction back.
pub async fn check_fence(
    transaction: &impl GenericClient,
    schema: &str,
    name: &str,
    token: FencingToken,
) -> Result<(), FenceError> {
    let found = transaction.query_opt(&fence(schema), &[&name]).await;
    judge(found.map_err(Into::into), schema, name, token)
}

fn fence(schema: &str) -> String {
    fill(
        "SELECT token, holder IS NOT NULL FROM {schema}.leases WHERE name = $1 FOR SHARE",
        schema,
    )
}

fn judge(
    found: Result<Option<Row>, BoxError>,
    schema: &str,
    name: &str,
    token: FencingToken,
) -> Result<(), FenceError> {
    let name = name.to_owned();
    let read = |row: Row| Ok((row.try_get::<_, i64>(0)?, row.try_get::<_, bool>(1)?));
    let found: Result<Option<(i64, bool)>, BoxError> = found.and_then(|row| row.map(read).transpose());
    match found {
        Err(source) => Err(FenceError::Database { name, source }),
        Ok(None) => Err(FenceError::Unknown {
            name,
            schema: schema.to_owned(),
        }),
        Ok(Some((newest, held))) => match u64::try_from(newest) {
            Ok(newest) if newest == token.0 && held => Ok(()),
            newest => Err(FenceError::Stale {
                name,
                token,
                newest: FencingToken(newest.unwrap_or(0)),
            }),
        },
    }
}

impl PostgresTransaction {
    /// [`check_fence`] in the completion's transaction.
    ///
    /// # Errors
    /// [`FenceError`]; let the effect fail with it.
    ///
    /// # Cancel safety
    /// As [`query`](Self::query).
    pub async fn check_fence(&mut self, schema: &str, name: &str, token: FencingToken) -> Result<(), FenceError> {
        let found = self.query_opt(&fence(schema), &[&name]).await;
        judge(found, schema, name, token)
    }
}
