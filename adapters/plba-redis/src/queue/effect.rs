//! Effects of completions: run while the lease is renewed, before the ending itself. Redis has no transaction that an effect
//! could write in, so it gets `()`, as with the queue in memory: one whose process dies between effect and ending is run
//! again.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use plba_contracts::BoxError;
use plba_tasks::queue::{DeliveryToken, Effect, EndError, Ending, How};
use plba_tasks::task::NewTask;

use super::Inner;
use super::exchange::Step;
use super::extend::extend;
use super::publish::check;

/// Checks follow-ups and runs effects. Gives a result for each ending that is over with it, and the steps for the others.
pub(super) async fn prepare(
    inner: &Arc<Inner>,
    endings: Vec<Ending>,
) -> (Vec<Option<Result<(), EndError>>>, Vec<Step>) {
    let mut results = Vec::with_capacity(endings.len());
    let mut steps = Vec::with_capacity(endings.len());
    for (place, mut ending) in endings.into_iter().enumerate() {
        match carry_out(inner, &mut ending).await {
            Ok(()) => {
                results.push(None);
                steps.push(Step::new(place, ending));
            }
            Err(error) => results.push(Some(Err(error))),
        }
    }
    (results, steps)
}

async fn carry_out(inner: &Arc<Inner>, ending: &mut Ending) -> Result<(), EndError> {
    let How::Ack { effect, then } = &mut ending.how else {
        return Ok(());
    };
    refuse_unfit(inner, then)?;
    if let Some(effect) = effect.take() {
        let more = run_held(inner, &ending.token, effect).await?;
        refuse_unfit(inner, &more)?;
        then.extend(more);
    }
    Ok(())
}

fn refuse_unfit(inner: &Inner, then: &[NewTask]) -> Result<(), EndError> {
    for task in then {
        check(inner, task).map_err(|reason| {
            EndError::Refused(format!(
                "task \"{}\" for queue \"{}\" can't be published: {reason}",
                task.kind, task.queue
            ))
        })?;
    }
    Ok(())
}

/// Runs an effect while the lease is held: it is renewed first, and again and again.
async fn run_held(inner: &Arc<Inner>, token: &DeliveryToken, effect: Effect) -> Result<Vec<NewTask>, EndError> {
    let tokens = std::slice::from_ref(token);
    let renew = || async {
        let mut renewed = extend(inner, tokens).await?;
        renewed.pop().unwrap_or(Err(EndError::LeaseLost))
    };
    renew().await?;
    let mut transaction = ();
    let running = AssertUnwindSafe(effect.run(&mut transaction)).catch_unwind();
    tokio::pin!(running);
    loop {
        tokio::select! {
            ran = &mut running => {
                let ran = ran.unwrap_or_else(|_| Err(BoxError::from("it panicked")));
                return ran.map_err(EndError::Effect);
            }
            () = tokio::time::sleep(inner.shared.settings.lease / 3) => {
                // The effect is not stopped half-way for a lease that could not be renewed in time: the ending will tell.
                let _ = renew().await;
            }
        }
    }
}
