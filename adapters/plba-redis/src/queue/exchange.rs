//! The script that ends deliveries and takes the next: what it is sent, and what it answers.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use plba_tasks::queue::{ConsumerId, Delivery, DeliveryToken, EndError, Ending, How};
use plba_tasks::task::{MAXIMUM_REASON, NewTask, QueueName, TaskId};
use redis::Value;

use super::place::{Place, Weight};
use super::publish::follow_up;
use super::room::{Room, keys};
use super::{Inner, native};
use crate::failure::Failure;
use crate::link::Arguments;
use crate::record::{Record, json, milliseconds};
use crate::reply::{self, Parts};
use crate::script::Script;

/// How many tasks may be taken, and acked in one group, at once: Lua's stack has room for less than 8,000 arguments.
pub(super) const MOST: usize = 3_000;

/// An ending that a script carries out.
pub(super) struct Step {
    /// Where its result belongs.
    pub(super) place: usize,
    pub(super) token: DeliveryToken,
    pub(super) verb: Verb,
}

/// How a delivery ends, for the script.
pub(super) enum Verb {
    Ack(Vec<NewTask>),
    Nack {
        delay: Duration,
        reason: String,
    },
    Bury {
        reason: String,
    },
    Release {
        delay: Duration,
    },
    /// No program of this version can read it.
    Undecodable {
        reason: String,
    },
}

impl Step {
    /// Of an ending whose effect has been run.
    pub(super) fn new(place: usize, ending: Ending) -> Self {
        let verb = match ending.how {
            How::Ack { then, .. } => Verb::Ack(then),
            How::Nack { delay, reason } => Verb::Nack { delay, reason },
            How::Bury { reason } => Verb::Bury { reason },
            How::Release { delay } => Verb::Release { delay },
        };
        Self {
            place,
            token: ending.token,
            verb,
        }
    }
}

/// What one call gave.
pub(super) struct Outcome {
    /// The endings, by their places.
    pub(super) ended: Vec<(usize, Result<(), EndError>)>,
    pub(super) taken: Vec<Delivery>,
    /// When to look again, if nothing wakes whoever waits.
    pub(super) due: Option<Duration>,
    /// Entries that are to be made dead letters, with why.
    pub(super) broken: Vec<Step>,
}

/// Who takes, and how many at most.
#[derive(Clone)]
pub(super) struct Taking {
    pub(super) consumer: ConsumerId,
    pub(super) most: usize,
}

/// Sends endings of deliveries of one queue, and takes.
pub(super) async fn exchange(
    inner: &Inner,
    room: &Room,
    steps: Vec<Step>,
    taking: Option<&Taking>,
) -> Result<Outcome, Failure> {
    if let Some(taking) = taking
        && let Some(outcome) = native::exchange(inner, room, &steps, taking).await?
    {
        return Ok(outcome);
    }
    let holder = taking.map(|taking| inner.holders.number(&taking.consumer, inner.shared.settings.lease));
    let mut call = Call::new(inner, room, taking, holder.as_ref().map(|(_, name)| &**name));
    call.pack(inner, steps);
    let own;
    let keys = if call.others.is_empty() {
        room.keys()
    } else {
        let mut queues = vec![&room.name];
        queues.extend(&call.others);
        own = keys(&inner.shared.keys, &queues);
        &own[..]
    };
    let answer = inner.link.call(Script::Exchange, keys, &call.arguments).await?;
    let mut parts = Parts::new("exchange", answer)?;
    let generation = parts.text()?;
    inner.note_time(&parts.text()?);
    let lost = parts.list()?;
    let due = parts.text()?;
    let anew = parts.text()?;
    if anew.is_empty() {
        inner.note_generation(room, &generation);
    } else {
        // Seen to be gone in this very call.
        room.learn_generation("before");
        inner.note_generation(room, &generation);
    }
    let mut ended: Vec<(usize, Result<(), EndError>)> = call.places.iter().map(|place| (*place, Ok(()))).collect();
    for position in lost.iter().filter_map(reply::integer) {
        if let Some((_, result)) = usize::try_from(position)
            .ok()
            .and_then(|position| ended.get_mut(position))
        {
            *result = Err(EndError::LeaseLost);
        }
    }
    ended.extend(call.refused);
    let (plain, special) = (parts.list()?, parts.list()?);
    let notes = parts.parts()?;
    inner.note(room, notes)?;
    let mut outcome = Outcome {
        ended,
        taken: Vec::with_capacity(plain.len() / 2 + special.len()),
        due: due.parse().ok().map(|due| inner.shared.until(due)),
        broken: Vec::new(),
    };
    if let Some((holder, _)) = holder {
        let mut receive = Receive {
            inner,
            room,
            holder,
            generation: &generation,
            outcome: &mut outcome,
        };
        receive.all(plain, special);
    }
    Ok(outcome)
}

/// What is sent.
struct Call {
    arguments: Arguments,
    /// The place of each ending's result, in the order in which the script answers.
    places: Vec<usize>,
    refused: Vec<(usize, Result<(), EndError>)>,
    /// Queues of follow-ups, beside the own one.
    others: Vec<QueueName>,
    own: QueueName,
}

/// Plain acks of one stream, holder and group.
#[derive(Default)]
struct Group<'a> {
    steps: Vec<(&'a Step, Place<'a>)>,
    named: bool,
}

impl Call {
    fn new(inner: &Inner, room: &Room, taking: Option<&Taking>, name: Option<&str>) -> Self {
        let mut arguments = room.arguments(&inner.shared);
        arguments
            .push(name.unwrap_or_default())
            .number(taking.map_or(0, |taking| taking.most.clamp(1, MOST)));
        // Injected time may pass at once, so there is always something to look for.
        let sweep = taking.is_some() && (inner.shared.clock.is_some() || room.sweep_is_due());
        let flags = [if sweep { "s" } else { "" }, room.flags()].concat();
        arguments.push(flags);
        Self {
            arguments,
            places: Vec::new(),
            refused: Vec::new(),
            others: Vec::new(),
            own: room.name.clone(),
        }
    }

    fn pack(&mut self, inner: &Inner, steps: Vec<Step>) {
        let mut groups: Vec<((u8, usize, String), Group<'_>)> = Vec::new();
        let mut others = Vec::new();
        for step in &steps {
            let Some(place) = Place::of(&step.token) else {
                self.refused.push((step.place, Err(EndError::LeaseLost)));
                continue;
            };
            let simple = matches!(&step.verb, Verb::Ack(then) if then.is_empty()) && place.weight != Weight::Full;
            if !simple {
                others.push((step, place));
                continue;
            }
            let fits = |((stream, holder, generation), group): &((u8, usize, String), Group<'_>)| {
                *stream == place.stream
                    && *holder == place.holder
                    && generation == place.generation
                    && group.steps.len() < MOST
            };
            let found = groups.iter().rposition(fits);
            let number = found.unwrap_or_else(|| {
                let key = (place.stream, place.holder, place.generation.to_owned());
                groups.push((key, Group::default()));
                groups.len() - 1
            });
            let group = &mut groups[number].1;
            group.named |= place.weight == Weight::Named;
            group.steps.push((step, place));
        }
        self.arguments.number(groups.len());
        for ((stream, holder, generation), group) in groups {
            self.group(inner, stream, holder, &generation, &group);
        }
        for (step, place) in others {
            self.single(inner, step, place);
        }
    }

    fn group(&mut self, inner: &Inner, stream: u8, holder: usize, generation: &str, group: &Group<'_>) {
        let first = group.steps.iter().min_by_key(|(_, place)| place.order());
        let last = group.steps.iter().max_by_key(|(_, place)| place.order());
        let entry =
            |found: Option<&(&Step, Place<'_>)>| found.map_or_else(String::new, |(_, place)| place.entry.to_owned());
        self.arguments
            .number(stream)
            .push(inner.holders.name(holder).as_deref().unwrap_or_default())
            .push(generation)
            .number(group.steps.len())
            .number(group.steps.iter().map(|(_, place)| place.bytes).sum::<usize>())
            .number(u8::from(group.named))
            .push(entry(first))
            .push(entry(last));
        for (step, place) in &group.steps {
            self.arguments.push(place.entry);
            self.places.push(step.place);
        }
        if group.named {
            for (step, _) in &group.steps {
                self.arguments.push(step.token.task.as_str());
            }
        }
    }

    fn single(&mut self, inner: &Inner, step: &Step, place: Place<'_>) {
        self.places.push(step.place);
        self.arguments
            .number(place.stream)
            .push(inner.holders.name(place.holder).as_deref().unwrap_or_default())
            .push(place.generation)
            .push(place.entry);
        match &step.verb {
            Verb::Ack(then) => {
                self.arguments.push("a").number(then.len());
                for task in then {
                    let queue = self.queue(&task.queue);
                    follow_up(&mut self.arguments, inner, task, queue);
                }
            }
            Verb::Nack { delay, reason } => {
                self.arguments.push("n").push(milliseconds(*delay)).push(quoted(reason));
            }
            Verb::Release { delay } => {
                self.arguments.push("r").push(if delay.is_zero() {
                    "0".to_owned()
                } else {
                    milliseconds(*delay)
                });
            }
            Verb::Bury { reason } => {
                self.arguments.push("b").push(quoted(reason));
            }
            Verb::Undecodable { reason } => {
                self.arguments.push("u").push(quoted(reason));
            }
        }
    }

    /// The number of a follow-up's queue among those that the script is given.
    fn queue(&mut self, queue: &QueueName) -> usize {
        if *queue == self.own {
            return 0;
        }
        if let Some(number) = self.others.iter().position(|other| other == queue) {
            return number + 1;
        }
        self.others.push(queue.clone());
        self.others.len()
    }
}

/// A reason as JSON text, cut to what is remembered.
fn quoted(reason: &str) -> String {
    json(&&reason[..reason.floor_char_boundary(MAXIMUM_REASON)])
}

/// Makes deliveries of what was taken.
pub(super) struct Receive<'a> {
    pub(super) inner: &'a Inner,
    pub(super) room: &'a Room,
    pub(super) holder: usize,
    pub(super) generation: &'a str,
    pub(super) outcome: &'a mut Outcome,
}

impl Receive<'_> {
    fn all(&mut self, plain: Vec<Value>, special: Vec<Value>) {
        let now = self.inner.shared.now().as_microsecond() as f64 / 1000.0;
        let mut special = special.into_iter().filter_map(special_of).peekable();
        let mut plain = plain.into_iter();
        // Each special one says how many were taken before it.
        for count in 0.. {
            if let Some((_, stream, entry, record)) = special.next_if(|(before, ..)| *before <= count) {
                self.one(stream, &entry, record, now);
                continue;
            }
            let (Some(entry), Some(data)) = (plain.next(), plain.next()) else {
                break;
            };
            if let (Some(entry), Some(data)) = (reply::text(entry), reply::bytes(data)) {
                self.one(2, &entry, Record::plain(data), now);
            }
        }
        for (_, stream, entry, record) in special {
            self.one(stream, &entry, record, now);
        }
    }

    pub(super) fn one(&mut self, stream: u8, entry: &str, record: Record, now: f64) {
        let weight = if record.limited || stream == 4 {
            Weight::Full
        } else if record.is_named() {
            Weight::Named
        } else {
            Weight::Plain
        };
        let place = Place {
            stream,
            weight,
            holder: self.holder,
            bytes: record.data.len(),
            fence: self.inner.fence.fetch_add(1, Relaxed),
            generation: self.generation,
            entry,
        };
        let token = |task: TaskId| DeliveryToken {
            queue: self.room.name.clone(),
            task,
            fence: place.fence,
            place: Some(place.write()),
        };
        let task = match record.decode(&self.room.name) {
            Ok(task) => Arc::new(task),
            Err(reason) => {
                self.outcome.broken.push(Step {
                    place: 0,
                    token: token(record.task_id()),
                    verb: Verb::Undecodable { reason },
                });
                return;
            }
        };
        let (deliveries, attempts, _) = record.counts();
        let ready_at = record.ready_at.unwrap_or(place.order().0 as f64);
        self.outcome.taken.push(Delivery {
            token: token(task.id.clone()),
            task,
            deliveries: deliveries.saturating_add(1),
            attempt: attempts.saturating_add(1),
            waited: Duration::try_from_secs_f64((now - ready_at).max(0.0) / 1000.0).unwrap_or_default(),
        });
    }
}

/// How many were taken before it, its stream, its entry and its record.
fn special_of(value: Value) -> Option<(i64, u8, String, Record)> {
    let mut parts = Parts::new("exchange", value).ok()?;
    let (before, stream) = (parts.integer().ok()?, parts.integer().ok()?);
    let entry = parts.text().ok()?;
    let record = Record::of_fields(parts.list().ok()?);
    Some((before, u8::try_from(stream).ok()?, entry, record))
}

/// Sorts endings by queue, in order.
pub(super) fn by_queue(steps: Vec<Step>) -> Vec<(QueueName, Vec<Step>)> {
    let mut sorted: Vec<(QueueName, Vec<Step>)> = Vec::with_capacity(1);
    let mut numbers: HashMap<QueueName, usize> = HashMap::new();
    for step in steps {
        let queue = &step.token.queue;
        let number = match sorted.last() {
            Some((last, _)) if last == queue => sorted.len() - 1,
            _ => match numbers.get(queue) {
                Some(number) => *number,
                None => {
                    numbers.insert(queue.clone(), sorted.len());
                    sorted.push((queue.clone(), Vec::new()));
                    sorted.len() - 1
                }
            },
        };
        sorted[number].1.push(step);
    }
    sorted
}
