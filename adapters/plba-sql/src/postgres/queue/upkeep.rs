//! What is done beside the verbs: recovering leases of queues that nobody consumes, pauses, retention, and removing what
//! nobody needs any more.

use std::sync::{Arc, Weak};
use std::time::Duration;

use plba_tasks::queue::{Cursor, QueueError, QueueRules, Recovery};
use plba_tasks::task::QueueName;
use tokio::time::sleep;
use tokio_postgres::types::Type;

use super::super::fault::Fault;
use super::people::count;
use super::record::microseconds;
use super::room::{Room, add};
use super::{Inner, gone};

/// How often it is looked after what is old.
const PAUSE: Duration = Duration::from_secs(60);

/// Looks after what is old, until the queue is dropped.
pub(super) async fn upkeep(inner: Weak<Inner>) {
    loop {
        sleep(PAUSE.mul_f64(0.8 + fastrand::f64() * 0.4)).await;
        let Some(inner) = inner.upgrade() else { return };
        for room in inner.all_rooms() {
            let rules = inner.rules(&room.name);
            trim(&inner, &room, &rules).await;
        }
        let (now, holders) = (
            inner.now(),
            inner.memory().holders.values().copied().collect::<Vec<i32>>(),
        );
        let values = [(&now as _, Type::INT8), (&holders as _, Type::INT4_ARRAY)];
        if let Err(fault) = inner.looks.query(&inner.texts.tidy, &values).await {
            tracing::debug!(error = %fault, "old rows in PostgreSQL are removed later");
        }
    }
}

/// Removes dead letters beyond a queue's retention, and says so.
pub(super) async fn trim(inner: &Arc<Inner>, room: &Arc<Room>, rules: &QueueRules) {
    loop {
        let (now, limit) = (inner.now(), i64::try_from(rules.dead_limit).unwrap_or(i64::MAX));
        let age = microseconds(rules.dead_age);
        let values = [
            (&now as _, Type::INT8),
            (&room.number as _, Type::INT4),
            (&limit as _, Type::INT8),
            (&age as _, Type::INT8),
        ];
        let rows = inner.looks.query(&inner.texts.trim_dead, &values).await;
        match rows.and_then(|rows| count(&rows)) {
            Ok(0) => return,
            Ok(removed) => {
                add(&room.counts.dropped, removed as u64);
                tracing::warn!(
                    queue = %room.name,
                    removed,
                    "the oldest dead letters are dropped: there are more than `dead_limit`, or they are older than `dead_age`"
                );
            }
            Err(fault) => {
                tracing::debug!(error = %fault, "dead letters are looked after later");
                return;
            }
        }
    }
}

pub(super) async fn pause(inner: &Arc<Inner>, queue: &QueueName, until: Option<i64>) -> Result<(), QueueError> {
    let room = inner.room(queue).await?;
    let values = [(&room.number as _, Type::INT4), (&until as _, Type::INT8)];
    inner.verbs.query(&inner.texts.pause, &values).await?;
    room.ready.notify_one();
    Ok(())
}

pub(super) async fn recover(inner: &Arc<Inner>, cursor: Option<Cursor>, limit: usize) -> Result<Recovery, QueueError> {
    let mut from: i32 = cursor.and_then(|cursor| cursor.0.parse().ok()).unwrap_or(0);
    let mut recovery = Recovery::default();
    if inner.watch.is_due() {
        gone::look(inner).await?;
    }
    loop {
        let left = limit.max(1) - recovery.recovered;
        let left = i32::try_from(left.min(1_000)).unwrap_or(1);
        let crashes = i32::try_from(inner.settings.maximum_crashes).unwrap_or(i32::MAX);
        let now = inner.now();
        let values = [
            (&now as _, Type::INT8),
            (&from as _, Type::INT4),
            (&left as _, Type::INT4),
            (&crashes as _, Type::INT4),
        ];
        let rows = inner.looks.query(&inner.texts.recover, &values).await?;
        let Some(row) = rows.first() else { return Ok(recovery) };
        let number: i32 = row.try_get(0).map_err(Fault::from)?;
        let lost: i32 = row.try_get(1).map_err(Fault::from)?;
        let lost = usize::try_from(lost).unwrap_or(0);
        recovery.recovered += lost;
        if let Some(room) = inner.known(number) {
            if lost > 0 {
                add(&room.counts.lost, lost as u64);
                room.ready.notify_one();
            }
            trim(inner, &room, &inner.rules(&room.name)).await;
        }
        // A queue that gave less than it was asked for has no more.
        from = if lost < usize::try_from(left).unwrap_or(1) {
            number + 1
        } else {
            number
        };
        if recovery.recovered >= limit.max(1) {
            recovery.next = Some(Cursor(from.to_string()));
            return Ok(recovery);
        }
    }
}
