//! Entries of the ledger as its script takes and gives them.

use plba_tasks::ledger::{Counts, DeliveryEnd, EntryState, Known};
use plba_tasks::queue::DeadLetter;
use plba_tasks::task::{AttemptEnd, EndedAttempt, Origin, QueueName};
use redis::Value;

use crate::failure::Failure;
use crate::record::json;
use crate::reply::{self, Parts};

/// An entry as scripts give it: state, counts, history, queue, kind.
pub(super) struct Entry {
    pub(super) known: Known,
    queue: String,
    kind: String,
}

pub(super) fn entry(value: Value) -> Result<Option<Entry>, Failure> {
    let mut parts = Parts::new("the ledger", value)?;
    let Ok(state) = parts.text() else { return Ok(None) };
    let state = match state.as_str() {
        "o" => EntryState::Open,
        "n" => EntryState::Done,
        "t" => EntryState::Settled,
        _ => EntryState::Dead,
    };
    let counts = counts(parts.value()?).unwrap_or_default();
    let history = parts.text()?;
    let history = history.lines().filter_map(|line| serde_json::from_str(line).ok());
    Ok(Some(Entry {
        known: Known {
            state,
            counts,
            history: history.collect(),
            published: false,
        },
        queue: parts.text()?,
        kind: parts.text()?,
    }))
}

pub(super) fn counts(value: Value) -> Option<Counts> {
    let Value::Array(counts) = value else { return None };
    let count = |place: usize| {
        counts
            .get(place)
            .and_then(reply::integer)
            .and_then(|count| u32::try_from(count).ok())
    };
    Some(Counts {
        deliveries: count(0)?,
        attempts: count(1)?,
        crashes: count(2)?,
    })
}

pub(super) fn letter(source: &str, key: &str, entry: Entry) -> DeadLetter {
    let origin = Origin::new(source, key);
    let last = entry.known.history.last();
    DeadLetter {
        id: origin.task_id(),
        queue: QueueName::from(entry.queue.as_str()),
        kind: entry.kind,
        origin: Some(origin),
        died: last.map(|attempt| attempt.at).unwrap_or_default(),
        reason: last.map(|attempt| attempt.reason.clone()).unwrap_or_default(),
        deliveries: entry.known.counts.deliveries,
        history: entry.known.history,
    }
}

/// How, the attempt as JSON, the queue and the kind.
pub(super) fn end_arguments(end: &DeliveryEnd) -> [String; 4] {
    let none = String::new;
    let attempt = |attempt: &EndedAttempt| json(attempt);
    match end {
        DeliveryEnd::Released => ["released".into(), none(), none(), none()],
        DeliveryEnd::Failed(ended) => ["failed".into(), attempt(ended), none(), none()],
        DeliveryEnd::Done => ["done".into(), none(), none(), none()],
        DeliveryEnd::Dead {
            attempt: ended,
            queue,
            kind,
        } => {
            let crashed = ended.how == AttemptEnd::Crashed;
            let how = if crashed { "crashed" } else { "dead" };
            [how.into(), attempt(ended), queue.clone(), kind.clone()]
        }
    }
}
