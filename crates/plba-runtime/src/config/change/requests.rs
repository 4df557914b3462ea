//! Asking for a reload: a handle that anyone may hold, and what was asked for by the time the next reload begins. Requests
//! that come while one is under way are gathered for the one after it; carrying them out is the reloader's.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

use super::outcome::ReloadOutcome;
use super::trigger::Trigger;

/// The most different triggers that one reload names. What comes after them is reloaded for as well, unnamed.
const MAXIMUM_TRIGGERS: usize = 32;

/// The most who wait for one reload.
const MAXIMUM_WAITING: usize = 256;

/// The wish that the configuration be read again. Clones ask the same process.
#[derive(Clone, Debug, Default)]
pub struct ReloadRequests(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    asked: Notify,
}

#[derive(Debug, Default)]
struct State {
    triggers: Vec<Trigger>,
    waiting: Vec<oneshot::Sender<ReloadOutcome>>,
    under_way: bool,
    closed: bool,
}

/// When a request is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// As soon as the process is ready.
    Next,
    /// Once the reload that is under way is over: it may have read its sources before their last change.
    AfterThis,
    /// Never: the process stops.
    Never,
}

/// Nobody will say how a reload went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The process stops.
    #[error("the process stops and reads its configuration no more")]
    Stopping,
    /// As many as possible wait already.
    #[error("{MAXIMUM_WAITING} others wait for the reload already; the configuration is read again all the same")]
    Crowded,
}

/// All that was asked for, to be carried out by one reload.
#[derive(Debug)]
pub struct Request {
    /// What asked, each once, the first one first.
    pub triggers: Vec<Trigger>,
    waiting: Vec<oneshot::Sender<ReloadOutcome>>,
    requests: ReloadRequests,
}

impl ReloadRequests {
    /// Asks that the configuration be read again after this call. Never waits; what was asked for already is not asked for
    /// twice.
    pub fn ask(&self, trigger: Trigger) -> Asked {
        self.add(trigger, None).unwrap_or(Asked::Never)
    }

    /// Asks, and waits for what becomes of it: of the reload that began after this call.
    ///
    /// # Errors
    /// The process stops first, or too many wait.
    ///
    /// # Cancel safety
    /// A dropped call has asked all the same.
    pub async fn ask_and_wait(&self, trigger: Trigger) -> Result<ReloadOutcome, RequestError> {
        let (answer, answered) = oneshot::channel();
        self.add(trigger, Some(answer))?;
        answered.await.map_err(|_| RequestError::Stopping)
    }

    /// Waits until something was asked for, and takes all of it. Until the request is dropped, a reload is under way.
    ///
    /// # Cancel safety
    /// A dropped call has taken nothing.
    pub async fn next(&self) -> Request {
        loop {
            let asked = self.0.asked.notified();
            if let Some(request) = self.take() {
                return request;
            }
            asked.await;
        }
    }

    /// No more reloads: who waits is told so, and who asks from now on.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.waiting.clear();
        state.triggers.clear();
    }

    fn add(&self, trigger: Trigger, answer: Option<oneshot::Sender<ReloadOutcome>>) -> Result<Asked, RequestError> {
        let mut state = self.lock();
        if state.closed {
            return Err(RequestError::Stopping);
        }
        // Who has gone needs no answer.
        state.waiting.retain(|waiting| !waiting.is_closed());
        let crowded = answer.is_some() && state.waiting.len() >= MAXIMUM_WAITING;
        state.waiting.extend(answer.filter(|_| !crowded));
        if !state.triggers.contains(&trigger) && state.triggers.len() < MAXIMUM_TRIGGERS {
            state.triggers.push(trigger);
        }
        let when = match state.under_way {
            true => Asked::AfterThis,
            false => Asked::Next,
        };
        drop(state);
        self.0.asked.notify_one();
        match crowded {
            true => Err(RequestError::Crowded),
            false => Ok(when),
        }
    }

    fn take(&self) -> Option<Request> {
        let mut state = self.lock();
        if state.triggers.is_empty() {
            return None;
        }
        state.under_way = true;
        Some(Request {
            triggers: std::mem::take(&mut state.triggers),
            waiting: std::mem::take(&mut state.waiting),
            requests: self.clone(),
        })
    }

    // Each use is whole in itself, so a poisoned lock is as good as a sound one.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Request {
    /// Tells everyone who waits.
    pub fn answer(mut self, outcome: &ReloadOutcome) {
        for waiting in std::mem::take(&mut self.waiting) {
            // Whoever has gone needs no answer.
            let _ = waiting.send(outcome.clone());
        }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.requests.lock().under_way = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str) -> Trigger {
        Trigger::File { path: name.into() }
    }

    #[tokio::test]
    async fn a_thousand_requests_are_one_reload_and_those_meanwhile_one_more() {
        let requests = ReloadRequests::default();
        for _ in 0..1_000 {
            assert_eq!(requests.ask(file("bot.toml")), Asked::Next);
        }
        assert_eq!(requests.ask(Trigger::Signal), Asked::Next);
        let first = requests.next().await;
        assert_eq!(first.triggers, [file("bot.toml"), Trigger::Signal]);
        for _ in 0..1_000 {
            assert_eq!(requests.ask(Trigger::Signal), Asked::AfterThis);
        }
        first.answer(&ReloadOutcome::Unchanged { generation: 1 });
        assert_eq!(requests.next().await.triggers, [Trigger::Signal]);
        assert!(requests.take().is_none());
    }

    #[tokio::test]
    async fn who_waits_is_told_of_the_reload_that_began_after_the_question() {
        let requests = ReloadRequests::default();
        requests.ask(Trigger::Signal);
        let first = requests.next().await;
        let late = requests.ask_and_wait(Trigger::Signal);
        let serve = async {
            first.answer(&ReloadOutcome::Unchanged { generation: 1 });
            requests
                .next()
                .await
                .answer(&ReloadOutcome::Unchanged { generation: 2 });
        };
        let (told, ()) = tokio::join!(late, serve);
        assert_eq!(told, Ok(ReloadOutcome::Unchanged { generation: 2 }));
    }

    #[tokio::test]
    async fn nobody_waits_for_a_process_that_stops() {
        let requests = ReloadRequests::default();
        let close = async { requests.close() };
        let (told, ()) = tokio::join!(requests.ask_and_wait(Trigger::Signal), close);
        assert_eq!(told, Err(RequestError::Stopping));
        assert_eq!(requests.ask(Trigger::Signal), Asked::Never);
        assert_eq!(
            requests.ask_and_wait(Trigger::Signal).await,
            Err(RequestError::Stopping)
        );
    }

    #[tokio::test]
    async fn what_gathers_is_limited() {
        let requests = ReloadRequests::default();
        let waiting: Vec<_> = (0..MAXIMUM_WAITING)
            .map(|_| tokio_test_poll(requests.ask_and_wait(Trigger::Signal)))
            .collect();
        assert_eq!(requests.ask_and_wait(Trigger::Signal).await, Err(RequestError::Crowded));
        drop(waiting);
        (0..100).for_each(|count| {
            requests.ask(file(&count.to_string()));
        });
        let request = requests.next().await;
        assert_eq!(request.triggers.len(), MAXIMUM_TRIGGERS);
        assert!(request.waiting.is_empty(), "those who went are forgotten");
    }

    /// Polls once, so that the question is asked.
    fn tokio_test_poll<F: Future>(future: F) -> std::pin::Pin<Box<F>> {
        let mut future = Box::pin(future);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(future.as_mut().poll(&mut context).is_pending());
        future
    }
}
