//! Traces: identities of journeys and spans, and the ring that keeps the latest finished ones. The `tracing` layer that
//! makes finished spans lives in `layer`, their way to transports in `export`; transports themselves are adapters.

mod export;
mod innermost;
mod layer;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use plba_contracts::clock::Clock;
use plba_contracts::trace::{FinishedSpan, TraceContext, TraceFactory, TraceTransport};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::filter::{FilterFn, LevelFilter};
use tracing_subscriber::layer::Layer;
use tracing_subscriber::registry::LookupSpan;

use self::export::LogTransport;
use self::innermost::InnermostLayer;
use self::layer::{OpenSpan, TraceLayer};

pub use self::export::TraceExport;
pub(crate) use self::innermost::innermost;

/// Spans waiting for transports; more are dropped and counted.
const WAITING: usize = 4096;

/// The section `[platform.trace]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TraceConfig {
    /// The share of journeys that are kept, from 0 (none) to 1 (all).
    pub sample: f64,
    /// How many finished spans are kept in memory for the control plane, up to 100,000.
    pub keep: usize,
    /// Whether finished spans are written to the log, at level INFO under the target `plba::trace`.
    #[schemars(extend("x-needs-restart" = true))]
    pub log: bool,
}

impl Default for TraceConfig {
    fn default() -> Self {
        Self {
            sample: 1.0,
            keep: 2_000,
            log: false,
        }
    }
}

/// Keeps finished spans and knows the context of the work at hand. Cheap to clone.
#[derive(Clone)]
pub struct TraceService {
    shared: Arc<Shared>,
}

struct Shared {
    clock: Arc<dyn Clock>,
    keep: AtomicUsize,
    /// A share as its bits.
    sample: AtomicU64,
    random: Mutex<fastrand::Rng>,
    ring: Mutex<VecDeque<Arc<FinishedSpan>>>,
    outgoing: Option<mpsc::Sender<Arc<FinishedSpan>>>,
    finished: AtomicU64,
    lost: AtomicU64,
}

impl TraceService {
    /// A service with these transports; `config.log` adds the one to the log. Spans begin to count once its
    /// [`layer`](Self::layer) is installed, and to leave once the [`TraceExport`] runs.
    pub fn new(
        config: &TraceConfig,
        clock: Arc<dyn Clock>,
        seed: u64,
        mut transports: Vec<Arc<dyn TraceTransport>>,
    ) -> (Self, TraceExport) {
        if config.log {
            transports.push(Arc::new(LogTransport));
        }
        let (sender, incoming) = mpsc::channel(WAITING);
        let shared = Arc::new(Shared {
            clock,
            keep: AtomicUsize::new(config.keep),
            sample: AtomicU64::new(config.sample.to_bits()),
            random: Mutex::new(fastrand::Rng::with_seed(seed)),
            ring: Mutex::default(),
            outgoing: (!transports.is_empty()).then_some(sender),
            finished: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        });
        let export = TraceExport {
            incoming,
            transports,
            shared: Arc::clone(&shared),
        };
        (Self { shared }, export)
    }

    /// From now on samples and keeps as this says. Journeys that have begun go on as they were; `log` counts from the next
    /// start.
    pub fn tune(&self, config: &TraceConfig) {
        self.shared.sample.store(config.sample.to_bits(), Ordering::Relaxed);
        self.shared.keep.store(config.keep, Ordering::Relaxed);
    }

    /// The layer that watches `tracing` spans. Install it once, beside the log's.
    pub fn layer<S: Subscriber + for<'span> LookupSpan<'span>>(&self) -> impl Layer<S> + Send + Sync + 'static {
        let traced = TraceLayer {
            shared: Arc::clone(&self.shared),
        };
        traced
            .with_filter(FilterFn::new(is_of_a_journey).with_max_level_hint(LevelFilter::INFO))
            .and_then(InnermostLayer.with_filter(LevelFilter::INFO))
    }

    /// The latest finished spans, the newest first, of one journey or of all.
    pub fn recent(&self, trace_id: Option<&str>, limit: usize) -> Vec<FinishedSpan> {
        let ring = lock(&self.shared.ring);
        let wanted = ring
            .iter()
            .rev()
            .filter(|span| trace_id.is_none_or(|trace_id| span.trace_id == trace_id));
        wanted.take(limit).map(|span| FinishedSpan::clone(span)).collect()
    }

    /// Spans finished so far, and spans that no transport got.
    pub fn counts(&self) -> (u64, u64) {
        (
            self.shared.finished.load(Ordering::Relaxed),
            self.shared.lost.load(Ordering::Relaxed),
        )
    }
}

/// The span around a worker lasts as long as the worker does: as a parent it would make one journey of all that the worker
/// ever does.
fn is_of_a_journey(metadata: &Metadata<'_>) -> bool {
    let worker = metadata.name() == "worker" && metadata.target().starts_with("plba_runtime::supervisor");
    *metadata.level() <= Level::INFO && !worker
}

impl TraceFactory for TraceService {
    fn current(&self) -> Option<TraceContext> {
        let mut found = None;
        tracing::Span::current().with_subscriber(|(id, dispatch)| {
            let registry = dispatch.downcast_ref::<tracing_subscriber::Registry>();
            let span = registry.and_then(|registry| registry.span(id));
            found = span.and_then(|span| span.extensions().get::<OpenSpan>().map(|open| open.context));
        });
        found
    }

    fn begin(&self) -> TraceContext {
        self.shared.new_journey()
    }
}

impl Shared {
    fn new_journey(&self) -> TraceContext {
        let mut random = lock(&self.random);
        let sample = f64::from_bits(self.sample.load(Ordering::Relaxed));
        let sampled = sample >= 1.0 || random.f64() < sample;
        TraceContext {
            trace_id: random.u128(1..),
            span_id: random.u64(1..),
            sampled,
        }
    }

    fn span_below(&self, parent: TraceContext) -> TraceContext {
        TraceContext {
            span_id: lock(&self.random).u64(1..),
            ..parent
        }
    }

    fn finish(&self, span: FinishedSpan) {
        let span = Arc::new(span);
        self.finished.fetch_add(1, Ordering::Relaxed);
        if let Some(outgoing) = &self.outgoing
            && outgoing.try_send(Arc::clone(&span)).is_err()
        {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        let keep = self.keep.load(Ordering::Relaxed);
        let mut ring = lock(&self.ring);
        while ring.len() > keep.saturating_sub(1) {
            ring.pop_front();
        }
        if keep > 0 {
            ring.push_back(span);
        }
    }
}

// What these locks guard is whole between any two statements, so a poisoned lock is as good as a sound one.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use plba_contracts::BoxError;
    use tracing::{error, info_span};
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;
    use crate::clock::SystemClock;

    fn traced(config: TraceConfig, work: impl FnOnce(&TraceService)) -> Vec<FinishedSpan> {
        let (service, _export) = TraceService::new(&config, Arc::new(SystemClock::new()), 7, Vec::new());
        let subscriber = tracing_subscriber::registry().with(service.layer());
        tracing::subscriber::with_default(subscriber, || work(&service));
        service.recent(None, 100)
    }

    #[test]
    fn a_span_continues_the_journey_that_its_traceparent_names() {
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let spans = traced(TraceConfig::default(), |service| {
            let outer = info_span!("outer", traceparent = parent, task = "a/1").entered();
            let current = service.current().unwrap();
            assert_eq!(format!("{:032x}", current.trace_id), "4bf92f3577b34da6a3ce929d0e0e4736");
            info_span!("inner").in_scope(|| error!("disk full"));
            drop(outer);
        });
        let names: Vec<_> = spans.iter().map(|span| span.name.as_str()).collect();
        assert_eq!(names, ["outer", "inner"]);
        assert_eq!(spans[0].parent_id.as_deref(), Some("00f067aa0ba902b7"));
        assert_eq!(spans[1].parent_id.as_ref(), Some(&spans[0].span_id));
        assert_eq!(spans[0].attributes["task"], "a/1");
        assert_eq!(spans[1].error.as_deref(), Some("disk full"));
        assert_eq!(spans[0].error, None);
    }

    #[test]
    fn an_unsampled_journey_has_no_spans_at_all() {
        let config = TraceConfig {
            sample: 0.0,
            ..TraceConfig::default()
        };
        let spans = traced(config, |service| {
            let _outer = info_span!("outer").entered();
            assert_eq!(service.current(), None);
            info_span!("inner").in_scope(|| {});
        });
        assert_eq!(spans, []);
    }

    #[test]
    fn the_span_around_a_worker_is_no_journey() {
        let spans = traced(TraceConfig::default(), |service| {
            let _worker = info_span!(target: "plba_runtime::supervisor::driver", "worker", name = "orders").entered();
            assert_eq!(service.current(), None);
            info_span!("one").in_scope(|| {});
            info_span!("two").in_scope(|| {});
        });
        assert_eq!(spans.len(), 2);
        assert_ne!(spans[0].trace_id, spans[1].trace_id);
        assert_eq!((&spans[0].parent_id, &spans[1].parent_id), (&None, &None));
    }

    #[test]
    fn the_ring_keeps_the_latest() {
        let config = TraceConfig {
            keep: 2,
            ..TraceConfig::default()
        };
        let spans = traced(config, |_| {
            (0..5).for_each(|number| info_span!("work", number).in_scope(|| {}))
        });
        let numbers: Vec<_> = spans.iter().map(|span| span.attributes["number"].as_str()).collect();
        assert_eq!(numbers, ["4", "3"]);
    }

    struct Broken;

    #[async_trait]
    impl TraceTransport for Broken {
        fn name(&self) -> &str {
            "broken"
        }

        async fn export(&self, _: &[FinishedSpan]) -> Result<(), BoxError> {
            Err("no route".into())
        }
    }

    #[tokio::test]
    async fn spans_that_no_transport_takes_are_counted() {
        let clock = Arc::new(SystemClock::new());
        let (service, export) = TraceService::new(&TraceConfig::default(), clock, 7, vec![Arc::new(Broken)]);
        let subscriber = tracing_subscriber::registry().with(service.layer());
        tracing::subscriber::with_default(subscriber, || info_span!("work").in_scope(|| {}));
        assert_eq!(export.run(std::future::ready(())).await, 1);
        assert_eq!(service.counts(), (1, 1));
    }
}
