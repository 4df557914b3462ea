//! The envelope: everything of a task but its payload, as versioned, compact JSON that backends keep beside the payload's
//! bytes. Counts of deliveries, attempts and crashes are not in it: backends keep them where they can count.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::task::{EndedAttempt, Headers, NewTask, Origin, Priority, QueueName, Task, TaskId, Unique};

/// The version that is written, and the only one there has been.
pub const ENVELOPE_VERSION: u64 = 1;

/// Everything of a task but its payload, its id and its queue.
///
/// ```
/// use jiff::Timestamp;
/// use plba_tasks::envelope::Envelope;
/// use plba_tasks::task::NewTask;
///
/// let task = NewTask::new("replies", "reply.send", "order 17").in_order_of("customer 4");
/// let envelope = Envelope::new(&task, Timestamp::UNIX_EPOCH);
/// let read = Envelope::decode(&envelope.encode())?.into_task("reply/17".into(), task.queue, task.payload);
/// assert!(read.ordered);
/// # Ok::<(), plba_tasks::envelope::EnvelopeError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope {
    /// What is to be done.
    pub kind: Cow<'static, str>,
    /// Facts beside the payload.
    pub headers: Headers,
    /// Where it came from.
    pub origin: Option<Origin>,
    /// The attempts that have ended, oldest first.
    pub history: Vec<EndedAttempt>,
    /// What it is ordered or limited by.
    pub key: Option<Arc<str>>,
    /// Whether tasks with its key are carried out one after the other.
    pub ordered: bool,
    /// Which of two ready tasks comes first.
    pub priority: Priority,
    /// When it was published, to the microsecond. A backend whose server has its own time sets that.
    pub published: Timestamp,
    /// When it is no longer worth handing out, to the microsecond.
    pub expires: Option<Timestamp>,
    /// The key that only one task has at a time.
    pub unique: Option<Unique>,
}

/// Why a record is no envelope. Make it a dead letter with its raw bytes.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// A newer program wrote it.
    #[error("it is an envelope of version {version}, and this program reads {ENVELOPE_VERSION}; a newer one wrote it")]
    Version {
        /// Its version.
        version: u64,
    },
    /// Somebody else wrote it, or it is damaged.
    #[error("it is no envelope: {source}")]
    Broken {
        /// Where and why.
        source: serde_json::Error,
    },
}

/// An envelope as it is written. What has its default is left out.
#[derive(Serialize)]
struct Written<'a> {
    v: u64,
    kind: &'a str,
    #[serde(skip_serializing_if = "Headers::is_empty")]
    headers: &'a Headers,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<&'a Origin>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    history: &'a [EndedAttempt],
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "is_false")]
    ordered: bool,
    #[serde(skip_serializing_if = "is_normal")]
    priority: Priority,
    published: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unique: Option<&'a Unique>,
}

/// An envelope as it is read. Unknown fields are an error: they would be lost when it is written again.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Read {
    v: u64,
    kind: String,
    #[serde(default)]
    headers: Headers,
    origin: Option<Origin>,
    #[serde(default)]
    history: Vec<EndedAttempt>,
    key: Option<String>,
    #[serde(default)]
    ordered: bool,
    #[serde(default)]
    priority: Priority,
    published: i64,
    expires: Option<i64>,
    unique: Option<Unique>,
}

/// What envelopes of every version have.
#[derive(Deserialize)]
struct Versioned {
    v: u64,
}

impl Envelope {
    /// The envelope of a task that is published at this time.
    pub fn new(task: &NewTask, published: Timestamp) -> Self {
        Self {
            kind: task.kind.clone(),
            headers: task.headers.clone(),
            origin: task.origin.clone(),
            history: Vec::new(),
            key: task.key.clone(),
            ordered: task.ordered,
            priority: task.priority,
            published,
            expires: expiry(task, published),
            unique: task.unique.clone(),
        }
    }

    /// The envelope of a task that has been published, for writing it anew.
    pub fn of(task: &Task, unique: Option<Unique>) -> Self {
        Self {
            kind: task.kind.clone(),
            headers: task.headers.clone(),
            origin: task.origin.clone(),
            history: task.history.clone(),
            key: task.key.clone(),
            ordered: task.ordered,
            priority: task.priority,
            published: task.published,
            expires: task.expires,
            unique,
        }
    }

    /// What [`new`](Self::new) and [`encode`](Self::encode) give together, without a copy in between.
    pub fn encode_new(task: &NewTask, published: Timestamp) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(128);
        Self::encode_new_into(task, published, &mut bytes);
        bytes
    }

    /// Writes what [`encode_new`](Self::encode_new) gives behind what is there.
    pub fn encode_new_into(task: &NewTask, published: Timestamp, bytes: &mut Vec<u8>) {
        let expires = expiry(task, published);
        let envelope = Written {
            v: ENVELOPE_VERSION,
            kind: &task.kind,
            headers: &task.headers,
            origin: task.origin.as_ref(),
            history: &[],
            key: task.key.as_deref(),
            ordered: task.ordered,
            priority: task.priority,
            published: published.as_microsecond(),
            expires: expires.map(Timestamp::as_microsecond),
            unique: task.unique.as_ref(),
        };
        // As in `write`, this can't fail.
        let _ = serde_json::to_writer(bytes, &envelope);
    }

    /// As compact JSON.
    pub fn encode(&self) -> Vec<u8> {
        write(&Written {
            v: ENVELOPE_VERSION,
            kind: &self.kind,
            headers: &self.headers,
            origin: self.origin.as_ref(),
            history: &self.history,
            key: self.key.as_deref(),
            ordered: self.ordered,
            priority: self.priority,
            published: self.published.as_microsecond(),
            expires: self.expires.map(Timestamp::as_microsecond),
            unique: self.unique.as_ref(),
        })
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// See [`EnvelopeError`]; a task is never guessed at.
    pub fn decode(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        let read: Read = match serde_json::from_slice(bytes) {
            Ok(read) => read,
            Err(source) => return Err(foreign(bytes, source)),
        };
        if read.v != ENVELOPE_VERSION {
            return Err(EnvelopeError::Version { version: read.v });
        }
        Ok(Self {
            kind: Cow::Owned(read.kind),
            headers: read.headers,
            origin: read.origin,
            history: read.history,
            key: read.key.map(Into::into),
            ordered: read.ordered,
            priority: read.priority,
            published: time(read.published)?,
            expires: read.expires.map(time).transpose()?,
            unique: read.unique,
        })
    }

    /// The task, with what is kept beside the envelope.
    pub fn into_task(self, id: TaskId, queue: QueueName, payload: Bytes) -> Task {
        Task {
            id,
            queue,
            kind: self.kind,
            payload,
            headers: self.headers,
            origin: self.origin,
            history: self.history,
            priority: self.priority,
            key: self.key,
            ordered: self.ordered,
            published: self.published,
            expires: self.expires,
        }
    }
}

/// When a task that is published now expires.
pub fn expiry(task: &NewTask, published: Timestamp) -> Option<Timestamp> {
    let after = SignedDuration::try_from(task.expires?).unwrap_or(SignedDuration::MAX);
    Some(published.saturating_add(after).unwrap_or(Timestamp::MAX))
}

// Writing these types can't fail: texts, numbers, and maps with texts as keys.
fn write(envelope: &Written<'_>) -> Vec<u8> {
    serde_json::to_vec(envelope).unwrap_or_default()
}

fn foreign(bytes: &[u8], source: serde_json::Error) -> EnvelopeError {
    match serde_json::from_slice::<Versioned>(bytes) {
        Ok(Versioned { v: version }) if version != ENVELOPE_VERSION => EnvelopeError::Version { version },
        _ => EnvelopeError::Broken { source },
    }
}

fn time(microseconds: i64) -> Result<Timestamp, EnvelopeError> {
    Timestamp::from_microsecond(microseconds).map_err(|error| EnvelopeError::Broken {
        source: serde::de::Error::custom(error),
    })
}

fn is_false(value: &bool) -> bool {
    !value
}

fn is_normal(priority: &Priority) -> bool {
    *priority == Priority::Normal
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::task::AttemptEnd;

    fn full() -> Envelope {
        let task = NewTask::new("orders", "order.received", "")
            .with_header("traceparent", "00-1")
            .with_priority(Priority::High)
            .expires_after(Duration::from_secs(60))
            .unique_for("order 17", Duration::from_millis(1_500))
            .replacing()
            .in_order_of("customer \"4\"");
        let mut envelope = Envelope::new(&task, Timestamp::constant(1_767_225_600, 123_456_000));
        envelope.origin = Some(Origin::new("mail", "7/1"));
        let at = Timestamp::constant(1_767_225_601, 0);
        envelope
            .history
            .push(EndedAttempt::new(at, AttemptEnd::Failed, "no reply\n\u{1F980}"));
        envelope
    }

    #[test]
    fn everything_comes_back_as_it_was_written() {
        let envelope = full();
        assert_eq!(Envelope::decode(&envelope.encode()).unwrap(), envelope);
        let plain = NewTask::new("orders", "test", "");
        let at = Timestamp::UNIX_EPOCH;
        assert_eq!(Envelope::encode_new(&plain, at), Envelope::new(&plain, at).encode());
        assert_eq!(
            Envelope::encode_new(&plain, at),
            br#"{"v":1,"kind":"test","published":0}"#
        );
    }

    #[test]
    fn what_a_newer_program_wrote_is_named_as_such() {
        for newer in [
            &br#"{"v":2,"what":"ever"}"#[..],
            br#"{"v":2,"kind":"test","published":0}"#,
        ] {
            let error = Envelope::decode(newer).unwrap_err();
            assert!(matches!(error, EnvelopeError::Version { version: 2 }), "{error}");
        }
    }

    #[test]
    fn nothing_cut_or_changed_is_taken_for_an_envelope() {
        let sound = full().encode();
        for end in 0..sound.len() {
            let cut = Envelope::decode(&sound[..end]);
            assert!(matches!(cut, Err(EnvelopeError::Broken { .. })), "{end}: {cut:?}");
        }
        for broken in [
            &b"\xff\xfe"[..],
            b"null",
            br#"{"v":1,"kind":"test","published":0,"more":1}"#,
            br#"{"v":1,"kind":"test","published":9223372036854775807}"#,
            br#"{"v":1,"kind":"test","published":0,"priority":"urgent"}"#,
        ] {
            let error = Envelope::decode(broken).unwrap_err();
            assert!(matches!(error, EnvelopeError::Broken { .. }), "{error}");
        }
    }
}
