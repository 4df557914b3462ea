//! The verbs of the port.

use std::sync::Arc;

use async_trait::async_trait;
use plba_tasks::intake::MAXIMUM_KEY;
use plba_tasks::ledger::{Counts, DeliveryEnd, Known, LedgerError, LedgerStats, SourceLedger};
use plba_tasks::queue::{Cursor, DeadPage, Durability};
use plba_tasks::task::{Origin, QueueName, TaskId};

use super::entry::{counts, end_arguments, entry, letter};
use super::{CHUNK, RedisLedger};
use crate::reply::{self, Parts};

const MAXIMUM_CURSOR: usize = 64 * 1024;
const MAXIMUM_PAGE: usize = 1_000;
const MAXIMUM_SOURCE: usize = 200;

#[async_trait]
impl SourceLedger for RedisLedger {
    fn durability(&self) -> Durability {
        self.durability
    }

    async fn record_intake(&self, source: &str, keys: &[Arc<str>]) -> Result<(), LedgerError> {
        self.each("intake", source, keys).await?;
        self.published.add(source, keys);
        Ok(())
    }

    async fn count_deliveries(&self, origins: &[Origin]) -> Result<Vec<Option<Counts>>, LedgerError> {
        for origin in origins {
            fits(&origin.source, std::iter::once(&origin.key))?;
        }
        let mut all = vec![None; origins.len()];
        for (source, places) in by_source(origins) {
            for places in places.chunks(CHUNK) {
                let mut arguments = vec![self.holder.as_bytes()];
                arguments.extend(places.iter().map(|place| origins[*place].key.as_bytes()));
                let answers = self.list("deliver", source, &arguments).await?;
                for (place, answer) in places.iter().zip(answers) {
                    all[*place] = counts(answer);
                }
            }
            self.published
                .add(source, places.iter().map(|place| &origins[*place].key));
        }
        Ok(all)
    }

    async fn record_ends(&self, ends: Vec<(Origin, DeliveryEnd)>) -> Result<(), LedgerError> {
        for (origin, _) in &ends {
            fits(&origin.source, std::iter::once(&origin.key))?;
        }
        let origins: Vec<Origin> = ends.iter().map(|(origin, _)| origin.clone()).collect();
        for (source, places) in by_source(&origins) {
            for chunk in places.chunks(CHUNK / 5) {
                let mut arguments: Vec<Vec<u8>> = Vec::with_capacity(chunk.len() * 5);
                for place in chunk {
                    let (origin, end) = &ends[*place];
                    arguments.push(origin.key.as_bytes().to_vec());
                    arguments.extend(end_arguments(end).map(String::into_bytes));
                }
                self.call("end", source, &arguments).await?;
            }
            let over = places
                .iter()
                .filter(|place| matches!(ends[**place].1, DeliveryEnd::Done | DeliveryEnd::Dead { .. }));
            self.published.remove(source, over.map(|place| &origins[*place].key));
        }
        Ok(())
    }

    async fn settle(&self, source: &str, keys: &[Arc<str>]) -> Result<(), LedgerError> {
        self.each("settle", source, keys).await?;
        self.published.remove(source, keys);
        Ok(())
    }

    async fn forget(&self, source: &str, keys: &[Arc<str>]) -> Result<(), LedgerError> {
        self.each("forget", source, keys).await
    }

    async fn known(&self, source: &str, keys: &[Arc<str>]) -> Result<Vec<Option<Known>>, LedgerError> {
        fits(source, keys.iter())?;
        let mut all = Vec::with_capacity(keys.len());
        for keys in keys.chunks(CHUNK) {
            let arguments: Vec<&[u8]> = keys.iter().map(|key| key.as_bytes()).collect();
            for (key, value) in keys.iter().zip(self.list("known", source, &arguments).await?) {
                let published = self.published.contains(source, key);
                all.push(entry(value)?.map(|entry| Known {
                    published,
                    ..entry.known
                }));
            }
        }
        Ok(all)
    }

    async fn pending(&self, source: &str, limit: usize) -> Result<Vec<Arc<str>>, LedgerError> {
        fits(source, std::iter::empty())?;
        let mut pending = Vec::new();
        let mut from = 0;
        loop {
            let (first, last) = (from.to_string(), (from + CHUNK - 1).to_string());
            let page = self
                .list("order", source, &[b"o", first.as_bytes(), last.as_bytes()])
                .await?;
            let count = page.len();
            for key in page.into_iter().filter_map(reply::text) {
                if pending.len() >= limit {
                    return Ok(pending);
                }
                if !self.published.contains(source, &key) {
                    pending.push(key.into());
                }
            }
            if count < CHUNK {
                return Ok(pending);
            }
            from += CHUNK;
        }
    }

    async fn unsettled(&self, source: &str, limit: usize) -> Result<Vec<Arc<str>>, LedgerError> {
        fits(source, std::iter::empty())?;
        if limit == 0 {
            return Ok(Vec::new());
        }
        let last = (limit - 1).to_string();
        let page = self.list("order", source, &[b"n", b"0", last.as_bytes()]).await?;
        Ok(page.into_iter().filter_map(reply::text).map(Into::into).collect())
    }

    async fn cursor(&self, source: &str) -> Result<Option<String>, LedgerError> {
        fits(source, std::iter::empty())?;
        let mut found = self.list("cursor", source, &[]).await?;
        Ok(found.pop().and_then(reply::text))
    }

    async fn set_cursor(&self, source: &str, cursor: &str) -> Result<(), LedgerError> {
        fits(source, std::iter::empty())?;
        if cursor.len() > MAXIMUM_CURSOR {
            return Err(LedgerError::new(format!(
                "a cursor has at most {MAXIMUM_CURSOR} bytes, not {}",
                cursor.len()
            )));
        }
        self.call("set", source, &[cursor]).await?;
        Ok(())
    }

    async fn dead_letters(&self, cursor: Option<Cursor>, limit: usize) -> Result<DeadPage, LedgerError> {
        let limit = limit.clamp(1, MAXIMUM_PAGE);
        let after = cursor.map_or_else(|| "0".to_owned(), |cursor| cursor.0);
        let wanted = (limit + 1).to_string();
        let mut found = self.list("dead", "", &[after.as_bytes(), wanted.as_bytes()]).await?;
        let more = found.len() > limit;
        found.truncate(limit);
        let mut page = DeadPage::default();
        let mut last = String::new();
        for value in found {
            let mut parts = Parts::new("the ledger", value)?;
            last = parts.text()?;
            let (source, key) = (parts.text()?, parts.text()?);
            if let Some(entry) = entry(parts.value()?)? {
                page.letters.push(letter(&source, &key, entry));
            }
        }
        page.next = more.then_some(Cursor(last));
        Ok(page)
    }

    async fn retry_dead(&self, queue: &QueueName, ids: &[TaskId]) -> Result<usize, LedgerError> {
        self.dead("retry", queue, ids).await
    }

    async fn drop_dead(&self, queue: &QueueName, ids: &[TaskId]) -> Result<usize, LedgerError> {
        self.dead("drop", queue, ids).await
    }

    async fn stats(&self) -> Result<Vec<LedgerStats>, LedgerError> {
        let mut all = Vec::new();
        for source in self.sources().await? {
            let numbers = self.list("stats", &source, &[]).await?;
            let number = |place: usize| numbers.get(place).and_then(reply::integer).unwrap_or(0).unsigned_abs();
            all.push(LedgerStats {
                open: number(0),
                unsettled: number(1),
                settled: number(2),
                dead: number(3),
                source,
            });
        }
        Ok(all)
    }
}

/// Checks a source's name and keys.
pub(super) fn fits<'a>(source: &str, keys: impl Iterator<Item = &'a Arc<str>>) -> Result<(), LedgerError> {
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

/// Where the origins of each source are, in order.
fn by_source(origins: &[Origin]) -> Vec<(&str, Vec<usize>)> {
    let mut sorted: Vec<(&str, Vec<usize>)> = Vec::new();
    for (place, origin) in origins.iter().enumerate() {
        match sorted.iter_mut().find(|(source, _)| *source == &*origin.source) {
            Some((_, places)) => places.push(place),
            None => sorted.push((&origin.source, vec![place])),
        }
    }
    sorted
}
