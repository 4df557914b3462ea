//! What waits for the writer: jobs, and consumers who want to hear of other processes. The thread that empties it is
//! [`super::writer`].

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::failure::Failure;
use super::session::Session;

/// How many jobs one transaction takes at most.
const JOBS: usize = 256;

/// Something to be done in a transaction.
pub(super) trait Job: Send {
    /// Does it in the open transaction; called again when that was rolled back because of another job.
    fn run(&mut self, session: &mut Session<'_>) -> rusqlite::Result<()>;

    /// The transaction was committed, or failed.
    fn answer(self: Box<Self>, failed: Option<&Failure>);

    /// What it asks of its transaction.
    fn needs(&self) -> Needs;
}

/// What a job asks of its transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    /// Nothing: it is about leases, which end with the machine that has the power, and all that it writes can be done
    /// again from what was there before.
    Nothing,
    /// To be on the disk when it is answered.
    Disk,
    /// The same, and that nobody else is in it, because it can't be done again.
    Solitude,
}

/// A job as a function, with somebody who waits for its result.
struct Call<T, U, F, G> {
    work: F,
    needs: Needs,
    value: Option<T>,
    /// What is done with the value after the commit, and only then: of a value that was rolled back nothing may remain.
    finish: G,
    answer: oneshot::Sender<Result<U, Failure>>,
}

impl<T, U, F, G> Job for Call<T, U, F, G>
where
    T: Send,
    U: Send,
    F: FnMut(&mut Session<'_>) -> rusqlite::Result<T> + Send,
    G: FnOnce(T) -> U + Send,
{
    fn run(&mut self, session: &mut Session<'_>) -> rusqlite::Result<()> {
        self.value = Some((self.work)(session)?);
        Ok(())
    }

    fn answer(self: Box<Self>, failed: Option<&Failure>) {
        let Self {
            value, finish, answer, ..
        } = *self;
        let answered = match (failed, value) {
            (None, Some(value)) => Ok(finish(value)),
            (Some(failure), _) => Err(failure.clone()),
            (None, None) => Err(Failure::closed()),
        };
        // Nobody may be waiting any more; what comes back is dropped then, and tidies up after itself.
        drop(answer.send(answered));
    }

    fn needs(&self) -> Needs {
        self.needs
    }
}

/// What the writer finds.
pub(super) enum Next {
    Jobs(Vec<Box<dyn Job>>),
    /// Nothing within the time it wanted to wait.
    Nothing,
    Closed,
}

/// The jobs that wait.
#[derive(Default)]
pub(super) struct Inbox {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Box<dyn Job>>,
    listeners: usize,
    closed: bool,
}

impl Inbox {
    // Every step under the lock is complete in itself.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for something; it is done even if nobody waits for the answer.
    pub(super) fn ask<T, F>(&self, work: F) -> oneshot::Receiver<Result<T, Failure>>
    where
        T: Send + 'static,
        F: FnMut(&mut Session<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        self.put(work, |value| value, Needs::Disk)
    }

    /// As [`ask`](Self::ask), for what needs so much; once it is committed, `finish` makes the answer.
    pub(super) fn ask_then<T, U, F, G>(&self, needs: Needs, work: F, finish: G) -> oneshot::Receiver<Result<U, Failure>>
    where
        T: Send + 'static,
        U: Send + 'static,
        F: FnMut(&mut Session<'_>) -> rusqlite::Result<T> + Send + 'static,
        G: FnOnce(T) -> U + Send + 'static,
    {
        self.put(work, finish, needs)
    }

    /// As [`ask`](Self::ask), in a transaction of its own and at most once.
    pub(super) fn ask_once<T, F>(&self, work: F) -> oneshot::Receiver<Result<T, Failure>>
    where
        T: Send + 'static,
        F: FnMut(&mut Session<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        self.put(work, |value| value, Needs::Solitude)
    }

    fn put<T, U, F, G>(&self, work: F, finish: G, needs: Needs) -> oneshot::Receiver<Result<U, Failure>>
    where
        T: Send + 'static,
        U: Send + 'static,
        F: FnMut(&mut Session<'_>) -> rusqlite::Result<T> + Send + 'static,
        G: FnOnce(T) -> U + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let mut state = self.lock();
        if state.closed {
            drop(answer.send(Err(Failure::closed())));
            return answered;
        }
        let value = None;
        state.jobs.push_back(Box::new(Call {
            work,
            needs,
            value,
            finish,
            answer,
        }));
        drop(state);
        self.wake.notify_one();
        answered
    }

    /// Waits for jobs: for ever, or as long as `pause` says for the number of listeners.
    pub(super) fn next(&self, pause: impl Fn(usize) -> Option<Duration>) -> Next {
        let mut state = self.lock();
        loop {
            if !state.jobs.is_empty() {
                let count = state.jobs.len().min(JOBS);
                return Next::Jobs(state.jobs.drain(..count).collect());
            }
            if state.closed {
                return Next::Closed;
            }
            let Some(pause) = pause(state.listeners) else {
                state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let waited = self.wake.wait_timeout(state, pause);
            let (woken, result) = waited.unwrap_or_else(PoisonError::into_inner);
            state = woken;
            if result.timed_out() && state.jobs.is_empty() && !state.closed {
                return Next::Nothing;
            }
        }
    }

    /// How many want to hear of what other processes do.
    pub(super) fn listeners(&self) -> usize {
        self.lock().listeners
    }

    /// Wants to hear of what other processes do, until it is dropped.
    pub(super) fn listen(&self) -> Listener<'_> {
        let mut state = self.lock();
        state.listeners += 1;
        let first = state.listeners == 1;
        drop(state);
        if first {
            self.wake.notify_one();
        }
        Listener(self)
    }

    /// Nothing more is taken; what was asked for before is done.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_one();
    }
}

pub(super) struct Listener<'a>(&'a Inbox);

impl Drop for Listener<'_> {
    fn drop(&mut self) {
        self.0.lock().listeners -= 1;
    }
}
