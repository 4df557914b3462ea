//! The machine's timers. Those of one moment share a bucket, because many workers that are told something at once have
//! the same time to do it; what is disarmed stays in its bucket until that has nothing left that is armed.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::protocol::SlotKey;

#[derive(Default)]
pub(super) struct Timers(BTreeMap<Duration, Bucket>);

#[derive(Default)]
struct Bucket {
    armed: usize,
    keys: VecDeque<SlotKey>,
}

impl Timers {
    pub(super) fn arm(&mut self, due: Duration, key: SlotKey) {
        let bucket = self.0.entry(due).or_default();
        bucket.armed += 1;
        bucket.keys.push_back(key);
    }

    /// One that was armed for this moment is not any more.
    pub(super) fn disarm(&mut self, due: Duration) {
        if let Some(bucket) = self.0.get_mut(&due) {
            bucket.armed -= 1;
            if bucket.armed == 0 {
                self.0.remove(&due);
            }
        }
    }

    /// The first moment for which something is armed.
    pub(super) fn next(&self) -> Option<Duration> {
        self.0.first_key_value().map(|(due, _)| *due)
    }

    /// Takes a key that is due, with its moment. It may have been disarmed: whoever asks knows what is armed for what.
    pub(super) fn pop(&mut self, now: Duration) -> Option<(Duration, SlotKey)> {
        let mut first = self.0.first_entry().filter(|bucket| *bucket.key() <= now)?;
        let due = *first.key();
        let key = first.get_mut().keys.pop_front();
        key.map(|key| (due, key))
    }
}
