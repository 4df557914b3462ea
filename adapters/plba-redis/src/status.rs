//! What has happened with Redis since the queue was opened, for people and for health.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What has happened since the queue was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RedisStatus {
    /// Whether the latest call got an answer.
    pub connected: bool,
    /// How often a connection was made, the first one of each purpose included.
    pub connections: u64,
    /// How often another server had become the primary, so that the latest writes before it may be lost.
    pub failovers: u64,
    /// How often the server had been restarted.
    pub restarts: u64,
    /// How often a queue's data were found to be gone, or its group.
    pub data_lost: u64,
    /// Tasks that a foreign hand had removed from under their consumers.
    pub vanished: u64,
    /// How often tasks had to wait because Redis had no memory left.
    pub out_of_memory: u64,
    /// Publishes that too few replicas confirmed in time.
    pub unconfirmed: u64,
    /// The server's version.
    pub version: String,
    /// The latest failure, in a sentence.
    pub last_failure: Option<String>,
}

/// The counts, as they are kept.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) connected: AtomicBool,
    pub(crate) connections: AtomicU64,
    pub(crate) failovers: AtomicU64,
    pub(crate) restarts: AtomicU64,
    pub(crate) data_lost: AtomicU64,
    pub(crate) vanished: AtomicU64,
    pub(crate) out_of_memory: AtomicU64,
    pub(crate) unconfirmed: AtomicU64,
    texts: Mutex<Texts>,
}

#[derive(Debug, Default)]
struct Texts {
    version: String,
    run: String,
    address: String,
    last_failure: Option<String>,
}

impl Counters {
    pub(crate) fn status(&self) -> RedisStatus {
        let texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        RedisStatus {
            connected: self.connected.load(Relaxed),
            connections: self.connections.load(Relaxed),
            failovers: self.failovers.load(Relaxed),
            restarts: self.restarts.load(Relaxed),
            data_lost: self.data_lost.load(Relaxed),
            vanished: self.vanished.load(Relaxed),
            out_of_memory: self.out_of_memory.load(Relaxed),
            unconfirmed: self.unconfirmed.load(Relaxed),
            version: texts.version.clone(),
            last_failure: texts.last_failure.clone(),
        }
    }

    /// A connection was made to a server at this address; tells a restart and a failover from a mere break.
    pub(crate) fn connected_to(&self, address: &str, version: &str, run: &str) {
        self.connections.fetch_add(1, Relaxed);
        self.connected.store(true, Relaxed);
        let mut texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        version.clone_into(&mut texts.version);
        // The run id is new for each process of a server.
        if !texts.run.is_empty() && texts.run != run {
            if texts.address == address {
                self.restarts.fetch_add(1, Relaxed);
                tracing::warn!(
                    address,
                    "the Redis server was restarted; what it had not yet written to disk is lost"
                );
            } else {
                self.failovers.fetch_add(1, Relaxed);
                tracing::error!(
                    address,
                    before = texts.address,
                    "another Redis server is the primary now: what was written last may be lost, because replication is \
                     asynchronous, and tasks that were ended may come again"
                );
            }
        }
        run.clone_into(&mut texts.run);
        address.clone_into(&mut texts.address);
    }

    pub(crate) fn failed(&self, sentence: &str) {
        self.connected.store(false, Relaxed);
        let mut texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        texts.last_failure = Some(sentence.to_owned());
    }
}
