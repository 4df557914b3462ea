//! Processes that ended: what they held is taken from them at once when this machine can tell that they are gone, without
//! waiting for their leases; and their names are removed from the groups.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use super::Inner;
use super::room::Room;
use crate::failure::Failure;
use crate::identity::is_gone;
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

async fn look(inner: &Inner, room: &Room) -> Result<(), Failure> {
    let (mut names, _) = consumers(inner, room, &[]).await?;
    names.sort_unstable();
    names.dedup();
    // Asking the kernel is no network, but may be many system calls.
    let gone = tokio::task::spawn_blocking(move || {
        names.retain(|name| is_gone(name));
        names
    });
    let gone = gone.await.unwrap_or_default();
    if gone.is_empty() {
        return Ok(());
    }
    tracing::info!(queue = %room.name, consumers = gone.len(), "processes of this machine have ended; what they held is ready again");
    loop {
        let (_, left) = consumers(inner, room, &gone).await?;
        if left == 0 {
            return Ok(());
        }
    }
}

/// The consumers of all groups; takes what those hold that are gone, and tells of how many there is more to take.
async fn consumers(inner: &Inner, room: &Room, gone: &[String]) -> Result<(Vec<String>, i64), Failure> {
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
    inner.note(room, notes)?;
    Ok((names, left))
}
