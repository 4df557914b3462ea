//! Whether what stands in the database now was loaded already. Knows neither databases nor a clock: marks of contents and
//! the time are told.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use plba_contracts::config::ProvidedValue;
use plba_net::{Backoff, BackoffSettings};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::layer::{LayerError, Row, layer};

/// How soon and how rarely a change is told again that nobody could load.
const AGAIN: BackoffSettings = BackoffSettings {
    first: Duration::from_secs(1),
    ceiling: Duration::from_secs(60),
    jitter: 0.5,
    stable_after: Duration::from_secs(3_600),
};

/// What was loaded, and what somebody was told of. `M` marks contents: equal for equal ones.
pub(crate) struct News<M> {
    state: Mutex<State<M>>,
    /// Wakes who watches, when a load has failed.
    pub(super) stir: Notify,
}

struct State<M> {
    /// What was last loaded, or refused for what it is.
    loaded: Option<M>,
    /// Whether a layer was ever loaded.
    known: bool,
    /// A load has failed, or was asked for and has not come.
    owed: bool,
    /// What was told of since.
    told: Option<M>,
    /// From when on the same may be told again.
    again: Instant,
    pause: Backoff,
}

impl<M: PartialEq> News<M> {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                loaded: None,
                known: false,
                owed: false,
                told: None,
                again: Instant::now(),
                pause: Backoff::new(AGAIN, fastrand::Rng::new()),
            }),
            stir: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State<M>> {
        // Each change of it is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A load begins: until it says otherwise, it has failed.
    pub(crate) fn loading(&self) -> Loading<'_, M> {
        Loading {
            news: self,
            over: false,
        }
    }

    /// Whether a layer was ever loaded: then the table was there.
    pub(crate) fn is_known(&self) -> bool {
        self.state().known
    }

    /// Whether somebody is to be told, which then counts as done: these contents were not loaded, or a load is owed. The same
    /// is told again with growing pauses only, until a load succeeds.
    pub(crate) fn tell(&self, found: M, now: Instant) -> bool {
        let mut state = self.state();
        let found = Some(found);
        if !state.owed && state.loaded == found {
            return false;
        }
        if state.told == found && now < state.again {
            return false;
        }
        state.told = found;
        state.owed = true;
        state.again = now + state.pause.failed(now.into_std());
        true
    }

    /// When there may be something to tell although nothing changes.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        let state = self.state();
        state.owed.then(|| if state.told.is_some() { state.again } else { now })
    }
}

/// A load that goes on. Dropped, it has failed: what stands in the database is to be told of once it can be read.
pub(crate) struct Loading<'a, M: PartialEq> {
    news: &'a News<M>,
    over: bool,
}

impl<M: PartialEq> Loading<'_, M> {
    /// The layer of the contents with this mark, which ends the load one way or the other.
    ///
    /// # Errors
    /// As [`layer`].
    pub(crate) fn layer(self, mark: M, rows: Vec<Row>) -> Result<Vec<ProvidedValue>, LayerError> {
        let layer = layer(rows);
        match &layer {
            Ok(_) => self.done(mark),
            Err(_) => self.refused(mark),
        }
        layer
    }

    /// Contents with this mark were loaded.
    pub(super) fn done(mut self, mark: M) {
        self.end(mark, true);
    }

    /// Contents with this mark can't be configuration: nothing is to be told until they change.
    pub(super) fn refused(mut self, mark: M) {
        self.end(mark, false);
    }

    fn end(&mut self, mark: M, known: bool) {
        let mut state = self.news.state();
        state.loaded = Some(mark);
        state.known |= known;
        state.owed = false;
        state.told = None;
        state.pause = Backoff::new(AGAIN, fastrand::Rng::new());
        self.over = true;
    }
}

impl<M: PartialEq> Drop for Loading<'_, M> {
    fn drop(&mut self) {
        if !self.over {
            self.news.state().owed = true;
            self.news.stir.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_was_loaded_is_no_news_and_what_was_not_is() {
        let (news, now) = (News::new(), Instant::now());
        assert!(news.tell(1, now), "nothing was loaded yet");
        assert!(!news.is_known());
        news.loading().done(1);
        assert!(news.is_known());
        assert!(!news.tell(1, now));
        assert!(news.tell(2, now));
        assert!(!news.tell(2, now), "it was told");
        assert!(news.tell(3, now), "it is another one");
        news.loading().done(3);
        assert!(!news.tell(3, now + 1_000 * SECOND));
    }

    #[test]
    fn a_load_that_failed_is_owed_and_told_again_ever_more_rarely() {
        let (news, mut now) = (News::new(), Instant::now());
        news.loading().done(1);
        assert_eq!(news.due(now), None);
        drop(news.loading());
        assert_eq!(news.due(now), Some(now));
        let mut pauses = Vec::new();
        for _ in 0..12 {
            assert!(
                news.tell(1, now),
                "the contents are those of before, but a load has failed"
            );
            drop(news.loading());
            let due = news.due(now).unwrap();
            assert!(!news.tell(1, due - Duration::from_millis(1)));
            pauses.push(due - now);
            now = due;
        }
        assert!(pauses[0] <= SECOND && pauses[11] >= 30 * SECOND, "{pauses:?}");
        assert!(news.tell(2, now), "what is new is told at once");
        news.loading().done(2);
        assert_eq!((news.tell(2, now), news.due(now)), (false, None));
    }

    #[test]
    fn what_cannot_be_configuration_is_told_of_when_it_changes() {
        let (news, now) = (News::new(), Instant::now());
        news.loading().refused(1);
        assert!(!news.is_known());
        assert!(!news.tell(1, now + 1_000 * SECOND));
        assert!(news.tell(2, now));
    }
}
