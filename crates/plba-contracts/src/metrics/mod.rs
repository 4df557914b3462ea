//! Metrics: counters, gauges and histograms with bounded labels, and who may contribute figures when they are asked for.
//! How they are told (as a view, as text for Prometheus) is others' concern.
//!
//! | file | what |
//! |---|---|
//! | `figures` | figures of one moment, as whoever looks gets them |
//! | `series` | what counts, and keeps the figures of one name |
//!
//! ```
//! use plba_contracts::metrics::Metrics;
//!
//! let metrics = Metrics::default();
//! let orders = metrics.counter("bot_orders_total", "Orders by what became of them.", &["status"]).unwrap();
//! orders.with(&["accepted"]).add(1);
//! assert_eq!(metrics.families()[0].name, "bot_orders_total");
//! ```

mod figures;
mod series;

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

pub use self::figures::{Distribution, MetricFamily, MetricKind, MetricSample, MetricValue};
use self::series::Family;
pub use self::series::{Counter, CounterSeries, Gauge, GaugeSeries, Histogram, HistogramSeries};

/// The most series of one family. What would come beyond is counted under one more, whose labels all say `other`.
pub const MAXIMUM_SERIES: usize = 1_000;

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
        let family = inner.families.entry(name);
        let family = family.or_insert_with(|| Arc::new(Family::new(name, help, kind, labels, bounds)));
        let same = family.is(kind, labels, bounds);
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

#[cfg(test)]
mod tests {
    use super::series::OTHER;
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
