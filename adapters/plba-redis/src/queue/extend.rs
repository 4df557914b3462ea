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
            kept[number] = held.contains(&name(&place));
        }
    }
    let result = |kept| if kept { Ok(()) } else { Err(EndError::LeaseLost) };
    Ok(kept.into_iter().map(result).collect())
}

/// Renews leases of one queue; gives those that were held.
async fn renew(inner: &Inner, room: &Room, places: &[(usize, Place<'_>)]) -> Result<HashSet<String>, Failure> {
    let mut groups: HashMap<(u8, usize, &str, bool), Vec<Place<'_>>> = HashMap::new();
    for (_, place) in places {
        let key = (place.stream, place.holder, place.generation, place.member.is_some());
        groups.entry(key).or_default().push(*place);
    }
    let mut arguments = room.arguments(&inner.shared);
    for ((stream, holder, generation, packed), mut places) in groups {
        places.sort_unstable_by_key(Place::order);
        let holder = inner.holders.name(holder);
        let holder = holder.as_deref().unwrap_or_default();
        let mut entries: Vec<&[Place<'_>]> = places.chunk_by(|one, other| one.entry == other.entry).collect();
        if !packed {
            // An entry that is named twice is renewed once.
            entries = entries.iter().map(|same| &same[..1]).collect();
        }
        for chunk in entries.chunks(MOST) {
            group(&mut arguments, (stream, holder, generation), packed, chunk);
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

/// Entries of one stream, holder and group, each with those of its members that are to be renewed.
fn group(arguments: &mut Arguments, of: (u8, &str, &str), packed: bool, entries: &[&[Place<'_>]]) {
    let entry = |places: Option<&&[Place<'_>]>| {
        let place = places.and_then(|places| places.first());
        place.map_or_else(String::new, |place| place.entry.to_owned())
    };
    let (stream, holder, generation) = of;
    arguments
        .number(stream)
        .push(holder)
        .push(generation)
        .number(entries.len())
        .push(entry(entries.first()))
        .push(entry(entries.last()))
        .number(u8::from(packed));
    for places in entries {
        arguments.push(places[0].entry);
        let members = || places.iter().filter_map(|place| place.member);
        if let Some(member) = members().next() {
            arguments
                .number(member.size)
                .push(members().map(|member| member.number).collect::<Vec<u8>>());
        }
    }
}

/// What the script calls a lease that it renewed.
fn name(place: &Place<'_>) -> String {
    match place.member {
        Some(member) => format!("{}:{}.{}", place.stream, place.entry, member.number),
        None => format!("{}:{}", place.stream, place.entry),
    }
}
