//! Spans of time with their units.

use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A span of time in the configuration, written with its unit: `25s`, `1m 30s`, `250ms`.
///
/// ```
/// use std::time::Duration;
/// use plba_contracts::config::TimeSpan;
///
/// let span: TimeSpan = serde_json::from_str("\"1m 30s\"").unwrap();
/// assert_eq!(Duration::from(span), Duration::from_secs(90));
/// assert!(serde_json::from_str::<TimeSpan>("90").is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeSpan(pub Duration);

impl TimeSpan {
    /// So many seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }
}

impl From<TimeSpan> for Duration {
    fn from(span: TimeSpan) -> Self {
        span.0
    }
}

impl fmt::Display for TimeSpan {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::SignedDuration::try_from(self.0) {
            Ok(span) => write!(out, "{span:#}"),
            Err(_) => write!(out, "{}s", self.0.as_secs()),
        }
    }
}

impl Serialize for TimeSpan {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TimeSpan {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let refused = |found: &str| {
            let message = format!(
                "{found} is no span of time; write a number with its unit, such as \"25s\", \"1m 30s\" or \"250ms\""
            );
            serde::de::Error::custom(message)
        };
        let text = String::deserialize(deserializer).map_err(|_| refused("the value"))?;
        let span: jiff::SignedDuration = text.parse().map_err(|_| refused(&format!("\"{text}\"")))?;
        Duration::try_from(span)
            .map(Self)
            .map_err(|_| refused(&format!("\"{text}\"")))
    }
}

impl JsonSchema for TimeSpan {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "TimeSpan".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "time-span", "examples": ["25s", "1m 30s", "250ms"] })
    }
}
