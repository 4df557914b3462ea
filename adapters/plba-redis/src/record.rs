//! A task as Redis keeps it: the data that never change, in one string, and beside them, only when there is something to
//! say, counts, history, what scripts have to know of it, and what a replacement left of the task before.
//!
//! The data: version (1), class (0 high, 1 normal, 2 low), flags (1: the producer gave the id), length of the id (2 bytes,
//! the greater first), id, length of the envelope (4 bytes), envelope, payload.

use std::sync::Arc;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use plba_tasks::envelope::{Envelope, expiry};
use plba_tasks::queue::{DeadLetter, DeadTask, UNDECODABLE};
use plba_tasks::task::{
    AttemptEnd, Conflict, EndedAttempt, Headers, NewTask, Origin, QueueName, Task, TaskId, UniqueScope, remember,
};
use redis::Value;
use serde::{Deserialize, Serialize};

use crate::reply;

const VERSION: u8 = 1;
const NAMED: u8 = 1;

/// Writes the data of a new task behind what is there.
pub(crate) fn encode(task: &NewTask, id: &TaskId, published: Timestamp, data: &mut Vec<u8>) {
    let id = id.as_str().as_bytes();
    let named = if task.id.is_some() { NAMED } else { 0 };
    data.extend_from_slice(&[VERSION, task.priority as u8, named]);
    // Lengths are checked before: see `NewTask::check` and `task_bytes`.
    data.extend_from_slice(&u16::try_from(id.len()).unwrap_or(u16::MAX).to_be_bytes());
    data.extend_from_slice(id);
    let at = data.len();
    data.extend_from_slice(&[0; 4]);
    Envelope::encode_new_into(task, published, data);
    let length = u32::try_from(data.len() - at - 4).unwrap_or(u32::MAX);
    data[at..at + 4].copy_from_slice(&length.to_be_bytes());
    data.extend_from_slice(&task.payload);
}

/// What scripts have to know of a task; most have nothing.
#[derive(Serialize)]
struct Extras<'a> {
    /// When it expires, in microseconds; a text, because Lua's JSON rounds numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    e: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    k: Option<&'a str>,
    /// Whether its key orders it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    o: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    u: Option<&'a str>,
    /// For how long its unique key is taken, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    f: Option<String>,
    /// Whether it replaces.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    r: bool,
    /// What stays when it is replaced: [`Kept`] as JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    og: Option<String>,
}

/// What stays of a task that is replaced.
#[derive(Default, Serialize, Deserialize)]
struct Kept {
    origin: Option<Origin>,
    key: Option<String>,
    ordered: bool,
}

/// What scripts have to know of a new task, as JSON; `None` when there is nothing.
pub(crate) fn extras(task: &NewTask, published: Timestamp) -> Option<String> {
    if task.key.is_none() && task.unique.is_none() && task.expires.is_none() {
        return None;
    }
    let unique = task.unique.as_ref();
    let kept = || Kept {
        origin: task.origin.clone(),
        key: task.key.as_deref().map(str::to_owned),
        ordered: task.ordered,
    };
    let extras = Extras {
        e: expiry(task, published).map(|expires| expires.as_microsecond().to_string()),
        k: task.key.as_deref(),
        o: task.ordered,
        u: unique.map(|unique| &*unique.key),
        f: unique.and_then(|unique| match unique.scope {
            UniqueScope::UntilDone => None,
            UniqueScope::For(period) => Some(milliseconds(period)),
        }),
        r: unique.is_some_and(|unique| unique.conflict == Conflict::Replace),
        og: unique.map(|_| json(&kept())),
    };
    Some(json(&extras))
}

/// A span in milliseconds, as scripts take it; at most 1,000 years.
pub(crate) fn milliseconds(span: std::time::Duration) -> String {
    let microseconds = span.as_micros().min(1000 * 366 * 86_400 * 1_000_000);
    format!("{}.{:03}", microseconds / 1000, microseconds % 1000)
}

/// JSON of types that can't fail.
pub(crate) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// A record as it is read.
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub(crate) data: Bytes,
    pub(crate) reference: Vec<u8>,
    counts: String,
    history: String,
    kept: Option<String>,
    expires_no_more: bool,
    pub(crate) ready_at: Option<f64>,
    reason: String,
    died: f64,
    /// Whether a consumer could not decode it.
    pub(crate) broken: bool,
    /// The id that stands in for one that can't be read.
    stand_in: Option<String>,
    pub(crate) limited: bool,
}

impl Record {
    /// One that has its data and nothing else.
    pub(crate) fn plain(data: impl Into<Bytes>) -> Self {
        Self {
            data: data.into(),
            ..Self::default()
        }
    }

    /// Of names and values by turns. Unknown names are passed over.
    pub(crate) fn of_fields(fields: Vec<Value>) -> Self {
        let mut record = Self::default();
        let mut fields = fields.into_iter();
        while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
            let name = reply::bytes(name).unwrap_or_default();
            let value = reply::bytes(value).unwrap_or_default();
            let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
            match &name[..] {
                b"d" => record.data = value.into(),
                b"m" => record.counts = text(&value),
                b"t" => record.history = text(&value),
                b"o" => record.kept = Some(text(&value)),
                b"q" => record.expires_no_more = true,
                b"a" => record.ready_at = text(&value).parse().ok(),
                b"w" => record.reason = text(&value),
                b"z" => record.died = text(&value).parse().unwrap_or_default(),
                b"b" => record.broken = true,
                b"i" => record.stand_in = Some(text(&value)),
                b"x" => record.limited = true,
                b"ref" => record.reference = value,
                _ => {}
            }
        }
        record
    }

    /// Deliveries, attempts and crashes that have ended.
    pub(crate) fn counts(&self) -> (u32, u32, u32) {
        let mut counts = self.counts.split(' ').map(|count| count.parse().unwrap_or(0));
        let mut next = || counts.next().unwrap_or(0);
        (next(), next(), next())
    }

    /// Whether the producer gave the id.
    pub(crate) fn is_named(&self) -> bool {
        self.data.get(2).is_some_and(|flags| flags & NAMED != 0)
    }

    /// The id, its end, if the data are of a kind that this program reads.
    fn id(&self) -> Option<(&str, usize)> {
        let (&version, rest) = self.data.split_first()?;
        let length = usize::from(u16::from_be_bytes(rest.get(2..4)?.try_into().ok()?));
        let end = 5 + length;
        let id = str::from_utf8(self.data.get(5..end)?).ok()?;
        (version == VERSION && !id.is_empty()).then_some((id, end))
    }

    /// The task's id, or what stands in for it.
    pub(crate) fn task_id(&self) -> TaskId {
        match (self.id(), &self.stand_in) {
            (_, Some(stand_in)) => TaskId::from(stand_in.as_str()),
            (Some((id, _)), None) => TaskId::from(id),
            (None, None) => TaskId::from("unreadable"),
        }
    }

    /// The task, or why there is none.
    pub(crate) fn decode(&self, queue: &QueueName) -> Result<Task, String> {
        let (id, end) = self
            .id()
            .ok_or("its record was not written by this program, or is damaged")?;
        let length = self.data.get(end..end + 4).and_then(|length| length.try_into().ok());
        let length = u32::from_be_bytes(length.ok_or("its record is cut off")?) as usize;
        let payload = end + 4 + length;
        let envelope = self.data.get(end + 4..payload).ok_or("its record is cut off")?;
        let envelope = Envelope::decode(envelope).map_err(|error| error.to_string())?;
        let mut task = envelope.into_task(TaskId::from(id), queue.clone(), self.data.slice(payload..));
        if let Some(kept) = &self.kept {
            let kept: Kept = serde_json::from_str(kept).map_err(|error| error.to_string())?;
            task.origin = kept.origin;
            task.key = kept.key.map(Arc::from);
            task.ordered = kept.ordered;
        }
        if self.expires_no_more {
            task.expires = None;
        }
        for line in self.history.lines() {
            remember(&mut task.history, ended(line).ok_or("its history is damaged")?);
        }
        Ok(task)
    }

    /// The record as a dead letter, whole.
    pub(crate) fn dead(self, queue: &QueueName) -> DeadTask {
        let (deliveries, ..) = self.counts();
        let letter = |id, kind: String, origin, history| DeadLetter {
            id,
            queue: queue.clone(),
            kind,
            origin,
            died: timestamp(self.died * 1000.0),
            reason: sentence(&self.reason),
            deliveries,
            history,
        };
        let readable = (!self.broken && self.stand_in.is_none()).then(|| self.decode(queue).ok());
        match readable.flatten() {
            Some(task) => DeadTask {
                letter: letter(task.id, task.kind.into_owned(), task.origin, task.history),
                payload: task.payload,
                headers: task.headers,
                decoded: true,
            },
            None => DeadTask {
                letter: letter(self.task_id(), UNDECODABLE.to_owned(), None, Vec::new()),
                payload: self.data.clone(),
                headers: Headers::new(),
                decoded: false,
            },
        }
    }
}

/// A line of history: microseconds, a letter for how it ended, and the reason.
fn ended(line: &str) -> Option<EndedAttempt> {
    let mut parts = line.splitn(3, ' ');
    let at = timestamp(parts.next()?.parse().ok()?);
    let (how, reason) = (parts.next()?, parts.next()?);
    let (how, reason) = match how {
        "f" => (AttemptEnd::Failed, sentence(reason)),
        "r" => (AttemptEnd::Rejected, sentence(reason)),
        "c" => (AttemptEnd::Crashed, sentence(reason)),
        "x" => (AttemptEnd::Expired, sentence(&format!("x{}", reason.trim_matches('"')))),
        _ => return None,
    };
    Some(EndedAttempt::new(at, how, reason))
}

/// A reason as scripts keep it: JSON text, `x` and when it expired, or plain words.
fn sentence(reason: &str) -> String {
    if let Some(expired) = reason.strip_prefix('x').and_then(|at| at.parse::<f64>().ok()) {
        return format!("expired at {} before it could be carried out", timestamp(expired));
    }
    match serde_json::from_str::<String>(reason) {
        Ok(text) => text,
        Err(_) => reason.to_owned(),
    }
}

/// A time in microseconds, as scripts give it.
pub(crate) fn timestamp(microseconds: f64) -> Timestamp {
    Timestamp::UNIX_EPOCH
        .checked_add(SignedDuration::from_micros(microseconds as i64))
        .unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at() -> Timestamp {
        Timestamp::constant(1_767_225_600, 123_456_000)
    }

    fn encoded(task: &NewTask, id: &str) -> Vec<u8> {
        let mut data = Vec::new();
        encode(task, &id.into(), at(), &mut data);
        data
    }

    fn field(name: &str, value: impl Into<Vec<u8>>) -> [Value; 2] {
        [Value::BulkString(name.into()), Value::BulkString(value.into())]
    }

    #[test]
    fn a_task_comes_back_with_counts_and_history() {
        let task = NewTask::new("orders", "test", "payload")
            .with_id("a")
            .with_header("x", "y");
        let fields = [
            field("d", encoded(&task, "a")),
            field("m", "3 2 1"),
            field("t", "1767225600000000 f \"no\\nreply\"\n1767225601000000 c \"gone\""),
        ];
        let record = Record::of_fields(fields.concat());
        assert_eq!(record.counts(), (3, 2, 1));
        assert!(record.is_named());
        let read = record.decode(&"orders".into()).unwrap();
        assert_eq!((read.id.as_str(), &read.payload[..]), ("a", &b"payload"[..]));
        assert_eq!(read.published, at());
        let reasons: Vec<_> = read
            .history
            .iter()
            .map(|ended| (ended.how, ended.reason.as_str()))
            .collect();
        assert_eq!(
            reasons,
            [(AttemptEnd::Failed, "no\nreply"), (AttemptEnd::Crashed, "gone")]
        );
    }

    #[test]
    fn nothing_cut_is_taken_for_a_task() {
        let task = NewTask::new("orders", "test", "").with_id("a");
        let sound = encoded(&task, "a");
        for end in 0..sound.len() {
            assert!(
                Record::plain(sound[..end].to_vec()).decode(&"orders".into()).is_err(),
                "{end}"
            );
        }
    }

    #[test]
    fn what_a_replacement_keeps_is_the_old_ones() {
        let new = NewTask::new("orders", "new", "")
            .with_id("b")
            .unique("u")
            .with_key("new");
        let kept = json(&Kept {
            origin: Some(Origin::new("mail", "7")),
            key: Some("old".into()),
            ordered: true,
        });
        let record = Record::of_fields([field("d", encoded(&new, "a")), field("o", kept)].concat());
        let read = record.decode(&"orders".into()).unwrap();
        assert_eq!((read.key.as_deref(), read.ordered), (Some("old"), true));
        assert_eq!(read.origin, Some(Origin::new("mail", "7")));
    }

    #[test]
    fn only_tasks_with_limits_have_extras() {
        assert_eq!(extras(&NewTask::new("q", "k", "").with_id("a"), at()), None);
        let limited = NewTask::new("q", "k", "")
            .in_order_of("c")
            .expires_after(Duration::from_secs(1));
        assert_eq!(
            extras(&limited, at()).unwrap(),
            r#"{"e":"1767225601123456","k":"c","o":true}"#
        );
    }
}
