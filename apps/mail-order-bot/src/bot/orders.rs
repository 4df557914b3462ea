//! The handler of order mails: a task's payload is the raw message, its outcome is the desk's. What an order is, is the
//! desk's business; here business outcomes become task outcomes.

use std::sync::Arc;

use async_trait::async_trait;
use plba::prelude::*;
use plba::tasks::handler::{HandlerError, Outcome, TaskContext, TaskHandler};
use plba::tasks::task::{NewTask, Task};
use plba::trace::TraceFactory;

use super::relay::{self, Bell};
use super::services::OnePlace;
use crate::authentication::{Authenticator, Policy, Standing};
use crate::desk::{Done, Examined, Message};
use crate::{OrderDesk, ProcessError, Processed};

/// Processes order mails.
pub struct OrderHandler {
    desk: OrderDesk,
    /// Rung when a reply was put into the outbox.
    bell: Arc<Bell>,
    traces: Arc<dyn TraceFactory>,
    /// Finds out who sent a mail.
    authenticator: Arc<Authenticator>,
    /// Whether orders are stored in the transaction that completes their tasks.
    place: OnePlace,
}

impl OrderHandler {
    /// A handler at this desk.
    pub fn new(
        desk: OrderDesk,
        bell: Arc<Bell>,
        traces: Arc<dyn TraceFactory>,
        authenticator: Arc<Authenticator>,
        place: OnePlace,
    ) -> Self {
        Self {
            desk,
            bell,
            traces,
            authenticator,
            place,
        }
    }
}

#[async_trait]
impl TaskHandler for OrderHandler {
    async fn handle(&self, task: &Task, context: &TaskContext) -> Result<Outcome, HandlerError> {
        let (raw, now) = (task.payload.clone(), context.clock.now());
        let desk = match self.authenticated(&raw).await? {
            Ok(desk) => desk,
            Err(reason) => return Ok(Outcome::reject(reason)),
        };
        let traceparent = self.traces.current().map(|current| current.to_string());
        let done = if self.place != OnePlace::Apart {
            let examining = tokio::task::spawn_blocking({
                let traceparent = traceparent.clone();
                move || desk.examine(&raw, now, traceparent)
            });
            examining.await?.map(|examined| self.complete(examined, traceparent))
        } else {
            let processing = tokio::task::spawn_blocking(move || desk.process_on_journey(&raw, now, traceparent));
            processing.await?.map(|processed| {
                tell(&processed);
                self.bell.ring();
                Outcome::done()
            })
        };
        match done {
            Ok(outcome) => Ok(outcome),
            Err(ProcessError::Unreadable(error)) if !error.is_transient() => Ok(Outcome::reject(error.to_string())),
            Err(error) => Err(error.into()),
        }
    }
}

impl OrderHandler {
    /// The desk for a mail, by what is found out about its sender; why it is refused, where the settings say so.
    async fn authenticated(&self, raw: &[u8]) -> Result<Result<OrderDesk, String>, HandlerError> {
        let Some(found) = self.authenticator.authenticate(raw).await? else {
            return Ok(Ok(self.desk.clone()));
        };
        match found.policy {
            Policy::Reject => return Ok(Err(found.verdict.to_string())),
            Policy::Note if found.verdict.standing != Standing::Pass => {
                info!("the sender of this mail is not certain: {}", found.verdict);
            }
            Policy::Note | Policy::Ignore | Policy::Review => {}
        }
        Ok(Ok(self.desk.informed(Some(found.verdict))))
    }

    /// Stores what is new in the transaction in which its task is completed and its reply's task is published.
    fn complete(&self, examined: Examined, traceparent: Option<String>) -> Outcome {
        let message: Message = match examined {
            Examined::Known(processed) => {
                tell(&processed);
                return Outcome::done();
            }
            Examined::New(message) => *message,
        };
        let desk = self.desk.clone();
        let tasks = move |done: Done| -> Vec<NewTask> {
            tell(&done.processed);
            let task = |queued| relay::task_of(queued, traceparent.as_deref());
            done.queued.iter().map(task).collect()
        };
        match self.place {
            OnePlace::Postgres => plba::sql::postgres::done_with(move |transaction| {
                Box::pin(async move { Ok(tasks(desk.record_in_postgres(transaction, message).await?)) })
            }),
            OnePlace::Sqlite | OnePlace::Apart => {
                plba::sql::sqlite::done_with(move |transaction| Ok(tasks(desk.record_in(transaction, message)?)))
            }
        }
    }
}

pub(super) fn tell(processed: &Processed) {
    match processed {
        Processed::Stored {
            order_id,
            status,
            outbox_id,
            possible_duplicate_of,
        } => {
            info!(order = %order_id, %status, answered = outbox_id.is_some(), "order stored");
            if let Some(other) = possible_duplicate_of {
                warn!(order = %order_id, "looks like order {other} sent twice; both are stored");
            }
        }
        Processed::Duplicate {
            order_id: Some(order), ..
        } => info!(%order, "mail seen before; nothing to do"),
        Processed::Duplicate { order_id: None, .. } => info!("mail seen before; nothing to do"),
        Processed::NotAnOrder { reason, .. } => info!("mail is no order: {reason}"),
        Processed::Changed {
            order_id,
            version,
            status,
            state,
            ..
        } => info!(order = %order_id, version, %status, %state, "order changed"),
        Processed::Review { detail, .. } => warn!("mail waits on the review list: {detail}"),
    }
}
