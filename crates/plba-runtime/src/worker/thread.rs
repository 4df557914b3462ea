//! A blocking routine on a thread of its own, awaited from the workers' executor.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use plba_contracts::stop::StopSignal;
use plba_contracts::worker::{BusyGuard, WorkerContext};
use tokio::sync::oneshot;

use super::outcome::{Outcome, RoutineError};

/// What a blocking routine looks like inside.
pub(super) type Block = Arc<dyn Fn(StopSignal) -> Result<Outcome, RoutineError> + Send + Sync>;

type Ended = Result<Result<Outcome, RoutineError>, Box<dyn Any + Send>>;

/// Says so if the thread is still there when nobody waits for it any more.
struct Waiter<'a> {
    name: &'a str,
    /// After a forced stop the instance is busy with its thread. Before it is not: what runs until it is told to stop is
    /// not busy with one thing, so it can't be hung.
    busy: Option<BusyGuard<'a>>,
    ended: bool,
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        if !self.ended {
            tracing::error!(
                "the thread \"{}\" did not end when it was told to, and is left behind",
                self.name
            );
            // The instance goes, but what it is busy with does not: that is how the stop report knows.
            std::mem::forget(self.busy.take());
        }
    }
}

/// Runs the routine once on a new thread. After a forced stop the instance counts as busy with its thread, so that the
/// stop report names it; as left behind, if it does not end.
///
/// # Cancel safety
/// When dropped, the thread runs on, and a line in the log says so: a thread can't be ended from outside.
pub(super) async fn run(routine: Block, stop: StopSignal, context: &WorkerContext) -> Result<Outcome, RoutineError> {
    let name = format!("{}[{}]", context.name, context.slot);
    let (sender, receiver) = oneshot::channel::<Ended>();
    let told = stop.clone();
    let span = tracing::Span::current();
    let body = move || {
        let _entered = span.enter();
        let ended = std::panic::catch_unwind(AssertUnwindSafe(|| routine(told)));
        // Nobody waits any more if the instance was dropped.
        let _ = sender.send(ended);
    };
    std::thread::Builder::new().name(name.clone()).spawn(body)?;
    let mut waiter = Waiter {
        name: &name,
        busy: None,
        ended: false,
    };
    let mut receiver = std::pin::pin!(receiver);
    let ended = tokio::select! {
        biased;
        ended = &mut receiver => ended,
        () = stop.forced() => {
            waiter.busy = Some(context.activity.begin(format!("thread \"{name}\"").into()));
            receiver.await
        }
    };
    waiter.ended = true;
    match ended {
        Ok(Ok(result)) => result,
        // Goes on as a panic of the attempt, which is what it is.
        Ok(Err(payload)) => std::panic::resume_unwind(payload),
        Err(_) => Err(RoutineError::new("the thread ended without a result")),
    }
}
