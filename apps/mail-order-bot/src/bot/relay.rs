//! The relay: brings replies from the store's outbox, where each lies since its order's own transaction, into a queue of
//! their own. It is a source like any other: what it published is in the ledger, and a killed process loses nothing.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use plba::prelude::*;
use plba::tasks::intake::{Arrival, Intake};
use plba::tasks::source::{SourceError, SourceStatus, TaskSource};
use plba::tasks::task::{NewTask, TRACEPARENT};
use tokio::sync::Notify;

use crate::store::{Outbox, OutboxRow, StoreError};

/// The queue of replies.
pub const QUEUE: &str = "replies";

/// The kind of its tasks; the payload is the reply's id in the outbox.
pub const KIND: &str = "reply.send";

/// How many replies are taken out of the outbox at a time.
const BATCH: usize = 200;

/// How often the outbox is looked into when nobody rings.
const LOOK: Duration = Duration::from_secs(5);

/// Tells the relay that there is a new reply, so that it need not wait for its next look.
#[derive(Debug, Default)]
pub struct Bell(Notify);

impl Bell {
    /// There may be a new reply.
    pub fn ring(&self) {
        self.0.notify_one();
    }
}

/// Publishes waiting replies.
pub struct OutboxRelay {
    outbox: Outbox,
    bell: Arc<Bell>,
    status: std::sync::Mutex<SourceStatus>,
}

impl OutboxRelay {
    /// A relay of this outbox.
    pub fn new(outbox: Outbox, bell: Arc<Bell>) -> Self {
        Self {
            outbox,
            bell,
            status: std::sync::Mutex::default(),
        }
    }

    /// Publishes what waits, oldest first, until nothing more waits that is not under way.
    async fn relay(&self, intake: &Intake) -> Result<(), SourceError> {
        let rows = self.waiting().await?;
        if !rows.is_empty() {
            let published = intake.publish(rows.iter().map(arrival).collect()).await?;
            self.note(|status| status.published += published.published as u64);
        }
        Ok(())
    }

    async fn waiting(&self) -> Result<Vec<OutboxRow>, SourceError> {
        let outbox = self.outbox.clone();
        let read = tokio::task::spawn_blocking(move || outbox.pending(BATCH)).await;
        read.map_err(SourceError::transient)?
            .map_err(|error: StoreError| SourceError::transient(error))
    }

    /// Upstream is the outbox itself, and the handler has marked the reply there: nothing is left to tell.
    async fn settle(&self, intake: &Intake, keys: Vec<Arc<str>>) -> Result<(), SourceError> {
        if !keys.is_empty() {
            intake.settle(&keys).await?;
            intake.forget(&keys).await?;
            self.note(|status| status.settled += keys.len() as u64);
        }
        Ok(())
    }

    fn note(&self, change: impl FnOnce(&mut SourceStatus)) {
        change(&mut self.status.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }
}

fn arrival(row: &OutboxRow) -> Arrival {
    let id = row.id.as_str();
    let task = NewTask::new(QUEUE, KIND, id.to_owned());
    let task = match &row.traceparent {
        Some(traceparent) => task.with_header(TRACEPARENT, traceparent.as_str()),
        None => task,
    };
    Arrival { key: id.into(), task }
}

#[async_trait]
impl TaskSource for OutboxRelay {
    async fn run(&self, intake: Intake, stop: StopSignal) -> Result<(), SourceError> {
        loop {
            let left_over = intake.unsettled(BATCH).await?;
            if left_over.is_empty() {
                break;
            }
            self.settle(&intake, left_over).await?;
        }
        let relaying = async {
            loop {
                self.relay(&intake).await?;
                // Whoever rings while nobody waits is heard at the next wait.
                let _ = tokio::time::timeout(LOOK, self.bell.0.notified()).await;
            }
        };
        let settling = async {
            loop {
                let done = intake.completions(BATCH).await?;
                self.settle(&intake, done).await?;
            }
        };
        tokio::select! {
            ended = relaying => ended,
            ended = settling => ended,
            () = stop.requested() => Ok(()),
        }
    }

    fn status(&self) -> SourceStatus {
        self.status
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }
}
