//! One webhook: its path, its secrets, the task that a request becomes, and how much of everything there may be.

use std::time::Duration;

use plba_tasks::task::NewTask;

use super::SigningSecret;

/// How many secrets a hook may have at once.
pub const MAXIMUM_SECRETS: usize = 5;

/// A path at which signed requests become tasks.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Hook {
    /// Its name, unique in its source: lower-case letters, digits, `-` and `_`. It must stay the same for ever, because it is
    /// part of the ids of its tasks.
    pub name: String,
    /// The path, such as `/shop/orders`, taken exactly.
    pub path: String,
    /// The secrets of the sender; while they change there are two.
    pub secrets: Vec<SigningSecret>,
    /// What is published for a request; the request's body becomes its payload, and its id is made of the request's.
    pub task: NewTask,
    /// The longest body, in bytes. Default: 256 KiB.
    pub body_bytes: usize,
    /// How many requests are read and published at once; one more is answered 503. With `body_bytes` this bounds the
    /// memory that the hook takes. Default: 64.
    pub concurrency: usize,
    /// For how long a request's id is remembered after it was accepted, whatever became of its task: as long as the sender
    /// may send it again. Default: 3 days.
    pub remember: Duration,
    /// The media types that are taken. Default: `application/json`.
    pub content_types: Vec<String>,
}

impl Hook {
    /// A hook with the defaults.
    pub fn new(name: impl Into<String>, path: impl Into<String>, secrets: Vec<SigningSecret>, task: NewTask) -> Self {
        Self {
            name: name.into(),
            path: path.into(),
            secrets,
            task,
            body_bytes: 256 * 1024,
            concurrency: 64,
            remember: Duration::from_secs(3 * 24 * 3600),
            content_types: vec!["application/json".to_owned()],
        }
    }

    /// Checks names and ranges.
    ///
    /// # Errors
    /// The field at fault, and the sentence that names what would do.
    pub fn validate(&self) -> Result<(), (&'static str, String)> {
        let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
        // With the source's name and a request's id it has to fit into a unique key.
        if !(1..=50).contains(&self.name.len()) || !self.name.bytes().all(letter) {
            return Err((
                "name",
                "1 to 50 lower-case letters, digits, '-' and '_' name a webhook".into(),
            ));
        }
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.".contains(&byte);
        if !self.path.starts_with('/') || self.path.len() > 200 || !self.path.bytes().all(legal) {
            let message = "a path begins with '/' and has letters, digits, '/', '-', '_' and '.', at most 200 of them";
            return Err(("path", message.into()));
        }
        if !(1..=MAXIMUM_SECRETS).contains(&self.secrets.len()) {
            let message =
                format!("a webhook has 1 to {MAXIMUM_SECRETS} secrets: without any, anybody could send tasks");
            return Err(("secrets", message));
        }
        if !(1024..=16 * 1024 * 1024).contains(&self.body_bytes) {
            return Err(("body_bytes", "a body may have 1 KiB to 16 MiB".into()));
        }
        if !(1..=1_000).contains(&self.concurrency) {
            return Err(("concurrency", "1 to 1000 requests at once are possible".into()));
        }
        if self.remember < super::TOLERANCE * 2 || self.remember > Duration::from_secs(90 * 24 * 3600) {
            let message = "ids are remembered for 10 min (a request may be sent again for so long) to 90 days";
            return Err(("remember", message.into()));
        }
        if self.content_types.is_empty() || self.content_types.len() > 20 {
            return Err(("content_types", "1 to 20 media types are possible".into()));
        }
        self.task.check().map_err(|fault| ("queue", fault))
    }
}
