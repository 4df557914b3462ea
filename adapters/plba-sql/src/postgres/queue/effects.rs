//! Effects: each in a short transaction of its own that holds the delivery's row, so that the lease can't run out, and
//! commits the effect, the end of the task and its follow-ups together.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::stream::{self, StreamExt};
use plba_contracts::BoxError;
use plba_tasks::queue::{DeliveryToken, Effect, EndError};
use plba_tasks::task::NewTask;
use tokio_postgres::types::Type;

use super::super::fault::{Fault, Kind};
use super::super::transaction::PostgresTransaction;
use super::Inner;
use super::end;
use super::ending::{self, Plain};
use super::ends::Ends;
use super::record::{Columns, sorted};
use super::token::Held;

type Outcome = Result<(), EndError>;

/// A conflict of an effect with somebody else: its task comes again after this, in microseconds, and it is no attempt.
const AGAIN: std::ops::Range<i64> = 50_000..250_000;

/// Runs effects, as many at once as there are connections for them. Dropped, those that have not committed are rolled
/// back, and their leases go on.
pub(super) async fn run_all(
    inner: &Arc<Inner>,
    effects: Vec<(usize, DeliveryToken, Effect, Vec<NewTask>)>,
) -> Vec<(usize, Outcome)> {
    let run = |(index, token, effect, then)| async move { (index, run(inner, &token, effect, then).await) };
    stream::iter(effects)
        .map(run)
        .buffer_unordered(inner.handlers.size())
        .collect()
        .await
}

async fn run(inner: &Arc<Inner>, token: &DeliveryToken, effect: Effect, then: Vec<NewTask>) -> Outcome {
    match complete(inner, token, effect, then).await {
        Ok(outcome) => outcome,
        Err(fault) if fault.kind == Kind::Conflict => {
            // The effect is used up, and its handler is not to blame: the task comes once more, at no cost.
            tracing::debug!(task = %token.task, error = %fault, "an effect met a conflict: its task comes again");
            match end::give_back_for(inner, token, fastrand::i64(AGAIN)).await {
                Ok(()) => Err(EndError::LeaseLost),
                Err(fault) => Err(EndError::Queue(fault.into())),
            }
        }
        Err(fault) => Err(EndError::Queue(fault.into())),
    }
}

async fn complete(
    inner: &Arc<Inner>,
    token: &DeliveryToken,
    effect: Effect,
    then: Vec<NewTask>,
) -> Result<Outcome, Fault> {
    let room = inner.room(&token.queue).await?;
    let mut records = match ending::follow_ups(inner, then).await? {
        Ok(records) => records,
        Err(refused) => return Ok(Err(refused)),
    };
    let mut transaction = PostgresTransaction::begin(inner.handlers.loan().await?).await?;
    let held = Held::read(token);
    if let Some(locks) = sorted(held.locks().collect()) {
        let lock = super::super::schema::fill(
            "SELECT pg_advisory_xact_lock({space}, l) FROM unnest($1) l",
            &inner.settings.schema,
        );
        transaction.statement(&lock, &[(&locks, Type::INT4_ARRAY)]).await?;
    }
    let now = inner.now();
    let values = [
        (&now as _, Type::INT8),
        (&room.number as _, Type::INT4),
        (&held.place as _, Type::INT8),
        (&held.fence as _, Type::INT8),
    ];
    if transaction.statement(&inner.texts.hold, &values).await?.is_empty() {
        transaction.roll_back().await;
        return Ok(Err(EndError::LeaseLost));
    }
    let ran = AssertUnwindSafe(effect.run(&mut transaction)).catch_unwind().await;
    let ran = ran.unwrap_or_else(|panic| Err(format!("it panicked: {}", message(panic.as_ref())).into()));
    let more = match ran {
        Ok(more) => more,
        Err(error) => {
            transaction.roll_back().await;
            return match conflict(error) {
                Ok(fault) => Err(fault),
                Err(error) => Ok(Err(EndError::Effect(error))),
            };
        }
    };
    match ending::follow_ups(inner, more).await? {
        Ok(more) => records.extend(more),
        Err(refused) => {
            transaction.roll_back().await;
            return Ok(Err(refused));
        }
    }
    let plain = Plain::ack(room, token, records);
    let endings = [&plain];
    let ends = Ends::new(inner, &endings, true);
    let columns = Columns::new(ending::records(&endings));
    let mut values = ends.values().to_vec();
    let follow = ending::records(&endings).next().is_some();
    if follow {
        values.extend(columns.values());
    }
    let text = if follow {
        &inner.texts.end_publish
    } else {
        &inner.texts.end
    };
    let rows = transaction.statement(text, &values).await?;
    let ended: Option<Vec<i64>> = rows.first().map(|row| row.try_get(0)).transpose()?.flatten();
    transaction.committed().await?;
    let mut ended = ended.unwrap_or_default().into_iter().collect();
    let outcome = end::outcomes(inner, std::slice::from_ref(&plain), &mut ended).pop();
    Ok(outcome.unwrap_or(Err(EndError::LeaseLost)))
}

/// The conflict between transactions that an effect failed with, if it is one.
fn conflict(error: BoxError) -> Result<Fault, BoxError> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error.as_ref());
    while let Some(found) = cause {
        if let Some(fault) = found
            .downcast_ref::<Fault>()
            .filter(|fault| fault.kind == Kind::Conflict)
        {
            return Ok(fault.again());
        }
        let code = found
            .downcast_ref::<tokio_postgres::Error>()
            .and_then(|error| error.code());
        if code.is_some_and(|code| matches!(code.code(), "40001" | "40P01")) {
            return Ok(Fault::new(Kind::Conflict, plba_contracts::describe(found)));
        }
        cause = found.source();
    }
    Err(error)
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without text").to_owned()
}
