//! What people ask: counts, lists, dead letters. A connection of its own carries it, so that no list keeps a lease from
//! being extended.

use std::sync::Arc;
use std::time::Duration;

use plba_tasks::queue::{
    Cursor, DeadFilter, DeadLetter, DeadPage, DeadTask, QueueError, QueueStats, TaskFilter, TaskPage, TaskState,
    TaskSummary, UNDECODABLE,
};
use plba_tasks::task::{Headers, Priority, QueueName, TaskId};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::super::fault::Fault;
use super::Inner;
use super::consume::get;
use super::decode::{self, Kept, text, time};
use super::record::sorted;

const MAXIMUM_PAGE: usize = 1_000;
/// How many rows one call looks at that don't pass its filter.
const LOOKED_AT: usize = 20_000;

pub(super) async fn stats(inner: &Arc<Inner>) -> Result<Vec<QueueStats>, QueueError> {
    let now = inner.now();
    let rows = inner
        .looks
        .query(&inner.texts.stats, &[(&now as _, Type::INT8)])
        .await?;
    let mut all = Vec::with_capacity(rows.len());
    for row in &rows {
        all.push(stats_of(inner, row)?);
    }
    Ok(all)
}

fn stats_of(inner: &Inner, row: &Row) -> Result<QueueStats, Fault> {
    let name: String = row.try_get(0)?;
    let now: i64 = row.try_get(2)?;
    let paused = row.try_get::<_, Option<i64>>(1)?.filter(|until| *until > now);
    let count = |index| {
        row.try_get::<_, i64>(index)
            .map(|count| u64::try_from(count).unwrap_or(0))
    };
    let mut stats = QueueStats {
        ready: count(3)?,
        delayed: count(4)?,
        held: count(5)?,
        leased: count(6)?,
        dead: count(7)?,
        bytes: count(8)?,
        oldest: row
            .try_get::<_, Option<i64>>(9)?
            .map(|since| Duration::from_micros(u64::try_from(now - since).unwrap_or(0))),
        paused: paused.is_some(),
        paused_until: paused.filter(|until| *until != i64::MAX).map(time),
        ..QueueStats::default()
    };
    if let Some(room) = inner.memory().rooms.get(name.as_str()) {
        stats.published = get(&room.counts.published);
        stats.acked = get(&room.counts.acked);
        stats.failed = get(&room.counts.failed);
        stats.lost = get(&room.counts.lost);
        stats.expired = get(&room.counts.expired);
        stats.dropped = get(&room.counts.dropped);
    }
    stats.queue = name;
    Ok(stats)
}

/// Where a list goes on: after this row.
struct After {
    queue: i32,
    place: i64,
    id: Vec<u8>,
}

impl After {
    fn read(cursor: Option<Cursor>) -> Self {
        let text = cursor.map(|cursor| cursor.0).unwrap_or_default();
        let mut parts = text.splitn(3, ':');
        let mut part = || parts.next().unwrap_or_default();
        Self {
            queue: part().parse().unwrap_or(-1),
            place: part().parse().unwrap_or(i64::MIN),
            id: part().as_bytes().to_vec(),
        }
    }

    fn cursor(&self) -> Cursor {
        Cursor(format!("{}:{}:{}", self.queue, self.place, text(&self.id)))
    }
}

pub(super) async fn tasks(
    inner: &Arc<Inner>,
    filter: &TaskFilter,
    cursor: Option<Cursor>,
    limit: usize,
) -> Result<TaskPage, QueueError> {
    let limit = limit.clamp(1, MAXIMUM_PAGE);
    let mut after = After::read(cursor);
    let mut page = TaskPage::default();
    let (now, queue) = (inner.now(), filter.queue.as_ref().map(QueueName::as_str));
    let mut looked_at = 0;
    loop {
        let chunk = if filter.state.is_none() && filter.text.is_none() {
            limit + 1
        } else {
            MAXIMUM_PAGE
        };
        let values = [
            (&now as _, Type::INT8),
            (&queue as _, Type::TEXT),
            (&after.queue as _, Type::INT4),
            (&after.place as _, Type::INT8),
            (&after.id as _, Type::BYTEA),
            (&(chunk as i64) as _, Type::INT8),
        ];
        let rows = inner.looks.query(&inner.texts.tasks, &values).await?;
        let last = rows.len() < chunk;
        looked_at += rows.len();
        for row in &rows {
            if page.tasks.len() == limit {
                page.next = Some(after.cursor());
                return Ok(page);
            }
            after = place_of(row, 2, 3)?;
            let summary = summary(row)?;
            if filter.matches(&summary) {
                page.tasks.push(summary);
            }
        }
        if last {
            return Ok(page);
        }
        if looked_at >= LOOKED_AT {
            page.next = Some(after.cursor());
            return Ok(page);
        }
    }
}

fn place_of(row: &Row, place: usize, id: usize) -> Result<After, Fault> {
    Ok(After {
        queue: row.try_get(0)?,
        place: row.try_get(place)?,
        id: row.try_get(id)?,
    })
}

fn summary(row: &Row) -> Result<TaskSummary, Fault> {
    let state = match row.try_get::<_, &str>(4)? {
        "held" => TaskState::Held,
        "delayed" => TaskState::Delayed,
        "leased" => TaskState::Leased,
        _ => TaskState::Ready,
    };
    let kept = Kept {
        published: Some(row.try_get(7)?),
        expires: row.try_get(8)?,
        key: row.try_get(13)?,
        ordered: row.try_get(14)?,
        history: row.try_get::<_, Option<Vec<&str>>>(15)?.unwrap_or_default(),
        former: row.try_get(16)?,
        envelope: row.try_get(17)?,
    };
    let envelope = decode::envelope(&kept).ok();
    let count = |index| {
        row.try_get::<_, i32>(index)
            .map(|count| u32::try_from(count).unwrap_or(0))
    };
    let due = match state {
        TaskState::Delayed => Some(time(row.try_get(5)?)),
        TaskState::Leased => Some(time(row.try_get(6)?)),
        TaskState::Ready | TaskState::Held => None,
    };
    let priority = u8::try_from(row.try_get::<_, i16>(18)?)
        .ok()
        .and_then(Priority::from_number);
    Ok(TaskSummary {
        id: TaskId::from(text(row.try_get(3)?)),
        queue: QueueName::from(row.try_get::<_, &str>(1)?),
        kind: envelope
            .as_ref()
            .map_or_else(|| UNDECODABLE.to_owned(), |envelope| envelope.kind.clone().into_owned()),
        state,
        priority: priority.unwrap_or_default(),
        key: kept.key.map(text),
        origin: envelope.and_then(|envelope| envelope.origin),
        published: time(row.try_get(7)?),
        due,
        attempts: count(9)?,
        deliveries: count(10)?,
        bytes: u64::from(count(11)?),
        holder: row
            .try_get::<_, Option<String>>(12)?
            .filter(|_| state == TaskState::Leased),
        last: decode::history(&kept.history).pop(),
    })
}

pub(super) async fn dead_letters(
    inner: &Arc<Inner>,
    filter: &DeadFilter,
    cursor: Option<Cursor>,
    limit: usize,
) -> Result<DeadPage, QueueError> {
    let limit = limit.clamp(1, MAXIMUM_PAGE);
    let mut after = After::read(cursor);
    let mut page = DeadPage::default();
    let queue = filter.queue.as_ref().map(QueueName::as_str);
    let mut looked_at = 0;
    loop {
        let chunk = if filter.kind.is_none() && filter.text.is_none() {
            limit + 1
        } else {
            MAXIMUM_PAGE
        };
        let values = [
            (&queue as _, Type::TEXT),
            (&after.queue as _, Type::INT4),
            (&after.place as _, Type::INT8),
            (&(chunk as i64) as _, Type::INT8),
        ];
        let rows = inner.looks.query(&inner.texts.dead, &values).await?;
        let last = rows.len() < chunk;
        looked_at += rows.len();
        for row in &rows {
            if page.letters.len() == limit {
                page.next = Some(after.cursor());
                return Ok(page);
            }
            after = place_of(row, 2, 3)?;
            let (letter, _) = letter(row)?;
            if filter.matches(&letter) {
                page.letters.push(letter);
            }
        }
        if last {
            return Ok(page);
        }
        if looked_at >= LOOKED_AT {
            page.next = Some(after.cursor());
            return Ok(page);
        }
    }
}

/// A dead letter, and its headers if it could be decoded.
fn letter(row: &Row) -> Result<(DeadLetter, Option<Headers>), Fault> {
    let kept = Kept {
        published: None,
        expires: None,
        key: None,
        ordered: false,
        history: row.try_get::<_, Option<Vec<&str>>>(8)?.unwrap_or_default(),
        former: row.try_get(9)?,
        envelope: row.try_get(10)?,
    };
    let decoded: bool = row.try_get(7)?;
    let envelope = decode::envelope(&kept).ok().filter(|_| decoded);
    let letter = DeadLetter {
        id: TaskId::from(text(row.try_get(3)?)),
        queue: QueueName::from(row.try_get::<_, &str>(1)?),
        kind: envelope
            .as_ref()
            .map_or_else(|| UNDECODABLE.to_owned(), |envelope| envelope.kind.clone().into_owned()),
        origin: envelope.as_ref().and_then(|envelope| envelope.origin.clone()),
        died: time(row.try_get::<_, Option<i64>>(4)?.unwrap_or_default()),
        reason: row.try_get::<_, Option<String>>(5)?.unwrap_or_default(),
        deliveries: u32::try_from(row.try_get::<_, i32>(6)?).unwrap_or(0),
        history: decode::history(&kept.history),
    };
    Ok((letter, envelope.map(|envelope| envelope.headers)))
}

pub(super) async fn dead_task(
    inner: &Arc<Inner>,
    queue: &QueueName,
    id: &TaskId,
) -> Result<Option<DeadTask>, QueueError> {
    let id = id.as_str().as_bytes();
    let values = [(&queue.as_str() as _, Type::TEXT), (&id as _, Type::BYTEA)];
    let rows = inner.looks.query(&inner.texts.dead_task, &values).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let (letter, headers) = letter(row)?;
    let payload: &[u8] = row.try_get(11).map_err(Fault::from)?;
    let mut payload = payload.to_vec();
    if headers.is_none() {
        // The raw record: what could not be read, and then the payload.
        let envelope: &str = row.try_get(10).map_err(Fault::from)?;
        let mut raw = envelope.as_bytes().to_vec();
        raw.append(&mut payload);
        payload = raw;
    }
    Ok(Some(DeadTask {
        letter,
        payload: payload.into(),
        decoded: headers.is_some(),
        headers: headers.unwrap_or_default(),
    }))
}

pub(super) async fn retry_dead(inner: &Arc<Inner>, queue: &QueueName, ids: &[TaskId]) -> Result<usize, QueueError> {
    let ids: Vec<&[u8]> = ids.iter().map(|id| id.as_str().as_bytes()).collect();
    let queue = queue.as_str();
    let values = [(&queue as _, Type::TEXT), (&ids as _, Type::BYTEA_ARRAY)];
    let rows = inner.looks.query(&inner.texts.dead_locks, &values).await?;
    let mut locks = Vec::new();
    for row in &rows {
        locks.extend(row.try_get::<_, Option<i32>>(0).map_err(Fault::from)?);
        locks.extend(row.try_get::<_, Option<i32>>(1).map_err(Fault::from)?);
    }
    let (now, locks) = (inner.now(), sorted(locks));
    let values = [
        (&now as _, Type::INT8),
        (&inner.channel as _, Type::TEXT),
        (&locks as _, Type::INT4_ARRAY),
        (&queue as _, Type::TEXT),
        (&ids as _, Type::BYTEA_ARRAY),
    ];
    let rows = inner.looks.query(&inner.texts.retry_dead, &values).await?;
    let count = count(&rows)?;
    if count > 0 {
        inner.all_rooms().iter().for_each(|room| room.ready.notify_one());
    }
    Ok(count)
}

pub(super) async fn drop_dead(inner: &Arc<Inner>, queue: &QueueName, ids: &[TaskId]) -> Result<usize, QueueError> {
    let ids: Vec<&[u8]> = ids.iter().map(|id| id.as_str().as_bytes()).collect();
    let queue = queue.as_str();
    let values = [(&queue as _, Type::TEXT), (&ids as _, Type::BYTEA_ARRAY)];
    let rows = inner.looks.query(&inner.texts.drop_dead, &values).await?;
    Ok(count(&rows)?)
}

/// The one number that a statement gives.
pub(super) fn count(rows: &[Row]) -> Result<usize, Fault> {
    let count: Option<i32> = rows.first().map(|row| row.try_get(0)).transpose()?.flatten();
    Ok(usize::try_from(count.unwrap_or(0)).unwrap_or(0))
}
