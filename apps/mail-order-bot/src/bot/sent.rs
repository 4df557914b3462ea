//! What the handlers of replies and webhooks have in common: finding what a task names, and marking it as handed over.

use jiff::Timestamp;
use plba::prelude::*;
use plba::tasks::handler::{HandlerError, Outcome};
use plba::tasks::task::Task;

use super::services::OnePlace;
use crate::store::{self, Outbox, OutboxId, OutboxRow};

/// The row that a task names; the task's outcome when there is nothing to send.
pub(super) async fn asked_for(outbox: &Outbox, task: &Task) -> Result<Result<OutboxRow, Outcome>, HandlerError> {
    let id = std::str::from_utf8(&task.payload).ok().and_then(OutboxId::parse);
    let Some(id) = id else {
        return Ok(Err(Outcome::reject("the task names nothing of the outbox")));
    };
    let outbox = outbox.clone();
    let found = tokio::task::spawn_blocking(move || outbox.get(&id)).await??;
    Ok(match found {
        None => Err(Outcome::reject("this is not in the outbox any more")),
        Some(row) if row.sent_at.is_some() => {
            debug!(task = %task.id, "it was sent before");
            Err(Outcome::done())
        }
        Some(row) => Ok(row),
    })
}

/// Done, and marked in the outbox: in the completion's own transaction where that is possible.
pub(super) async fn mark(
    outbox: &Outbox,
    place: OnePlace,
    id: OutboxId,
    now: Timestamp,
) -> Result<Outcome, HandlerError> {
    match place {
        OnePlace::Sqlite => Ok(plba::sql::sqlite::done_with(move |transaction| {
            store::at_once(store::outbox::mark_sent(&mut store::in_file(transaction), &id, now))?;
            Ok(Vec::new())
        })),
        OnePlace::Postgres => {
            let schema = outbox.postgres_schema().unwrap_or_default().to_owned();
            Ok(plba::sql::postgres::done_with(move |transaction| {
                Box::pin(async move {
                    let mut session = store::PostgresSession::new(transaction, &schema);
                    store::outbox::mark_sent(&mut session, &id, now).await?;
                    Ok(Vec::new())
                })
            }))
        }
        OnePlace::Apart => {
            let outbox = outbox.clone();
            tokio::task::spawn_blocking(move || outbox.mark_sent(&id, now)).await??;
            Ok(Outcome::done())
        }
    }
}
