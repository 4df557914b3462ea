//! Looking for leases that ran out, in bounded passes, and for holders that are gone: for queues that nobody consumes.

use plba_tasks::queue::{Cursor, QueueError, Recovery};

use super::Inner;
use super::reap::look;
use crate::reply::Parts;
use crate::script::Script;

/// How many pending entries one script looks at.
const STEP: usize = 500;

pub(super) async fn recover(inner: &Inner, cursor: Option<Cursor>, limit: usize) -> Result<Recovery, QueueError> {
    let mut recovery = Recovery::default();
    let cursor = cursor.map(|cursor| cursor.0).unwrap_or_default();
    // A cursor is `stream position queue`.
    let mut parts = cursor.splitn(3, ' ');
    let mut stream: i64 = parts.next().and_then(|stream| stream.parse().ok()).unwrap_or(1);
    let mut position = parts.next().unwrap_or("-").to_owned();
    let first = parts.next().unwrap_or_default().to_owned();
    let mut left = limit.max(1);
    for name in inner.names().await? {
        if name.as_str() < first.as_str() {
            continue;
        }
        let room = inner.room(&name)?;
        if name.as_str() != first {
            (stream, position) = (1, "-".to_owned());
        }
        if room.reap_is_due() {
            recovery.recovered += look(inner, &room).await?;
        }
        while stream > 0 {
            if left == 0 {
                recovery.next = Some(Cursor(format!("{stream} {position} {name}")));
                return Ok(recovery);
            }
            let step = left.min(STEP);
            let mut arguments = room.arguments(&inner.shared);
            arguments.number(stream).push(&position).number(step);
            let answer = inner.link.call(Script::Recover, room.keys(), &arguments).await?;
            let mut parts = Parts::new("recover", answer)?;
            inner.note_generation(&room, &parts.text()?);
            inner.note_time(&parts.text()?);
            let recovered = usize::try_from(parts.integer()?).unwrap_or(0);
            recovery.recovered += recovered;
            let before = stream;
            stream = parts.integer()?;
            position = parts.text()?;
            let notes = parts.parts()?;
            inner.note(&room, notes)?;
            // A page that was full has used up its step; one that was not was the stream's last.
            left = left.saturating_sub(if stream == before { step } else { recovered });
        }
    }
    Ok(recovery)
}
