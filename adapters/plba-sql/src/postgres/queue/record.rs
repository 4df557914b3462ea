//! Tasks as columns: what is published becomes arrays, one for each column, so that any number of tasks is one statement.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use plba_tasks::envelope::Envelope;
use plba_tasks::task::{Conflict, NewTask, TaskId, UniqueScope};
use tokio_postgres::types::Type;

use super::super::pool::Value;

/// Keys and unique keys fall into so many buckets, each with a lock: publishing and ending tasks of one key take turns.
const BUCKETS: u32 = 1_024;
/// Locks above the buckets: one for each queue, held while its tasks are counted.
const COUNTING: i32 = 1 << 20;
/// No span is longer: a century.
const LONGEST: i64 = 100 * 366 * 86_400 * 1_000_000;

/// A task on its way to the table.
pub(super) struct Record {
    pub(super) queue: i32,
    pub(super) id: TaskId,
    named: bool,
    sourced: bool,
    priority: i16,
    delay: i64,
    expires: Option<i64>,
    pub(super) size: i32,
    envelope: String,
    payload: Bytes,
    key: Option<Arc<str>>,
    key_bucket: Option<i32>,
    ordered: bool,
    unique: Option<Arc<str>>,
    unique_bucket: Option<i32>,
    unique_for: Option<i64>,
    replace: bool,
    /// The fence of the delivery whose end it follows.
    pub(super) owner: Option<i64>,
}

impl Record {
    /// A task that has been checked, for the queue with this number.
    pub(super) fn new(task: NewTask, queue: i32, make_id: impl FnOnce() -> TaskId) -> Self {
        // The time of publication is the server's, and stands in a column of its own.
        let envelope = Envelope::encode_new(&task, Timestamp::UNIX_EPOCH);
        let size = i32::try_from(task.size()).unwrap_or(i32::MAX);
        let bucket = |key: &Arc<str>| bucket(queue, key);
        let unique = task.unique.as_ref();
        Self {
            queue,
            named: task.id.is_some() || unique.is_some(),
            id: task.id.unwrap_or_else(make_id),
            sourced: task.origin.is_some(),
            priority: task.priority as i16,
            delay: microseconds(task.delay),
            expires: task.expires.map(microseconds),
            size,
            // JSON is always text.
            envelope: String::from_utf8(envelope).unwrap_or_default(),
            payload: task.payload,
            key_bucket: task.key.as_ref().filter(|_| task.ordered).map(bucket),
            key: task.key.clone(),
            ordered: task.ordered,
            unique_bucket: unique.map(|unique| self::bucket(queue, &unique.key)),
            unique_for: unique.and_then(|unique| match unique.scope {
                UniqueScope::UntilDone => None,
                UniqueScope::For(period) => Some(microseconds(period)),
            }),
            replace: unique.is_some_and(|unique| unique.conflict == Conflict::Replace),
            unique: unique.map(|unique| Arc::clone(&unique.key)),
            owner: None,
        }
    }

    /// The bytes that go over the wire, about.
    pub(super) fn bytes(&self) -> usize {
        self.payload.len() + self.envelope.len() + 100
    }

    /// The locks that it needs.
    pub(super) fn locks(&self) -> impl Iterator<Item = i32> {
        self.key_bucket.into_iter().chain(self.unique_bucket)
    }
}

/// A span in microseconds.
pub(super) fn microseconds(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX).min(LONGEST)
}

fn bucket(queue: i32, key: &str) -> i32 {
    // FNV-1a: the same in every version and process.
    let bytes = queue.to_le_bytes().into_iter().chain(key.bytes());
    let hash = bytes.fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    (hash % BUCKETS).cast_signed()
}

/// The lock under which a queue's tasks are counted.
pub(super) fn counting(queue: i32) -> i32 {
    COUNTING + queue
}

/// Locks as a statement takes them: each once, always in the same order; `None` for none.
pub(super) fn sorted(mut locks: Vec<i32>) -> Option<Vec<i32>> {
    locks.sort_unstable();
    locks.dedup();
    (!locks.is_empty()).then_some(locks)
}

/// The columns of tasks, in the order of `publish_1`. Sorted by id, so that all publishers insert in one order. What is the
/// same for all of them is there once.
#[derive(Default)]
pub(super) struct Columns<'a> {
    owners: Option<Vec<Option<i64>>>,
    orders: Vec<i32>,
    queues: Vec<i32>,
    ids: Vec<&'a [u8]>,
    named: Vec<bool>,
    sourced: Vec<bool>,
    priorities: Vec<i16>,
    delays: Vec<i64>,
    expires: Option<Vec<Option<i64>>>,
    sizes: Vec<i32>,
    envelopes: Vec<&'a str>,
    payloads: Vec<&'a [u8]>,
    keys: Option<Vec<Option<&'a [u8]>>>,
    key_buckets: Vec<Option<i32>>,
    ordered: Vec<bool>,
    uniques: Option<Vec<Option<&'a [u8]>>>,
    unique_buckets: Vec<Option<i32>>,
    unique_for: Vec<Option<i64>>,
    replace: Vec<bool>,
}

impl<'a> Columns<'a> {
    pub(super) fn new(records: impl Iterator<Item = &'a Record>) -> Self {
        let mut records: Vec<(i32, &Record)> = (1..).zip(records).collect();
        records.sort_by(|(_, one), (_, other)| (one.queue, one.id.as_str()).cmp(&(other.queue, other.id.as_str())));
        let mut columns = Self::default();
        for (order, record) in &records {
            columns.orders.push(*order);
            columns.queues.push(record.queue);
            columns.ids.push(record.id.as_str().as_bytes());
            columns.named.push(record.named);
            columns.sourced.push(record.sourced);
            columns.priorities.push(record.priority);
            columns.delays.push(record.delay);
            columns.sizes.push(record.size);
            columns.envelopes.push(&record.envelope);
            columns.payloads.push(&record.payload);
        }
        once_if_equal(&mut columns.queues);
        once_if_equal(&mut columns.named);
        once_if_equal(&mut columns.sourced);
        once_if_equal(&mut columns.priorities);
        once_if_equal(&mut columns.delays);
        let records = || records.iter().map(|(_, record)| *record);
        if records().any(|record| record.owner.is_some()) {
            columns.owners = Some(records().map(|record| record.owner).collect());
        }
        if records().any(|record| record.expires.is_some()) {
            columns.expires = Some(records().map(|record| record.expires).collect());
        }
        if records().any(|record| record.key.is_some() || record.unique.is_some()) {
            columns.keys = Some(
                records()
                    .map(|record| record.key.as_deref().map(str::as_bytes))
                    .collect(),
            );
            columns.uniques = Some(
                records()
                    .map(|record| record.unique.as_deref().map(str::as_bytes))
                    .collect(),
            );
            for record in records() {
                columns.key_buckets.push(record.key_bucket);
                columns.ordered.push(record.ordered);
                columns.unique_buckets.push(record.unique_bucket);
                columns.unique_for.push(record.unique_for);
                columns.replace.push(record.replace);
            }
        }
        columns
    }

    /// How many tasks.
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    /// As values of a statement: first the owners, then, from `p_orders` on, the others.
    pub(super) fn values(&self) -> [Value<'_>; 19] {
        [
            (&self.owners, Type::INT8_ARRAY),
            (&self.orders, Type::INT4_ARRAY),
            (&self.queues, Type::INT4_ARRAY),
            (&self.ids, Type::BYTEA_ARRAY),
            (&self.named, Type::BOOL_ARRAY),
            (&self.sourced, Type::BOOL_ARRAY),
            (&self.priorities, Type::INT2_ARRAY),
            (&self.delays, Type::INT8_ARRAY),
            (&self.expires, Type::INT8_ARRAY),
            (&self.sizes, Type::INT4_ARRAY),
            (&self.envelopes, Type::TEXT_ARRAY),
            (&self.payloads, Type::BYTEA_ARRAY),
            (&self.keys, Type::BYTEA_ARRAY),
            (&self.key_buckets, Type::INT4_ARRAY),
            (&self.ordered, Type::BOOL_ARRAY),
            (&self.uniques, Type::BYTEA_ARRAY),
            (&self.unique_buckets, Type::INT4_ARRAY),
            (&self.unique_for, Type::INT8_ARRAY),
            (&self.replace, Type::BOOL_ARRAY),
        ]
    }
}

/// Of equal values one is left.
fn once_if_equal<T: PartialEq>(values: &mut Vec<T>) {
    if values.windows(2).all(|pair| pair[0] == pair[1]) {
        values.truncate(1);
    }
}
