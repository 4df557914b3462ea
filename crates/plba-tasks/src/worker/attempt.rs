//! One attempt: a handler's future, polled with panics caught, and under its time-out, its lease and the stop signal once it
//! turns out not to be ready at once. Timers cost more than a quick handler: those that need none get none.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::{poll_fn, poll_immediate};
use plba_contracts::stop::StopSignal;
use tracing::Span;

use crate::handler::{HandlerError, Outcome};
use crate::queue::{DeliveryToken, EndError, TaskQueue};

type Handling<'a> = Pin<Box<dyn Future<Output = Result<Outcome, HandlerError>> + Send + 'a>>;

/// How an attempt ended.
pub(crate) enum Ended {
    /// The handler came to an end.
    Handled(Result<Outcome, HandlerError>),
    /// It panicked, with this message.
    Panicked(String),
    /// It took too long.
    TimedOut,
    /// Somebody else has the task now.
    Lost,
    /// A forced stop took it out of the handler's hand.
    Forced,
}

/// A handler at work.
pub(crate) struct Attempt<'a> {
    handling: Option<Handling<'a>>,
    span: Span,
}

impl<'a> Attempt<'a> {
    pub(crate) fn new(handling: Handling<'a>, span: Span) -> Self {
        Self {
            handling: Some(handling),
            span,
        }
    }

    /// Polls once: the end, if the handler gets there without waiting.
    pub(super) async fn first(&mut self) -> Option<Ended> {
        poll_immediate(self.end()).await
    }

    /// Waits for the end. May be dropped and called again.
    pub(super) async fn end(&mut self) -> Ended {
        let span = self.span.clone();
        let ended = poll_fn(|context| {
            let Some(handling) = self.handling.as_mut() else {
                return Poll::Pending;
            };
            let entered = span.enter();
            let polled = catch_unwind(AssertUnwindSafe(|| handling.as_mut().poll(context)));
            drop(entered);
            match polled {
                Ok(Poll::Pending) => Poll::Pending,
                Ok(Poll::Ready(handled)) => Poll::Ready(Ended::Handled(handled)),
                Err(panic) => Poll::Ready(Ended::Panicked(message(panic))),
            }
        })
        .await;
        match (self.discard(), ended) {
            // The work is done, but something of it panicked while it was put away: not a success to rely on.
            (Some(panic), Ended::Handled(_)) => Ended::Panicked(panic),
            (_, ended) => ended,
        }
    }

    /// Drops the handler's future; the message of a panic on the way.
    pub(super) fn discard(&mut self) -> Option<String> {
        let handling = self.handling.take();
        let _entered = self.span.enter();
        catch_unwind(AssertUnwindSafe(|| drop(handling))).err().map(message)
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if let Some(panic) = self.discard() {
            tracing::warn!(panic, "a handler panicked while it was dropped");
        }
    }
}

/// The message of a panic. The payload's own drop may panic as well; that one is nobody's to hear.
fn message(panic: Box<dyn Any + Send>) -> String {
    let message = crate::panic::message(panic.as_ref());
    drop(catch_unwind(AssertUnwindSafe(|| drop(panic))));
    message
}

/// What bounds an attempt.
pub(crate) struct Bounds<'a> {
    pub(crate) timeout: Duration,
    pub(crate) stop: &'a StopSignal,
    pub(crate) queue: &'a dyn TaskQueue,
    /// The lease of the task at hand, first, and of those that wait behind it.
    pub(crate) tokens: Vec<DeliveryToken>,
}

/// Waits for an attempt to end within its bounds, and renews the leases meanwhile. Gives the fences of lost leases too.
pub(crate) async fn within(attempt: &mut Attempt<'_>, bounds: Bounds<'_>) -> (Ended, Vec<u64>) {
    let mut lost = Vec::new();
    let ended = tokio::select! {
        biased;
        ended = attempt.end() => ended,
        () = bounds.stop.forced() => Ended::Forced,
        () = tokio::time::sleep(bounds.timeout) => Ended::TimedOut,
        () = renew(bounds.queue, &bounds.tokens, &mut lost) => Ended::Lost,
    };
    if let Some(panic) = attempt.discard() {
        tracing::warn!(panic, "a handler panicked while it was dropped");
    }
    (ended, lost)
}

/// Renews leases at a third of their time; returns when the first one's is lost, or can't be known to be held.
async fn renew(queue: &dyn TaskQueue, tokens: &[DeliveryToken], lost: &mut Vec<u64>) {
    let lease = queue.lease();
    let mut renewed = tokio::time::Instant::now();
    loop {
        tokio::time::sleep_until(renewed + lease / 3).await;
        let asked = tokio::time::Instant::now();
        let mut pause = lease / 3;
        match tokio::time::timeout(lease / 3, queue.extend(tokens)).await {
            Ok(Ok(results)) => {
                renewed = asked;
                for (token, result) in tokens.iter().zip(results) {
                    if matches!(result, Err(EndError::LeaseLost)) {
                        lost.push(token.fence);
                    }
                }
                if tokens.first().is_some_and(|token| lost.contains(&token.fence)) {
                    return;
                }
                continue;
            }
            Ok(Err(error)) => tracing::warn!(%error, "leases could not be renewed"),
            Err(_) => {
                pause = Duration::ZERO;
                tracing::warn!("leases could not be renewed: the queue does not answer");
            }
        }
        if asked.elapsed() + asked.duration_since(renewed) >= lease {
            return;
        }
        // Soon again: the lease runs out within two such pauses.
        tokio::time::sleep(pause / 4).await;
    }
}
