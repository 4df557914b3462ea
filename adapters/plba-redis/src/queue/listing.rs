//! Waiting and leased tasks, for people.

use plba_tasks::queue::{Cursor, QueueError, TaskFilter, TaskPage, TaskState, TaskSummary, UNDECODABLE};
use plba_tasks::task::{Priority, QueueName};
use redis::Value;

use super::Inner;
use super::room::Room;
use crate::failure::Failure;
use crate::identity::for_people;
use crate::record::{Record, timestamp};
use crate::reply::Parts;
use crate::script::Script;

const MAXIMUM_PAGE: usize = 1_000;
/// Records are read with their payloads, so a few at a time.
const STEP: usize = 100;
/// The parts of a queue as scripts number them: streams, and then what is aside.
const PARTS: [u8; 9] = [1, 2, 3, 4, 8, 7, 6, 9, 11];
/// A filter that hardly anything passes must not read a whole queue for one page.
const LOOKED_AT: usize = 5_000;

/// Where a page begins: `part where queue`.
struct From {
    part: usize,
    position: String,
    queue: String,
}

impl From {
    fn read(cursor: Option<Cursor>) -> Self {
        let cursor = cursor.map(|cursor| cursor.0).unwrap_or_default();
        let mut parts = cursor.splitn(3, ' ');
        Self {
            part: parts.next().and_then(|part| part.parse().ok()).unwrap_or(0),
            position: parts.next().unwrap_or("-").to_owned(),
            queue: parts.next().unwrap_or_default().to_owned(),
        }
    }
}

pub(super) async fn tasks(
    inner: &Inner,
    filter: &TaskFilter,
    cursor: Option<Cursor>,
    limit: usize,
) -> Result<TaskPage, QueueError> {
    let limit = limit.clamp(1, MAXIMUM_PAGE);
    let from = From::read(cursor);
    let mut page = TaskPage::default();
    let mut looked_at = 0;
    for name in inner.names().await? {
        let other = filter.queue.as_ref().is_some_and(|queue| *queue != name);
        if other || name.as_str() < from.queue.as_str() {
            continue;
        }
        let room = inner.room(&name)?;
        let here = name.as_str() == from.queue;
        let first = if here { from.part } else { 0 };
        for (number, part) in PARTS.iter().enumerate().skip(first) {
            let mut position = if here && number == first {
                from.position.clone()
            } else {
                "-".to_owned()
            };
            loop {
                if page.tasks.len() >= limit || looked_at >= LOOKED_AT {
                    page.next = Some(Cursor(format!("{number} {position} {name}")));
                    return Ok(page);
                }
                let wanted = STEP.min(limit - page.tasks.len());
                let (found, following) = step(inner, &room, *part, &position, wanted).await?;
                looked_at += found.len();
                page.tasks.extend(found.into_iter().filter(|task| filter.matches(task)));
                if following.is_empty() {
                    break;
                }
                position = following;
            }
        }
    }
    Ok(page)
}

async fn step(
    inner: &Inner,
    room: &Room,
    part: u8,
    position: &str,
    limit: usize,
) -> Result<(Vec<TaskSummary>, String), Failure> {
    let mut arguments = room.arguments(&inner.shared);
    arguments.number(part).push(position).number(limit);
    let answer = inner.link.call(Script::List, room.keys(), &arguments).await?;
    let mut parts = Parts::new("list", answer)?;
    inner.note_generation(room, &parts.text()?);
    inner.note_time(&parts.text()?);
    let tasks = parts.list()?;
    let following = parts.text()?;
    let tasks = tasks.into_iter().map(|task| summary(&room.name, task));
    Ok((tasks.collect::<Result<_, _>>()?, following))
}

fn summary(queue: &QueueName, value: Value) -> Result<TaskSummary, Failure> {
    let mut parts = Parts::new("list", value)?;
    let state = match parts.text()?.as_str() {
        "l" => TaskState::Leased,
        "d" => TaskState::Delayed,
        "h" => TaskState::Held,
        _ => TaskState::Ready,
    };
    let due = parts.text()?.parse::<f64>().ok().map(|due| timestamp(due * 1000.0));
    let holder = parts.text()?;
    let record = Record::of_fields(parts.list()?);
    let (deliveries, attempts, _) = record.counts();
    let mut summary = TaskSummary {
        id: record.task_id(),
        queue: queue.clone(),
        kind: UNDECODABLE.to_owned(),
        state,
        priority: Priority::Normal,
        key: None,
        origin: None,
        published: timestamp(record.ready_at.unwrap_or_default() * 1000.0),
        due,
        attempts,
        deliveries: deliveries + u32::from(state == TaskState::Leased),
        bytes: record.data.len() as u64,
        holder: (!holder.is_empty()).then(|| for_people(&holder)),
        last: None,
    };
    if let Ok(task) = record.decode(queue) {
        summary.kind = task.kind.into_owned();
        summary.priority = task.priority;
        summary.key = task.key.map(|key| key.to_string());
        summary.origin = task.origin;
        summary.published = task.published;
        summary.last = task.history.last().cloned();
    }
    Ok(summary)
}
