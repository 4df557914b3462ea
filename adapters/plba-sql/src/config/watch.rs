//! Watching a database until there is news, through outages. How one is looked at is the database's.

use std::future::Future;
use std::time::Duration;

use plba_net::{Backoff, BackoffSettings};
use tokio::select;
use tokio::time::Instant;

use super::news::News;

/// The pauses between looks at a database that can't be looked at.
const OUTAGE: BackoffSettings = BackoffSettings {
    first: Duration::from_millis(250),
    ceiling: Duration::from_secs(30),
    jitter: 0.5,
    stable_after: Duration::from_secs(10),
};

/// What a look costs at least, whoever begins to watch anew again and again.
const PACE: Duration = Duration::from_millis(250);

/// Looks at one database.
pub(crate) trait Eye: Send {
    /// Marks contents: equal for equal ones.
    type Mark: PartialEq + Send;
    /// Why nothing can be seen, in one sentence.
    type Blindness: std::fmt::Display + Send;

    /// Looks, and opens what it needs for that. A call that is dropped leaves the eye as good as it was.
    fn look(&mut self) -> impl Future<Output = Result<Self::Mark, Self::Blindness>> + Send;

    /// Waits until this time at most for a sign of a change.
    fn wait(&mut self, until: Instant) -> impl Future<Output = ()> + Send;

    /// How long to wait for a sign before looking all the same.
    fn interval(&self) -> Duration;
}

/// What watching remembers from call to call.
pub(crate) struct Watcher<E> {
    eye: E,
    /// When to look next, whatever happens.
    due: Instant,
    blind: bool,
    outage: Backoff,
}

impl<E: Eye> Watcher<E> {
    pub(crate) fn new(eye: E) -> Self {
        Self {
            eye,
            due: Instant::now(),
            blind: false,
            outage: Backoff::new(OUTAGE, fastrand::Rng::new()),
        }
    }

    /// Waits until there is news to tell. A dropped call loses none: what was loaded is compared with what is there.
    pub(crate) async fn watch(&mut self, news: &News<E::Mark>, database: &str) {
        loop {
            self.wait(news).await;
            let began = Instant::now();
            self.due = began + PACE;
            match self.eye.look().await {
                Ok(mark) => {
                    if std::mem::take(&mut self.blind) {
                        tracing::info!(database, "the configuration in the database can be read again");
                    }
                    self.outage.connected(began.into_std());
                    self.due = Instant::now() + self.eye.interval();
                    if news.tell(mark, Instant::now()) {
                        return;
                    }
                }
                Err(fault) => {
                    if !std::mem::replace(&mut self.blind, true) {
                        tracing::warn!(
                            database,
                            error = %fault,
                            "the configuration in the database can't be read now: what was read before holds, and it is tried again"
                        );
                    }
                    let now = Instant::now();
                    self.due = now + self.outage.failed(now.into_std());
                }
            }
        }
    }

    /// Waits until it is time to look.
    async fn wait(&mut self, news: &News<E::Mark>) {
        let now = Instant::now();
        if self.blind {
            // Its pace is the back-off's.
            return tokio::time::sleep_until(self.due).await;
        }
        let due = news.due(now).map_or(self.due, |owed| owed.min(self.due));
        if due > now {
            select! {
                () = self.eye.wait(due) => {}
                () = news.stir.notified() => {}
            }
            // Who is dropped from here on has not looked.
            self.due = Instant::now();
        }
    }
}
