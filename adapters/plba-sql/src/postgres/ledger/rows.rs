//! Rows of the ledger, read.

use std::sync::Arc;

use plba_tasks::ledger::LedgerError;
use plba_tasks::queue::DeadLetter;
use plba_tasks::task::{EndedAttempt, Origin, QueueName};
use tokio_postgres::Row;

use super::super::fault::Fault;

pub(super) fn broken(error: tokio_postgres::Error) -> LedgerError {
    LedgerError::from(Fault::from(error))
}

pub(super) fn history(row: &Row, index: usize) -> Result<Vec<EndedAttempt>, LedgerError> {
    let entries: Option<Vec<String>> = row.try_get(index).map_err(broken)?;
    let read = |entry: &String| serde_json::from_str(entry).ok();
    Ok(entries.unwrap_or_default().iter().filter_map(read).collect())
}

pub(super) fn shared(bytes: &[u8]) -> Arc<str> {
    String::from_utf8_lossy(bytes).into()
}

pub(super) fn shared_keys(rows: &[Row]) -> Result<Vec<Arc<str>>, LedgerError> {
    rows.iter()
        .map(|row| row.try_get(0).map(shared).map_err(broken))
        .collect()
}

pub(super) fn number(count: i32) -> u32 {
    u32::try_from(count).unwrap_or(0)
}

pub(super) fn letter(row: &Row) -> Result<DeadLetter, LedgerError> {
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
