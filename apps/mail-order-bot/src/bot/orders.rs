//! The handler of order mails: a task's payload is the raw message, its outcome is the desk's. What an order is, is the
//! desk's business; here business outcomes become task outcomes.

use std::sync::Arc;

use async_trait::async_trait;
use plba::prelude::*;
use plba::tasks::handler::{HandlerError, Outcome, TaskContext, TaskHandler};
use plba::tasks::task::Task;
use plba::trace::TraceFactory;

use super::relay::{self, Bell};
use super::services::OneFile;
use crate::desk::{Examined, Message};
use crate::{OrderDesk, ProcessError, Processed};

/// Processes order mails.
pub struct OrderHandler {
    desk: OrderDesk,
    /// Rung when a reply was put into the outbox.
    bell: Arc<Bell>,
    traces: Arc<dyn TraceFactory>,
    /// Whether orders are stored in the transaction that completes their tasks.
    one_file: OneFile,
}

impl OrderHandler {
    /// A handler at this desk.
    pub fn new(desk: OrderDesk, bell: Arc<Bell>, traces: Arc<dyn TraceFactory>, one_file: OneFile) -> Self {
        Self {
            desk,
            bell,
            traces,
            one_file,
        }
    }
}

#[async_trait]
impl TaskHandler for OrderHandler {
    async fn handle(&self, task: &Task, context: &TaskContext) -> Result<Outcome, HandlerError> {
        let (desk, raw, now) = (self.desk.clone(), task.payload.clone(), context.clock.now());
        let traceparent = self.traces.current().map(|current| current.to_string());
        let done = if self.one_file.0 {
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
        plba::sql::sqlite::done_with(move |transaction| {
            let processed = desk.record_in(transaction, message)?;
            tell(&processed);
            let reply = match &processed {
                Processed::Stored { outbox_id, .. } | Processed::NotAnOrder { outbox_id, .. } => outbox_id.as_ref(),
                Processed::Duplicate { pending_reply, .. } => pending_reply.as_ref(),
            };
            Ok(reply
                .map(|id| relay::reply_task(id, traceparent.as_deref()))
                .into_iter()
                .collect())
        })
    }
}

fn tell(processed: &Processed) {
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
    }
}
