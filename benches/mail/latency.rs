//! How long a delivered message takes to its handler, beside the moment at which the server tells a bare connection of it.
//! Dovecot takes half a second by itself, and tells its connections at different moments: so both run through a tap that
//! notes its word, and what is ours is what comes after the word on our own connection.

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
use crate::tap::{Sign, Tap};
use crate::{Link, Result};

const SAMPLES: usize = 100;

pub(crate) async fn measure(dovecot: &Dovecot) -> Result<()> {
    let (mut bare_tap, mut our_tap) = (Tap::on(dovecot.imap_port()).await?, Tap::on(dovecot.imap_port()).await?);
    let bare = Bare::open_at(dovecot, Link::Plain, bare_tap.port).await?;
    let waiting = tokio::spawn(bare.idle());
    let works = Works::start_at(dovecot, Link::Plain, our_tap.port, "since=now&mode=idle&mark=none").await?;
    let (starts, mut started) = unbounded_channel();
    let handler = Arc::new(Starts(starts));
    let team = Team::start(1, &works.queue, &clock(), handler, &TaskWorkerSettings::default()).await;
    let mut spans = Spans::default();
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
        bare_tap.forget();
        our_tap.forget();
        let began = Instant::now();
        dovecot.deliver(
            dovecot.user(),
            format!("Subject: {number}\r\n\r\n2 x ART-001\r\n").as_bytes(),
        )?;
        let limit = Duration::from_secs(10);
        let start = timeout(limit, started.recv()).await?.ok_or("no worker is left")?;
        let bare = timeout(limit, bare_tap.next(Sign::Exists)).await?;
        let bare = bare.ok_or("no bare connection")?;
        let [ours, done, body] = timeout(limit, moments(&mut our_tap))
            .await?
            .ok_or("no connection of ours")?;
        spans.bare.push(bare.saturating_duration_since(began));
        spans.ours.push(ours.saturating_duration_since(began));
        spans.whole.push(start.saturating_duration_since(began));
        spans.added.push(start.saturating_duration_since(ours));
        spans.asked.push(done.saturating_duration_since(ours));
        spans.answered.push(body.saturating_duration_since(done));
        spans.handed.push(start.saturating_duration_since(body));
    }
    waiting.abort();
    team.stop().await;
    works.stop().await?;
    spans.report()
}

/// One of each for every message.
#[derive(Default)]
struct Spans {
    /// From the delivery to the server's word on the bare connection,
    bare: Vec<Duration>,
    /// to its word on ours,
    ours: Vec<Duration>,
    /// and to the handler.
    whole: Vec<Duration>,
    /// From the word on ours to the handler,
    added: Vec<Duration>,
    /// of which until our end of the IDLE,
    asked: Vec<Duration>,
    /// until the server's answer with the body,
    answered: Vec<Duration>,
    /// and until the handler.
    handed: Vec<Duration>,
}

/// The server's word, our end of the IDLE, and the server's body.
async fn moments(tap: &mut Tap) -> Option<[Instant; 3]> {
    Some([
        tap.next(Sign::Exists).await?,
        tap.next(Sign::Done).await?,
        tap.next(Sign::Body).await?,
    ])
}

impl Spans {
    fn report(mut self) -> Result<()> {
        for (percent, name) in [(50, "p50"), (99, "p99")] {
            let bare = at(&mut self.bare, percent);
            for (what, spans) in [
                ("the server's EXISTS on our connection", &mut self.ours),
                ("the handler", &mut self.whole),
            ] {
                let value = at(spans, percent);
                Figure {
                    name: &format!("from the delivery to {what}, {name}"),
                    value,
                    unit: "ms",
                    good: Good::Low,
                    peer: "the server's EXISTS on a bare connection",
                    peer_value: bare,
                    ratio: value / bare,
                    goal: None,
                }
                .report()?;
            }
        }
        for (percent, name) in [(50, "p50"), (99, "p99")] {
            Figure {
                name: &format!("from the EXISTS on our connection to the handler, {name}"),
                value: at(&mut self.added, percent),
                unit: "ms",
                good: Good::Low,
                peer: "nothing",
                peer_value: 0.0,
                ratio: 1.0,
                goal: (percent == 99).then_some(Goal::Below(5.0)),
            }
            .report()?;
        }
        for (percent, name) in [(50, "p50"), (99, "p99")] {
            for (what, spans) in [
                ("the EXISTS to the end of our IDLE", &mut self.asked),
                ("the end of our IDLE to the server's body", &mut self.answered),
                ("the server's body to the handler", &mut self.handed),
            ] {
                Figure {
                    name: &format!("of that, from {what}, {name}"),
                    value: at(spans, percent),
                    unit: "ms",
                    good: Good::Low,
                    peer: "nothing",
                    peer_value: 0.0,
                    ratio: 1.0,
                    goal: None,
                }
                .report()?;
            }
        }
        Ok(())
    }
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
