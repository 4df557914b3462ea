//! Dead letters: listing, looking at one, retrying and dropping.

use std::fmt::Write;

use plba_tasks::queue::{Cursor, DeadFilter, DeadPage, DeadTask, QueueError};
use plba_tasks::task::{QueueName, TaskId};
use redis::Value;

use super::Inner;
use super::room::Room;
use crate::failure::Failure;
use crate::record::Record;
use crate::reply::{self, Parts};
use crate::script::Script;

const MAXIMUM_PAGE: usize = 1_000;
/// Letters are read with their payloads, so a few at a time.
const STEP: usize = 100;
/// A filter that hardly anything passes must not read everything for one page.
const LOOKED_AT: usize = 5_000;

pub(super) async fn page(
    inner: &Inner,
    filter: &DeadFilter,
    cursor: Option<Cursor>,
    limit: usize,
) -> Result<DeadPage, QueueError> {
    let limit = limit.clamp(1, MAXIMUM_PAGE);
    // A cursor is `reference queue`, the reference in hexadecimal digits.
    let cursor = cursor.map(|cursor| cursor.0).unwrap_or_default();
    let (after, first) = cursor.split_once(' ').unwrap_or(("", ""));
    let mut page = DeadPage::default();
    let mut looked_at = 0;
    for name in inner.names().await? {
        let other = filter.queue.as_ref().is_some_and(|queue| *queue != name);
        if other || name.as_str() < first {
            continue;
        }
        let room = inner.room(&name)?;
        let mut after = if name.as_str() == first {
            unhex(after)
        } else {
            Vec::new()
        };
        loop {
            let wanted = STEP.min(limit - page.letters.len()).max(1);
            let (letters, last, count) = step(inner, &room, &after, wanted).await?;
            let letters = letters.into_iter().map(|record| record.dead(&name).letter);
            page.letters.extend(letters.filter(|letter| filter.matches(letter)));
            looked_at += count;
            if count < wanted {
                break;
            }
            after = last;
            if page.letters.len() >= limit || looked_at >= LOOKED_AT {
                page.next = Some(Cursor(format!("{} {name}", hex(&after))));
                return Ok(page);
            }
        }
        if page.letters.len() >= limit {
            // The next queue begins afresh; the name that follows this one in order is this one with a NUL.
            page.next = Some(Cursor(format!(" {name}\0")));
            return Ok(page);
        }
    }
    Ok(page)
}

async fn step(
    inner: &Inner,
    room: &Room,
    after: &[u8],
    limit: usize,
) -> Result<(Vec<Record>, Vec<u8>, usize), Failure> {
    let mut arguments = room.arguments(&inner.shared);
    arguments.push("list").push(after).number(limit);
    let answer = inner.link.call(Script::Dead, room.keys(), &arguments).await?;
    let mut parts = Parts::new("dead letters", answer)?;
    let records = parts.list()?.into_iter().filter_map(record).collect();
    let last = reply::bytes(parts.value()?).unwrap_or_default();
    let count = usize::try_from(parts.integer()?).unwrap_or(0);
    Ok((records, last, count))
}

fn record(value: Value) -> Option<Record> {
    match value {
        Value::Array(fields) if !fields.is_empty() => Some(Record::of_fields(fields)),
        _ => None,
    }
}

pub(super) async fn task(inner: &Inner, queue: &QueueName, id: &TaskId) -> Result<Option<DeadTask>, QueueError> {
    let room = inner.room(queue)?;
    let mut arguments = room.arguments(&inner.shared);
    arguments.push("get").push(id.as_str());
    let answer = inner.link.call(Script::Dead, room.keys(), &arguments).await?;
    Ok(record(answer).map(|record| record.dead(queue)))
}

/// Retries or drops these of a queue. Gives how many there were.
pub(super) async fn each(inner: &Inner, verb: &str, queue: &QueueName, ids: &[TaskId]) -> Result<usize, QueueError> {
    let mut count = 0;
    let room = inner.room(queue)?;
    // A retried task is placed by several commands, so few at a time.
    for ids in ids.chunks(200) {
        let mut arguments = room.arguments(&inner.shared);
        arguments.push(verb);
        for id in ids {
            arguments.push(id.as_str());
        }
        let answer = inner.link.call(Script::Dead, room.keys(), &arguments).await?;
        let answer = reply::integer(&answer).ok_or_else(|| Failure::answer("dead letters"))?;
        count += usize::try_from(answer).unwrap_or(0);
    }
    Ok(count)
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a string can't fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn unhex(text: &str) -> Vec<u8> {
    let pairs = text.as_bytes().chunks(2);
    pairs
        .filter_map(|pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}
