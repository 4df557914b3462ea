//! The script that ends deliveries and takes the next: what it is sent, and what it answers.

use std::collections::HashMap;
use std::time::Duration;

use plba_tasks::queue::{ConsumerId, Delivery, DeliveryToken, EndError, Ending, How};
use plba_tasks::task::{MAXIMUM_REASON, NewTask, QueueName};

use super::place::{Member, Place, Weight};
use super::publish::follow_up;
use super::receive::Receive;
use super::room::{Room, keys};
use super::{Inner, native};
use crate::failure::Failure;
use crate::link::Arguments;
use crate::record::{json, milliseconds};
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
        taken: Vec::with_capacity(plain.len() / 2),
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

/// Plain acks that are alike in all that a script has to know: entries of one stream, holder and group.
struct Group<'a> {
    stream: u8,
    holder: usize,
    generation: &'a str,
    what: What,
    /// One of each entry, the first member of a pack.
    entries: Vec<Place<'a>>,
    tasks: Vec<(&'a Step, Place<'a>)>,
    named: bool,
}

/// What the entries of a group are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Tasks,
    Packs,
    /// Some members of one pack.
    Part,
}

impl<'a> Group<'a> {
    fn new(place: &Place<'a>, what: What) -> Self {
        Self {
            stream: place.stream,
            holder: place.holder,
            generation: place.generation,
            what,
            entries: Vec::new(),
            tasks: Vec::new(),
            named: false,
        }
    }

    fn takes(&self, place: &Place<'_>, what: What, tasks: usize) -> bool {
        self.stream == place.stream
            && self.holder == place.holder
            && self.generation == place.generation
            && self.what == what
            && what != What::Part
            && self.tasks.len() + tasks <= MOST
    }
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
        let mut groups: Vec<Group<'_>> = Vec::new();
        let mut others = Vec::new();
        let mut placed = Vec::with_capacity(steps.len());
        for step in &steps {
            match Place::of(&step.token) {
                Some(place) => placed.push((step, place)),
                None => self.refused.push((step.place, Err(EndError::LeaseLost))),
            }
        }
        let mut rest = &placed[..];
        while let Some((step, place)) = rest.first() {
            let (what, count) = unit(rest);
            let (unit, after) = rest.split_at(count.max(1));
            rest = after;
            if count == 0 {
                others.push((*step, *place));
                continue;
            }
            let number = groups.iter().rposition(|group| group.takes(place, what, count));
            let number = number.unwrap_or_else(|| {
                groups.push(Group::new(place, what));
                groups.len() - 1
            });
            let group = &mut groups[number];
            group.named |= unit.iter().any(|(_, place)| place.weight == Weight::Named);
            group.entries.push(*place);
            group.tasks.extend_from_slice(unit);
        }
        self.arguments.number(groups.len());
        for group in &groups {
            self.group(inner, group);
        }
        for (step, place) in others {
            self.single(inner, step, place);
        }
    }

    fn group(&mut self, inner: &Inner, group: &Group<'_>) {
        let entry = |found: Option<&Place<'_>>| found.map_or_else(String::new, |place| place.entry.to_owned());
        let sizes = group.entries.iter().filter_map(|place| place.member);
        let members = group.tasks.iter().filter_map(|(_, place)| place.member);
        let members = members.filter(|_| group.what == What::Part);
        self.arguments
            .number(group.stream)
            .push(inner.holders.name(group.holder).as_deref().unwrap_or_default())
            .push(group.generation)
            .number(group.entries.len())
            .number(group.tasks.len())
            .number(if group.named { group.tasks.len() } else { 0 })
            .number(group.tasks.iter().map(|(_, place)| place.bytes).sum::<usize>())
            .push(entry(group.entries.iter().min_by_key(|place| place.order())))
            .push(entry(group.entries.iter().max_by_key(|place| place.order())))
            .push(sizes.map(|member| member.size).collect::<Vec<u8>>())
            .push(members.map(|member| member.number).collect::<Vec<u8>>());
        for place in &group.entries {
            self.arguments.push(place.entry);
        }
        for (step, _) in &group.tasks {
            self.places.push(step.place);
            if group.named {
                self.arguments.push(step.token.task.as_str());
            }
        }
    }

    fn single(&mut self, inner: &Inner, step: &Step, place: Place<'_>) {
        self.places.push(step.place);
        let mut entry = String::new();
        place.push_entry(&mut entry);
        self.arguments
            .number(place.stream)
            .push(inner.holders.name(place.holder).as_deref().unwrap_or_default())
            .push(place.generation)
            .push(entry);
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

/// How many of these steps are acked as one entry, and what that is: a task, or members of a pack in their order. None, if
/// the first one is more than an ack.
fn unit(steps: &[(&Step, Place<'_>)]) -> (What, usize) {
    let is_ack = |step: &Step, place: &Place<'_>| {
        matches!(&step.verb, Verb::Ack(then) if then.is_empty()) && place.weight != Weight::Full
    };
    let Some((_, first)) = steps.first().filter(|(step, place)| is_ack(step, place)) else {
        return (What::Tasks, 0);
    };
    let Some(Member { size, .. }) = first.member else {
        return (What::Tasks, 1);
    };
    let mut last = 0;
    let follows = |(step, place): &&(&Step, Place<'_>)| {
        let number = place.member.map_or(0, |member| member.number);
        let fits = place.entry == first.entry
            && (place.stream, place.holder, place.generation) == (first.stream, first.holder, first.generation)
            && is_ack(step, place)
            && number > last;
        last = number;
        fits
    };
    let count = steps.iter().take_while(follows).count();
    let what = if count == usize::from(size) {
        What::Packs
    } else {
        What::Part
    };
    (what, count)
}

/// A reason as JSON text, cut to what is remembered.
fn quoted(reason: &str) -> String {
    json(&&reason[..reason.floor_char_boundary(MAXIMUM_REASON)])
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
