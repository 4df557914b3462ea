//! The ledger of sources in PostgreSQL: beside the tasks, so that a task's end is its entry's end, and shared, so that
//! whoever takes a source over finds its cursor and what is still to be told upstream.

mod ends;
mod keys;
mod rows;

use std::sync::Arc;

use async_trait::async_trait;
use plba_contracts::BoxError;
use plba_tasks::ledger::{Counts, DeliveryEnd, EntryState, Known, LedgerError, LedgerStats, SourceLedger};
use plba_tasks::queue::{Cursor, DeadPage, Durability};
use plba_tasks::task::{Origin, QueueName, TaskId};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use self::ends::{END, Ends};
use self::keys::{Keys, check_source};
use self::rows::{broken, history, letter, number, shared, shared_keys};
use super::fault::{Fault, Kind};
use super::link::Target;
use super::pool::{Pool, Value};
use super::schema::{self, fill};
use super::settings::PostgresSettings;

const MAXIMUM_CURSOR: usize = 64 * 1024;
const MAXIMUM_PAGE: usize = 1_000;

/// The ledger of sources in a PostgreSQL schema. Cheap to clone.
///
/// Where the tasks are in the same schema, the queue keeps an entry in step with its task: acked is done, buried is dead,
/// in the same transaction. The dead letter of such a task is the queue's: it is listed, retried and dropped there.
///
/// *This process* is one opening: entries that another one published, or counted a delivery of, are those of a process
/// that may be gone.
#[derive(Clone)]
pub struct PostgresLedger {
    inner: Arc<Inner>,
}

struct Inner {
    pool: Pool,
    schema: String,
    durability: Durability,
    /// Tells this opening from all others.
    process: i64,
}

impl PostgresLedger {
    /// Connects, and brings the tables up to date. Must be called within a runtime, on which its connections run.
    ///
    /// # Errors
    /// What is wrong with the settings, the server or the schema, and what to do.
    ///
    /// # Cancel safety
    /// A dropped call leaves nothing open.
    pub async fn open(settings: PostgresSettings) -> Result<Self, BoxError> {
        settings.validate()?;
        let (schema, durability) = (settings.schema.clone(), settings.durability);
        let target = Arc::new(Target::new(settings)?);
        schema::migrate(&target).await?;
        let pool = Pool::new(target, "the ledger", 2);
        super::check::check(&pool, durability).await?;
        let inner = Inner {
            pool,
            schema,
            durability,
            process: fastrand::i64(1..),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    async fn ask(&self, statement: &str, values: &[Value<'_>]) -> Result<Vec<Row>, LedgerError> {
        let statement = fill(statement, &self.inner.schema);
        Ok(self.inner.pool.query(&statement, values).await?)
    }
}

impl From<Fault> for LedgerError {
    fn from(fault: Fault) -> Self {
        Self::new(fault)
    }
}

fn refused(text: String) -> LedgerError {
    LedgerError::from(Fault::new(Kind::Statement, text))
}

/// New entries get their numbers in the order of the call, and are inserted in the order of their keys.
const INTAKE: &str = "WITH numbered AS MATERIALIZED (SELECT n.*, nextval('{schema}.ledger_numbers') AS number FROM \
    (SELECT * FROM unnest($1, $2, $3, $4) AS u(source, key, id, ord) ORDER BY u.ord) n) \
    INSERT INTO {schema}.ledger AS l (number, source, key, id, publisher) \
    SELECT number, source, key, id, $5 FROM numbered ORDER BY source, key \
    ON CONFLICT (source, key) DO UPDATE SET publisher = excluded.publisher WHERE l.state = 0";

const COUNT: &str = "WITH numbered AS MATERIALIZED (SELECT n.*, nextval('{schema}.ledger_numbers') AS number FROM \
    (SELECT * FROM unnest($1, $2, $3, $4) AS u(source, key, id, ord) ORDER BY u.ord) n) \
    INSERT INTO {schema}.ledger AS l (number, source, key, id, publisher, in_hand, deliveries) \
    SELECT number, source, key, id, $5, $5, 1 FROM numbered ORDER BY source, key \
    ON CONFLICT (source, key) DO UPDATE SET in_hand = excluded.in_hand, deliveries = l.deliveries + 1, \
    crashes = l.crashes + (l.in_hand IS NOT NULL)::int WHERE l.state = 0 \
    RETURNING source, key, deliveries, attempts, crashes";

#[async_trait]
impl SourceLedger for PostgresLedger {
    fn durability(&self) -> Durability {
        self.inner.durability
    }

    async fn record_intake(&self, source: &str, keys: &[Arc<str>]) -> Result<(), LedgerError> {
        let keys = Keys::of_source(source, keys)?;
        let mut values = keys.values().to_vec();
        values.push((&self.inner.process, Type::INT8));
        self.ask(INTAKE, &values).await.map(drop)
    }

    async fn count_deliveries(&self, origins: &[Origin]) -> Result<Vec<Option<Counts>>, LedgerError> {
        let keys = Keys::of_origins(origins.iter())?;
        let mut values = keys.values().to_vec();
        values.push((&self.inner.process, Type::INT8));
        let rows = self.ask(COUNT, &values).await?;
        let mut counted = std::collections::HashMap::with_capacity(rows.len());
        for row in &rows {
            let counts = Counts {
                deliveries: number(row.try_get(2).map_err(broken)?),
                attempts: number(row.try_get(3).map_err(broken)?),
                crashes: number(row.try_get(4).map_err(broken)?),
            };
            let origin = (
                shared(row.try_get(0).map_err(broken)?),
                shared(row.try_get(1).map_err(broken)?),
            );
            counted.insert(origin, counts);
        }
        let counts = |origin: &Origin| {
            counted
                .get(&(Arc::clone(&origin.source), Arc::clone(&origin.key)))
                .copied()
        };
        Ok(origins.iter().map(counts).collect())
    }

    async fn record_ends(&self, ends: Vec<(Origin, DeliveryEnd)>) -> Result<(), LedgerError> {
        // Of two ends of one entry in one call the first comes first; a statement can change a row only once.
        let mut rest = ends;
        while !rest.is_empty() {
            let mut seen = std::collections::HashSet::new();
            let (now, later): (Vec<_>, Vec<_>) = rest.into_iter().partition(|(origin, _)| seen.insert(origin.clone()));
            self.end_each_once(&now).await?;
            rest = later;
        }
        Ok(())
    }

    async fn settle(&self, source: &str, keys: &[Arc<str>]) -> Result<(), LedgerError> {
        self.move_on(
            source,
            keys,
            "UPDATE {schema}.ledger SET state = 2 WHERE ctid = ANY(ARRAY(SELECT l.ctid \
            FROM {schema}.ledger l WHERE l.source = $1 AND l.key = ANY($2) AND l.state = 1 ORDER BY l.key FOR UPDATE))",
        )
        .await
    }

    async fn forget(&self, source: &str, keys: &[Arc<str>]) -> Result<(), LedgerError> {
        self.move_on(
            source,
            keys,
            "DELETE FROM {schema}.ledger WHERE ctid = ANY(ARRAY(SELECT l.ctid \
            FROM {schema}.ledger l WHERE l.source = $1 AND l.key = ANY($2) AND l.state = 2 ORDER BY l.key FOR UPDATE))",
        )
        .await
    }

    async fn known(&self, source: &str, keys: &[Arc<str>]) -> Result<Vec<Option<Known>>, LedgerError> {
        let bytes: Vec<&[u8]> = keys.iter().map(|key| key.as_bytes()).collect();
        let rows = self
            .ask(
                "SELECT key, state, deliveries, attempts, crashes, history, publisher, in_hand FROM {schema}.ledger \
                 WHERE source = $1 AND key = ANY($2)",
                &[(&source.as_bytes(), Type::BYTEA), (&bytes, Type::BYTEA_ARRAY)],
            )
            .await?;
        let mut found = std::collections::HashMap::with_capacity(rows.len());
        for row in &rows {
            let key: &[u8] = row.try_get(0).map_err(broken)?;
            found.insert(key.to_vec(), self.entry(row)?);
        }
        Ok(keys.iter().map(|key| found.get(key.as_bytes()).cloned()).collect())
    }

    async fn pending(&self, source: &str, limit: usize) -> Result<Vec<Arc<str>>, LedgerError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = self
            .ask(
                "SELECT key FROM {schema}.ledger WHERE source = $1 AND state = 0 AND publisher IS DISTINCT FROM $2 \
                 ORDER BY number LIMIT $3",
                &[
                    (&source.as_bytes(), Type::BYTEA),
                    (&self.inner.process, Type::INT8),
                    (&limit, Type::INT8),
                ],
            )
            .await?;
        shared_keys(&rows)
    }

    async fn unsettled(&self, source: &str, limit: usize) -> Result<Vec<Arc<str>>, LedgerError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = self
            .ask(
                "SELECT key FROM {schema}.ledger WHERE source = $1 AND state = 1 ORDER BY changed LIMIT $2",
                &[(&source.as_bytes(), Type::BYTEA), (&limit, Type::INT8)],
            )
            .await?;
        shared_keys(&rows)
    }

    async fn cursor(&self, source: &str) -> Result<Option<String>, LedgerError> {
        let rows = self
            .ask(
                "SELECT cursor FROM {schema}.cursors WHERE source = $1",
                &[(&source.as_bytes(), Type::BYTEA)],
            )
            .await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let cursor: &[u8] = row.try_get(0).map_err(broken)?;
        Ok(Some(String::from_utf8_lossy(cursor).into_owned()))
    }

    async fn set_cursor(&self, source: &str, cursor: &str) -> Result<(), LedgerError> {
        check_source(source)?;
        if cursor.len() > MAXIMUM_CURSOR {
            return Err(refused(format!(
                "a cursor of {} bytes is too long, at most {MAXIMUM_CURSOR} are possible",
                cursor.len()
            )));
        }
        let values = [
            (&source.as_bytes() as _, Type::BYTEA),
            (&cursor.as_bytes() as _, Type::BYTEA),
        ];
        let statement = "INSERT INTO {schema}.cursors (source, cursor) VALUES ($1, $2) \
            ON CONFLICT (source) DO UPDATE SET cursor = excluded.cursor";
        self.ask(statement, &values).await.map(drop)
    }

    async fn dead_letters(&self, cursor: Option<Cursor>, limit: usize) -> Result<DeadPage, LedgerError> {
        let limit = limit.clamp(1, MAXIMUM_PAGE);
        let after: i64 = cursor.and_then(|cursor| cursor.0.parse().ok()).unwrap_or(0);
        let chunk = i64::try_from(limit + 1).unwrap_or(i64::MAX);
        let rows = self
            .ask(
                "SELECT changed, source, key, queue, kind, died, reason, deliveries, history FROM {schema}.ledger \
                 WHERE state = 3 AND NOT elsewhere AND changed > $1 ORDER BY changed LIMIT $2",
                &[(&after, Type::INT8), (&chunk, Type::INT8)],
            )
            .await?;
        let mut page = DeadPage::default();
        for row in rows.iter().take(limit) {
            page.letters.push(letter(row)?);
        }
        if rows.len() > limit {
            let last: Option<i64> = rows
                .get(limit - 1)
                .map(|row| row.try_get(0))
                .transpose()
                .map_err(broken)?;
            page.next = last.map(|last| Cursor(last.to_string()));
        }
        Ok(page)
    }

    async fn retry_dead(&self, queue: &QueueName, ids: &[TaskId]) -> Result<usize, LedgerError> {
        self.revive(
            queue,
            ids,
            "state = 0, publisher = NULL, deliveries = 0, attempts = 0, crashes = 0",
        )
        .await
    }

    async fn drop_dead(&self, queue: &QueueName, ids: &[TaskId]) -> Result<usize, LedgerError> {
        self.revive(queue, ids, "state = 2").await
    }

    async fn stats(&self) -> Result<Vec<LedgerStats>, LedgerError> {
        let rows = self
            .ask(
                // A source that has found nothing yet has a cursor, and no entries.
                "SELECT source, count(*) FILTER (WHERE state = 0), count(*) FILTER (WHERE state = 1), \
                 count(*) FILTER (WHERE state = 2), count(*) FILTER (WHERE state = 3) FROM {schema}.ledger \
                 FULL JOIN {schema}.cursors USING (source) GROUP BY source ORDER BY source",
                &[],
            )
            .await?;
        let mut all = Vec::with_capacity(rows.len());
        for row in &rows {
            let count = |index| {
                row.try_get::<_, i64>(index)
                    .map(|count| u64::try_from(count).unwrap_or(0))
                    .map_err(broken)
            };
            all.push(LedgerStats {
                source: shared(row.try_get(0).map_err(broken)?).as_ref().to_owned(),
                open: count(1)?,
                unsettled: count(2)?,
                settled: count(3)?,
                dead: count(4)?,
            });
        }
        Ok(all)
    }
}

impl PostgresLedger {
    async fn end_each_once(&self, ends: &[(Origin, DeliveryEnd)]) -> Result<(), LedgerError> {
        let keys = Keys::of_origins(ends.iter().map(|(origin, _)| origin))?;
        let mut columns = Ends::default();
        for order in &keys.orders {
            let place = usize::try_from(order - 1).unwrap_or(0);
            if let Some((_, end)) = ends.get(place) {
                columns.push(end);
            }
        }
        let mut values = keys.values().to_vec();
        values.extend(columns.values());
        self.ask(END, &values).await.map(drop)
    }

    async fn move_on(&self, source: &str, keys: &[Arc<str>], statement: &str) -> Result<(), LedgerError> {
        let keys: Vec<&[u8]> = keys.iter().map(|key| key.as_bytes()).collect();
        let values = [(&source.as_bytes() as _, Type::BYTEA), (&keys as _, Type::BYTEA_ARRAY)];
        self.ask(statement, &values).await.map(drop)
    }

    /// Changes dead entries; gives how many there were.
    async fn revive(&self, queue: &QueueName, ids: &[TaskId], change: &str) -> Result<usize, LedgerError> {
        let ids: Vec<&[u8]> = ids.iter().map(|id| id.as_str().as_bytes()).collect();
        let statement = format!(
            "UPDATE {{schema}}.ledger SET {change} WHERE ctid = ANY(ARRAY(SELECT l.ctid FROM {{schema}}.ledger l \
             WHERE l.id = ANY($1) AND l.queue = $2 AND l.state = 3 AND NOT l.elsewhere ORDER BY l.source, l.key FOR UPDATE)) RETURNING 1"
        );
        let queue = queue.as_str();
        let values: [Value<'_>; 2] = [(&ids, Type::BYTEA_ARRAY), (&queue, Type::TEXT)];
        let rows = self.ask(&statement, &values).await?;
        Ok(rows.len())
    }

    fn entry(&self, row: &Row) -> Result<Known, LedgerError> {
        let count = |index| row.try_get::<_, i32>(index).map(number).map_err(broken);
        let in_hand: Option<i64> = row.try_get(7).map_err(broken)?;
        let state = match row.try_get::<_, i16>(1).map_err(broken)? {
            0 => EntryState::Open,
            1 => EntryState::Done,
            2 => EntryState::Settled,
            _ => EntryState::Dead,
        };
        // In the hands of a process that is not this one: as far as this one can tell, it is gone.
        let gone = state == EntryState::Open && in_hand.is_some_and(|process| process != self.inner.process);
        Ok(Known {
            state,
            counts: Counts {
                deliveries: count(2)?,
                attempts: count(3)?,
                crashes: count(4)? + u32::from(gone),
            },
            history: history(row, 5)?,
            published: row.try_get::<_, Option<i64>>(6).map_err(broken)? == Some(self.inner.process),
        })
    }
}
