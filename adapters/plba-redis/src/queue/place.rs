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

/// Which member of a pack a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Member {
    /// From 1 on.
    pub(super) number: u8,
    /// How many members the pack had when it was written.
    pub(super) size: u8,
}

impl Member {
    /// What stands behind the entry: `.number/size`.
    fn of(text: &str) -> Option<Self> {
        let (number, size) = text.split_once('/')?;
        Some(Self {
            number: number.parse().ok()?,
            size: size.parse().ok()?,
        })
    }
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
    /// If the entry is a pack.
    pub(super) member: Option<Member>,
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
        let (holder, bytes, fence) = (parts.next()?, parts.next()?, parts.next()?);
        let (generation, whole) = (parts.next()?, parts.next()?);
        let (entry, member) = match whole.split_once('.') {
            Some((entry, member)) => (entry, Some(Member::of(member)?)),
            None => (whole, None),
        };
        let place = Self {
            stream: stream.checked_sub(b'0').filter(|stream| (1..=4).contains(stream))?,
            weight,
            holder: holder.parse().ok()?,
            bytes: bytes.parse().ok()?,
            fence: fence.parse().ok()?,
            generation,
            entry,
            member,
        };
        (place.fence == token.fence).then_some(place)
    }

    pub(super) fn write(&self) -> Arc<str> {
        let weight = match self.weight {
            Weight::Plain => 'p',
            Weight::Named => 'n',
            Weight::Full => 'f',
        };
        let mut text = String::with_capacity(64 + self.generation.len() + self.entry.len());
        text.push((b'0' + self.stream) as char);
        text.push(weight);
        for number in [self.holder as u64, self.bytes as u64, self.fence] {
            text.push(' ');
            push_number(&mut text, number);
        }
        text.push(' ');
        text.push_str(self.generation);
        text.push(' ');
        self.push_entry(&mut text);
        text.into()
    }

    /// The entry, and of a pack's member its number and the pack's size, as scripts take it.
    pub(super) fn push_entry(&self, text: &mut String) {
        text.push_str(self.entry);
        if let Some(Member { number, size }) = self.member {
            text.push('.');
            push_number(text, u64::from(number));
            text.push('/');
            push_number(text, u64::from(size));
        }
    }

    /// The entry's parts, by which entries of one stream are ordered.
    pub(super) fn order(&self) -> (u64, u64) {
        let (time, number) = self.entry.split_once('-').unwrap_or((self.entry, "0"));
        (time.parse().unwrap_or(0), number.parse().unwrap_or(0))
    }
}

/// Writes a number without the machinery of formatting: it is done for every delivery.
fn push_number(text: &mut String, mut number: u64) {
    let mut digits = [b'0'; 20];
    let mut first = digits.len() - 1;
    loop {
        digits[first] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
        first -= 1;
    }
    text.extend(digits[first..].iter().map(|digit| *digit as char));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_comes_back_as_it_was_written() {
        for (bytes, fence, member) in [
            (0, 0, None),
            (1_000, u64::MAX, Some(Member { number: 3, size: 32 })),
            (usize::MAX, 10, Some(Member { number: 255, size: 255 })),
        ] {
            let place = Place {
                stream: 2,
                weight: Weight::Named,
                holder: 17,
                bytes,
                fence,
                generation: "g1767225600000000",
                entry: "1767225600000-12",
                member,
            };
            let token = DeliveryToken {
                queue: "orders".into(),
                task: "a".into(),
                fence,
                place: Some(place.write()),
            };
            let read = Place::of(&token).unwrap();
            assert_eq!((read.stream, read.weight, read.holder), (2, Weight::Named, 17));
            assert_eq!((read.bytes, read.fence, read.member), (bytes, fence, member));
            assert_eq!((read.generation, read.entry), (place.generation, place.entry));
        }
    }
}
