//! Completions with an effect: the writer opens a transaction, makes sure that the lease is held, and then does what the
//! effect asks for, until that has succeeded, failed or taken too long. All completions of one call share a commit.

use std::panic::AssertUnwindSafe;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use futures_util::FutureExt;
use plba_contracts::BoxError;
use plba_tasks::queue::{DeliveryToken, Effect, EndError, QueueError};
use plba_tasks::task::NewTask;
use rusqlite::InterruptHandle;
use tokio::sync::oneshot;

use super::end::{ack, drafts, held};
use crate::sqlite::session::Session;
use crate::sqlite::settings::SqliteSettings;
use crate::sqlite::transaction::{SqliteTransaction, Step};
use crate::sqlite::writer::{Shared, answered};

type Ended = Result<(), EndError>;

/// A completion with an effect.
pub(super) struct Completion {
    pub(super) token: DeliveryToken,
    pub(super) effect: Effect,
    pub(super) then: Vec<NewTask>,
}

/// The writer's end of one completion.
struct Link {
    token: DeliveryToken,
    /// Told that the lease is held, and how to interrupt a statement that takes too long.
    begun: Option<oneshot::Sender<Arc<Interrupt>>>,
    steps: Receiver<Step>,
}

/// Interrupts statements, but only those of this transaction.
struct Interrupt {
    handle: InterruptHandle,
    open: Mutex<bool>,
}

impl Interrupt {
    fn interrupt(&self) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if *open {
            self.handle.interrupt();
        }
    }

    fn close(&self) {
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = false;
    }
}

/// Completes deliveries; one result for each, in order.
pub(super) async fn complete(shared: &Arc<Shared>, completions: Vec<Completion>) -> Vec<Ended> {
    let mut links = Vec::with_capacity(completions.len());
    let mut effects = Vec::with_capacity(completions.len());
    for Completion { token, effect, then } in completions {
        let (step, steps) = channel();
        let (begin, begun) = oneshot::channel();
        links.push(Link {
            token,
            begun: Some(begin),
            steps,
        });
        effects.push((effect, then, step, begun));
    }
    let (count, clock) = (links.len(), Arc::clone(&shared.clock));
    let answer = shared.inbox.ask_once(move |session| {
        let links = std::mem::take(&mut links);
        let mut late = false;
        let mut ended = Vec::with_capacity(links.len());
        for link in links {
            ended.push(serve(session, link, clock.now(), &mut late)?);
        }
        Ok(ended)
    });
    let mut failures: Vec<Option<BoxError>> = Vec::with_capacity(count);
    for (effect, then, steps, begun) in effects {
        failures.push(match begun.await {
            Ok(interrupt) => drive(&shared.settings, effect, then, &steps, &interrupt).await,
            // Its lease is lost, or the transaction never came about: the answer tells.
            Err(_) => None,
        });
    }
    match answered(answer).await {
        Ok(ended) => failures
            .into_iter()
            .zip(ended)
            .map(|(failure, ended)| failure.map_or(ended, |error| Err(EndError::Effect(error))))
            .collect(),
        Err(failure) => (0..count)
            .map(|_| Err(QueueError::from(failure.clone()).into()))
            .collect(),
    }
}

/// Runs an effect, and tells the writer how it ended. Gives why it failed.
async fn drive(
    settings: &SqliteSettings,
    effect: Effect,
    mut then: Vec<NewTask>,
    steps: &Sender<Step>,
    interrupt: &Interrupt,
) -> Option<BoxError> {
    let mut transaction = SqliteTransaction::new(steps.clone());
    let running = AssertUnwindSafe(effect.run(&mut transaction)).catch_unwind();
    let error: BoxError = match tokio::time::timeout(settings.completion, running).await {
        Ok(Ok(Ok(more))) => {
            then.extend(more);
            drop(steps.send(Step::Done(then)));
            return None;
        }
        Ok(Ok(Err(error))) => error,
        Ok(Err(panic)) => format!("it panicked: {}", crate::sqlite::panic_message(panic.as_ref())).into(),
        Err(_) => {
            interrupt.interrupt();
            let seconds = settings.completion.as_secs_f64();
            format!("it took longer than {seconds} s; do the work in the handler, and only store its result here")
                .into()
        }
    };
    drop(steps.send(Step::Failed));
    Some(error)
}

/// The writer's side of one completion.
fn serve(session: &mut Session<'_>, mut link: Link, now: jiff::Timestamp, late: &mut bool) -> rusqlite::Result<Ended> {
    let Some(room) = session.known_room(&link.token.queue)? else {
        return Ok(Err(EndError::LeaseLost));
    };
    if held(session, room, &link.token)?.is_none() {
        return Ok(Err(EndError::LeaseLost));
    }
    let slow = || QueueError::new("this completion, or another one of the same batch, took too long");
    if *late {
        return Ok(Err(slow().into()));
    }
    let interrupt = Arc::new(Interrupt {
        handle: session.connection.get_interrupt_handle(),
        open: Mutex::new(true),
    });
    session.connection.execute_batch("SAVEPOINT plba_effect")?;
    if let Some(begun) = link.begun.take() {
        drop(begun.send(Arc::clone(&interrupt)));
    }
    let then = steps(session, &link);
    interrupt.close();
    if session.connection.is_autocommit() {
        // An interrupt or a full disk rolled everything back: the whole batch is to be ended once more.
        return Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_ABORT),
            Some("the transaction was rolled back while an effect ran".to_owned()),
        ));
    }
    let then = match then {
        Ok(Some(then)) => drafts(then, session.settings, now),
        Ok(None) => Err(EndError::Effect("it failed".into())),
        Err(error) => {
            *late = matches!(error, RecvTimeoutError::Timeout);
            Err(slow().into())
        }
    };
    let ended = match then {
        Ok(then) => ack(session, room, &link.token, &then)?,
        Err(error) => Err(error),
    };
    let close = match &ended {
        Ok(()) => "RELEASE plba_effect",
        Err(_) => "ROLLBACK TO plba_effect; RELEASE plba_effect",
    };
    session.connection.execute_batch(close)?;
    Ok(ended)
}

/// Does what the effect asks for until it has ended: its follow-ups, or nothing when it failed.
fn steps(session: &Session<'_>, link: &Link) -> Result<Option<Vec<NewTask>>, RecvTimeoutError> {
    // A little more than the effect has, so that it is the effect that says it took too long.
    let deadline = Instant::now() + session.settings.completion * 5 / 4;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match link.steps.recv_timeout(left)? {
            Step::Run(work) => work(session.connection),
            Step::Done(then) => return Ok(Some(then)),
            Step::Failed => return Ok(None),
        }
    }
}
