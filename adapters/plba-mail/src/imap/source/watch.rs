//! Between two looks: by the clock, or by IDLE until the server says something. Completions are marked meanwhile, and a
//! stop ends every wait at once.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::Fault;
use super::shift::{Open, Shift};
use super::status::ConnectionState;
use crate::imap::{ImapError, Notice};
use crate::location::Watch;

/// How long a polled connection is left without a command: servers close idle ones after 30 min, and some routers sooner.
const PULSE: Duration = Duration::from_secs(300);

/// The least time between looks that nothing new led to: flags that somebody else sets, numbers that are repeated.
const STIR: Duration = Duration::from_secs(1);

/// How many looks in a row that found nothing an announced arrival may lead to at once.
pub(super) const FUTILE: u32 = 3;

/// How a wait ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// It is time to look.
    Over,
    /// The source has been told to stop.
    Stop,
}

/// Why an IDLE ends.
enum Woken {
    Look,
    Reissue,
    Ended,
    Completions(Vec<Arc<str>>),
    Stop,
}

impl Shift<'_> {
    /// How a connection's server is listened to; `None` for polling.
    pub(super) fn agree_on_watch(&mut self, open: &mut Open) {
        let Watch::Idle { .. } = self.source.location.watch else {
            self.source.shown.opened("polling".into());
            return;
        };
        let able = open.session.can("IDLE");
        self.source.shown.opened("idle".into());
        open.idles = able;
        if able {
            self.fallback = None;
        } else {
            self.fall_back("the server does not offer IDLE");
        }
    }

    /// Says why there is no IDLE, once for each reason.
    fn fall_back(&mut self, reason: &str) {
        let source = self.source;
        source.shown.mode(format!("polling: {reason}"));
        if self.fallback.as_deref() != Some(reason) {
            let interval = source.location.common.interval.as_secs_f64();
            warn!(
                source = source.name,
                "polling every {interval} s instead of IDLE: {reason}"
            );
            self.fallback = Some(reason.to_owned());
        }
    }

    /// Waits for the next look, or the stop.
    pub(super) async fn rest(&mut self, open: &mut Open) -> Result<Rest, Fault> {
        match self.source.location.watch {
            Watch::Idle { longest, safety } if open.idles => self.idle(open, longest, safety).await,
            _ => self.poll(open).await,
        }
    }

    async fn poll(&mut self, open: &mut Open) -> Result<Rest, Fault> {
        let (source, stop) = (self.source, self.stop);
        let next = Instant::now() + source.location.common.interval;
        source.shown.state(ConnectionState::Waiting);
        loop {
            let pulse = next.min(Instant::now() + PULSE);
            tokio::select! {
                biased;
                () = stop.requested() => {
                    let keys = self.completions.take_now();
                    self.tell(open, keys).await?;
                    return Ok(Rest::Stop);
                }
                keys = self.completions.next() => {
                    self.tell(open, keys).await?;
                }
                () = source.board.woken() => return Ok(Rest::Over),
                () = sleep_until(pulse), if pulse == next => return Ok(Rest::Over),
                () = sleep_until(pulse) => open.session.noop().await?,
            }
        }
    }

    /// Waits by IDLE, issued anew after `longest`, for news or for `safety` to pass.
    ///
    /// No message slips through: whatever arrives after the last search began shows as an arrival, be it in the answers
    /// since, before the server agrees to IDLE, or after; and what is announced while completions are marked shows in
    /// the answers to that.
    async fn idle(&mut self, open: &mut Open, longest: Duration, safety: Duration) -> Result<Rest, Fault> {
        let looked = Instant::now();
        let mut due = looked + safety;
        loop {
            due = self.due(open, looked, due);
            if due <= Instant::now() {
                return Ok(Rest::Over);
            }
            match open.session.idle_start().await {
                Err(error @ (ImapError::Refused { .. } | ImapError::Unsupported { .. })) => {
                    open.idles = false;
                    self.fall_back(&error.to_string());
                    return self.poll(open).await;
                }
                begun => begun?,
            }
            self.source.shown.idling(self.source.board.now());
            let begun = Instant::now();
            let woken = self.listen(open, longest, looked, due).await?;
            match self.glimpse_from(open).filter(|_| matches!(woken, Woken::Look)) {
                Some(first) => self.glimpse(open, first).await?,
                None => open.session.idle_end().await?,
            }
            self.source.shown.state(ConnectionState::Working);
            match woken {
                Woken::Look => return Ok(Rest::Over),
                Woken::Ended if begun.elapsed() < STIR => {
                    open.idles = false;
                    self.fall_back("the server ends each IDLE at once");
                    return self.poll(open).await;
                }
                Woken::Reissue | Woken::Ended => self.source.shown.reissued(),
                Woken::Completions(keys) => {
                    self.tell(open, keys).await?;
                }
                Woken::Stop => {
                    let keys = self.completions.take_now();
                    self.tell(open, keys).await?;
                    return Ok(Rest::Stop);
                }
            }
        }
    }

    /// One IDLE, from the server's agreement to the reason to end it.
    async fn listen(
        &mut self,
        open: &mut Open,
        longest: Duration,
        looked: Instant,
        mut due: Instant,
    ) -> Result<Woken, Fault> {
        let stop = self.stop;
        let reissue = Instant::now() + longest;
        let interval = self.source.location.common.interval;
        let mut ask = Instant::now() + interval;
        loop {
            due = self.due(open, looked, due);
            if due <= Instant::now() {
                // A timer, even one that is due, would fire a millisecond or two later.
                return Ok(Woken::Look);
            }
            // What is heard comes last, so that a server that never falls silent can't put off the rest.
            tokio::select! {
                biased;
                () = stop.requested() => return Ok(Woken::Stop),
                () = self.source.board.woken() => return Ok(Woken::Look),
                () = sleep_until(due) => return Ok(Woken::Look),
                () = sleep_until(reissue) => return Ok(Woken::Reissue),
                // Of a dead letter that an operator retries the ledger knows, and not the server.
                () = sleep_until(ask) => {
                    if !self.intake.pending(1).await?.is_empty() {
                        return Ok(Woken::Look);
                    }
                    ask = Instant::now() + interval;
                }
                keys = self.completions.next() => return Ok(Woken::Completions(keys)),
                notice = open.session.idle_notice(longest) => match notice? {
                    Notice::Stirred => {
                        self.source.shown.noticed();
                        due = due.min(looked + STIR);
                    }
                    Notice::Ended => return Ok(Woken::Ended),
                },
            }
        }
    }

    /// When to look next: at once after an arrival, unless a server announces arrivals that no search finds.
    fn due(&self, open: &Open, looked: Instant, due: Instant) -> Instant {
        match open.session.has_arrivals() {
            true if self.futile < FUTILE => Instant::now().min(due),
            true => due.min(looked + STIR),
            false => due,
        }
    }

    pub(super) fn greet(&self) {
        let status = self.source.shown.snapshot();
        info!(source = self.source.name, mode = status.mode, "connected");
    }
}
