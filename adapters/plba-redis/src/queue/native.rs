//! The common exchange: plain acks of one holder, and then the next tasks of the class `normal`, read by the server's own
//! command, so that payloads need not pass through a script. One transaction: a script acks, or finds that something else
//! is to be done and keeps the read from finding anything. Then, and for all else, there is the script `exchange`.

use std::time::Duration;

use plba_tasks::queue::EndError;
use redis::{Cmd, Value, cmd, pipe};

use super::Inner;
use super::exchange::{MOST, Outcome, Step, Taking, Verb};
use super::place::{Place, Weight};
use super::receive::Receive;
use super::room::Room;
use crate::failure::{Failure, Kind};
use crate::record::Record;
use crate::reply::{self, Parts};

/// Both are sent as they are: a digest that a restarted server does not know would let the read pass.
const GATE: &str = concat!("#!lua flags=allow-oom\n", include_str!("../lua/gate.lua"));
const BACK: &str = concat!("#!lua flags=allow-oom\n", include_str!("../lua/back.lua"));

/// After an exchange that was something for the script, the next ones are, too, for so long.
pub(super) const REST: Duration = Duration::from_millis(50);

/// Acks that are alike in all that a script has to know.
struct Acks<'a> {
    steps: &'a [Step],
    places: Vec<Place<'a>>,
    named: bool,
}

impl<'a> Acks<'a> {
    fn of(steps: &'a [Step]) -> Option<Self> {
        if steps.is_empty() || steps.len() > MOST {
            return None;
        }
        let mut places: Vec<Place<'a>> = Vec::with_capacity(steps.len());
        for step in steps {
            let place = Place::of(&step.token)?;
            let simple = matches!(&step.verb, Verb::Ack(then) if then.is_empty())
                && place.stream == 2
                && place.member.is_none()
                && place.weight != Weight::Full;
            let alike = places
                .first()
                .is_none_or(|first| first.holder == place.holder && first.generation == place.generation);
            if !simple || !alike {
                return None;
            }
            places.push(place);
        }
        let named = places.iter().any(|place| place.weight == Weight::Named);
        Some(Self { steps, places, named })
    }

    fn gate(&self, holder: &str, keys: &[&str]) -> Cmd {
        let entry = |found: Option<&Place<'a>>| found.map_or("", |place| place.entry);
        let mut gate = Cmd::with_capacity(21 + 2 * self.steps.len(), GATE.len() + 64 * (8 + self.steps.len()));
        gate.arg("EVAL").arg(GATE).arg(keys.len()).arg(keys);
        gate.arg(self.places[0].generation)
            .arg(holder)
            .arg(holder.split('|').next())
            .arg(self.places.iter().map(|place| place.bytes).sum::<usize>())
            .arg(self.places.len())
            .arg(u8::from(self.named))
            .arg(entry(self.places.iter().min_by_key(|place| place.order())))
            .arg(entry(self.places.iter().max_by_key(|place| place.order())));
        for place in &self.places {
            gate.arg(place.entry);
        }
        if self.named {
            for step in self.steps {
                gate.arg(step.token.task.as_str());
            }
        }
        gate
    }
}

/// Acks and takes; `None` when this is something for the script: then nothing was done.
pub(super) async fn exchange(
    inner: &Inner,
    room: &Room,
    steps: &[Step],
    taking: &Taking,
) -> Result<Option<Outcome>, Failure> {
    if inner.shared.clock.is_some() || !room.flags().is_empty() || !room.is_native() {
        return Ok(None);
    }
    let Some(acks) = Acks::of(steps) else { return Ok(None) };
    let Some(holder) = inner.holders.name(acks.places[0].holder) else {
        return Ok(None);
    };
    let (number, taker) = inner.holders.number(&taking.consumer, inner.shared.settings.lease);
    let generation = acks.places[0].generation;
    let keys = room.keys();
    let away = format!("{}:away", keys[3]);
    let named = [3, 20, 21, 2, 4, 7, 8, 9, 22].map(|number: usize| keys[number].as_str());
    let gate = acks.gate(&holder, &[&named[..], &[away.as_str()][..]].concat());
    let mut read = cmd("XREADGROUP");
    read.arg("GROUP").arg(generation).arg(&*taker);
    read.arg("COUNT").arg(taking.most.clamp(1, MOST));
    read.arg("STREAMS").arg(&keys[3]).arg(">");
    let mut transaction = pipe();
    transaction
        .atomic()
        .add_command(gate)
        .add_command(read)
        .add_command(back(keys, &away));
    let answer = match inner.link.transact(&transaction).await {
        Ok(answer) => answer,
        Err(failure) if failure.kind == Kind::Broken => return Err(failure),
        // Nothing of it was done; the script will say why.
        Err(_) => return Ok(None),
    };
    let mut answers = Parts::new("exchange", answer)?;
    let gate = match answers.value()? {
        Value::ServerError(error) => return Err(redis::RedisError::from(error).into()),
        gate => gate,
    };
    let mut gate = Parts::new("exchange", gate)?;
    if gate.text()? != "ok" {
        room.rest();
        return Ok(None);
    }
    inner.note_time(&gate.text()?);
    let due = gate.text()?;
    let mut ended: Vec<_> = steps.iter().map(|step| (step.place, Ok(()))).collect();
    for lost in gate.list()?.iter().filter_map(reply::integer) {
        if let Some((_, result)) = usize::try_from(lost).ok().and_then(|lost| ended.get_mut(lost)) {
            *result = Err(EndError::LeaseLost);
        }
    }
    let entries = entries_of(answers.value()?);
    let mut outcome = Outcome {
        ended,
        taken: Vec::with_capacity(entries.len()),
        due: due.parse().ok().map(|due| inner.shared.until(due)),
        broken: Vec::new(),
    };
    let now = inner.shared.now().as_microsecond() as f64 / 1000.0;
    let mut receive = Receive {
        inner,
        room,
        holder: number,
        generation,
        outcome: &mut outcome,
    };
    for entry in entries {
        if let Some((entry, record)) = entry_of(entry) {
            receive.entry(2, &entry, record, "", now);
        }
    }
    Ok(Some(outcome))
}

/// Brings back a stream that was put away within a transaction.
pub(super) fn back(keys: &[String], away: &str) -> Cmd {
    let mut back = cmd("EVAL");
    back.arg(BACK).arg(3).arg(&keys[3]).arg(&keys[21]).arg(away);
    back
}

/// The entries of a read of one stream; none when it had none.
fn entries_of(answer: Value) -> Vec<Value> {
    let Value::Array(mut streams) = answer else {
        return Vec::new();
    };
    match streams.pop() {
        Some(Value::Array(mut stream)) => match stream.pop() {
            Some(Value::Array(entries)) => entries,
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

fn entry_of(value: Value) -> Option<(String, Record)> {
    let mut parts = Parts::new("exchange", value).ok()?;
    let entry = parts.text().ok()?;
    let mut fields = parts.list().ok()?;
    // What was written by something else has other fields, and is made a dead letter as it is.
    let record = match &fields[..] {
        [_, _] => Record::plain(reply::bytes(fields.pop()?)?),
        _ => Record::of_fields(fields),
    };
    Some((entry, record))
}
