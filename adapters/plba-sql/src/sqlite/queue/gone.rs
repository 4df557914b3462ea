//! Holders whose processes have certainly ended: their leases end at once, as if they had run out.

use std::sync::Arc;

use plba_tasks::queue::presence;
use plba_tasks::task::QueueName;

use super::row::Row;
use super::sweep::{self, PASS};
use crate::sqlite::failure::Failure;
use crate::sqlite::session::Session;
use crate::sqlite::writer::{Shared, answered};

const CAUSE: &str = "its process ended while the task was in hand";

/// Looks in the background for those who are gone, if it is time to.
pub(super) fn look_around(shared: &Arc<Shared>) {
    if !shared.watch.is_due() {
        return;
    }
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        if let Err(error) = look(&shared).await {
            tracing::debug!(%error, "leases of processes that may have ended are looked at later");
        }
    });
}

/// Ends the leases of those who are gone; gives how many there were.
pub(super) async fn look(shared: &Shared) -> Result<usize, Failure> {
    let holders = presence::gone(answered(shared.inbox.ask(|session| holders(session))).await?);
    let gone = Arc::new(holders.await);
    let mut all = 0;
    while !gone.is_empty() {
        let of_job = Arc::clone(&gone);
        let lost = answered(shared.inbox.ask(move |session| end_leases(session, &of_job))).await?;
        all += lost;
        if lost < PASS {
            let consumers = gone.len();
            if all > 0 {
                tracing::info!(
                    consumers,
                    tasks = all,
                    "processes of this machine have ended; what they held is ready again"
                );
            } else {
                tracing::debug!(consumers, "processes of this machine have ended; they held nothing");
            }
            break;
        }
    }
    Ok(all)
}

/// Who may hold something, and what tells of their processes. Those who are gone are removed, so they are few.
fn holders(session: &Session<'_>) -> rusqlite::Result<Vec<(i64, String)>> {
    let mut find = session
        .connection
        .prepare_cached("SELECT number, presence FROM plba_consumers WHERE presence IS NOT NULL")?;
    let found = find.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    found.collect()
}

/// Ends at most [`PASS`] leases of these holders, and removes the holders once they have none.
fn end_leases(session: &mut Session<'_>, gone: &[i64]) -> rusqlite::Result<usize> {
    let names: Vec<String> = session
        .connection
        .prepare_cached("SELECT name FROM plba_queues WHERE leased > 0")?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let mut lost = 0;
    for name in names {
        let Some(room) = session.known_room(&QueueName::from(name.as_str()))? else {
            continue;
        };
        let queue = session.rooms[room].number;
        for holder in gone {
            let left = i64::try_from(PASS - lost).unwrap_or(0);
            // Goes over what is leased, which the processes' own limits bound.
            let tail = "queue = ?1 AND state IN (4, 5) AND holder = ?2";
            for row in Row::find(session, tail, &[&queue, holder], left)? {
                lost += 1;
                sweep::run_out(session, room, row, CAUSE)?;
            }
        }
    }
    if lost < PASS {
        session.forget_consumers(gone)?;
    }
    Ok(lost)
}
