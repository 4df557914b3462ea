//! Traces: the context that travels with a piece of work, the finished span, and who takes finished spans away. The
//! `tracing` layer that fills them lives in the runtime; transports to elsewhere are adapters.

use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::BoxError;

/// Where a piece of work stands in its journey, as W3C Trace Context puts it (`traceparent`, version 00).
///
/// It is carried beside a payload, never inside it.
///
/// ```
/// use plba_contracts::trace::TraceContext;
///
/// let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// let context = TraceContext::parse(text).unwrap();
/// assert!(context.sampled);
/// assert_eq!(context.to_string(), text);
/// assert!(TraceContext::parse("00-0-0-01").is_none());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceContext {
    /// The journey. Never 0.
    pub trace_id: u128,
    /// The span within it. Never 0.
    pub span_id: u64,
    /// Whether spans of this journey are kept.
    pub sampled: bool,
}

impl TraceContext {
    /// Reads a `traceparent`: W3C Trace Context, section 3.2. `None` when it isn't one, or its ids are zero.
    ///
    /// Versions other than 00 are read as 00 as far as they go, as the recommendation asks (section 3.2.4).
    pub fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split('-');
        let (version, trace_id, span_id, flags) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let sized = version.len() == 2 && trace_id.len() == 32 && span_id.len() == 16 && flags.len() == 2;
        let surplus = version == "00" && fields.next().is_some();
        let lower = text.bytes().all(|byte| !byte.is_ascii_uppercase());
        if !sized || !lower || surplus || version == "ff" {
            return None;
        }
        u8::from_str_radix(version, 16).ok()?;
        let context = Self {
            trace_id: u128::from_str_radix(trace_id, 16).ok()?,
            span_id: u64::from_str_radix(span_id, 16).ok()?,
            sampled: u8::from_str_radix(flags, 16).ok()? & 1 == 1,
        };
        (context.trace_id != 0 && context.span_id != 0).then_some(context)
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "00-{:032x}-{:016x}-{:02x}",
            self.trace_id,
            self.span_id,
            u8::from(self.sampled)
        )
    }
}

/// A span that has ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FinishedSpan {
    /// The journey: 32 hexadecimal digits.
    pub trace_id: String,
    /// This span: 16 hexadecimal digits.
    pub span_id: String,
    /// The span it belongs to, in this process or another.
    pub parent_id: Option<String>,
    /// What was done, such as `task.attempt`.
    pub name: String,
    /// When it began.
    #[schemars(with = "String")]
    pub started: Timestamp,
    /// How long it took, in milliseconds with a fraction.
    pub milliseconds: f64,
    /// What was recorded on the way. At most 64, each value at most 1 KiB.
    pub attributes: BTreeMap<String, String>,
    /// The error that was recorded in it, if any.
    pub error: Option<String>,
}

/// Gives the trace context of the work at hand, so that whoever hands work on can send the context along.
///
/// Registered by the platform as a service: `services.get::<dyn TraceFactory>()`. Spans themselves are made by the
/// `tracing` macros. A span with a field `traceparent` continues the journey that this names.
///
/// ```
/// use plba_contracts::trace::{TraceContext, TraceFactory};
///
/// /// Sends the context along, beside whatever is sent.
/// fn header(traces: &dyn TraceFactory) -> Option<String> {
///     traces.current().map(|context: TraceContext| context.to_string())
/// }
/// # struct None_;
/// # impl TraceFactory for None_ {
/// #     fn current(&self) -> Option<TraceContext> { None }
/// #     fn begin(&self) -> TraceContext { TraceContext { trace_id: 1, span_id: 1, sampled: true } }
/// # }
/// # assert_eq!(header(&None_), None);
/// ```
pub trait TraceFactory: Send + Sync + 'static {
    /// The context of the current `tracing` span, if there is one and its journey is sampled.
    fn current(&self) -> Option<TraceContext>;

    /// A new journey, sampled or not as configured, for work that comes from outside without a context.
    fn begin(&self) -> TraceContext;
}

/// Takes finished spans out of the process.
///
/// The trace service calls [`export`](Self::export) with up to 512 spans at a time, one call at a time, and drops the
/// call after 10 s. Spans that could not be exported are counted and dropped: traces never hold up work.
///
/// # Cancel safety
/// A dropped call may have exported some of its spans.
///
/// ```
/// use plba_contracts::BoxError;
/// use plba_contracts::trace::{FinishedSpan, TraceTransport};
///
/// struct ToStandardError;
///
/// #[async_trait::async_trait]
/// impl TraceTransport for ToStandardError {
///     fn name(&self) -> &str {
///         "standard error"
///     }
///     async fn export(&self, spans: &[FinishedSpan]) -> Result<(), BoxError> {
///         spans.iter().for_each(|span| eprintln!("{} took {} ms", span.name, span.milliseconds));
///         Ok(())
///     }
/// }
/// ```
#[async_trait]
pub trait TraceTransport: Send + Sync + 'static {
    /// Its name in status and logs.
    fn name(&self) -> &str;

    /// Takes the spans away.
    async fn export(&self, spans: &[FinishedSpan]) -> Result<(), BoxError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_trace_contexts_are_refused() {
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        for text in [
            String::new(),
            format!("00-{id}-00f067aa0ba902b7"),
            format!("00-{id}-00f067aa0ba902b7-01-extra"),
            format!("ff-{id}-00f067aa0ba902b7-01"),
            format!("00-{id}-0000000000000000-01"),
            format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            format!("00-{}-00f067aa0ba902b7-01", id.to_uppercase()),
            format!("00-{id}-00f067aa0ba902bx-01"),
        ] {
            assert_eq!(TraceContext::parse(&text), None, "{text}");
        }
        assert!(TraceContext::parse(&format!("01-{id}-00f067aa0ba902b7-00-more")).is_some());
    }
}
