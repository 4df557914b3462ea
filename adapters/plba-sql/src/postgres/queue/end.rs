//! Ending and extending deliveries. What several callers end at once is one statement; an exchange ends and takes in one.

use std::collections::HashSet;
use std::sync::Arc;

use plba_tasks::queue::{ConsumerId, Delivery, DeliveryToken, Effect, EndError, Ending, Exchange, How, QueueError};
use plba_tasks::task::{MAXIMUM_REASON, NewTask, QueueName};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_postgres::types::Type;

use super::super::fault::{Fault, Kind};
use super::super::pool::Value;
use super::combine::Weighed;
use super::consume::{self, Taking};
use super::record::{Columns, Record, locks_of, microseconds, sorted};
use super::room::{Room, add};
use super::{Inner, effects, publish};

type Outcome = Result<(), EndError>;

/// An ending without an effect, ready for a statement.
pub(super) struct Plain {
    pub(super) room: Arc<Room>,
    pub(super) place: i64,
    way: Way,
    delay: i64,
    reason: String,
    locks: Vec<i32>,
    then: Vec<Record>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Ack = 0,
    Failed = 1,
    Rejected = 2,
    GivenBack = 3,
    Undecodable = 4,
}

impl Plain {
    pub(super) fn ack(room: Arc<Room>, token: &DeliveryToken, mut then: Vec<Record>) -> Self {
        let place = token.fence.cast_signed();
        then.iter_mut().for_each(|record| record.owner = Some(place));
        Self {
            room,
            place,
            way: Way::Ack,
            delay: 0,
            reason: String::new(),
            locks: locks_of(token.place.as_deref()).collect(),
            then,
        }
    }

    fn other(room: Arc<Room>, token: &DeliveryToken, way: Way, delay: i64, reason: &str) -> Self {
        Self {
            way,
            delay,
            // PostgreSQL's texts hold every character but this one.
            reason: reason.replace('\0', "\u{fffd}"),
            ..Self::ack(room, token, Vec::new())
        }
    }
}

/// A caller's endings on their way, and where the answer goes.
pub(super) struct Request {
    plain: Vec<Plain>,
    answer: oneshot::Sender<Result<Vec<Outcome>, Fault>>,
}

impl Weighed for Request {
    fn rows(&self) -> usize {
        self.plain.iter().map(|plain| 1 + plain.then.len()).sum()
    }

    fn bytes(&self) -> usize {
        let bytes = |plain: &Plain| plain.reason.len() + 16 + plain.then.iter().map(Record::bytes).sum::<usize>();
        self.plain.iter().map(bytes).sum()
    }

    fn alone(&self) -> bool {
        false
    }
}

/// Endings sorted by what has to be done for them.
struct Sorted {
    outcomes: Vec<Outcome>,
    plain: Vec<Plain>,
    /// Where the plain ones stand in the call.
    places: Vec<usize>,
    effects: Vec<(usize, DeliveryToken, Effect, Vec<NewTask>)>,
}

async fn sort(inner: &Arc<Inner>, endings: Vec<Ending>) -> Result<Sorted, Fault> {
    let mut sorted = Sorted {
        outcomes: Vec::with_capacity(endings.len()),
        plain: Vec::with_capacity(endings.len()),
        places: Vec::with_capacity(endings.len()),
        effects: Vec::new(),
    };
    for (index, Ending { token, how }) in endings.into_iter().enumerate() {
        sorted.outcomes.push(Ok(()));
        let room = inner.room(&token.queue).await?;
        let plain = match how {
            How::Ack {
                effect: Some(effect),
                then,
            } => {
                sorted.effects.push((index, token, effect, then));
                continue;
            }
            How::Ack { effect: None, then } => match follow_ups(inner, then).await? {
                Ok(records) => Plain::ack(room, &token, records),
                Err(refused) => {
                    sorted.outcomes[index] = Err(refused);
                    continue;
                }
            },
            How::Nack { delay, reason } => {
                let reason = cut(&reason);
                Plain::other(room, &token, Way::Failed, microseconds(delay), &reason)
            }
            How::Bury { reason } => Plain::other(room, &token, Way::Rejected, 0, &reason),
            How::Release { delay } => Plain::other(room, &token, Way::GivenBack, microseconds(delay), ""),
        };
        sorted.places.push(index);
        sorted.plain.push(plain);
    }
    Ok(sorted)
}

/// A reason as histories keep it.
fn cut(reason: &str) -> String {
    let end = reason.floor_char_boundary(MAXIMUM_REASON);
    reason[..end].to_owned()
}

/// Follow-ups as records; refused as a whole if one of them is.
pub(super) async fn follow_ups(inner: &Inner, then: Vec<NewTask>) -> Result<Result<Vec<Record>, EndError>, Fault> {
    let mut records = Vec::with_capacity(then.len());
    for task in then {
        if let Err(reason) = inner.check(&task) {
            let text = format!(
                "task \"{}\" for queue \"{}\" can't be published: {reason}",
                task.kind, task.queue
            );
            return Ok(Err(EndError::Refused(text)));
        }
        let room = inner.room(&task.queue).await?;
        records.push(Record::new(task, room.number, || inner.make_id()));
    }
    Ok(Ok(records))
}

pub(super) async fn end(inner: &Arc<Inner>, endings: Vec<Ending>) -> Result<Vec<Outcome>, QueueError> {
    let Sorted {
        mut outcomes,
        plain,
        places,
        effects,
    } = sort(inner, endings).await?;
    // Effects first and by themselves: each is a transaction of its own, and none keeps the others waiting.
    let (ended, done) = tokio::join!(submit(inner, plain), effects::run_all(inner, effects));
    for (index, outcome) in done {
        outcomes[index] = outcome;
    }
    fill_in(&mut outcomes, places, ended);
    Ok(outcomes)
}

/// Puts the outcomes of plain endings in their places. What could not be reached is told for each of them.
fn fill_in(outcomes: &mut [Outcome], places: Vec<usize>, ended: Result<Vec<Outcome>, Fault>) {
    match ended {
        Ok(ended) => {
            for (place, outcome) in places.into_iter().zip(ended) {
                outcomes[place] = outcome;
            }
        }
        Err(fault) => {
            for place in places {
                outcomes[place] = Err(EndError::Queue(fault.again().into()));
            }
        }
    }
}

/// Sends endings, together with others that are sent now. Dropped, each has taken effect or has not.
async fn submit(inner: &Arc<Inner>, plain: Vec<Plain>) -> Result<Vec<Outcome>, Fault> {
    if plain.is_empty() {
        return Ok(Vec::new());
    }
    let (answer, answered) = oneshot::channel();
    if let Some(flight) = inner.ends.submit(Request { plain, answer }) {
        flight.hand_over();
        let inner = Arc::clone(inner);
        inner.target.executor().clone().spawn(async move {
            let mut flight = inner.ends.resume();
            loop {
                let batch = flight.next();
                if batch.is_empty() {
                    return;
                }
                fly(&inner, batch).await;
            }
        });
    }
    let stopping = |_| Err(Fault::new(Kind::Later, "the workers' executor is shutting down"));
    answered.await.unwrap_or_else(stopping)
}

async fn fly(inner: &Arc<Inner>, batch: Vec<Request>) {
    let all = each_once(batch.iter().flat_map(|request| &request.plain));
    let sent = send(inner, &all, false).await;
    let mut ended = match sent {
        Ok(ended) => ended,
        // What one caller's follow-ups are refused for is none of the others' fault.
        Err(fault) if fault.kind == Kind::Statement && batch.len() > 1 => {
            for request in batch {
                let alone = each_once(&request.plain);
                let outcome = send(inner, &alone, false).await;
                let outcome = outcome.map(|mut ended| outcomes(inner, &request.plain, &mut ended));
                let _dropped = request.answer.send(outcome);
            }
            return;
        }
        Err(fault) => {
            for request in batch {
                let _dropped = request.answer.send(Err(fault.again()));
            }
            return;
        }
    };
    for request in batch {
        let outcome = outcomes(inner, &request.plain, &mut ended);
        let _dropped = request.answer.send(Ok(outcome));
    }
}

/// Of several endings of one delivery the first one holds; the others find the lease lost.
fn each_once<'a>(endings: impl IntoIterator<Item = &'a Plain>) -> Vec<&'a Plain> {
    let mut seen = HashSet::new();
    endings.into_iter().filter(|plain| seen.insert(plain.place)).collect()
}

/// The values of a statement that ends.
pub(super) struct Ends {
    now: Option<i64>,
    channel: Option<String>,
    locks: Option<Vec<i32>>,
    held: bool,
    acks: (Vec<i32>, Vec<i64>),
    others: Option<Others>,
}

#[derive(Default)]
struct Others {
    queues: Vec<i32>,
    places: Vec<i64>,
    ways: Vec<i16>,
    delays: Vec<i64>,
    reasons: Vec<String>,
}

const NO_QUEUES: Option<Vec<i32>> = None;
const NO_PLACES: Option<Vec<i64>> = None;
const NO_WAYS: Option<Vec<i16>> = None;
const NO_REASONS: Option<Vec<String>> = None;

impl Ends {
    pub(super) fn new(inner: &Inner, endings: &[&Plain], held: bool) -> Self {
        let mut ends = Self {
            now: inner.now(),
            channel: inner.channel.clone(),
            locks: None,
            held,
            acks: (Vec::with_capacity(endings.len()), Vec::with_capacity(endings.len())),
            others: None,
        };
        let mut locks = Vec::new();
        for plain in endings {
            locks.extend_from_slice(&plain.locks);
            locks.extend(plain.then.iter().flat_map(Record::locks));
            if plain.way == Way::Ack {
                ends.acks.0.push(plain.room.number);
                ends.acks.1.push(plain.place);
                continue;
            }
            let others = ends.others.get_or_insert_default();
            others.queues.push(plain.room.number);
            others.places.push(plain.place);
            others.ways.push(plain.way as i16);
            others.delays.push(plain.delay);
            others.reasons.push(plain.reason.clone());
        }
        ends.locks = sorted(locks);
        ends
    }

    pub(super) fn values(&self) -> [Value<'_>; 11] {
        let others: [Value<'_>; 5] = match &self.others {
            Some(others) => [
                (&others.queues, Type::INT4_ARRAY),
                (&others.places, Type::INT8_ARRAY),
                (&others.ways, Type::INT2_ARRAY),
                (&others.delays, Type::INT8_ARRAY),
                (&others.reasons, Type::TEXT_ARRAY),
            ],
            None => [
                (&NO_QUEUES, Type::INT4_ARRAY),
                (&NO_PLACES, Type::INT8_ARRAY),
                (&NO_WAYS, Type::INT2_ARRAY),
                (&NO_PLACES, Type::INT8_ARRAY),
                (&NO_REASONS, Type::TEXT_ARRAY),
            ],
        };
        let [queues, places, ways, delays, reasons] = others;
        [
            (&self.now, Type::INT8),
            (&self.channel, Type::TEXT),
            (&self.locks, Type::INT4_ARRAY),
            (&self.held, Type::BOOL),
            (&self.acks.0, Type::INT4_ARRAY),
            (&self.acks.1, Type::INT8_ARRAY),
            queues,
            places,
            ways,
            delays,
            reasons,
        ]
    }
}

/// The follow-ups of endings.
pub(super) fn records<'a>(endings: &[&'a Plain]) -> impl Iterator<Item = &'a Record> {
    endings.iter().copied().flat_map(|plain| plain.then.iter())
}

/// One statement for endings; gives the places that had ended with it.
async fn send(inner: &Inner, endings: &[&Plain], held: bool) -> Result<HashSet<i64>, Fault> {
    let ends = Ends::new(inner, endings, held);
    let mut values = ends.values().to_vec();
    let columns = Columns::new(records(endings));
    let follow = records(endings).next().is_some();
    if follow {
        values.extend(columns.values());
    }
    let text = if follow {
        &inner.texts.end_publish
    } else {
        &inner.texts.end
    };
    let rows = inner.verbs.query(text, &values).await?;
    let ended: Option<Vec<i64>> = rows.first().map(|row| row.try_get(0)).transpose()?.flatten();
    Ok(ended.unwrap_or_default().into_iter().collect())
}

/// What became of one caller's endings; counts them, and wakes who waits for what they changed.
pub(super) fn outcomes(inner: &Arc<Inner>, endings: &[Plain], ended: &mut HashSet<i64>) -> Vec<Outcome> {
    let mut outcomes = Vec::with_capacity(endings.len());
    for plain in endings {
        // Each place once: of two endings of one delivery the first one holds.
        if !ended.remove(&plain.place) {
            outcomes.push(Err(EndError::LeaseLost));
            continue;
        }
        let room = &plain.room;
        match plain.way {
            Way::Ack => {
                add(&room.counts.acked, 1);
                room.space.notify_one();
                publish::note(inner, &plain.then);
            }
            Way::Failed => add(&room.counts.failed, 1),
            Way::Rejected | Way::Undecodable => {
                add(&room.counts.failed, 1);
                room.space.notify_one();
                consume::trim_if_due(inner, room, 1);
            }
            Way::GivenBack => {}
        }
        // An ack lets others come where leases are counted, or where the key's next waits.
        let lets_in =
            plain.way != Way::Ack || !plain.locks.is_empty() || plain.place < super::schema::Region::High.start();
        let rules = lets_in || {
            let rules = inner.rules(&room.name);
            rules.concurrency.is_some() || rules.key_concurrency.is_some()
        };
        if rules {
            room.ready.notify_one();
        }
        outcomes.push(Ok(()));
    }
    outcomes
}

/// Gives deliveries back as if they had never been made.
pub(super) async fn release(inner: &Arc<Inner>, tokens: Vec<DeliveryToken>) -> Result<(), Fault> {
    let mut plain = Vec::with_capacity(tokens.len());
    for token in tokens {
        plain.push(Plain::other(
            inner.room(&token.queue).await?,
            &token,
            Way::GivenBack,
            0,
            "",
        ));
    }
    submit(inner, plain).await.map(drop)
}

/// Gives one delivery back for a moment: what stood in its way is over then.
pub(super) async fn give_back_for(inner: &Arc<Inner>, token: &DeliveryToken, delay: i64) -> Result<(), Fault> {
    let plain = Plain::other(inner.room(&token.queue).await?, token, Way::GivenBack, delay, "");
    submit(inner, vec![plain]).await.map(drop)
}

/// Makes dead letters of what can't be read.
pub(super) async fn bury_undecodable(inner: &Arc<Inner>, broken: Vec<(DeliveryToken, String)>) -> Result<(), Fault> {
    let mut plain = Vec::with_capacity(broken.len());
    for (token, reason) in broken {
        tracing::warn!(task = %token.task, queue = %token.queue, reason, "a task can't be decoded: it is a dead letter now");
        let room = inner.room(&token.queue).await?;
        plain.push(Plain::other(room, &token, Way::Undecodable, 0, &reason));
    }
    submit(inner, plain).await.map(drop)
}

pub(super) async fn exchange(
    inner: &Arc<Inner>,
    endings: Vec<Ending>,
    queue: &QueueName,
    consumer: &ConsumerId,
    max: usize,
) -> Exchange {
    let both = |fault: Fault| Exchange {
        ended: Err(fault.again().into()),
        taken: Err(fault.into()),
    };
    let sorted = match sort(inner, endings).await {
        Ok(sorted) => sorted,
        Err(fault) => return both(fault),
    };
    let Sorted {
        mut outcomes,
        plain,
        places,
        effects,
    } = sorted;
    if max == 0 {
        let (ended, done) = tokio::join!(submit(inner, plain), effects::run_all(inner, effects));
        fill_in(&mut outcomes, places, ended);
        done.into_iter().for_each(|(index, outcome)| outcomes[index] = outcome);
        return Exchange {
            ended: Ok(outcomes),
            taken: Ok(Vec::new()),
        };
    }
    let prepared = async { Ok((inner.room(queue).await?, inner.holder(consumer).await?)) };
    let (room, holder) = match prepared.await {
        Ok(prepared) => prepared,
        Err(fault) => return both(fault),
    };
    let (exchanged, done) = tokio::join!(swap(inner, plain, room, holder, max), effects::run_all(inner, effects));
    done.into_iter().for_each(|(index, outcome)| outcomes[index] = outcome);
    match exchanged {
        Ok((ended, taken)) => {
            fill_in(&mut outcomes, places, Ok(ended));
            Exchange {
                ended: Ok(outcomes),
                taken: Ok(taken),
            }
        }
        Err(fault) => {
            let taken = Err(fault.again().into());
            fill_in(&mut outcomes, places, Err(fault));
            Exchange {
                ended: Ok(outcomes),
                taken,
            }
        }
    }
}

/// Ends and takes in one statement, on a task of its own: a dropped caller's deliveries are given back.
async fn swap(
    inner: &Arc<Inner>,
    plain: Vec<Plain>,
    room: Arc<Room>,
    holder: i32,
    max: usize,
) -> Result<(Vec<Outcome>, Vec<Delivery>), Fault> {
    let (hand_over, handed_over) = oneshot::channel();
    let of_task = Arc::clone(inner);
    inner.target.executor().spawn(async move {
        let swapped = swap_now(&of_task, &plain, &room, holder, max).await;
        if let Err(Ok((_, unwanted))) = hand_over.send(swapped) {
            consume::give_back(&of_task, unwanted).await;
        }
    });
    let stopping = |_| Err(Fault::new(Kind::Later, "the workers' executor is shutting down"));
    handed_over.await.unwrap_or_else(stopping)
}

async fn swap_now(
    inner: &Arc<Inner>,
    plain: &[Plain],
    room: &Arc<Room>,
    holder: i32,
    max: usize,
) -> Result<(Vec<Outcome>, Vec<Delivery>), Fault> {
    let endings = each_once(plain);
    let taking = Taking::new(inner, room, holder, max, false);
    let ends = Ends::new(inner, &endings, false);
    let columns = Columns::new(records(&endings));
    let follow = records(&endings).next().is_some();
    let now = inner.now();
    let mut values: Vec<Value<'_>> = Vec::with_capacity(42);
    let text = if endings.is_empty() {
        values.push((&now, Type::INT8));
        &inner.texts.take
    } else {
        values.extend(ends.values());
        if follow {
            values.extend(columns.values());
            &inner.texts.end_publish_take
        } else {
            &inner.texts.end_take
        }
    };
    values.extend(taking.values());
    let began = Instant::now();
    let rows = inner.verbs.query(text, &values).await.inspect_err(|_| room.forget())?;
    let look = consume::read(inner, room, &taking, rows, began.elapsed()).await?;
    let mut ended = look.ended.into_iter().collect();
    Ok((outcomes(inner, plain, &mut ended), look.deliveries))
}

pub(super) async fn extend(inner: &Arc<Inner>, tokens: &[DeliveryToken]) -> Result<Vec<Outcome>, QueueError> {
    let mut queues: Vec<i32> = Vec::with_capacity(1);
    let mut places = Vec::with_capacity(tokens.len());
    for token in tokens {
        let number = inner.room(&token.queue).await?.number;
        if !queues.contains(&number) {
            queues.push(number);
        }
        places.push(token.fence.cast_signed());
    }
    if places.is_empty() {
        return Ok(Vec::new());
    }
    places.sort_unstable();
    let (now, lease) = (inner.now(), microseconds(inner.settings.lease));
    let values = [
        (&now as _, Type::INT8),
        (&queues as _, Type::INT4_ARRAY),
        (&places as _, Type::INT8_ARRAY),
        (&lease as _, Type::INT8),
    ];
    let rows = inner.leases.query(&inner.texts.extend, &values).await?;
    let held: Vec<i64> = match rows.first() {
        Some(row) => row.try_get(0).map_err(Fault::from)?,
        None => Vec::new(),
    };
    let held: HashSet<i64> = held.into_iter().collect();
    let outcome = |token: &DeliveryToken| {
        let holds = held.contains(&token.fence.cast_signed());
        holds.then_some(()).ok_or(EndError::LeaseLost)
    };
    Ok(tokens.iter().map(outcome).collect())
}
