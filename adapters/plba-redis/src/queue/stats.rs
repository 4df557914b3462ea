//! The counts of queues.

use std::time::Duration;

use futures_util::future::join_all;
use plba_tasks::queue::{QueueError, QueueStats};
use plba_tasks::task::QueueName;

use super::Inner;
use crate::record::timestamp;
use crate::reply::{self, Parts};
use crate::script::Script;

pub(super) async fn stats(inner: &Inner) -> Result<Vec<QueueStats>, QueueError> {
    let mut all = Vec::new();
    for names in inner.names().await?.chunks(50) {
        for stats in join_all(names.iter().map(|name| of_queue(inner, name))).await {
            all.push(stats?);
        }
    }
    Ok(all)
}

async fn of_queue(inner: &Inner, name: &QueueName) -> Result<QueueStats, QueueError> {
    let room = inner.room(name)?;
    let answer = inner
        .link
        .call(Script::Stats, room.keys(), &room.arguments(&inner.shared))
        .await?;
    let mut parts = Parts::new("stats", answer)?;
    inner.note_generation(&room, &parts.text()?);
    inner.note_time(&parts.text()?);
    let numbers: Vec<i64> = parts.list()?.iter().filter_map(reply::integer).collect();
    let number = |place: usize| numbers.get(place).copied().unwrap_or(0).max(0).unsigned_abs();
    let pause = parts.text()?;
    Ok(QueueStats {
        queue: name.to_string(),
        ready: number(0),
        delayed: number(1),
        held: number(2),
        leased: number(3),
        dead: number(4),
        bytes: number(5),
        published: number(6),
        acked: number(7),
        failed: number(8),
        lost: number(9),
        expired: number(10),
        dropped: number(11),
        oldest: numbers
            .get(12)
            .and_then(|oldest| u64::try_from(*oldest).ok())
            .map(Duration::from_micros),
        paused: !pause.is_empty(),
        paused_until: pause
            .parse::<f64>()
            .ok()
            .filter(|until| until.is_finite())
            .map(|until| timestamp(until * 1000.0)),
    })
}
