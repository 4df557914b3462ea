//! Waiting and leased tasks of the queue in memory, page by page.

use super::Inner;
use super::room::{Room, Seen};
use crate::queue::{Cursor, TaskFilter, TaskPage};
use crate::task::QueueName;

const MAXIMUM_PAGE: usize = 1_000;

/// A cursor is `<sequence>:<queue>`: the last task that was given.
pub(super) fn page(inner: &Inner, filter: &TaskFilter, cursor: Option<Cursor>, limit: usize) -> TaskPage {
    let limit = limit.clamp(1, MAXIMUM_PAGE);
    let cursor = cursor.map(|cursor| cursor.0).unwrap_or_default();
    let (sequence, name) = cursor.split_once(':').unwrap_or(("0", ""));
    let mut after: u64 = sequence.parse().unwrap_or(0);
    let mut page = TaskPage::default();
    let now = inner.now();
    let mut state = inner.lock();
    for (name, room) in state.rooms.range_mut(QueueName::from(name)..) {
        if filter.queue.as_ref().is_some_and(|queue| queue != name) {
            after = 0;
            continue;
        }
        room.advance(now, super::EXPIRED_AT_ONCE);
        let rest = limit - page.tasks.len();
        let found = first(room, filter, after, rest + 1);
        page.tasks.extend(found.iter().take(rest).map(|seen| seen.summary(now)));
        if found.len() > rest {
            let last = found
                .get(rest.wrapping_sub(1))
                .map_or(after, |seen| seen.entry.sequence);
            page.next = Some(Cursor(format!("{last}:{name}")));
            return page;
        }
        after = 0;
    }
    page
}

/// The first tasks after a place that pass the filter, in the order of publication. It remembers no more than it must.
fn first<'a>(room: &'a Room, filter: &TaskFilter, after: u64, limit: usize) -> Vec<Seen<'a>> {
    let mut found: Vec<Seen<'a>> = Vec::new();
    let passes = |seen: &Seen<'_>| {
        seen.entry.sequence > after
            && filter.state.is_none_or(|state| state == seen.state)
            && filter.text.as_ref().is_none_or(|text| seen.contains(text))
    };
    for seen in room.seen().filter(passes) {
        found.push(seen);
        if found.len() >= limit * 2 {
            found.select_nth_unstable_by_key(limit - 1, |seen| seen.entry.sequence);
            found.truncate(limit);
        }
    }
    found.sort_unstable_by_key(|seen| seen.entry.sequence);
    found.truncate(limit);
    found
}
