//! Consuming: taking what is ready, and waiting. Of those in this process that wait for one queue one looks, at intervals
//! and when it is told; the others follow one after the other when it has found something.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use plba_tasks::queue::presence::LOOK;
use plba_tasks::queue::{ConsumerId, Delivery, QueueError, QueueRules, is_late};
use plba_tasks::task::{QueueName, TaskId};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::super::fault::{Fault, Kind};
use super::super::pool::Value;
use super::gone::look_around;
use super::record::microseconds;
use super::room::{Floors, Room, add};
use super::token::{Held, random_fence};
use super::{Inner, decode, end};

/// For how long the table knows that consumers sleep here.
const SLEEPERS: Duration = Duration::from_secs(60);
/// The first look after falling asleep: a publisher may just not have known of it.
const SECOND_LOOK: Duration = Duration::from_millis(20);
/// A batch takes no more than this.
const MOST: usize = 10_000;

/// What a look gave.
pub(super) struct Look {
    pub(super) deliveries: Vec<Delivery>,
    /// Fences whose endings were sent along, and took effect.
    pub(super) ended: Vec<i64>,
    /// After how long to look again, if that is known.
    again: Option<Duration>,
    /// There were rows that can't be read; they are dead now.
    undecodable: bool,
}

pub(super) async fn consume(
    inner: &Arc<Inner>,
    queue: &QueueName,
    consumer: &ConsumerId,
    max: usize,
) -> Result<Vec<Delivery>, QueueError> {
    let room = inner.room(queue).await?;
    let holder = inner.holder(consumer).await?;
    look_around(inner);
    let look = look(inner, &room, holder, max, false).await?;
    if !look.deliveries.is_empty() {
        return Ok(look.deliveries);
    }
    let _lookout = room.lookout.lock().await;
    let mut wait = SECOND_LOOK;
    loop {
        // Told first, then looked: who publishes after the look knows that somebody sleeps.
        if inner.channel.is_some() && room.must_tell(SLEEPERS) {
            let values = [
                (&inner.now() as &(dyn tokio_postgres::types::ToSql + Sync), Type::INT8),
                (&room.number as _, Type::INT4),
                (&microseconds(SLEEPERS) as _, Type::INT8),
            ];
            if let Err(fault) = inner.verbs.query(&inner.texts.sleepers, &values).await {
                room.not_told();
                return Err(fault.into());
            }
            wait = SECOND_LOOK;
        }
        let look = self::look(inner, &room, holder, max, true).await?;
        if !look.deliveries.is_empty() {
            return Ok(look.deliveries);
        }
        if look.undecodable {
            continue;
        }
        look_around(inner);
        let mut pause = inner.settings.poll.min(LOOK).min(wait);
        if let Some(again) = look.again {
            pause = pause.min(again.max(Duration::from_millis(1)));
        }
        wait = Duration::MAX;
        tokio::select! {
            () = room.ready.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Takes what is ready. On a task of its own, so that a dropped caller's deliveries are given back.
async fn look(inner: &Arc<Inner>, room: &Arc<Room>, holder: i32, max: usize, everything: bool) -> Result<Look, Fault> {
    let (hand_over, handed_over) = oneshot::channel();
    let (of_task, room) = (Arc::clone(inner), Arc::clone(room));
    let asked = Instant::now();
    inner.target.executor().spawn(async move {
        let looked = take(&of_task, &room, holder, max, everything).await;
        if let Err(Ok(unwanted)) = hand_over.send(looked) {
            give_back(&of_task, unwanted.deliveries).await;
        }
    });
    let stopping = |_| Err(Fault::new(Kind::Later, "the workers' executor is shutting down"));
    let mut look = handed_over.await.unwrap_or_else(stopping)?;
    give_back_late(inner, asked, &mut look.deliveries);
    Ok(look)
}

/// When server, network or process stood still, leases may have run out on the way here: what is still ours comes again at once.
pub(super) fn give_back_late(inner: &Arc<Inner>, asked: Instant, deliveries: &mut Vec<Delivery>) {
    if is_late(asked.elapsed(), inner.settings.lease) {
        let (of_task, late) = (Arc::clone(inner), std::mem::take(deliveries));
        // Also for a caller that goes meanwhile.
        inner
            .target
            .executor()
            .spawn(async move { give_back(&of_task, late).await });
    }
}

/// Puts deliveries back where they were.
pub(super) async fn give_back(inner: &Arc<Inner>, deliveries: Vec<Delivery>) {
    if deliveries.is_empty() {
        return;
    }
    // From the back, so that the first one stands first again.
    let releases = deliveries.into_iter().rev().map(|delivery| delivery.token).collect();
    if let Err(error) = end::release(inner, releases).await {
        tracing::debug!(%error, "deliveries that nobody took wait for the end of their leases");
    }
}

async fn take(inner: &Arc<Inner>, room: &Arc<Room>, holder: i32, max: usize, everything: bool) -> Result<Look, Fault> {
    let request = Taking::new(inner, room, holder, max, everything);
    let now = inner.now();
    let mut values = vec![(&now as _, Type::INT8)];
    values.extend(request.values());
    let began = Instant::now();
    let rows = inner
        .verbs
        .query(&inner.texts.take, &values)
        .await
        .inspect_err(|_| room.forget())?;
    read(inner, room, &request, rows, began.elapsed()).await
}

/// The values of a statement that takes.
pub(super) struct Taking {
    queue: i32,
    holder: i32,
    fence: i64,
    max: i32,
    lease: i64,
    crashes: i32,
    floors: Floors,
    concurrency: Option<i32>,
    rate: (Option<i32>, Option<i64>),
    key_concurrency: Option<i32>,
    key_rate: (Option<i32>, Option<i64>),
}

impl Taking {
    pub(super) fn new(inner: &Inner, room: &Room, holder: i32, max: usize, everything: bool) -> Self {
        let number = |limit: u32| i32::try_from(limit).unwrap_or(i32::MAX);
        let QueueRules {
            concurrency,
            rate,
            key_concurrency,
            key_rate,
            ..
        } = inner.rules(&room.name);
        Self {
            queue: room.number,
            holder,
            fence: random_fence(),
            max: i32::try_from(max.clamp(1, MOST)).unwrap_or(1),
            lease: microseconds(inner.settings.lease),
            crashes: number(inner.settings.maximum_crashes),
            floors: room.floors(everything),
            concurrency: concurrency.map(number),
            rate: (
                rate.map(|rate| number(rate.count)),
                rate.map(|rate| microseconds(rate.per)),
            ),
            key_concurrency: key_concurrency.map(number),
            key_rate: (
                key_rate.map(|rate| number(rate.count)),
                key_rate.map(|rate| microseconds(rate.per)),
            ),
        }
    }

    pub(super) fn values(&self) -> [Value<'_>; 14] {
        [
            (&self.queue, Type::INT4),
            (&self.holder, Type::INT4),
            (&self.fence, Type::INT8),
            (&self.max, Type::INT4),
            (&self.lease, Type::INT8),
            (&self.crashes, Type::INT4),
            (&self.floors.places, Type::INT8_ARRAY),
            (&self.floors.backs, Type::BOOL),
            (&self.concurrency, Type::INT4),
            (&self.rate.0, Type::INT4),
            (&self.rate.1, Type::INT8),
            (&self.key_concurrency, Type::INT4),
            (&self.key_rate.0, Type::INT4),
            (&self.key_rate.1, Type::INT8),
        ]
    }
}

/// Reads what was taken. What can't be decoded is made a dead letter at once.
pub(super) async fn read(
    inner: &Arc<Inner>,
    room: &Arc<Room>,
    request: &Taking,
    rows: Vec<Row>,
    took: Duration,
) -> Result<Look, Fault> {
    let mut deliveries: Vec<(i64, Delivery)> = Vec::with_capacity(rows.len().saturating_sub(1));
    let (mut undecodable, mut ended, mut again, mut now) = (Vec::new(), Vec::new(), None, 0);
    let last = rows.last();
    if let Some(last) = last {
        again = last.try_get::<_, Option<i64>>(2)?;
        add(&room.counts.lost, count(last.try_get(3)?));
        add(&room.counts.expired, count(last.try_get(4)?));
        trim_if_due(inner, room, count(last.try_get(4)?) + count(last.try_get(5)?));
        now = last.try_get(6)?;
        ended = last.try_get::<_, Option<Vec<i64>>>(17)?.unwrap_or_default();
    }
    for row in &rows {
        let Some(place) = row.try_get::<_, Option<i64>>(0)? else {
            continue;
        };
        let id: &[u8] = row.try_get(1)?;
        let id = TaskId::from(decode::text(id));
        let held = Held {
            place,
            fence: row.try_get(16)?,
            locks: [row.try_get(8)?, row.try_get(9)?],
        };
        let token = held.token(room.name.clone(), id.clone());
        let due: i64 = row.try_get(2)?;
        match decode::task(row, &room.name, &id)? {
            Ok(task) => {
                let delivery = Delivery {
                    task: Arc::new(task),
                    token,
                    deliveries: number(row.try_get(3)?),
                    attempt: number(row.try_get(4)?).saturating_add(1),
                    waited: Duration::from_micros(u64::try_from(now - due).unwrap_or(0)),
                };
                deliveries.push((place, delivery));
            }
            Err(reason) => undecodable.push((token, reason)),
        }
    }
    deliveries.sort_by_key(|(place, _)| *place);
    let places = deliveries.iter().map(|(place, _)| *place);
    room.looked(request.floors.everything, took, places);
    let broken = !undecodable.is_empty();
    if broken {
        end::bury_undecodable(inner, undecodable).await?;
    }
    Ok(Look {
        deliveries: deliveries.into_iter().map(|(_, delivery)| delivery).collect(),
        ended,
        again: again.map(|again| Duration::from_micros(u64::try_from(again).unwrap_or(0))),
        undecodable: broken,
    })
}

fn number(count: i32) -> u32 {
    u32::try_from(count).unwrap_or(0)
}

fn count(count: i32) -> u64 {
    u64::from(number(count))
}

/// Looks whether there are too many dead letters, now and then.
pub(super) fn trim_if_due(inner: &Arc<Inner>, room: &Arc<Room>, more: u64) {
    if more == 0 {
        return;
    }
    let rules = inner.rules(&room.name);
    if room.buried(more, rules.dead_limit) {
        let (of_task, room) = (Arc::clone(inner), Arc::clone(room));
        inner.target.executor().spawn(async move {
            super::upkeep::trim(&of_task, &room, &rules).await;
        });
    }
}

/// A queue's count, for people.
pub(super) fn get(count: &std::sync::atomic::AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}
