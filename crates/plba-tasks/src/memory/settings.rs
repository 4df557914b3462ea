//! What bounds the queue in memory.

use std::time::Duration;

/// The bounds of an [`InMemoryTaskQueue`](super::InMemoryTaskQueue), each for one named queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemorySettings {
    /// How many tasks it keeps, dead letters not counted, before publishers wait. Default: 10,000.
    pub capacity: usize,
    /// How many bytes they may take before publishers wait. Default: 256 MiB.
    pub bytes: usize,
    /// How many bytes one task may take. Default: 64 MiB.
    pub task_bytes: usize,
    /// How many dead letters it keeps before the oldest are dropped. Those of tasks with an origin are kept by the ledger
    /// instead, if there is one: for as long as the queue's rules say, which consumers see to once an hour. Default: 10,000.
    pub dead_capacity: usize,
    /// How many named queues there may be. Default: 1,000.
    pub queues: usize,
    /// How long a lease lasts. Default: 30 s.
    pub lease: Duration,
    /// After how many crashes a task is dead. Default: 5. With less than 3, a task that ends its process may make dead letters
    /// of its neighbours.
    pub maximum_crashes: u32,
    /// Seed of the ids it makes; `None` takes one from the system.
    pub seed: Option<u64>,
}

impl Default for MemorySettings {
    fn default() -> Self {
        Self {
            capacity: 10_000,
            bytes: 256 << 20,
            task_bytes: 64 << 20,
            dead_capacity: 10_000,
            queues: 1_000,
            lease: Duration::from_secs(30),
            maximum_crashes: 5,
            seed: None,
        }
    }
}

impl MemorySettings {
    /// Checks ranges.
    ///
    /// # Errors
    /// Every fault, each naming its setting.
    pub fn validate(&self) -> Result<(), String> {
        let mut faults = Vec::new();
        let mut require = |holds: bool, fault: &str| {
            if !holds {
                faults.push(fault.to_owned());
            }
        };
        require(
            (1..=100_000_000).contains(&self.capacity),
            "capacity lies between 1 and 100,000,000",
        );
        require(self.bytes >= 1 << 20, "bytes is at least 1 MiB (1048576)");
        require(self.task_bytes >= 1 << 10, "task_bytes is at least 1 KiB (1024)");
        require(self.queues >= 1, "queues is at least 1");
        require(
            (Duration::from_millis(10)..=Duration::from_secs(86_400)).contains(&self.lease),
            "lease lies between 10 ms and a day",
        );
        require(self.maximum_crashes >= 1, "maximum_crashes is at least 1");
        if faults.is_empty() {
            Ok(())
        } else {
            Err(faults.join("; "))
        }
    }
}
