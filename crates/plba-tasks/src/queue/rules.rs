//! What a queue hands out at most: rates, numbers of leases, and how long dead letters are kept.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The rules of one named queue. They belong to a process: each consumes by its own rules, against counts that all
/// processes share. Give the same rules to all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct QueueRules {
    /// How many leases there may be at once on the queue, all processes together. Default: no limit.
    pub concurrency: Option<u32>,
    /// How many tasks are handed out. Default: no limit.
    pub rate: Option<Rate>,
    /// How many leases there may be at once on tasks with the same key. Default: no limit.
    pub key_concurrency: Option<u32>,
    /// How many tasks with the same key are handed out. Default: no limit.
    pub key_rate: Option<Rate>,
    /// How many dead letters are kept before the oldest go. Those that a queue in memory leaves to its ledger are counted
    /// once an hour, by themselves. Default: 100,000.
    pub dead_limit: u64,
    /// For how long dead letters are kept. Default: 90 days.
    pub dead_age: Duration,
}

/// So many tasks in such a time. As a token bucket with room for `count`: the first `count` tasks are handed out at
/// once, and then one whenever another `per / count` has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Rate {
    /// How many. At least 1.
    pub count: u32,
    /// In how long. At least 1 ms, at most a day.
    pub per: Duration,
}

impl Default for QueueRules {
    fn default() -> Self {
        Self {
            concurrency: None,
            rate: None,
            key_concurrency: None,
            key_rate: None,
            dead_limit: 100_000,
            dead_age: Duration::from_secs(90 * 86_400),
        }
    }
}

impl Rate {
    /// So many in such a time.
    pub fn new(count: u32, per: Duration) -> Self {
        Self { count, per }
    }

    /// How long after one task the next follows, once the bucket is empty.
    pub fn interval(&self) -> Duration {
        self.per / self.count.max(1)
    }
}

impl QueueRules {
    /// Checks ranges.
    ///
    /// # Errors
    /// Every fault, each naming its rule.
    pub fn validate(&self) -> Result<(), String> {
        let mut faults = Vec::new();
        for (name, limit) in [
            ("concurrency", self.concurrency),
            ("key_concurrency", self.key_concurrency),
        ] {
            if limit == Some(0) {
                faults.push(format!("{name} is at least 1; to stop a queue, pause it"));
            }
        }
        for (name, rate) in [("rate", self.rate), ("key_rate", self.key_rate)] {
            let Some(rate) = rate else { continue };
            if rate.count == 0 {
                faults.push(format!("{name}.count is at least 1; to stop a queue, pause it"));
            }
            if !(Duration::from_millis(1)..=Duration::from_secs(86_400)).contains(&rate.per) {
                faults.push(format!("{name}.per lies between 1 ms and a day"));
            }
        }
        if faults.is_empty() {
            Ok(())
        } else {
            Err(faults.join("; "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_in_rules_are_named() {
        assert_eq!(QueueRules::default().validate(), Ok(()));
        let rules = QueueRules {
            concurrency: Some(0),
            key_rate: Some(Rate::new(0, Duration::ZERO)),
            ..QueueRules::default()
        };
        let faults = rules.validate().unwrap_err();
        for fault in ["concurrency is at least 1", "key_rate.count", "key_rate.per"] {
            assert!(faults.contains(fault), "{faults}");
        }
    }
}
