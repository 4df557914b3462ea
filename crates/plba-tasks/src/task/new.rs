//! A task as a producer gives it.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{
    Conflict, Headers, MAXIMUM_HEADERS, MAXIMUM_ID, MAXIMUM_NAME, MAXIMUM_TASK_KEY, Origin, Priority, QueueName,
    TaskId, Unique, UniqueScope,
};

/// A task as a producer gives it.
///
/// ```
/// use std::time::Duration;
/// use plba_tasks::task::NewTask;
///
/// let reply = NewTask::new("replies", "reply.send", "order 17").with_id("reply/17").after(Duration::from_secs(60));
/// assert_eq!(reply.queue.as_str(), "replies");
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct NewTask {
    /// Its id; without one the queue makes one. Of two tasks published with one id to one queue, the first stays.
    pub id: Option<TaskId>,
    /// The queue to publish to.
    pub queue: QueueName,
    /// What is to be done.
    pub kind: Cow<'static, str>,
    /// The work itself.
    pub payload: Bytes,
    /// Facts beside the payload.
    pub headers: Headers,
    /// Where it comes from; set by a source's intake.
    pub origin: Option<Origin>,
    /// How long it waits before it is ready. Default: not at all.
    pub delay: Duration,
    /// Which of two ready tasks comes first. Default: normal.
    pub priority: Priority,
    /// After how long, from publication, it is not handed out any more but dead. Default: never.
    pub expires: Option<Duration>,
    /// A key that only one task has at a time. Default: none.
    pub unique: Option<Unique>,
    /// What it is ordered or limited by, such as a customer. Default: nothing.
    pub key: Option<Arc<str>>,
    /// Whether the tasks of its queue with its key are carried out one after the other. Default: no.
    pub ordered: bool,
}

impl NewTask {
    /// A task without an id, a delay or headers.
    pub fn new(queue: impl Into<QueueName>, kind: impl Into<Cow<'static, str>>, payload: impl Into<Bytes>) -> Self {
        Self {
            id: None,
            queue: queue.into(),
            kind: kind.into(),
            payload: payload.into(),
            headers: Headers::new(),
            origin: None,
            delay: Duration::ZERO,
            priority: Priority::Normal,
            expires: None,
            unique: None,
            key: None,
            ordered: false,
        }
    }

    /// Published under this id, at most once while a task with it is in the queue.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<TaskId>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// With a fact beside the payload.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.insert(name.into(), value.into());
        self
    }

    /// Ready only after `delay`.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Before or after others that are ready.
    #[must_use]
    pub fn with_priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// A dead letter, unless it has been handed out `after` its publication at the latest.
    #[must_use]
    pub fn expires_after(mut self, after: Duration) -> Self {
        self.expires = Some(after);
        self
    }

    /// Published only if no task of its queue with this unique key is waiting or in hand.
    #[must_use]
    pub fn unique(self, key: impl Into<Arc<str>>) -> Self {
        self.unique_in(key.into(), UniqueScope::UntilDone)
    }

    /// Published only if none with this unique key was published to its queue within the period before.
    #[must_use]
    pub fn unique_for(self, key: impl Into<Arc<str>>, period: Duration) -> Self {
        self.unique_in(key.into(), UniqueScope::For(period))
    }

    /// With its unique key taken, it takes the other task's place instead of giving way. Does nothing without one.
    #[must_use]
    pub fn replacing(mut self) -> Self {
        if let Some(unique) = &mut self.unique {
            unique.conflict = Conflict::Replace;
        }
        self
    }

    fn unique_in(mut self, key: Arc<str>, scope: UniqueScope) -> Self {
        let conflict = Conflict::Keep;
        self.unique = Some(Unique { key, scope, conflict });
        self
    }

    /// Counted by this key where a queue's rules limit keys.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<Arc<str>>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Carried out after all tasks of its queue that were published before with this key.
    #[must_use]
    pub fn in_order_of(mut self, key: impl Into<Arc<str>>) -> Self {
        self.key = Some(key.into());
        self.ordered = true;
        self
    }

    /// Checks what every backend can keep: names of 1 to 200 bytes without control characters, an id of 1 to 1,500, keys of
    /// 1 to 500, headers of at most 64 KiB; an order needs a key, and a period or an expiry is longer than nothing.
    ///
    /// # Errors
    /// What is wrong, and what would do.
    pub fn check(&self) -> Result<(), String> {
        for (what, name) in [("queue", self.queue.as_str()), ("kind", &*self.kind)] {
            if name.is_empty() || name.len() > MAXIMUM_NAME || name.chars().any(char::is_control) {
                return Err(format!(
                    "the name of its {what} has {} bytes; 1 to {MAXIMUM_NAME} without control characters will do",
                    name.len()
                ));
            }
        }
        let id = self.id.as_ref().map_or(1, |id| id.as_str().len());
        if id == 0 || id > MAXIMUM_ID {
            return Err(format!("its id has {id} bytes; 1 to {MAXIMUM_ID} will do"));
        }
        self.check_keys()?;
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        if headers > MAXIMUM_HEADERS {
            return Err(format!(
                "its headers have {headers} bytes, at most {MAXIMUM_HEADERS} will do; move data to the payload"
            ));
        }
        Ok(())
    }

    fn check_keys(&self) -> Result<(), String> {
        let unique = self.unique.as_ref();
        let keys = [
            ("key", self.key.as_ref()),
            ("unique key", unique.map(|unique| &unique.key)),
        ];
        for (what, key) in keys {
            let bytes = key.map_or(1, |key| key.len());
            if bytes == 0 || bytes > MAXIMUM_TASK_KEY {
                return Err(format!("its {what} has {bytes} bytes; 1 to {MAXIMUM_TASK_KEY} will do"));
            }
        }
        if self.ordered && self.key.is_none() {
            return Err("it is ordered, but has no key to be ordered by".to_owned());
        }
        if self.expires.is_some_and(|after| after.is_zero()) {
            return Err("it expires when it is published; give it a time above 0".to_owned());
        }
        if unique.is_some_and(|unique| unique.scope == UniqueScope::For(Duration::ZERO)) {
            return Err("it is unique for no time; give it a period above 0".to_owned());
        }
        Ok(())
    }

    /// What it costs to keep, in bytes: the payload, the headers, the keys and a fixed share for the rest.
    pub fn size(&self) -> usize {
        const SHARE: usize = 256;
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        let keys =
            self.key.as_ref().map_or(0, |key| key.len()) + self.unique.as_ref().map_or(0, |unique| unique.key.len());
        SHARE + self.payload.len() + headers + keys
    }
}
