//! What a mail source needs beside its URL: where its tasks go, secrets, and the parameters that are time and chance.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use plba_contracts::clock::Clock;
use plba_contracts::secret::Secret;
use plba_net::{BackoffSettings, ConnectSettings};
use plba_tasks::task::{NewTask, QueueName};

use crate::imap::Timing;
use crate::parked::Parked;

/// Settings of a mail source.
#[derive(Clone)]
pub struct SourceSettings {
    /// The queue that messages are published to.
    pub queue: QueueName,
    /// The kind of the tasks, such as `order.received`. The payload is the raw message.
    pub kind: Cow<'static, str>,
    /// The password, as the configuration or the environment gives it. A `password_file` in the URL comes first.
    pub password: Option<Secret>,
    /// Where the raw bytes of messages are kept that end as dead letters because the server's answers can't be read; `None`
    /// keeps none (default).
    pub parked: Option<Parked>,
    /// What relative paths in the URL are relative to: the working directory, or that of the configuration file.
    pub directory: PathBuf,
    /// The time of day, for status and dead letters.
    pub clock: Arc<dyn Clock>,
    /// The seed of the jitter between reconnects; `None` takes one from the system (default).
    pub seed: Option<u64>,
    /// Limits of connecting (default: see there).
    pub connect: ConnectSettings,
    /// Limits of commands (default: see there).
    pub timing: Timing,
    /// How long to wait between reconnects (default: 1 s doubling to 5 min, forgiven after a stable minute).
    pub backoff: BackoffSettings,
    /// How many messages are fetched in one command (default 200, at most 500).
    pub batch: usize,
    /// How many bytes of messages are fetched in one command, unless a single one has more (default 8 MiB).
    pub batch_bytes: u64,
}

impl SourceSettings {
    /// Settings with every default; tasks of this kind go to this queue.
    pub fn new(queue: impl Into<QueueName>, kind: impl Into<Cow<'static, str>>, clock: Arc<dyn Clock>) -> Self {
        SourceSettings {
            queue: queue.into(),
            kind: kind.into(),
            password: None,
            parked: None,
            directory: PathBuf::from("."),
            clock,
            seed: None,
            connect: ConnectSettings::default(),
            timing: Timing::default(),
            backoff: BackoffSettings::default(),
            batch: 200,
            batch_bytes: 8 * 1024 * 1024,
        }
    }

    pub(crate) fn task(&self, message: Bytes) -> NewTask {
        NewTask::new(self.queue.clone(), self.kind.clone(), message)
    }
}
