//! What the tasks of a backend survive. How a server is checked for it is the backend's business.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a backend's tasks survive, from least to most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// Nothing: they end with the process. What came from a source is published again by its ledger.
    Volatile,
    /// The end of the process, however it came.
    ProcessCrash,
    /// The end of the operating system and loss of power.
    OsCrash,
    /// The loss of a machine.
    Replicated,
}
