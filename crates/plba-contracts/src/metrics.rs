//! Metrics: counters, gauges and histograms with bounded labels, and who may contribute figures when they are asked for.
//! How they are told (as a view, as text for Prometheus) is others' concern.
//!
//! ```
//! use plba_contracts::metrics::Metrics;
//!
//! let metrics = Metrics::default();
//! let orders = metrics.counter("bot_orders_total", "Orders by what became of them.", &["status"]).unwrap();
//! orders.with(&["accepted"]).add(1);
//! assert_eq!(metrics.families()[0].name, "bot_orders_total");
//! ```

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The most series of one family. What would come beyond is counted under one more, whose labels all say `other`.
pub const MAXIMUM_SERIES: usize = 1_000;

/// What the labels of that one say.
const OTHER: &str = "other";

/// Bounds of histograms of seconds: from what a computer does to what a person waits for.
pub const SECONDS: &[f64] = &[0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];

/// The metrics of a process, a service that modules ask for: `services.get::<Metrics>()`. Clones are handles on the same.
#[derive(Clone, Default)]
pub struct Metrics(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    families: BTreeMap<&'static str, Arc<Family>>,
    sources: BTreeMap<String, Weak<dyn MetricSource>>,
}

/// Gives figures when they are asked for, for what is counted elsewhere anyway.
pub trait MetricSource: Send + Sync + 'static {
    /// The figures. Called from any thread whenever somebody looks; answers from memory. A panic is caught, and costs
    /// only these figures.
    fn collect(&self) -> Vec<MetricFamily>;
}

/// Why there is no such metric.
#[derive(Debug, thiserror::Error)]
pub enum MetricError {
    /// The name, or that of a label, can't be used.
    #[error("\"{0}\" can't name a metric or label; use lower-case letters, digits and `_`, a letter first")]
    Name(&'static str),
    /// The name is taken by a metric of another kind or with other labels.
    #[error("there is a metric \"{0}\" of another kind or with other labels; rename one of them")]
    Taken(&'static str),
}

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

impl Metrics {
    /// The counter of this name, made if need be. By custom it ends in `_total`.
    ///
    /// # Errors
    /// A name can't be used, or is taken.
    pub fn counter(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &[&'static str],
    ) -> Result<Counter, MetricError> {
        self.family(name, help, labels, MetricKind::Counter, &[]).map(Counter)
    }

    /// The gauge of this name, made if need be.
    ///
    /// # Errors
    /// As [`counter`](Self::counter).
    pub fn gauge(&self, name: &'static str, help: &'static str, labels: &[&'static str]) -> Result<Gauge, MetricError> {
        self.family(name, help, labels, MetricKind::Gauge, &[]).map(Gauge)
    }

    /// The histogram of this name with these ascending bounds, such as [`SECONDS`], made if need be.
    ///
    /// # Errors
    /// As [`counter`](Self::counter).
    pub fn histogram(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &[&'static str],
        bounds: &'static [f64],
    ) -> Result<Histogram, MetricError> {
        self.family(name, help, labels, MetricKind::Histogram, bounds)
            .map(Histogram)
    }

    /// Asks this source too, in the place of an earlier one of the same name, for as long as anybody else holds it.
    pub fn source(&self, name: impl Into<String>, source: &Arc<dyn MetricSource>) {
        self.lock().sources.insert(name.into(), Arc::downgrade(source));
    }

    /// All figures, by name.
    pub fn families(&self) -> Vec<MetricFamily> {
        let (families, sources): (Vec<_>, Vec<_>) = {
            let mut inner = self.lock();
            inner.sources.retain(|_, source| source.strong_count() > 0);
            let sources = inner.sources.values().filter_map(Weak::upgrade).collect();
            (inner.families.values().cloned().collect(), sources)
        };
        let asked = |source: Arc<dyn MetricSource>| {
            std::panic::catch_unwind(AssertUnwindSafe(|| source.collect())).unwrap_or_default()
        };
        let contributed = sources.into_iter().flat_map(asked);
        let mut by_name: BTreeMap<String, MetricFamily> = BTreeMap::new();
        for family in families.iter().map(|family| family.told()).chain(contributed) {
            match by_name.get_mut(&family.name) {
                // Two sources may tell of the same thing with different labels.
                Some(first) if first.kind == family.kind => first.samples.extend(family.samples),
                Some(_) => {}
                None => drop(by_name.insert(family.name.clone(), family)),
            }
        }
        by_name.into_values().collect()
    }

    fn family(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &[&'static str],
        kind: MetricKind,
        bounds: &'static [f64],
    ) -> Result<Arc<Family>, MetricError> {
        if let Some(wrong) = std::iter::once(&name).chain(labels).find(|name| !is_name(name)) {
            return Err(MetricError::Name(wrong));
        }
        let mut inner = self.lock();
        let family = inner.families.entry(name).or_insert_with(|| {
            Arc::new(Family {
                name,
                help,
                kind,
                labels: labels.to_vec(),
                bounds,
                series: Mutex::default(),
            })
        });
        let same = family.kind == kind && family.labels == labels && family.bounds == bounds;
        same.then(|| Arc::clone(family)).ok_or(MetricError::Taken(name))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether exposition formats take it as it is.
fn is_name(name: &str) -> bool {
    let sound = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    name.starts_with(|first: char| first.is_ascii_lowercase()) && name.bytes().all(sound)
}

struct Family {
    name: &'static str,
    help: &'static str,
    kind: MetricKind,
    labels: Vec<&'static str>,
    bounds: &'static [f64],
    series: Mutex<BTreeMap<Vec<String>, Arc<Series>>>,
}

/// A counter's number, a gauge's bits, or a distribution.
enum Series {
    Number(AtomicU64),
    Distribution(Mutex<Distribution>),
}

impl Family {
    /// The series with these values of the labels; what is missing or too much is made to fit.
    fn series(&self, values: &[&str]) -> Arc<Series> {
        let mut key: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
        key.resize(self.labels.len(), String::new());
        let mut series = self.lock();
        if !series.contains_key(&key) && series.len() >= MAXIMUM_SERIES {
            key.iter_mut().for_each(|value| OTHER.clone_into(value));
        }
        let made = series.entry(key).or_insert_with(|| {
            Arc::new(match self.kind {
                MetricKind::Histogram => Series::Distribution(Mutex::new(Distribution {
                    buckets: self.bounds.iter().map(|bound| (*bound, 0)).collect(),
                    ..Distribution::default()
                })),
                MetricKind::Counter | MetricKind::Gauge => Series::Number(AtomicU64::new(0)),
            })
        });
        Arc::clone(made)
    }

    fn told(&self) -> MetricFamily {
        let value = |series: &Series| match (series, self.kind) {
            (Series::Number(number), MetricKind::Gauge) => {
                MetricValue::Number(f64::from_bits(number.load(Ordering::Relaxed)))
            }
            (Series::Number(number), _) => MetricValue::Number(number.load(Ordering::Relaxed) as f64),
            (Series::Distribution(values), _) => {
                MetricValue::Distribution(values.lock().unwrap_or_else(PoisonError::into_inner).clone())
            }
        };
        let names = || self.labels.iter().map(|name| (*name).to_owned());
        let sample = |(values, series): (&Vec<String>, &Arc<Series>)| MetricSample {
            labels: names().zip(values.iter().cloned()).collect(),
            value: value(series),
        };
        MetricFamily {
            samples: self.lock().iter().map(sample).collect(),
            ..MetricFamily::new(self.name, self.kind, self.help)
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Vec<String>, Arc<Series>>> {
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A family of numbers that only grow.
#[derive(Clone)]
pub struct Counter(Arc<Family>);

/// One of them.
#[derive(Clone)]
pub struct CounterSeries(Arc<Series>);

impl Counter {
    /// The one with these values of the labels, in their order; to be kept where it is used often.
    pub fn with(&self, values: &[&str]) -> CounterSeries {
        CounterSeries(self.0.series(values))
    }
}

impl CounterSeries {
    /// So many more.
    pub fn add(&self, count: u64) {
        if let Series::Number(number) = &*self.0 {
            number.fetch_add(count, Ordering::Relaxed);
        }
    }
}

/// A family of numbers that go up and down.
#[derive(Clone)]
pub struct Gauge(Arc<Family>);

/// One of them.
#[derive(Clone)]
pub struct GaugeSeries(Arc<Series>);

impl Gauge {
    /// The one with these values of the labels, in their order; to be kept where it is used often.
    pub fn with(&self, values: &[&str]) -> GaugeSeries {
        GaugeSeries(self.0.series(values))
    }

    /// There is no such thing any more.
    pub fn remove(&self, values: &[&str]) {
        let same = |key: &Vec<String>| key.iter().map(String::as_str).eq(values.iter().copied());
        self.0.lock().retain(|key, _| !same(key));
    }
}

impl GaugeSeries {
    /// It is this now.
    pub fn set(&self, value: f64) {
        if let Series::Number(number) = &*self.0 {
            number.store(value.to_bits(), Ordering::Relaxed);
        }
    }
}

/// A family of distributions.
#[derive(Clone)]
pub struct Histogram(Arc<Family>);

/// One of them.
#[derive(Clone)]
pub struct HistogramSeries(Arc<Series>);

impl Histogram {
    /// The one with these values of the labels, in their order; to be kept where it is used often.
    pub fn with(&self, values: &[&str]) -> HistogramSeries {
        HistogramSeries(self.0.series(values))
    }
}

impl HistogramSeries {
    /// One more value; what is no number is left out.
    pub fn record(&self, value: f64) {
        if let (Series::Distribution(values), false) = (&*self.0, value.is_nan()) {
            let mut values = values.lock().unwrap_or_else(PoisonError::into_inner);
            values.count += 1;
            values.sum += value;
            let above = values.buckets.iter_mut().filter(|(bound, _)| value <= *bound);
            above.for_each(|(_, count)| *count += 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_kept_by_name_and_labels() {
        let metrics = Metrics::default();
        let orders = metrics.counter("orders_total", "Orders.", &["status"]).unwrap();
        orders.with(&["new"]).add(2);
        metrics
            .counter("orders_total", "Orders.", &["status"])
            .unwrap()
            .with(&["new"])
            .add(1);
        let depth = metrics.gauge("depth", "How deep.", &["queue"]).unwrap();
        depth.with(&["a"]).set(1.5);
        depth.with(&["b"]).set(2.0);
        depth.remove(&["b"]);
        let waits = metrics.histogram("wait_seconds", "Waits.", &[], &[0.1, 1.0]).unwrap();
        [0.05, 0.1, 0.5, 7.0, f64::NAN]
            .iter()
            .for_each(|value| waits.with(&[]).record(*value));
        let families = metrics.families();
        let of = |name: &str| {
            families
                .iter()
                .find(|family| family.name == name)
                .unwrap()
                .samples
                .clone()
        };
        assert_eq!(
            (of("orders_total").len(), &of("orders_total")[0].value),
            (1, &MetricValue::Number(3.0))
        );
        assert_eq!(
            (of("depth").len(), &of("depth")[0].value),
            (1, &MetricValue::Number(1.5))
        );
        let MetricValue::Distribution(values) = &of("wait_seconds")[0].value else {
            panic!()
        };
        assert_eq!((values.count, &values.buckets[..]), (4, &[(0.1, 2), (1.0, 3)][..]));
    }

    #[test]
    fn names_are_checked_and_mean_one_thing() {
        let metrics = Metrics::default();
        for wrong in ["", "Orders", "orders-total", "1st", "größe"] {
            assert!(metrics.counter(wrong, "", &[]).is_err(), "{wrong}");
        }
        metrics.counter("orders_total", "Orders.", &["status"]).unwrap();
        assert!(metrics.gauge("orders_total", "Orders.", &["status"]).is_err());
        assert!(metrics.counter("orders_total", "Orders.", &["kind"]).is_err());
    }

    #[test]
    fn series_have_a_limit() {
        let metrics = Metrics::default();
        let senders = metrics.counter("mails_total", "Mails.", &["sender"]).unwrap();
        (0..2 * MAXIMUM_SERIES).for_each(|number| senders.with(&[&number.to_string()]).add(1));
        let samples = &metrics.families()[0].samples;
        assert_eq!(samples.len(), MAXIMUM_SERIES + 1);
        let other = samples.iter().find(|sample| sample.labels[0].1 == OTHER).unwrap();
        assert_eq!(other.value, MetricValue::Number(MAXIMUM_SERIES as f64));
    }

    #[test]
    fn sources_are_asked_while_somebody_holds_them_and_their_panics_are_theirs() {
        struct Depth;
        impl MetricSource for Depth {
            fn collect(&self) -> Vec<MetricFamily> {
                vec![MetricFamily::new("depth", MetricKind::Gauge, "How deep.").with(&[("queue", "a")], 4.0)]
            }
        }
        struct Broken;
        impl MetricSource for Broken {
            fn collect(&self) -> Vec<MetricFamily> {
                panic!("a defect")
            }
        }
        let metrics = Metrics::default();
        let (depth, broken): (Arc<dyn MetricSource>, Arc<dyn MetricSource>) = (Arc::new(Depth), Arc::new(Broken));
        metrics.source("queues", &depth);
        metrics.source("broken", &broken);
        assert_eq!(metrics.families().len(), 1);
        drop(depth);
        assert_eq!(metrics.families(), []);
    }
}
