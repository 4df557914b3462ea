//! Where a delivery is kept, as its token says: the stream, the entry, the group and the holder's name in it.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use plba_tasks::queue::{ConsumerId, DeliveryToken};

use crate::identity::consumer_name;

/// The names of consumers that this process has used, by number.
#[derive(Default)]
pub(super) struct Holders(RwLock<Names>);

#[derive(Default)]
struct Names {
    numbers: HashMap<ConsumerId, usize>,
    names: Vec<Arc<str>>,
}

impl Holders {
    /// The number and the name of a consumer.
    pub(super) fn number(&self, consumer: &ConsumerId, lease: std::time::Duration) -> (usize, Arc<str>) {
        {
            let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(number) = known.numbers.get(consumer) {
                return (*number, Arc::clone(&known.names[*number]));
            }
        }
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(number) = known.numbers.get(consumer) {
            return (*number, Arc::clone(&known.names[*number]));
        }
        let name: Arc<str> = consumer_name(consumer, lease).into();
        let number = known.names.len();
        known.names.push(Arc::clone(&name));
        known.numbers.insert(consumer.clone(), number);
        (number, name)
    }

    pub(super) fn name(&self, number: usize) -> Option<Arc<str>> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.names.get(number).cloned()
    }
}

/// How much a script has to do when a delivery ends well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    /// Its entry goes, and nothing else.
    Plain,
    /// Its id goes too.
    Named,
    /// It has a key, or was handed out one by one.
    Full,
}

/// A token's place, read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    /// 1 high, 2 normal, 3 low, 4 handed out one by one.
    pub(super) stream: u8,
    pub(super) weight: Weight,
    pub(super) holder: usize,
    pub(super) bytes: usize,
    pub(super) fence: u64,
    pub(super) generation: &'a str,
    pub(super) entry: &'a str,
}

impl<'a> Place<'a> {
    /// The place of a token of this backend; `None` for one that nobody was given.
    pub(super) fn of(token: &'a DeliveryToken) -> Option<Self> {
        let mut parts = token.place.as_deref()?.splitn(6, ' ');
        let kind = parts.next()?.as_bytes();
        let [stream, weight] = kind else { return None };
        let weight = match weight {
            b'p' => Weight::Plain,
            b'n' => Weight::Named,
            b'f' => Weight::Full,
            _ => return None,
        };
        let place = Self {
            stream: stream.checked_sub(b'0').filter(|stream| (1..=4).contains(stream))?,
            weight,
            holder: parts.next()?.parse().ok()?,
            bytes: parts.next()?.parse().ok()?,
            fence: parts.next()?.parse().ok()?,
            generation: parts.next()?,
            entry: parts.next()?,
        };
        (place.fence == token.fence).then_some(place)
    }

    pub(super) fn write(&self) -> Arc<str> {
        use std::fmt::Write;
        let weight = match self.weight {
            Weight::Plain => 'p',
            Weight::Named => 'n',
            Weight::Full => 'f',
        };
        let mut text = String::with_capacity(48 + self.generation.len() + self.entry.len());
        // Writing to a string can't fail.
        let _ = write!(
            text,
            "{}{weight} {} {} {} {} {}",
            self.stream, self.holder, self.bytes, self.fence, self.generation, self.entry
        );
        text.into()
    }

    /// The entry's parts, by which entries of one stream are ordered.
    pub(super) fn order(&self) -> (u64, u64) {
        let (time, number) = self.entry.split_once('-').unwrap_or((self.entry, "0"));
        (time.parse().unwrap_or(0), number.parse().unwrap_or(0))
    }
}
