//! Processes that ended: what they held is taken from them at once when this machine can tell that they are gone, without
//! waiting for their leases; and their names are removed from the groups.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use plba_tasks::queue::presence::gone;

use super::Inner;
use super::room::Room;
use crate::failure::Failure;
use crate::identity::presence_of;
use crate::reply::{self, Parts};
use crate::script::Script;

/// Looks for consumers whose processes have ended, in the background; one look at a time.
pub(super) fn reap(inner: &Arc<Inner>, room: &Arc<Room>) {
    if room.reaping.swap(true, SeqCst) {
        return;
    }
    let (inner, room) = (Arc::clone(inner), Arc::clone(room));
    tokio::spawn(async move {
        if let Err(failure) = look(&inner, &room).await {
            inner.shared.complain(&failure.sentence);
        }
        room.reaping.store(false, SeqCst);
    });
}

/// Takes from consumers whose processes have ended what they hold; gives how much that was.
pub(super) async fn look(inner: &Inner, room: &Room) -> Result<usize, Failure> {
    let (mut names, ..) = consumers(inner, room, &[]).await?;
    names.sort_unstable();
    names.dedup();
    let holders = names.into_iter().map(|name| {
        let presence = presence_of(&name).to_owned();
        (name, presence)
    });
    let gone = gone(holders.collect()).await;
    if gone.is_empty() {
        return Ok(0);
    }
    let mut all = 0;
    loop {
        let (_, left, lost) = consumers(inner, room, &gone).await?;
        all += lost;
        if left == 0 {
            break;
        }
    }
    let (queue, consumers) = (&room.name, gone.len());
    if all > 0 {
        tracing::info!(%queue, consumers, tasks = all, "processes of this machine have ended; what they held is ready again");
    } else {
        tracing::debug!(%queue, consumers, "processes of this machine have ended; they held nothing");
    }
    Ok(all)
}

/// The consumers of all groups; takes what those hold that are gone, and tells of how many there is more to take, and how
/// much was taken.
async fn consumers(inner: &Inner, room: &Room, gone: &[String]) -> Result<(Vec<String>, i64, usize), Failure> {
    let mut arguments = room.arguments(&inner.shared);
    for name in gone {
        arguments.push(name);
    }
    let answer = inner.link.call(Script::Consumers, room.keys(), &arguments).await?;
    let mut parts = Parts::new("consumers", answer)?;
    inner.note_generation(room, &parts.text()?);
    inner.note_time(&parts.text()?);
    let names = parts.list()?.into_iter().filter_map(reply::text).collect();
    let left = parts.integer()?;
    let notes = parts.parts()?;
    let lost = inner.note(room, notes)?;
    Ok((names, left, lost))
}
