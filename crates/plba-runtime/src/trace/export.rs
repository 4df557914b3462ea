//! The way of finished spans to transports, which never holds up work; and the transport to the log.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use plba_contracts::BoxError;
use plba_contracts::trace::{FinishedSpan, TraceTransport};
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::Shared;

/// Spans handed to a transport at a time.
const BATCH: usize = 512;

/// How long one export may take.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);

/// The queue of finished spans on their way to transports; the manager runs it.
pub struct TraceExport {
    pub(super) incoming: mpsc::Receiver<Arc<FinishedSpan>>,
    pub(super) transports: Vec<Arc<dyn TraceTransport>>,
    pub(super) shared: Arc<Shared>,
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
pub(super) struct LogTransport;

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
