//! Keys of entries as columns, checked and in one order.

use std::sync::Arc;

use plba_tasks::intake::MAXIMUM_KEY;
use plba_tasks::ledger::LedgerError;
use plba_tasks::task::{MAXIMUM_NAME, Origin};
use tokio_postgres::types::Type;

use super::super::pool::Value;
use super::refused;

/// Keys as a column, each once and sorted, so that all who write the same rows lock them in one order; and their ids.
pub(super) struct Keys<'a> {
    sources: Vec<&'a [u8]>,
    keys: Vec<&'a [u8]>,
    ids: Vec<Vec<u8>>,
    pub(super) orders: Vec<i32>,
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

    pub(super) fn of_source(source: &'a str, keys: &'a [Arc<str>]) -> Result<Self, LedgerError> {
        check_source(source)?;
        Self::new(keys.iter().map(|key| (source, &**key)))
    }

    pub(super) fn of_origins(origins: impl Iterator<Item = &'a Origin>) -> Result<Self, LedgerError> {
        Self::new(origins.map(|origin| (&*origin.source, &*origin.key)))
    }

    pub(super) fn values(&self) -> [Value<'_>; 4] {
        [
            (&self.sources, Type::BYTEA_ARRAY),
            (&self.keys, Type::BYTEA_ARRAY),
            (&self.ids, Type::BYTEA_ARRAY),
            (&self.orders, Type::INT4_ARRAY),
        ]
    }
}

pub(super) fn check_source(source: &str) -> Result<(), LedgerError> {
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
