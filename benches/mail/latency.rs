//! How long a delivered message takes to its handler, beside the moment at which the server tells a bare connection of it.
//! Dovecot takes half a second by itself, which is none of ours: what counts is what comes after its word.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use plba_benches::report::{Figure, Goal, Good};
use plba_benches::team::Team;
use plba_mail::imap::ConnectionState;
use plba_tasks::handler::{HandlerError, Outcome, TaskContext, TaskHandler};
use plba_tasks::task::Task;
use plba_tasks::worker::TaskWorkerSettings;
use plba_testservers::Dovecot;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::time::timeout;

use crate::bare::Bare;
use crate::ours::{Works, clock};
use crate::{Link, Result};

const SAMPLES: usize = 30;

pub(crate) async fn measure(dovecot: &Dovecot) -> Result<()> {
    let (exists, mut told) = unbounded_channel();
    let bare = Bare::open(dovecot, Link::Plain).await?;
    let waiting = tokio::spawn(bare.idle(move |at| {
        // Nobody listens any more at the end.
        let _ = exists.send(at);
    }));
    let works = Works::start(dovecot, Link::Plain, "since=now&mode=idle&mark=none").await?;
    let (starts, mut started) = unbounded_channel();
    let handler = Arc::new(Starts(starts));
    let team = Team::start(1, &works.queue, &clock(), handler, &TaskWorkerSettings::default()).await;
    let (mut whole, mut servers, mut ours) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..SAMPLES {
        while works
            .source
            .connection()
            .is_none_or(|shown| shown.state != ConnectionState::Idle)
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // Both connections have been told of the last message; Dovecot looks again half a second later at the earliest.
        tokio::time::sleep(Duration::from_millis(800)).await;
        while told.try_recv().is_ok() {}
        let began = Instant::now();
        dovecot.deliver(
            dovecot.user(),
            format!("Subject: {number}\r\n\r\n2 x ART-001\r\n").as_bytes(),
        )?;
        let limit = Duration::from_secs(10);
        let told = timeout(limit, told.recv()).await?.ok_or("the bare connection ended")?;
        let start = timeout(limit, started.recv()).await?.ok_or("no worker is left")?;
        whole.push(start.saturating_duration_since(began));
        servers.push(told.saturating_duration_since(began));
        ours.push(start.saturating_duration_since(told));
    }
    waiting.abort();
    team.stop().await;
    works.stop().await?;
    for (percent, name) in [(50, "p50"), (99, "p99")] {
        let (value, peer_value) = (at(&mut whole, percent), at(&mut servers, percent));
        Figure {
            name: &format!("from the delivery to the handler, {name}"),
            value,
            unit: "ms",
            good: Good::Low,
            peer: "the server's EXISTS on a bare connection",
            peer_value,
            ratio: value / peer_value,
            goal: None,
        }
        .report()?;
    }
    for (percent, name) in [(50, "p50"), (99, "p99")] {
        let value = at(&mut ours, percent);
        Figure {
            name: &format!("from the server's EXISTS to the handler, {name}"),
            value,
            unit: "ms",
            good: Good::Low,
            peer: "nothing",
            peer_value: 0.0,
            ratio: 1.0,
            goal: (percent == 99).then_some(Goal::Below(5.0)),
        }
        .report()?;
    }
    Ok(())
}

fn at(spans: &mut [Duration], percent: usize) -> f64 {
    spans.sort_unstable();
    let place = (spans.len() * percent).div_ceil(100).saturating_sub(1);
    spans[place].as_secs_f64() * 1_000.0
}

/// Tells when it was called.
struct Starts(UnboundedSender<Instant>);

#[async_trait]
impl TaskHandler for Starts {
    async fn handle(&self, _task: &Task, _context: &TaskContext) -> std::result::Result<Outcome, HandlerError> {
        self.0.send(Instant::now())?;
        Ok(Outcome::done())
    }
}
