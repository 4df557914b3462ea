//! Holders whose processes have certainly ended: their leases end at once, as if they had run out.

use std::sync::Arc;

use plba_tasks::queue::presence::{Presence, gone};
use tokio_postgres::types::Type;

use super::super::fault::Fault;
use super::Inner;
use super::people::count;

/// Looks in the background for those who are gone, if it is time to.
pub(super) fn look_around(inner: &Arc<Inner>) {
    if !inner.watch.is_due() {
        return;
    }
    let of_task = Arc::clone(inner);
    inner.target.executor().spawn(async move {
        if let Err(error) = look(&of_task).await {
            tracing::debug!(%error, "leases of processes that may have ended are looked at later");
        }
    });
}

/// Ends the leases of those who are gone; whoever takes or recovers next finds that they have run out.
pub(super) async fn look(inner: &Arc<Inner>) -> Result<(), Fault> {
    let Some(own) = Presence::of_this_process() else {
        return Ok(());
    };
    let rows = inner
        .looks
        .query(&inner.texts.holders, &[(&own.place() as _, Type::TEXT)])
        .await?;
    let mut holders: Vec<(i32, String)> = Vec::with_capacity(rows.len());
    for row in &rows {
        holders.push((row.try_get(0)?, row.try_get(1)?));
    }
    let gone = gone(holders).await;
    if gone.is_empty() {
        return Ok(());
    }
    let now = inner.now();
    let values = [(&now as _, Type::INT8), (&gone as _, Type::INT4_ARRAY)];
    let ended = count(&inner.looks.query(&inner.texts.bereave, &values).await?)?;
    // Their numbers are given to nobody again, but they may be recorded again.
    inner.memory().holders.retain(|_, number| !gone.contains(number));
    if ended > 0 {
        tracing::info!(
            consumers = gone.len(),
            tasks = ended,
            "processes of this machine have ended; what they held is ready again"
        );
        inner.all_rooms().iter().for_each(|room| room.ready.notify_one());
    }
    Ok(())
}
