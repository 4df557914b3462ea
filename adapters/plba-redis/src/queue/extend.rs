//! Renewing leases.

use std::collections::{HashMap, HashSet};

use plba_tasks::queue::{DeliveryToken, EndError, QueueError};
use plba_tasks::task::QueueName;

use super::Inner;
use super::exchange::MOST;
use super::place::Place;
use super::room::Room;
use crate::failure::Failure;
use crate::link::Arguments;
use crate::reply::{self, Parts};
use crate::script::Script;

pub(super) async fn extend(inner: &Inner, tokens: &[DeliveryToken]) -> Result<Vec<Result<(), EndError>>, QueueError> {
    let mut by_queue: HashMap<&QueueName, Vec<(usize, Place<'_>)>> = HashMap::new();
    for (number, token) in tokens.iter().enumerate() {
        if let Some(place) = Place::of(token) {
            by_queue.entry(&token.queue).or_default().push((number, place));
        }
    }
    let mut kept = vec![false; tokens.len()];
    for (queue, places) in by_queue {
        let room = inner.room(queue)?;
        let held = renew(inner, &room, &places).await?;
        for (number, place) in places {
            kept[number] = held.contains(&format!("{}:{}", place.stream, place.entry));
        }
    }
    let result = |kept| if kept { Ok(()) } else { Err(EndError::LeaseLost) };
    Ok(kept.into_iter().map(result).collect())
}

/// Renews leases of one queue; gives those that were held.
async fn renew(inner: &Inner, room: &Room, places: &[(usize, Place<'_>)]) -> Result<HashSet<String>, Failure> {
    let mut groups: HashMap<(u8, usize, &str), Vec<Place<'_>>> = HashMap::new();
    for (_, place) in places {
        let key = (place.stream, place.holder, place.generation);
        groups.entry(key).or_default().push(*place);
    }
    let mut arguments = room.arguments(&inner.shared);
    for ((stream, holder, generation), mut places) in groups {
        places.sort_unstable_by_key(Place::order);
        let holder = inner.holders.name(holder);
        for chunk in places.chunks(MOST) {
            group(
                &mut arguments,
                stream,
                holder.as_deref().unwrap_or_default(),
                generation,
                chunk,
            );
        }
    }
    let answer = inner.link.call(Script::Extend, room.keys(), &arguments).await?;
    let mut parts = Parts::new("extend", answer)?;
    inner.note_generation(room, &parts.text()?);
    inner.note_time(&parts.text()?);
    let kept = parts.list()?.into_iter().filter_map(reply::text).collect();
    let notes = parts.parts()?;
    inner.note(room, notes)?;
    Ok(kept)
}

fn group(arguments: &mut Arguments, stream: u8, holder: &str, generation: &str, places: &[Place<'_>]) {
    let entry = |place: Option<&Place<'_>>| place.map_or_else(String::new, |place| place.entry.to_owned());
    arguments
        .number(stream)
        .push(holder)
        .push(generation)
        .number(places.len())
        .push(entry(places.first()))
        .push(entry(places.last()));
    for place in places {
        arguments.push(place.entry);
    }
}
