//! The ledger of sources in PostgreSQL: beside the tasks, so that a task's end is its entry's end, and shared, so that
//! whoever takes a source over finds its cursor and what is still to be told upstream.

use std::sync::Arc;

use async_trait::async_trait;
use plba_contracts::BoxError;
use plba_tasks::intake::MAXIMUM_KEY;
use plba_tasks::ledger::{Counts, DeliveryEnd, EntryState, Known, LedgerError, LedgerStats, SourceLedger};
use plba_tasks::queue::{Cursor, DeadLetter, DeadPage, Durability};
use plba_tasks::task::{EndedAttempt, MAXIMUM_NAME, Origin, QueueName, TaskId};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

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

fn broken(error: tokio_postgres::Error) -> LedgerError {
    LedgerError::from(Fault::from(error))
}

fn check_source(source: &str) -> Result<(), LedgerError> {
    if source.is_empty() || source.len() > MAXIMUM_NAME {
        return Err(refused(format!(
            "the name of a source has 1 to {MAXIMUM_NAME} bytes, not {}",
            source.len()
        )));
    }
    Ok(())
}

fn check_key(key: &str) -> Result<(), LedgerError> {
    if key.len() > MAXIMUM_KEY {
        return Err(refused(format!(
            "a key of {} bytes is too long for the ledger, at most {MAXIMUM_KEY} are possible; use a digest",
            key.len()
        )));
    }
    Ok(())
}

/// Keys as a column, each once and sorted, so that all who write the same rows lock them in one order; and their ids.
struct Keys<'a> {
    sources: Vec<&'a [u8]>,
    keys: Vec<&'a [u8]>,
    ids: Vec<Vec<u8>>,
    orders: Vec<i32>,
}

impl<'a> Keys<'a> {
    fn new(origins: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Self, LedgerError> {
        let mut origins: Vec<(&str, &str, i32)> = (1..)
            .zip(origins)
            .map(|(order, (source, key))| (source, key, order))
            .collect();
        origins.sort();
        origins.dedup_by(|one, other| (one.0, one.1) == (other.0, other.1));
        let mut keys = Self {
            sources: Vec::with_capacity(origins.len()),
            keys: Vec::with_capacity(origins.len()),
            ids: Vec::with_capacity(origins.len()),
            orders: Vec::with_capacity(origins.len()),
        };
        for (source, key, order) in origins {
            check_source(source)?;
            check_key(key)?;
            keys.sources.push(source.as_bytes());
            keys.keys.push(key.as_bytes());
            keys.ids.push(format!("{source}/{key}").into_bytes());
            keys.orders.push(order);
        }
        Ok(keys)
    }

    fn of_source(source: &'a str, keys: &'a [Arc<str>]) -> Result<Self, LedgerError> {
        check_source(source)?;
        Self::new(keys.iter().map(|key| (source, &**key)))
    }

    fn of_origins(origins: impl Iterator<Item = &'a Origin>) -> Result<Self, LedgerError> {
        Self::new(origins.map(|origin| (&*origin.source, &*origin.key)))
    }

    fn values(&self) -> [Value<'_>; 4] {
        [
            (&self.sources, Type::BYTEA_ARRAY),
            (&self.keys, Type::BYTEA_ARRAY),
            (&self.ids, Type::BYTEA_ARRAY),
            (&self.orders, Type::INT4_ARRAY),
        ]
    }
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

/// `$5` states, `$6` attempts as JSON, `$7` when they ended, `$8` queues, `$9` kinds, `$10` reasons. Ways: 0 released, 1
/// failed, 2 done, 3 dead.
const END: &str = "WITH numbered AS MATERIALIZED (SELECT n.*, nextval('{schema}.ledger_numbers') AS number FROM \
    (SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
    AS u(source, key, id, ord, way, attempt, at, queue, kind, reason) ORDER BY u.ord) n) \
    INSERT INTO {schema}.ledger AS l (number, source, key, id, changed, state, attempts, history, died, queue, kind, reason) \
    SELECT number, source, key, id, number, CASE way WHEN 2 THEN 1 WHEN 3 THEN 3 ELSE 0 END, \
    (way IN (1, 3))::int, CASE WHEN attempt IS NULL THEN NULL ELSE ARRAY[attempt] END, \
    CASE way WHEN 3 THEN at END, queue, kind, reason \
    FROM numbered ORDER BY source, key \
    ON CONFLICT (source, key) DO UPDATE SET in_hand = NULL, changed = excluded.changed, state = excluded.state, \
    attempts = l.attempts + excluded.attempts, died = excluded.died, queue = excluded.queue, kind = excluded.kind, \
    reason = excluded.reason, history = CASE WHEN excluded.history IS NULL THEN l.history \
    WHEN cardinality(l.history) >= 25 THEN l.history[1:1] || l.history[3:cardinality(l.history)] || excluded.history \
    ELSE coalesce(l.history, '{}') || excluded.history END WHERE l.state = 0";

fn history(row: &Row, index: usize) -> Result<Vec<EndedAttempt>, LedgerError> {
    let entries: Option<Vec<String>> = row.try_get(index).map_err(broken)?;
    let read = |entry: &String| serde_json::from_str(entry).ok();
    Ok(entries.unwrap_or_default().iter().filter_map(read).collect())
}

fn shared(bytes: &[u8]) -> Arc<str> {
    String::from_utf8_lossy(bytes).into()
}

fn shared_keys(rows: &[Row]) -> Result<Vec<Arc<str>>, LedgerError> {
    rows.iter()
        .map(|row| row.try_get(0).map(shared).map_err(broken))
        .collect()
}

fn number(count: i32) -> u32 {
    u32::try_from(count).unwrap_or(0)
}

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

    async fn retry_dead(&self, ids: &[TaskId]) -> Result<usize, LedgerError> {
        self.revive(
            ids,
            "state = 0, publisher = NULL, deliveries = 0, attempts = 0, crashes = 0",
        )
        .await
    }

    async fn drop_dead(&self, ids: &[TaskId]) -> Result<usize, LedgerError> {
        self.revive(ids, "state = 2").await
    }

    async fn stats(&self) -> Result<Vec<LedgerStats>, LedgerError> {
        let rows = self
            .ask(
                "SELECT source, count(*) FILTER (WHERE state = 0), count(*) FILTER (WHERE state = 1), \
                 count(*) FILTER (WHERE state = 2), count(*) FILTER (WHERE state = 3) FROM {schema}.ledger \
                 GROUP BY source ORDER BY source",
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
    async fn revive(&self, ids: &[TaskId], change: &str) -> Result<usize, LedgerError> {
        let ids: Vec<&[u8]> = ids.iter().map(|id| id.as_str().as_bytes()).collect();
        let statement = format!(
            "UPDATE {{schema}}.ledger SET {change} WHERE ctid = ANY(ARRAY(SELECT l.ctid FROM {{schema}}.ledger l \
             WHERE l.id = ANY($1) AND l.state = 3 AND NOT l.elsewhere ORDER BY l.source, l.key FOR UPDATE)) RETURNING 1"
        );
        let rows = self.ask(&statement, &[(&ids, Type::BYTEA_ARRAY)]).await?;
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

/// The columns of ends.
#[derive(Default)]
struct Ends<'a> {
    ways: Vec<i16>,
    attempts: Vec<Option<String>>,
    times: Vec<Option<i64>>,
    queues: Vec<Option<&'a str>>,
    kinds: Vec<Option<&'a str>>,
    reasons: Vec<Option<String>>,
}

impl<'a> Ends<'a> {
    fn push(&mut self, end: &'a DeliveryEnd) {
        let (way, attempt, place) = match end {
            DeliveryEnd::Released => (0, None, None),
            DeliveryEnd::Failed(attempt) => (1, Some(attempt), None),
            DeliveryEnd::Done => (2, None, None),
            DeliveryEnd::Dead { attempt, queue, kind } => (3, Some(attempt), Some((queue, kind))),
        };
        self.ways.push(way);
        self.attempts
            .push(attempt.and_then(|attempt| serde_json::to_string(attempt).ok()));
        self.times.push(attempt.map(|attempt| attempt.at.as_microsecond()));
        self.queues.push(place.map(|(queue, _)| queue.as_str()));
        self.kinds.push(place.map(|(_, kind)| kind.as_str()));
        let reason = attempt
            .filter(|_| way == 3)
            .map(|attempt| attempt.reason.replace('\0', "\u{fffd}"));
        self.reasons.push(reason);
    }

    fn values(&self) -> [Value<'_>; 6] {
        [
            (&self.ways, Type::INT2_ARRAY),
            (&self.attempts, Type::TEXT_ARRAY),
            (&self.times, Type::INT8_ARRAY),
            (&self.queues, Type::TEXT_ARRAY),
            (&self.kinds, Type::TEXT_ARRAY),
            (&self.reasons, Type::TEXT_ARRAY),
        ]
    }
}

fn letter(row: &Row) -> Result<DeadLetter, LedgerError> {
    let origin = Origin::new(
        shared(row.try_get(1).map_err(broken)?),
        shared(row.try_get(2).map_err(broken)?),
    );
    let died: Option<i64> = row.try_get(5).map_err(broken)?;
    Ok(DeadLetter {
        id: origin.task_id(),
        queue: QueueName::from(row.try_get::<_, Option<String>>(3).map_err(broken)?.unwrap_or_default()),
        kind: row.try_get::<_, Option<String>>(4).map_err(broken)?.unwrap_or_default(),
        origin: Some(origin),
        died: jiff::Timestamp::from_microsecond(died.unwrap_or_default()).unwrap_or_default(),
        reason: row.try_get::<_, Option<String>>(6).map_err(broken)?.unwrap_or_default(),
        deliveries: number(row.try_get(7).map_err(broken)?),
        history: history(row, 8)?,
    })
}
