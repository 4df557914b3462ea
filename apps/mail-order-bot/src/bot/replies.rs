//! The handler of replies: hands one reply over to where replies go, and marks it in the outbox. Handing over to a Maildir
//! is idempotent; a mail server may get a reply twice when the connection was lost between its last byte and the answer,
//! under one Message-ID.

use std::sync::Arc;

use async_trait::async_trait;
use plba::mail::maildir::{Delivered, Maildir};
use plba::mail::smtp::{SmtpError, SmtpSender};
use plba::prelude::*;
use plba::tasks::handler::{HandlerError, Outcome, TaskContext, TaskHandler};
use plba::tasks::task::Task;

use super::sent;
use super::services::OnePlace;
use crate::store::{Outbox, OutboxRow};

/// Where replies go.
#[derive(Clone)]
pub enum ReplyTarget {
    /// A directory.
    Maildir(Maildir),
    /// A mail server.
    Smtp(Arc<SmtpSender>),
}

/// Sends replies.
pub struct ReplyHandler {
    outbox: Outbox,
    target: ReplyTarget,
    /// The bot's own address: the sender of replies.
    from: String,
    /// Whether the outbox lies where the task is completed.
    place: OnePlace,
}

impl ReplyHandler {
    /// A handler that takes replies from `outbox` and hands them over to `target`, as mails from `from`.
    pub fn new(outbox: Outbox, target: ReplyTarget, from: String, place: OnePlace) -> Self {
        Self {
            outbox,
            target,
            from,
            place,
        }
    }
}

#[async_trait]
impl TaskHandler for ReplyHandler {
    async fn handle(&self, task: &Task, context: &TaskContext) -> Result<Outcome, HandlerError> {
        let row = match sent::asked_for(&self.outbox, task).await? {
            Ok(row) => row,
            Err(outcome) => return Ok(outcome),
        };
        match &self.target {
            ReplyTarget::Maildir(maildir) => deliver(maildir.clone(), row.clone()).await?,
            ReplyTarget::Smtp(sender) => match sender.send(&self.from, &row.recipient, &row.message).await {
                Ok(answer) => info!(to = row.recipient, answer, "reply sent"),
                Err(error @ SmtpError::Refused { .. }) => return Ok(Outcome::reject(error.to_string())),
                Err(error) => return Err(HandlerError::retry(error)),
            },
        }
        sent::mark(&self.outbox, self.place, row.id, context.clock.now()).await
    }
}

async fn deliver(maildir: Maildir, row: OutboxRow) -> Result<(), HandlerError> {
    let delivering = tokio::task::spawn_blocking(move || {
        let name = format!("reply-{}.mail-order-bot", row.id);
        match maildir.deliver(&name, &row.message)? {
            Delivered::Now => info!(to = row.recipient, "reply sent"),
            Delivered::AlreadyThere => debug!(to = row.recipient, "reply was handed over before"),
        }
        Ok::<_, HandlerError>(())
    });
    delivering.await?
}
