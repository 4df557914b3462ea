//! Dead letters of the queue in memory: its own, and after them the ledger's.

use bytes::Bytes;

use super::Inner;
use super::entry::Dead;
use crate::queue::{Cursor, DeadFilter, DeadLetter, DeadPage, DeadTask, QueueError};
use crate::task::{Headers, QueueName, TaskId};

const MAXIMUM_PAGE: usize = 1_000;
const OWN: &str = "queue:";
const LEDGER: &str = "ledger:";

pub(super) async fn page(
    inner: &Inner,
    filter: &DeadFilter,
    cursor: Option<Cursor>,
    limit: usize,
) -> Result<DeadPage, QueueError> {
    let limit = limit.clamp(1, MAXIMUM_PAGE);
    let cursor = cursor.map(|cursor| cursor.0).unwrap_or_default();
    let ledger_cursor = cursor.strip_prefix(LEDGER);
    let mut page = DeadPage::default();
    if ledger_cursor.is_none() {
        page = own(inner, filter, cursor.strip_prefix(OWN), limit);
        if page.next.is_some() {
            return Ok(page);
        }
    }
    let Some(ledger) = &inner.ledger else { return Ok(page) };
    let rest = limit - page.letters.len();
    if rest == 0 {
        page.next = Some(Cursor(LEDGER.to_owned()));
        return Ok(page);
    }
    let from = ledger_cursor
        .filter(|cursor| !cursor.is_empty())
        .map(|cursor| Cursor(cursor.to_owned()));
    let theirs = ledger.dead_letters(from, rest).await?;
    page.letters
        .extend(theirs.letters.into_iter().filter(|letter| filter.matches(letter)));
    page.next = theirs.next.map(|next| Cursor(format!("{LEDGER}{}", next.0)));
    Ok(page)
}

/// A cursor of one's own is `queue:<sequence>:<name>`: the last letter that was given.
fn own(inner: &Inner, filter: &DeadFilter, cursor: Option<&str>, limit: usize) -> DeadPage {
    let (sequence, name) = cursor.and_then(|cursor| cursor.split_once(':')).unwrap_or(("0", ""));
    let mut after: u64 = sequence.parse().unwrap_or(0);
    let mut page = DeadPage::default();
    let state = inner.lock();
    for (name, room) in state.rooms.range(QueueName::from(name)..) {
        for (sequence, dead) in room.dead_after(after) {
            if page.letters.len() == limit {
                let last = page
                    .letters
                    .last()
                    .map_or(name.as_str(), |letter| letter.queue.as_str());
                page.next = Some(Cursor(format!("{OWN}{after}:{last}")));
                return page;
            }
            let letter = dead.letter();
            if filter.matches(&letter) {
                page.letters.push(letter);
            }
            after = sequence;
        }
        if page.letters.len() == limit {
            // The next queue begins afresh; the name that follows this one in order is this one with a NUL.
            page.next = Some(Cursor(format!("{OWN}0:{name}\0")));
            return page;
        }
        after = 0;
    }
    page
}

/// One letter: of this queue, or of the ledger, which keeps no payloads.
pub(super) async fn task(inner: &Inner, queue: &QueueName, id: &TaskId) -> Result<Option<DeadTask>, QueueError> {
    let own = {
        let state = inner.lock();
        let room = state.rooms.get(queue);
        room.and_then(|room| room.dead_task(id)).map(Dead::whole)
    };
    let Some(ledger) = inner.ledger.as_ref().filter(|_| own.is_none()) else {
        return Ok(own);
    };
    let mut cursor = None;
    loop {
        let page = ledger.dead_letters(cursor, MAXIMUM_PAGE).await?;
        let wanted = |letter: &DeadLetter| letter.id == *id && letter.queue == *queue;
        if let Some(letter) = page.letters.into_iter().find(wanted) {
            return Ok(Some(DeadTask {
                letter,
                payload: Bytes::new(),
                headers: Headers::new(),
                decoded: true,
            }));
        }
        cursor = page.next;
        if cursor.is_none() {
            return Ok(None);
        }
    }
}

pub(super) async fn retry(inner: &Inner, queue: &QueueName, ids: &[TaskId]) -> Result<usize, QueueError> {
    let mut count = 0;
    {
        let now = inner.now();
        let mut state = inner.lock();
        if let Some(room) = state.rooms.get_mut(queue) {
            count = room.retry_dead(&ids.iter().collect(), now);
            if count > 0 {
                room.signals.ready.notify_one();
            }
        }
    }
    if let Some(ledger) = &inner.ledger {
        count += ledger.retry_dead(queue, ids).await?;
    }
    Ok(count)
}

pub(super) async fn drop(inner: &Inner, queue: &QueueName, ids: &[TaskId]) -> Result<usize, QueueError> {
    let mut count = 0;
    if let Some(room) = inner.lock().rooms.get_mut(queue) {
        count = room.drop_dead(&ids.iter().collect());
    }
    if let Some(ledger) = &inner.ledger {
        count += ledger.drop_dead(queue, ids).await?;
    }
    Ok(count)
}
