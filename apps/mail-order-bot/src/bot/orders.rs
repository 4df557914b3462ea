//! The handler of order mails: a task's payload is the raw message, its outcome is the desk's. What an order is, is the
//! desk's business; here business outcomes become task outcomes.

use std::sync::Arc;

use async_trait::async_trait;
use plba::prelude::*;
use plba::tasks::handler::{HandlerError, Outcome, TaskContext, TaskHandler};
use plba::tasks::task::Task;
use plba::trace::TraceFactory;

use super::relay::Bell;
use crate::{OrderDesk, ProcessError, Processed};

/// Processes order mails.
pub struct OrderHandler {
    desk: OrderDesk,
    /// Rung when a reply was put into the outbox.
    bell: Arc<Bell>,
    traces: Arc<dyn TraceFactory>,
}

impl OrderHandler {
    /// A handler at this desk.
    pub fn new(desk: OrderDesk, bell: Arc<Bell>, traces: Arc<dyn TraceFactory>) -> Self {
        Self { desk, bell, traces }
    }
}

#[async_trait]
impl TaskHandler for OrderHandler {
    async fn handle(&self, task: &Task, context: &TaskContext) -> Result<Outcome, HandlerError> {
        let (desk, raw, now) = (self.desk.clone(), task.payload.clone(), context.clock.now());
        let traceparent = self.traces.current().map(|current| current.to_string());
        let processed = tokio::task::spawn_blocking(move || desk.process_on_journey(&raw, now, traceparent)).await?;
        match processed {
            Ok(processed) => {
                self.tell(&processed);
                Ok(Outcome::done())
            }
            Err(error @ ProcessError::Unreadable(_)) => Ok(Outcome::reject(error.to_string())),
            Err(error) => Err(error.into()),
        }
    }
}

impl OrderHandler {
    fn tell(&self, processed: &Processed) {
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
        self.bell.ring();
    }
}
