//! Retention of the dead letters that the queue in memory leaves to its ledger, by the same rules as its own: consumers look
//! after them on their way, waiting ones as well. What goes is settled in the ledger, so that its source never brings it again.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Inner;
use crate::ledger::{LedgerError, SourceLedger};
use crate::queue::{DeadLetter, QueueRules};
use crate::task::{QueueName, TaskId};

/// How often consumers look. Between two looks there may be more letters than the rules allow.
const PERIOD: Duration = Duration::from_secs(3_600);
/// How many letters are read, or dropped, at a time.
const PAGE: usize = 1_000;

/// Looks if it is time for it. A ledger that can't be used now is asked again next time.
pub(super) async fn retain_now_and_then(inner: &Inner) {
    let Some(ledger) = &inner.ledger else { return };
    {
        let now = inner.span();
        let mut state = inner.lock();
        if state.retained.is_some_and(|last| now < last + PERIOD) {
            return;
        }
        state.retained = Some(now);
    }
    if let Err(error) = retain(inner, ledger.as_ref()).await {
        tracing::warn!(%error, "dead letters in the ledger could not be looked after; they are kept until the next look");
    }
}

/// Drops the ledger's dead letters that are too many for their queue, or too old.
pub(super) async fn retain(inner: &Inner, ledger: &dyn SourceLedger) -> Result<(), LedgerError> {
    let now = inner.clock.now();
    let mut shelves: BTreeMap<QueueName, Shelf> = BTreeMap::new();
    let mut cursor = None;
    loop {
        let page = ledger.dead_letters(cursor, PAGE).await?;
        for letter in page.letters {
            if !shelves.contains_key(&letter.queue) {
                let rules = inner.lock().rules.get(&letter.queue).cloned().unwrap_or_default();
                shelves.insert(letter.queue.clone(), Shelf::new(rules));
            }
            if let Some(shelf) = shelves.get_mut(&letter.queue) {
                let past = Duration::try_from(now.duration_since(letter.died)).unwrap_or_default();
                shelf.put(letter, past);
            }
        }
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
        // Reading needs no waiting on most ledgers, and others have work to do.
        tokio::task::yield_now().await;
    }
    for (queue, shelf) in shelves {
        let Some((reason, going)) = shelf.going() else { continue };
        let mut dropped = 0;
        for ids in going.chunks(PAGE) {
            dropped += ledger.drop_dead(&queue, ids).await?;
        }
        if let Some(room) = inner.lock().rooms.get_mut(&queue) {
            room.count_dropped(dropped as u64);
        }
        tracing::warn!(
            task = %going[0], %queue, letters = dropped, reason,
            "the oldest dead letters of sources are dropped, this one first: too many, or too old; \
             their sources will not bring them again"
        );
    }
    Ok(())
}

/// The letters of one queue, oldest first.
struct Shelf {
    rules: QueueRules,
    /// Those up to here are too old.
    old: usize,
    ids: Vec<TaskId>,
    /// Of the oldest.
    reason: String,
}

impl Shelf {
    fn new(rules: QueueRules) -> Self {
        Self {
            rules,
            old: 0,
            ids: Vec::new(),
            reason: String::new(),
        }
    }

    fn put(&mut self, letter: DeadLetter, past: Duration) {
        if self.ids.is_empty() {
            self.reason = letter.reason;
        }
        self.ids.push(letter.id);
        if past > self.rules.dead_age && self.old + 1 == self.ids.len() {
            self.old += 1;
        }
    }

    /// Those that go, and the reason for which the first of them died.
    fn going(mut self) -> Option<(String, Vec<TaskId>)> {
        let limit = usize::try_from(self.rules.dead_limit).unwrap_or(usize::MAX);
        let going = self.ids.len().saturating_sub(limit).max(self.old);
        self.ids.truncate(going);
        (going > 0).then_some((self.reason, self.ids))
    }
}
