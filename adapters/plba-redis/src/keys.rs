//! The names of keys, as `schema.md` documents them, and the blocks in which scripts get them. All of a backend's keys have
//! the prefix in braces, so that they lie in one slot of a cluster, and one script may touch all of them.

use std::sync::Arc;

use plba_tasks::task::QueueName;

/// The keys of a queue, in the order in which scripts know them.
const PARTS: [&str; 23] = [
    "high", "normal", "low", "hand", "aside", "delayed", "suspects", "heads", "lines", "line", "waits", "leases",
    "rates", "unique", "periods", "dead", "deaths", "died", "ids", "c", "bell", "over", "fading",
];

/// How many keys each queue has.
pub(crate) const COUNT: usize = PARTS.len();

/// The names of a backend's keys.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    prefix: Arc<str>,
}

impl Keys {
    pub(crate) fn new(prefix: &str) -> Self {
        Self {
            prefix: format!("{{{prefix}}}").into(),
        }
    }

    /// The prefix in its braces.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The set of the names of queues.
    pub(crate) fn queues(&self) -> String {
        format!("{}:queues", self.prefix)
    }

    /// A hash of what concerns all queues.
    pub(crate) fn meta(&self) -> String {
        format!("{}:meta", self.prefix)
    }

    /// The bell of a queue.
    pub(crate) fn bell(&self, queue: &QueueName) -> String {
        format!("{}:q:{queue}:bell", self.prefix)
    }

    /// What a script is given for one queue.
    pub(crate) fn block(&self, queue: &QueueName) -> Vec<String> {
        PARTS
            .iter()
            .map(|part| format!("{}:q:{queue}:{part}", self.prefix))
            .collect()
    }

    /// A key of the ledger.
    pub(crate) fn ledger(&self, part: &str) -> String {
        format!("{}:ledger:{part}", self.prefix)
    }

    /// The key of a lease.
    pub(crate) fn lease(&self, name: &str) -> String {
        format!("{}:lease:{name}", self.prefix)
    }
}
