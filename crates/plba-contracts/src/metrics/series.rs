//! What counts: the series of one name by their labels, and the handles by which they are counted.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::MAXIMUM_SERIES;
use super::figures::{Distribution, MetricFamily, MetricKind, MetricSample, MetricValue};

/// What the labels of that one say.
pub(super) const OTHER: &str = "other";

/// All series of one name.
pub(super) struct Family {
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
    pub(super) fn new(
        name: &'static str,
        help: &'static str,
        kind: MetricKind,
        labels: &[&'static str],
        bounds: &'static [f64],
    ) -> Self {
        Self {
            name,
            help,
            kind,
            labels: labels.to_vec(),
            bounds,
            series: Mutex::default(),
        }
    }

    /// Whether it is what would be made by these.
    pub(super) fn is(&self, kind: MetricKind, labels: &[&'static str], bounds: &'static [f64]) -> bool {
        self.kind == kind && self.labels == labels && self.bounds == bounds
    }

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

    pub(super) fn told(&self) -> MetricFamily {
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
pub struct Counter(pub(super) Arc<Family>);

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
pub struct Gauge(pub(super) Arc<Family>);

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
pub struct Histogram(pub(super) Arc<Family>);

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
