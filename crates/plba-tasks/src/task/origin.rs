//! Where a task came from.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::TaskId;

/// Where a task came from: a source, and the source's own key for it, such as a mailbox and a message in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Origin {
    /// The source's name, unique in the application.
    #[serde(with = "shared")]
    #[schemars(with = "String")]
    pub source: Arc<str>,
    /// The source's key, at most 1,000 bytes, which names the same thing for ever.
    #[serde(with = "shared")]
    #[schemars(with = "String")]
    pub key: Arc<str>,
}

/// A shared text as a plain one: serde knows `Arc` only by a feature that nothing else here needs.
pub(super) mod shared {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(in crate::task) fn serialize<S: Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(text)
    }

    pub(in crate::task) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<str>, D::Error> {
        String::deserialize(deserializer).map(Into::into)
    }
}

impl Origin {
    /// The origin of this key of this source.
    pub fn new(source: impl Into<Arc<str>>, key: impl Into<Arc<str>>) -> Self {
        Self {
            source: source.into(),
            key: key.into(),
        }
    }

    /// The id of the task that comes from here: `source/key`, so that the same thing is never published twice.
    pub fn task_id(&self) -> TaskId {
        TaskId::from(format!("{}/{}", self.source, self.key))
    }

    /// Whether its source or its key has this text in it.
    pub fn contains(&self, text: &str) -> bool {
        self.source.contains(text) || self.key.contains(text)
    }
}
