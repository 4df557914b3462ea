//! The values of a statement that ends deliveries, in the order of `end_1`.

use tokio_postgres::types::Type;

use super::super::pool::Value;
use super::Inner;
use super::ending::{Plain, Way};
use super::record::{Record, sorted};

/// The values of a statement that ends.
pub(super) struct Ends {
    now: Option<i64>,
    channel: Option<String>,
    locks: Option<Vec<i32>>,
    held: bool,
    acks: Acks,
    others: Option<Others>,
}

#[derive(Default)]
struct Acks {
    /// Each once, in one order.
    queues: Vec<i32>,
    places: Vec<i64>,
    /// What all of them have: they were handed out together. To look each fence up among all of them takes longer.
    random: Option<i64>,
    fences: Option<Vec<i64>>,
}

#[derive(Default)]
struct Others {
    queues: Vec<i32>,
    places: Vec<i64>,
    fences: Vec<i64>,
    ways: Vec<i16>,
    delays: Vec<i64>,
    reasons: Vec<String>,
}

const NO_QUEUES: Option<Vec<i32>> = None;
const NO_NUMBERS: Option<Vec<i64>> = None;
const NO_WAYS: Option<Vec<i16>> = None;
const NO_REASONS: Option<Vec<String>> = None;

impl Ends {
    pub(super) fn new(inner: &Inner, endings: &[&Plain], held: bool) -> Self {
        let mut acks = Acks::default();
        let mut others: Option<Others> = None;
        let (mut locks, mut fences) = (Vec::new(), Vec::with_capacity(endings.len()));
        for plain in endings {
            locks.extend(plain.held.locks());
            locks.extend(plain.then.iter().flat_map(Record::locks));
            if plain.way == Way::Ack {
                if !acks.queues.contains(&plain.room.number) {
                    acks.queues.push(plain.room.number);
                }
                acks.places.push(plain.held.place);
                fences.push(plain.held.fence);
                continue;
            }
            let others = others.get_or_insert_default();
            others.queues.push(plain.room.number);
            others.places.push(plain.held.place);
            others.fences.push(plain.held.fence);
            others.ways.push(plain.way as i16);
            others.delays.push(plain.delay);
            others.reasons.push(plain.reason.clone());
        }
        acks.queues.sort_unstable();
        let mut randoms = fences
            .iter()
            .zip(&acks.places)
            .map(|(fence, place)| fence.wrapping_sub(*place));
        acks.random = randoms.next().filter(|first| randoms.all(|random| random == *first));
        acks.fences = acks.random.is_none().then_some(fences);
        Self {
            now: inner.now(),
            channel: inner.channel.clone(),
            locks: sorted(locks),
            held,
            acks,
            others,
        }
    }

    pub(super) fn values(&self) -> [Value<'_>; 14] {
        let others: [Value<'_>; 6] = match &self.others {
            Some(others) => [
                (&others.queues, Type::INT4_ARRAY),
                (&others.places, Type::INT8_ARRAY),
                (&others.fences, Type::INT8_ARRAY),
                (&others.ways, Type::INT2_ARRAY),
                (&others.delays, Type::INT8_ARRAY),
                (&others.reasons, Type::TEXT_ARRAY),
            ],
            None => [
                (&NO_QUEUES, Type::INT4_ARRAY),
                (&NO_NUMBERS, Type::INT8_ARRAY),
                (&NO_NUMBERS, Type::INT8_ARRAY),
                (&NO_WAYS, Type::INT2_ARRAY),
                (&NO_NUMBERS, Type::INT8_ARRAY),
                (&NO_REASONS, Type::TEXT_ARRAY),
            ],
        };
        let [queues, places, fences, ways, delays, reasons] = others;
        [
            (&self.now, Type::INT8),
            (&self.channel, Type::TEXT),
            (&self.locks, Type::INT4_ARRAY),
            (&self.held, Type::BOOL),
            (&self.acks.queues, Type::INT4_ARRAY),
            (&self.acks.places, Type::INT8_ARRAY),
            (&self.acks.random, Type::INT8),
            (&self.acks.fences, Type::INT8_ARRAY),
            queues,
            places,
            fences,
            ways,
            delays,
            reasons,
        ]
    }
}
