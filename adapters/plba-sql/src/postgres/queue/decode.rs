//! Rows as tasks. A row that can't be read is told from one that can, and never guessed at.

use jiff::Timestamp;
use plba_tasks::envelope::Envelope;
use plba_tasks::task::{EndedAttempt, QueueName, Task, TaskId};
use tokio_postgres::Row;

use super::super::fault::Fault;

/// What is kept beside the envelope, and holds.
pub(super) struct Kept<'a> {
    pub(super) published: Option<i64>,
    pub(super) expires: Option<i64>,
    pub(super) key: Option<&'a [u8]>,
    pub(super) ordered: bool,
    pub(super) history: Vec<&'a str>,
    pub(super) former: Option<&'a str>,
    pub(super) envelope: &'a str,
}

/// A time in microseconds; the farthest for one that is out of range.
pub(super) fn time(microseconds: i64) -> Timestamp {
    Timestamp::from_microsecond(microseconds).unwrap_or(if microseconds < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    })
}

/// A text that was kept as bytes, because PostgreSQL's texts can't hold every character.
pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The attempts that have ended, as far as they can be read.
pub(super) fn history(entries: &[&str]) -> Vec<EndedAttempt> {
    entries
        .iter()
        .filter_map(|entry| serde_json::from_str(entry).ok())
        .collect()
}

/// Reads the envelope, with what holds instead of what it says.
pub(super) fn envelope(kept: &Kept<'_>) -> Result<Envelope, String> {
    let mut envelope = Envelope::decode(kept.envelope.as_bytes()).map_err(|error| error.to_string())?;
    if let Some(former) = kept.former {
        // It was replaced: where it came from stays.
        envelope.origin = Envelope::decode(former.as_bytes())
            .map_err(|error| error.to_string())?
            .origin;
    }
    if let Some(published) = kept.published {
        envelope.published = time(published);
        envelope.expires = kept.expires.map(time);
    }
    envelope.key = kept.key.map(|key| text(key).into());
    envelope.ordered = kept.ordered;
    let mut attempts = Vec::with_capacity(kept.history.len());
    for entry in &kept.history {
        attempts.push(serde_json::from_str(entry).map_err(|error| format!("its history is broken: {error}"))?);
    }
    envelope.history = attempts;
    Ok(envelope)
}

/// A task, from the columns of a delivery: see `take_1`.
pub(super) fn task(row: &Row, queue: &QueueName, id: &TaskId) -> Result<Result<Task, String>, Fault> {
    let kept = Kept {
        published: Some(row.try_get(6)?),
        expires: row.try_get(7)?,
        key: row.try_get(10)?,
        ordered: row.try_get(11)?,
        history: row.try_get::<_, Option<Vec<&str>>>(12)?.unwrap_or_default(),
        former: row.try_get(13)?,
        envelope: row.try_get(14)?,
    };
    let payload: &[u8] = row.try_get(15)?;
    Ok(envelope(&kept).map(|envelope| envelope.into_task(id.clone(), queue.clone(), payload.to_vec().into())))
}
