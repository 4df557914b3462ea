//! The ledger of sources in SQLite, beside the queues of the same database or alone. A queue in the same database keeps
//! it in step: a task with an origin is taken in, done or dead in the ledger in the transaction in which it is so in its
//! queue.

pub(super) mod entries;

use std::sync::Arc;

use async_trait::async_trait;
use plba_tasks::intake::MAXIMUM_KEY;
use plba_tasks::ledger::{Counts, DeliveryEnd, EntryState, Known, LedgerError, LedgerStats, SourceLedger};
use plba_tasks::queue::{Cursor, DeadFilter, DeadPage, Durability};
use plba_tasks::task::{AttemptEnd, Origin, QueueName, TaskId, remember};
use rusqlite::{Connection, OptionalExtension, params};

use self::entries::{known_source, read_history, write_history};
use super::database::Database;
use super::failure::{Failure, OpenDatabaseError};
use super::queue::dead;
use super::session::{Session, count};

const MAXIMUM_CURSOR: usize = 64 * 1024;
const MAXIMUM_PAGE: usize = 1_000;
const MAXIMUM_SOURCE: usize = 200;

/// A [`SourceLedger`] in SQLite. Clones share it.
///
/// Several processes may have it open. Counts of deliveries are for a queue in memory, which is one process's: when a
/// ledger is opened, deliveries that were counted and not ended count as crashes.
#[derive(Clone)]
pub struct SqliteLedger {
    database: Arc<Database>,
    /// Tells this opening of the ledger from all others: what it has published is not pending.
    opening: i64,
}

impl SqliteLedger {
    pub(super) async fn of(database: Arc<Database>) -> Result<Self, OpenDatabaseError> {
        let adding = Arc::clone(&database);
        let path = database.shared.settings.path.clone();
        let stopped = |_| {
            let source = std::io::Error::other("the program is stopping");
            Err(OpenDatabaseError::Thread { path, source })
        };
        tokio::task::spawn_blocking(move || adding.add_ledger())
            .await
            .unwrap_or_else(stopped)?;
        let opened = database.write(|session| {
            session
                .connection
                .prepare_cached("UPDATE plba_ledger SET in_hand = 0, crashes = crashes + 1 WHERE in_hand = 1")?
                .execute([])?;
            Ok(session.tick())
        });
        let opening = opened.await.map_err(|failure| OpenDatabaseError::Unwritable {
            reason: failure.to_string(),
        })?;
        Ok(Self { database, opening })
    }

    async fn write<T, F>(&self, work: F) -> Result<T, LedgerError>
    where
        T: Send + 'static,
        F: FnMut(&mut Session<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        Ok(self.database.write(work).await?)
    }

    async fn read<T, F>(&self, read: F) -> Result<T, LedgerError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        Ok(self.database.read(read).await.map_err(|failure: Failure| failure)?)
    }

    /// The first keys of a source that a query finds.
    async fn keys(&self, source: &str, sql: &'static str, limit: usize) -> Result<Vec<Arc<str>>, LedgerError> {
        let (source, opening) = (source.to_owned(), self.opening);
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.read(move |connection| {
            let Some(source) = known_source(connection, &source)? else {
                return Ok(Vec::new());
            };
            let mut find = connection.prepare_cached(sql)?;
            find.query_map([source, limit, opening], |row| row.get(0))?.collect()
        })
        .await
    }
}

fn check<'a>(source: &str, keys: impl IntoIterator<Item = &'a Arc<str>>) -> Result<(), LedgerError> {
    if source.is_empty() || source.len() > MAXIMUM_SOURCE {
        return Err(LedgerError::new(format!(
            "a source's name has 1 to {MAXIMUM_SOURCE} bytes, not {}",
            source.len()
        )));
    }
    match keys.into_iter().find(|key| key.len() > MAXIMUM_KEY) {
        Some(key) => Err(LedgerError::new(format!(
            "a key has at most {MAXIMUM_KEY} bytes, not {}",
            key.len()
        ))),
        None => Ok(()),
    }
}

#[async_trait]
impl SourceLedger for SqliteLedger {
    fn durability(&self) -> Durability {
        self.database.shared.settings.synchronous.durability()
    }

    async fn record_intake(&self, source: &str, keys: &[Arc<str>]) -> Result<(), LedgerError> {
        check(source, keys)?;
        let (source, keys, opening) = (source.to_owned(), keys.to_vec(), self.opening);
        self.write(move |session| {
            let source = entries::source(session, &source)?;
            for key in &keys {
                let (entry, _) = entries::entry(session, source, key)?;
                session
                    .connection
                    .prepare_cached("UPDATE plba_ledger SET published = ?2 WHERE entry = ?1 AND published <> ?2")?
                    .execute([entry, opening])?;
            }
            Ok(())
        })
        .await
    }

    async fn count_deliveries(&self, origins: &[Origin]) -> Result<Vec<Option<Counts>>, LedgerError> {
        for origin in origins {
            check(&origin.source, [&origin.key])?;
        }
        let (origins, opening) = (origins.to_vec(), self.opening);
        self.write(move |session| {
            let count = |origin| count_delivery(session, origin, opening);
            origins.iter().map(count).collect()
        })
        .await
    }

    async fn record_ends(&self, ends: Vec<(Origin, DeliveryEnd)>) -> Result<(), LedgerError> {
        for (origin, _) in &ends {
            check(&origin.source, [&origin.key])?;
        }
        self.write(move |session| {
            ends.iter()
                .try_for_each(|(origin, end)| record_end(session, origin, end))
        })
        .await
    }

    async fn settle(&self, source: &str, keys: &[Arc<str>]) -> Result<(), LedgerError> {
        check(source, keys)?;
        let (source, keys) = (source.to_owned(), keys.to_vec());
        self.write(move |session| {
            let Some(source) = known_source(session.connection, &source)? else {
                return Ok(());
            };
            for key in &keys {
                let entry: Option<i64> = session
                    .connection
                    .prepare_cached("SELECT entry FROM plba_ledger WHERE source = ?1 AND key = ?2 AND state <> 2")?
                    .query_row(params![source, &**key], |row| row.get(0))
                    .optional()?;
                if let Some(entry) = entry {
                    entries::settle(session, entry)?;
                }
            }
            Ok(())
        })
        .await
    }

    async fn forget(&self, source: &str, keys: &[Arc<str>]) -> Result<(), LedgerError> {
        check(source, keys)?;
        let (source, keys) = (source.to_owned(), keys.to_vec());
        self.write(move |session| {
            let Some(source) = known_source(session.connection, &source)? else {
                return Ok(());
            };
            let mut forget = session
                .connection
                .prepare_cached("DELETE FROM plba_ledger WHERE source = ?1 AND key = ?2 AND state = 2")?;
            let mut gone = 0;
            for key in &keys {
                gone += forget.execute(params![source, &**key])?;
            }
            entries::unsettle(session, source, gone)
        })
        .await
    }

    async fn known(&self, source: &str, keys: &[Arc<str>]) -> Result<Vec<Option<Known>>, LedgerError> {
        let (source, keys, opening) = (source.to_owned(), keys.to_vec(), self.opening);
        self.read(move |connection| {
            let Some(source) = known_source(connection, &source)? else {
                return Ok(keys.iter().map(|_| None).collect());
            };
            keys.iter().map(|key| known(connection, source, key, opening)).collect()
        })
        .await
    }

    async fn pending(&self, source: &str, limit: usize) -> Result<Vec<Arc<str>>, LedgerError> {
        let sql = "SELECT key FROM plba_ledger WHERE source = ?1 AND state = 0 AND tasked = 0 AND published <> ?3
                   ORDER BY place LIMIT ?2";
        self.keys(source, sql, limit).await
    }

    async fn unsettled(&self, source: &str, limit: usize) -> Result<Vec<Arc<str>>, LedgerError> {
        let sql = "SELECT key FROM plba_ledger WHERE source = ?1 AND state = 1 AND ?3 = ?3 ORDER BY place LIMIT ?2";
        self.keys(source, sql, limit).await
    }

    async fn cursor(&self, source: &str) -> Result<Option<String>, LedgerError> {
        let source = source.to_owned();
        self.read(move |connection| {
            let cursor = connection
                .prepare_cached("SELECT cursor FROM plba_sources WHERE name = ?1")?
                .query_row([source], |row| row.get(0))
                .optional()?;
            Ok(cursor.flatten())
        })
        .await
    }

    async fn set_cursor(&self, source: &str, cursor: &str) -> Result<(), LedgerError> {
        check(source, [])?;
        if cursor.len() > MAXIMUM_CURSOR {
            return Err(LedgerError::new(format!(
                "a cursor has at most {MAXIMUM_CURSOR} bytes, not {}",
                cursor.len()
            )));
        }
        let (source, cursor) = (source.to_owned(), cursor.to_owned());
        self.write(move |session| {
            let source = entries::source(session, &source)?;
            session
                .connection
                .prepare_cached("UPDATE plba_sources SET cursor = ?2 WHERE number = ?1 AND cursor IS NOT ?2")?
                .execute(params![source, cursor])
                .map(drop)
        })
        .await
    }

    async fn dead_letters(&self, cursor: Option<Cursor>, limit: usize) -> Result<DeadPage, LedgerError> {
        let after = cursor.and_then(|cursor| cursor.0.parse().ok()).unwrap_or(0);
        let limit = limit.clamp(1, MAXIMUM_PAGE);
        self.read(move |connection| entries::dead_page(connection, &DeadFilter::default(), after, limit, false))
            .await
    }

    async fn retry_dead(&self, queue: &QueueName, ids: &[TaskId]) -> Result<usize, LedgerError> {
        let (queue, ids) = (queue.clone(), ids.to_vec());
        self.write(move |session| dead::retry(session, &queue, &ids)).await
    }

    async fn drop_dead(&self, queue: &QueueName, ids: &[TaskId]) -> Result<usize, LedgerError> {
        let (queue, ids) = (queue.clone(), ids.to_vec());
        self.write(move |session| dead::drop_all(session, &queue, &ids)).await
    }

    async fn stats(&self) -> Result<Vec<LedgerStats>, LedgerError> {
        self.read(|connection| {
            let mut find = connection.prepare_cached(
                "SELECT name,
                     (SELECT count(*) FROM plba_ledger WHERE source = number AND state = 0),
                     (SELECT count(*) FROM plba_ledger WHERE source = number AND state = 1),
                     settled,
                     (SELECT count(*) FROM plba_ledger WHERE source = number AND state = 3)
                 FROM plba_sources ORDER BY name",
            )?;
            let stats = find.query_map([], |row| {
                Ok(LedgerStats {
                    source: row.get(0)?,
                    open: count(row, 1)?,
                    unsettled: count(row, 2)?,
                    settled: count(row, 3)?,
                    dead: count(row, 4)?,
                })
            })?;
            stats.collect()
        })
        .await
    }
}

fn count_delivery(session: &mut Session<'_>, origin: &Origin, opening: i64) -> rusqlite::Result<Option<Counts>> {
    let source = entries::source(session, &origin.source)?;
    let (entry, state) = entries::entry(session, source, &origin.key)?;
    if state != EntryState::Open {
        return Ok(None);
    }
    session
        .connection
        .prepare_cached(
            "UPDATE plba_ledger SET crashes = crashes + in_hand, deliveries = deliveries + 1, in_hand = 1,
                 published = ?2 WHERE entry = ?1 RETURNING deliveries, attempts, crashes",
        )?
        .query_row([entry, opening], |row| {
            Ok(Some(Counts {
                deliveries: row.get(0)?,
                attempts: row.get(1)?,
                crashes: row.get(2)?,
            }))
        })
}

fn record_end(session: &mut Session<'_>, origin: &Origin, end: &DeliveryEnd) -> rusqlite::Result<()> {
    let source = entries::source(session, &origin.source)?;
    let (entry, state) = entries::entry(session, source, &origin.key)?;
    if state != EntryState::Open {
        return Ok(());
    }
    let (attempt, counts) = match end {
        DeliveryEnd::Released => (None, false),
        DeliveryEnd::Done => return entries::shift(session, entry, EntryState::Done, false),
        DeliveryEnd::Failed(attempt) => (Some(attempt), true),
        DeliveryEnd::Dead { attempt, .. } => (Some(attempt), attempt.how != AttemptEnd::Crashed),
    };
    let history: Option<String> = session
        .connection
        .prepare_cached("SELECT history FROM plba_ledger WHERE entry = ?1")?
        .query_row([entry], |row| row.get(0))?;
    let mut history = read_history(history);
    if let Some(attempt) = attempt {
        remember(&mut history, attempt.clone());
    }
    session
        .connection
        .prepare_cached("UPDATE plba_ledger SET in_hand = 0, attempts = attempts + ?2, history = ?3 WHERE entry = ?1")?
        .execute(params![entry, counts, write_history(&history)])?;
    if let DeliveryEnd::Dead { queue, kind, .. } = end {
        session
            .connection
            .prepare_cached("UPDATE plba_ledger SET queue = ?2, kind = ?3 WHERE entry = ?1")?
            .execute(params![entry, queue, kind])?;
        entries::shift(session, entry, EntryState::Dead, false)?;
    }
    Ok(())
}

fn known(connection: &Connection, source: i64, key: &str, opening: i64) -> rusqlite::Result<Option<Known>> {
    connection
        .prepare_cached(
            "SELECT state, deliveries, attempts, crashes, history, published, tasked FROM plba_ledger
             WHERE source = ?1 AND key = ?2",
        )?
        .query_row(params![source, key], |row| {
            Ok(Known {
                state: entries::state(row.get(0)?),
                counts: Counts {
                    deliveries: row.get(1)?,
                    attempts: row.get(2)?,
                    crashes: row.get(3)?,
                },
                history: read_history(row.get(4)?),
                published: row.get::<_, i64>(5)? == opening || row.get(6)?,
            })
        })
        .optional()
}
