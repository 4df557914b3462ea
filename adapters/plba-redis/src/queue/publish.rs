//! Publishing: one script for the whole batch, which takes all of it or nothing; waiting while a queue is full or Redis has
//! no memory left.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::Duration;

use jiff::Timestamp;
use plba_tasks::queue::PublishError;
use plba_tasks::task::{NewTask, Priority, QueueName, TaskId};
use redis::{Value, cmd};

use super::Inner;
use super::append::append;
use super::room::{Queueing, Room, keys};
use crate::failure::{Failure, Kind};
use crate::link::Arguments;
use crate::pack::Packer;
use crate::record::{encode, extras, milliseconds};
use crate::reply::{self, Parts};
use crate::script::Script;

/// The first wait for space, and the longest.
const WAITS: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(250));

/// The tasks of one queue, as they are sent.
struct Shipment {
    queue: QueueName,
    /// Where its tasks are in the batch.
    places: Vec<usize>,
}

/// A task that is there in stead of one of a shipment.
struct Substitute {
    shipment: usize,
    place: usize,
    id: TaskId,
}

pub(super) async fn publish(inner: &Arc<Inner>, tasks: Vec<NewTask>) -> Result<Vec<TaskId>, PublishError> {
    for task in &tasks {
        check(inner, task).map_err(|reason| refused(task, reason))?;
    }
    if tasks.is_empty() {
        return Ok(Vec::new());
    }
    let rooms = rooms(inner, &tasks)?;
    let make = || inner.ids.make();
    let ids = tasks.iter().map(|task| task.id.clone().unwrap_or_else(make)).collect();
    let shipments = ship(&tasks);
    let mut batch = Batch { tasks, ids };
    let polite = rooms.iter().all(|room| room.publishers.load(SeqCst) == 0);
    let mut wait = WAITS.0;
    if polite && attempt(inner, &mut batch, &shipments, &mut wait).await? {
        return Ok(batch.ids);
    }
    // One of the queues is full, or others wait already: queue up at the gates, always in the order of names, so that two
    // publishers never wait for each other. Those of other processes are not known here.
    let _queueing = Queueing::new(&rooms);
    let mut gates = Vec::with_capacity(rooms.len());
    for room in &rooms {
        gates.push(room.gate.lock().await);
    }
    while !attempt(inner, &mut batch, &shipments, &mut wait).await? {
        tokio::time::sleep(wait.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        wait = (wait * 2).min(WAITS.1);
    }
    Ok(batch.ids)
}

/// What is to be published, and under which ids.
pub(super) struct Batch {
    pub(super) tasks: Vec<NewTask>,
    pub(super) ids: Vec<TaskId>,
}

/// The queues of a batch, in the order of their names.
fn rooms(inner: &Inner, tasks: &[NewTask]) -> Result<Vec<Arc<Room>>, PublishError> {
    let mut rooms: Vec<Arc<Room>> = Vec::with_capacity(1);
    for task in tasks {
        if rooms.last().is_some_and(|room| room.name == task.queue) || rooms.iter().any(|room| room.name == task.queue)
        {
            continue;
        }
        let room = inner.room(&task.queue);
        rooms.push(room.map_err(|error| refused(task, error.source.to_string()))?);
    }
    rooms.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    Ok(rooms)
}

/// Publishes all of it, or tells that there is no room for it now.
async fn attempt(
    inner: &Inner,
    batch: &mut Batch,
    shipments: &[Shipment],
    wait: &mut Duration,
) -> Result<bool, PublishError> {
    match send_any(inner, batch, shipments).await {
        Ok(None) => Ok(false),
        Ok(Some(there)) => {
            for Substitute { shipment, place, id } in there {
                if let Some(place) = shipments.get(shipment).and_then(|shipment| shipment.places.get(place)) {
                    batch.ids[*place] = id;
                }
            }
            Ok(true)
        }
        Err(failure) if failure.kind == Kind::OutOfMemory => {
            inner.shared.counters.out_of_memory.fetch_add(1, Relaxed);
            inner.shared.complain(&failure.sentence);
            *wait = (*wait).max(WAITS.1 / 2);
            Ok(false)
        }
        Err(failure) => Err(PublishError::Unknown { source: failure.into() }),
    }
}

/// What is wrong with a task, for this backend.
pub(super) fn check(inner: &Inner, task: &NewTask) -> Result<(), String> {
    task.check()?;
    let (size, limit) = (task.size(), inner.shared.settings.task_bytes);
    if size > limit {
        return Err(format!(
            "it takes {size} bytes and a task may take {limit}; publish where the data is, not the data"
        ));
    }
    Ok(())
}

fn refused(task: &NewTask, reason: String) -> PublishError {
    PublishError::Refused {
        queue: task.queue.clone(),
        kind: task.kind.clone().into_owned(),
        reason,
    }
}

/// Whether a script can append a task without looking at it.
pub(super) fn is_plain(task: &NewTask) -> bool {
    task.delay.is_zero() && task.key.is_none() && task.unique.is_none() && task.expires.is_none()
}

/// Sorts tasks by queue, in order. Of those whose id comes a second time the script takes the first.
fn ship(tasks: &[NewTask]) -> Vec<Shipment> {
    let mut shipments: Vec<Shipment> = Vec::with_capacity(1);
    let mut numbers: HashMap<&QueueName, usize> = HashMap::new();
    for (place, task) in tasks.iter().enumerate() {
        let number = match shipments.last() {
            // Most batches are for one queue.
            Some(last) if last.queue == task.queue => shipments.len() - 1,
            _ => *numbers.entry(&task.queue).or_insert(shipments.len()),
        };
        if number == shipments.len() {
            shipments.push(Shipment {
                queue: task.queue.clone(),
                places: Vec::with_capacity(tasks.len()),
            });
        }
        shipments[number].places.push(place);
    }
    shipments
}

/// Adds the arguments for one queue. Plain tasks of the class `normal` go in packs, the other plain ones alone.
fn load(arguments: &mut Arguments, batch: &Batch, places: &[usize], published: Timestamp) {
    let plain = places.iter().all(|place| is_plain(&batch.tasks[*place]));
    let named = || places.iter().filter(|place| batch.tasks[**place].id.is_some());
    arguments.number(places.len()).number(named().count());
    let (bytes, units) = (arguments.later(), plain.then(|| arguments.later()));
    if units.is_none() {
        arguments.push("");
    }
    for place in named() {
        arguments.push(batch.ids[*place].as_str());
    }
    let (mut packer, mut size) = (Packer::default(), 0);
    for place in places {
        let (task, id) = (&batch.tasks[*place], &batch.ids[*place]);
        let mut write = |data: &mut Vec<u8>| {
            let before = data.len();
            encode(task, id, published, data);
            size += data.len() - before;
        };
        if !plain {
            write(arguments.writer());
            arguments.close();
            arguments
                .push(milliseconds(task.delay))
                .push(extras(task, published).unwrap_or_default());
        } else if task.priority == Priority::Normal {
            packer.add(arguments, task.size(), write);
        } else {
            packer.alone(arguments, write);
        }
    }
    let count = packer.finish(arguments);
    arguments.say(bytes, size);
    if let Some(units) = units {
        arguments.say(units, count);
    }
}

/// Publishes all of it, the short way if it can be.
async fn send_any(inner: &Inner, batch: &Batch, shipments: &[Shipment]) -> Result<Option<Vec<Substitute>>, Failure> {
    let first = inner.room(&shipments[0].queue);
    let room = first.map_err(|error| Failure::refused(error.source.to_string()))?;
    if shipments.len() == 1 && append(inner, &room, batch).await? {
        return Ok(Some(Vec::new()));
    }
    send(inner, &room, batch, shipments).await
}

/// Sends all of it. `None` when a queue is full; else which tasks are there in other tasks' stead.
async fn send(
    inner: &Inner,
    room: &Room,
    batch: &Batch,
    shipments: &[Shipment],
) -> Result<Option<Vec<Substitute>>, Failure> {
    let settings = &inner.shared.settings;
    let queues: Vec<&QueueName> = shipments.iter().map(|shipment| &shipment.queue).collect();
    let mut arguments = room.arguments(&inner.shared);
    arguments
        .number(settings.capacity)
        .number(settings.bytes)
        .number(shipments.len());
    // The time of publication, and what expires by it, is that of the attempt which succeeds.
    let published = inner.shared.now();
    for shipment in shipments {
        load(&mut arguments, batch, &shipment.places, published);
    }
    let one;
    let keys = if queues.len() == 1 {
        room.keys()
    } else {
        one = keys(&inner.shared.keys, &queues);
        &one[..]
    };
    let answer = match &inner.confirmed {
        None => inner.link.call(Script::Publish, keys, &arguments).await?,
        Some(link) => {
            let mut wait = cmd("WAIT");
            wait.arg(settings.wait_replicas)
                .arg(settings.wait_timeout.as_millis() as u64);
            let limit = settings.wait_timeout + settings.response_timeout;
            let (answer, confirmed) = link
                .call_then(Script::Publish, keys, &arguments, Some((&wait, limit)))
                .await?;
            let replicas = confirmed.as_ref().and_then(reply::integer).unwrap_or(0);
            if replicas < i64::from(settings.wait_replicas) {
                inner.shared.counters.unconfirmed.fetch_add(1, Relaxed);
                return Err(Failure::refused(format!(
                    "{replicas} of {} replicas confirmed the {} tasks in time; see to the replicas, or lower wait_replicas",
                    settings.wait_replicas,
                    batch.tasks.len()
                )));
            }
            answer
        }
    };
    read(inner, answer)
}

fn read(inner: &Inner, answer: Value) -> Result<Option<Vec<Substitute>>, Failure> {
    let mut parts = Parts::new("publish", answer)?;
    if parts.text()? == "full" {
        return Ok(None);
    }
    if let Ok(now) = parts.text()?.parse() {
        inner.shared.learn_time(now);
    }
    let mut there = Vec::new();
    let mut values = parts.list()?.into_iter();
    while let (Some(shipment), Some(place), Some(id)) = (values.next(), values.next(), values.next()) {
        let number = |value: &Value| reply::integer(value).and_then(|number| usize::try_from(number).ok());
        if let (Some(shipment), Some(place), Some(id)) = (number(&shipment), number(&place), reply::text(id)) {
            there.push(Substitute {
                shipment: shipment.saturating_sub(1),
                place,
                id: TaskId::from(id),
            });
        }
    }
    Ok(Some(there))
}

/// A follow-up, as an ending takes it.
pub(super) fn follow_up(arguments: &mut Arguments, inner: &Inner, task: &NewTask, queue: usize) {
    let published = inner.shared.now();
    let id = task.id.clone().unwrap_or_else(|| inner.ids.make());
    let mut data = Vec::new();
    encode(task, &id, published, &mut data);
    arguments
        .number(queue)
        .push(data)
        .push(milliseconds(task.delay))
        .push(extras(task, published).unwrap_or_default());
}
