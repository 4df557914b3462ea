//! The `tracing` layer: what is known of a span while it is open, and the finished span it becomes.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use plba_contracts::trace::{FinishedSpan, TraceContext};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use super::Shared;

/// Attributes kept of one span, and the bytes kept of one value.
const ATTRIBUTES: usize = 64;
const VALUE_BYTES: usize = 1024;

/// What is known of a span while it is open. Spans of journeys that are not sampled have none.
pub(super) struct OpenSpan {
    pub(super) context: TraceContext,
    parent: Option<u64>,
    started: Timestamp,
    since: Duration,
    attributes: BTreeMap<String, String>,
    error: Option<String>,
}

/// Stands in for [`OpenSpan`] below an unsampled root, so that no child starts a journey of its own.
struct Unsampled;

pub(super) struct TraceLayer {
    pub(super) shared: Arc<Shared>,
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
