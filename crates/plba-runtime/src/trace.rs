//! Traces: the `tracing` layer that turns spans into finished spans with W3C identities, the ring that keeps the latest,
//! and the worker that hands them to transports. Transports themselves are adapters; the one to the log lives here.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use plba_contracts::BoxError;
use plba_contracts::clock::Clock;
use plba_contracts::trace::{FinishedSpan, TraceContext, TraceFactory, TraceTransport};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber, info, warn};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

/// Spans handed to a transport at a time.
const BATCH: usize = 512;
/// Spans waiting for transports; more are dropped and counted.
const WAITING: usize = 4096;
/// How long one export may take.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);
/// Attributes kept of one span, and the bytes kept of one value.
const ATTRIBUTES: usize = 64;
const VALUE_BYTES: usize = 1024;

/// The section `[platform.trace]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TraceConfig {
    /// The share of journeys that are kept, from 0 (none) to 1 (all).
    pub sample: f64,
    /// How many finished spans are kept in memory for the control plane, up to 100,000.
    pub keep: usize,
    /// Whether finished spans are written to the log, at level INFO under the target `plba::trace`.
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
    keep: usize,
    sample: f64,
    random: Mutex<fastrand::Rng>,
    ring: Mutex<VecDeque<Arc<FinishedSpan>>>,
    outgoing: Option<mpsc::Sender<Arc<FinishedSpan>>>,
    finished: AtomicU64,
    lost: AtomicU64,
}

/// The queue of finished spans on their way to transports; the manager runs it.
pub struct TraceExport {
    incoming: mpsc::Receiver<Arc<FinishedSpan>>,
    transports: Vec<Arc<dyn TraceTransport>>,
    shared: Arc<Shared>,
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
            keep: config.keep,
            sample: config.sample,
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

    /// The layer that watches `tracing` spans. Install it once, beside the log's.
    pub fn layer<S: Subscriber + for<'span> LookupSpan<'span>>(&self) -> impl Layer<S> + Send + Sync + 'static {
        TraceLayer {
            shared: Arc::clone(&self.shared),
        }
        .with_filter(LevelFilter::INFO)
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
        let sampled = self.sample >= 1.0 || random.f64() < self.sample;
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
        if self.keep == 0 {
            return;
        }
        let mut ring = lock(&self.ring);
        while ring.len() >= self.keep {
            ring.pop_front();
        }
        ring.push_back(span);
    }
}

impl TraceExport {
    /// Hands spans to the transports until `stop` resolves, then hands over what is left, each transport for at most
    /// 10 s. Returns how many spans were lost over the whole run.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> u64 {
        let mut stop = std::pin::pin!(stop);
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                received = self.incoming.recv_many(&mut batch, BATCH) => {
                    if received == 0 {
                        break;
                    }
                    self.export(&mut batch).await;
                }
                () = &mut stop => break,
            }
        }
        self.incoming.close();
        while self.incoming.recv_many(&mut batch, BATCH).await > 0 {
            self.export(&mut batch).await;
        }
        self.shared.lost.load(Ordering::Relaxed)
    }

    async fn export(&self, batch: &mut Vec<Arc<FinishedSpan>>) {
        let spans: Vec<FinishedSpan> = batch.drain(..).map(|span| FinishedSpan::clone(&span)).collect();
        for transport in &self.transports {
            let outcome = tokio::time::timeout(EXPORT_TIMEOUT, transport.export(&spans)).await;
            let reason = match outcome {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => plba_contracts::describe(error.as_ref()),
                Err(_) => format!("no answer within {} s", EXPORT_TIMEOUT.as_secs()),
            };
            self.shared.lost.fetch_add(spans.len() as u64, Ordering::Relaxed);
            warn!(
                transport = transport.name(),
                spans = spans.len(),
                reason,
                "finished spans were lost"
            );
        }
    }
}

/// Writes finished spans to the log.
struct LogTransport;

#[async_trait]
impl TraceTransport for LogTransport {
    fn name(&self) -> &str {
        "log"
    }

    async fn export(&self, spans: &[FinishedSpan]) -> Result<(), BoxError> {
        for span in spans {
            info!(
                target: "plba::trace", trace = span.trace_id, span = span.span_id, parent = span.parent_id,
                milliseconds = span.milliseconds, error = span.error, attributes = ?span.attributes, "{}", span.name
            );
        }
        Ok(())
    }
}

/// What is known of a span while it is open. Spans of journeys that are not sampled have none.
struct OpenSpan {
    context: TraceContext,
    parent: Option<u64>,
    started: Timestamp,
    since: Duration,
    attributes: BTreeMap<String, String>,
    error: Option<String>,
}

/// Stands in for [`OpenSpan`] below an unsampled root, so that no child starts a journey of its own.
struct Unsampled;

struct TraceLayer {
    shared: Arc<Shared>,
}

impl<S: Subscriber + for<'span> LookupSpan<'span>> Layer<S> for TraceLayer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let remote = fields
            .values
            .remove("traceparent")
            .and_then(|text| TraceContext::parse(&text));
        let parent = remote.map(Ok).or_else(|| {
            let parent = span.parent()?;
            let extensions = parent.extensions();
            let open = extensions.get::<OpenSpan>().map(|open| open.context);
            open.map(Ok)
                .or_else(|| extensions.get::<Unsampled>().map(|_| Err(Unsampled)))
        });
        let own = match parent {
            Some(Err(Unsampled)) => None,
            Some(Ok(parent)) => Some(self.shared.span_below(parent)),
            None => Some(self.shared.new_journey()),
        };
        let Some(own) = own.filter(|context| context.sampled) else {
            span.extensions_mut().insert(Unsampled);
            return;
        };
        span.extensions_mut().insert(OpenSpan {
            context: own,
            parent: parent.and_then(Result::ok).map(|parent| parent.span_id),
            started: self.shared.clock.now(),
            since: self.shared.clock.monotonic(),
            attributes: fields.values,
            error: fields.error,
        });
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(open) = span.extensions_mut().get_mut::<OpenSpan>() {
            let mut fields = Fields {
                values: std::mem::take(&mut open.attributes),
                error: open.error.take(),
            };
            values.record(&mut fields);
            (open.attributes, open.error) = (fields.values, fields.error);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if *event.metadata().level() != Level::ERROR {
            return;
        }
        let Some(span) = context.event_span(event) else { return };
        if let Some(open) = span.extensions_mut().get_mut::<OpenSpan>() {
            let mut fields = Fields::default();
            event.record(&mut fields);
            open.error = fields.error.or_else(|| fields.values.remove("message"));
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        let Some(open) = span.extensions_mut().remove::<OpenSpan>() else {
            return;
        };
        self.shared.finish(FinishedSpan {
            trace_id: format!("{:032x}", open.context.trace_id),
            span_id: format!("{:016x}", open.context.span_id),
            parent_id: open.parent.map(|parent| format!("{parent:016x}")),
            name: span.name().to_owned(),
            started: open.started,
            milliseconds: self.shared.clock.monotonic().saturating_sub(open.since).as_secs_f64() * 1e3,
            attributes: open.attributes,
            error: open.error,
        });
    }
}

/// Collects fields as text, within the limits; the field `error` is the span's error.
#[derive(Default)]
struct Fields {
    values: BTreeMap<String, String>,
    error: Option<String>,
}

impl Fields {
    fn put(&mut self, field: &Field, mut text: String) {
        if text.len() > VALUE_BYTES {
            let end = (0..=VALUE_BYTES)
                .rev()
                .find(|end| text.is_char_boundary(*end))
                .unwrap_or(0);
            text.truncate(end);
        }
        if field.name() == "error" {
            self.error = Some(text);
        } else if self.values.len() < ATTRIBUTES || self.values.contains_key(field.name()) {
            self.values.insert(field.name().to_owned(), text);
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }
}

// What these locks guard is whole between any two statements, so a poisoned lock is as good as a sound one.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
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
