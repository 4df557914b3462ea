//! Figures of one moment, as whoever looks gets them: plain data.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::MAXIMUM_SERIES;

/// What a family of figures is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MetricKind {
    /// Only grows, from 0 at the start of the process.
    Counter,
    /// Goes up and down.
    Gauge,
    /// How many values lie below which bounds.
    Histogram,
}

/// Figures of one name, at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MetricFamily {
    /// Its name, in lower-case letters, digits and `_`, with its unit, such as `bot_orders_total`.
    pub name: String,
    /// What it tells, in a sentence.
    pub help: String,
    /// What it is.
    pub kind: MetricKind,
    /// The figures, each with labels of its own.
    pub samples: Vec<MetricSample>,
}

/// One figure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MetricSample {
    /// Names and values of its labels, in order.
    pub labels: Vec<(String, String)>,
    /// The figure.
    pub value: MetricValue,
}

/// A figure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum MetricValue {
    /// Of a counter or gauge.
    Number(f64),
    /// Of a histogram.
    Distribution(Distribution),
}

/// How values are distributed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Distribution {
    /// How many values.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// How many values are at most as large as each bound, bounds ascending.
    pub buckets: Vec<(f64, u64)>,
}

impl MetricFamily {
    /// A family without figures.
    pub fn new(name: &str, kind: MetricKind, help: &str) -> Self {
        Self {
            name: name.to_owned(),
            help: help.to_owned(),
            kind,
            samples: Vec::new(),
        }
    }

    /// Adds a figure.
    #[must_use]
    pub fn with(mut self, labels: &[(&str, &str)], value: f64) -> Self {
        self.push(labels, value);
        self
    }

    /// Adds a figure; one beyond [`MAXIMUM_SERIES`] is left out.
    pub fn push(&mut self, labels: &[(&str, &str)], value: f64) {
        if self.samples.len() < MAXIMUM_SERIES {
            let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
            self.samples.push(MetricSample {
                labels: labels.iter().map(owned).collect(),
                value: MetricValue::Number(value),
            });
        }
    }
}
