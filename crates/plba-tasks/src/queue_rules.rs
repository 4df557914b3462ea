//! Rules of queues in the configuration: a table that an application embeds in its own section, and gives to its queue when
//! it opens it. What the rules mean is told at [`QueueRules`].

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use plba_contracts::config::TimeSpan;
use plba_contracts::section::Faults;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::queue::{QueueRules, Rate, TaskQueue};
use crate::task::QueueName;

/// The rules of named queues: `[SECTION.queues.NAME]`. Registered as a service, the view `queues` shows them.
///
/// ```
/// use std::time::Duration;
/// use plba_tasks::queue_rules::QueuesConfig;
///
/// let config: QueuesConfig = serde_json::from_value(serde_json::json!({
///     "replies": { "concurrency": 2, "rate": "100/1m" },
/// }))
/// .unwrap();
/// let rules = config.0["replies"].rules();
/// assert_eq!(rules.rate.map(|rate| (rate.count, rate.per)), Some((100, Duration::from_secs(60))));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct QueuesConfig(pub BTreeMap<String, QueueRulesConfig>);

/// The rules of one named queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct QueueRulesConfig {
    /// How many of its tasks may be in hand at once, in all processes together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// How many of its tasks are handed out in a span of time, such as `"100/1m"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<RateText>,
    /// How many of its tasks with the same key may be in hand at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_concurrency: Option<u32>,
    /// How many of its tasks with the same key are handed out in a span of time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_rate: Option<RateText>,
    /// For how long its dead letters are kept.
    pub dead_age: TimeSpan,
    /// How many dead letters are kept before the oldest go.
    pub dead_limit: u64,
}

impl Default for QueueRulesConfig {
    fn default() -> Self {
        let rules = QueueRules::default();
        Self {
            concurrency: rules.concurrency,
            rate: rules.rate.map(RateText),
            key_concurrency: rules.key_concurrency,
            key_rate: rules.key_rate.map(RateText),
            dead_age: TimeSpan(rules.dead_age),
            dead_limit: rules.dead_limit,
        }
    }
}

impl QueuesConfig {
    /// Gives the rules to a queue; to be called when it was opened, before anything consumes.
    pub fn govern(&self, queue: &dyn TaskQueue) {
        for (name, config) in &self.0 {
            queue.govern(&QueueName::from(name.as_str()), config.rules());
        }
    }

    /// Checks the rules for the validation of the section that embeds them under the key `path`.
    pub fn validate(&self, path: &str, faults: &mut Faults) {
        for (name, config) in &self.0 {
            if let Err(fault) = config.rules().validate() {
                faults.report(&format!("{path}.{name}"), fault);
            }
            let dead_age = Duration::from(config.dead_age);
            faults.require(
                !dead_age.is_zero(),
                &format!("{path}.{name}.dead_age"),
                "dead letters are kept for longer than 0",
            );
        }
    }
}

impl QueueRulesConfig {
    /// The rules that this describes.
    pub fn rules(&self) -> QueueRules {
        QueueRules {
            concurrency: self.concurrency,
            rate: self.rate.map(|rate| rate.0),
            key_concurrency: self.key_concurrency,
            key_rate: self.key_rate.map(|rate| rate.0),
            dead_limit: self.dead_limit,
            dead_age: self.dead_age.into(),
        }
    }
}

/// A rate as people write it: `100/1m`, `5/s`, `1/1h 30m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateText(pub Rate);

/// A text is no rate; the sentence says what would be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no rate; write a number and a span of time, such as \"100/1m\" or \"5/s\"")]
pub struct RateError(String);

impl FromStr for RateText {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let refused = || RateError(text.to_owned());
        let (count, span) = text.split_once('/').ok_or_else(refused)?;
        let count: u32 = count.trim().parse().map_err(|_| refused())?;
        let span = span.trim();
        let bare = span.starts_with(|first: char| first.is_ascii_alphabetic());
        let span = if bare { format!("1{span}") } else { span.to_owned() };
        let per: jiff::SignedDuration = span.parse().map_err(|_| refused())?;
        let per = Duration::try_from(per).map_err(|_| refused())?;
        if count == 0 || per.is_zero() {
            return Err(refused());
        }
        Ok(Self(Rate::new(count, per)))
    }
}

impl fmt::Display for RateText {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.0.count, TimeSpan(self.0.per))
    }
}

impl Serialize for RateText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RateText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for RateText {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "RateText".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "rate", "examples": ["100/1m", "5/s"] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_and_written_as_people_write_them() {
        for (text, count, seconds, shown) in [
            ("100/1m", 100, 60, "100/1m"),
            ("5/s", 5, 1, "5/1s"),
            ("1 / 1h 30m", 1, 5_400, "1/1h 30m"),
        ] {
            let rate: RateText = text.parse().unwrap();
            assert_eq!(
                (rate.0.count, rate.0.per),
                (count, Duration::from_secs(seconds)),
                "{text}"
            );
            assert_eq!(rate.to_string(), shown);
        }
        for text in ["", "100", "0/1s", "100/", "-1/s", "1/0s", "x/s", "1/fortnight"] {
            assert_eq!(text.parse::<RateText>(), Err(RateError(text.into())));
        }
    }

    #[test]
    fn faults_are_reported_at_the_queue_that_has_them() {
        let read = |value| serde_json::from_value::<QueuesConfig>(value).unwrap();
        let mut faults = Faults::default();
        let config = read(serde_json::json!({ "orders": { "concurrency": 0 }, "replies": { "dead_age": "0s" } }));
        config.validate("queues", &mut faults);
        let paths: Vec<_> = faults
            .into_vec()
            .into_iter()
            .map(|fault| fault.path.join("."))
            .collect();
        assert_eq!(paths, ["queues.orders", "queues.replies.dead_age"]);
    }
}
