//! Making deliveries of what was taken: single tasks, and packs of which each member is one.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use plba_tasks::queue::{Delivery, DeliveryToken};
use plba_tasks::task::TaskId;
use redis::Value;

use super::Inner;
use super::exchange::{Outcome, Step, Verb};
use super::place::{Member, Place, Weight};
use super::room::Room;
use crate::pack::{is_pack, members};
use crate::record::Record;
use crate::reply::{self, Parts};

/// Makes deliveries of what was taken.
pub(super) struct Receive<'a> {
    pub(super) inner: &'a Inner,
    pub(super) room: &'a Room,
    pub(super) holder: usize,
    pub(super) generation: &'a str,
    pub(super) outcome: &'a mut Outcome,
}

impl Receive<'_> {
    pub(super) fn all(&mut self, plain: Vec<Value>, special: Vec<Value>) {
        let now = self.inner.shared.now().as_microsecond() as f64 / 1000.0;
        let mut special = special.into_iter().filter_map(Special::read).peekable();
        let mut plain = plain.into_iter();
        // Each special one says how many units were taken before it.
        for count in 0.. {
            if let Some(special) = special.next_if(|special| special.before <= count) {
                self.special(special, now);
                continue;
            }
            let (Some(entry), Some(data)) = (plain.next(), plain.next()) else {
                break;
            };
            if let (Some(entry), Some(data)) = (reply::text(entry), reply::bytes(data)) {
                self.one(2, &entry, None, Record::plain(data), now);
            }
        }
        for special in special {
            self.special(special, now);
        }
    }

    fn special(&mut self, special: Special, now: f64) {
        self.entry(special.stream, &special.entry, special.record, &special.over, now);
    }

    /// A single task, or a pack, of which some members may be over.
    pub(super) fn entry(&mut self, stream: u8, entry: &str, record: Record, over: &str, now: f64) {
        let members = is_pack(&record.data).then(|| members(record.data.clone()));
        // A pack that can't be read is refused as a single task that can't.
        let Some(Some(members)) = members else {
            return self.one(stream, entry, None, record, now);
        };
        let size = members.len() as u8;
        self.outcome.taken.reserve(members.len());
        for (number, data) in (1..=size).zip(members) {
            if over.as_bytes().get(usize::from(number) - 1) != Some(&b'1') {
                let mut task = Record::plain(data);
                task.ready_at = record.ready_at;
                self.one(stream, entry, Some(Member { number, size }), task, now);
            }
        }
    }

    fn one(&mut self, stream: u8, entry: &str, member: Option<Member>, record: Record, now: f64) {
        let weight = if record.limited || (stream == 4 && member.is_none()) {
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
            member,
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

/// What is handed out otherwise than a plain task.
struct Special {
    /// How many units were taken before it: plain tasks, and special ones.
    before: i64,
    stream: u8,
    entry: String,
    record: Record,
    /// Which members of a pack are over already.
    over: String,
}

impl Special {
    fn read(value: Value) -> Option<Self> {
        let mut parts = Parts::new("exchange", value).ok()?;
        Some(Self {
            before: parts.integer().ok()?,
            stream: u8::try_from(parts.integer().ok()?).ok()?,
            entry: parts.text().ok()?,
            record: Record::of_fields(parts.list().ok()?),
            over: parts.text().ok()?,
        })
    }
}
