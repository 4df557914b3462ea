//! The handler of replies: hands one reply over to where replies go, and marks it in the outbox. Both are idempotent, so
//! a reply that is handled twice is sent once.

use async_trait::async_trait;
use plba::mail::maildir::{Delivered, Maildir};
use plba::prelude::*;
use plba::tasks::handler::{HandlerError, Outcome, TaskContext, TaskHandler};
use plba::tasks::task::Task;

use crate::store::{Outbox, OutboxId};

/// Sends replies.
pub struct ReplyHandler {
    outbox: Outbox,
    replies: Maildir,
}

impl ReplyHandler {
    /// A handler that takes replies from `outbox` and hands them over to `replies`.
    pub fn new(outbox: Outbox, replies: Maildir) -> Self {
        Self { outbox, replies }
    }
}

#[async_trait]
impl TaskHandler for ReplyHandler {
    async fn handle(&self, task: &Task, context: &TaskContext) -> Result<Outcome, HandlerError> {
        let id = std::str::from_utf8(&task.payload).ok().and_then(OutboxId::parse);
        let Some(id) = id else {
            return Ok(Outcome::reject("the task does not name a reply of the outbox"));
        };
        let (outbox, replies, now) = (self.outbox.clone(), self.replies.clone(), context.clock.now());
        let sent = tokio::task::spawn_blocking(move || send(&outbox, &replies, &id, now)).await??;
        Ok(match sent {
            Sent::Now => Outcome::done(),
            Sent::Before => {
                debug!(task = %task.id, "reply was sent before");
                Outcome::done()
            }
            Sent::Unknown => Outcome::reject("there is no such reply in the outbox"),
        })
    }
}

enum Sent {
    Now,
    Before,
    Unknown,
}

fn send(outbox: &Outbox, replies: &Maildir, id: &OutboxId, now: jiff::Timestamp) -> Result<Sent, HandlerError> {
    let Some(row) = outbox.get(id)? else {
        return Ok(Sent::Unknown);
    };
    if row.sent_at.is_some() {
        return Ok(Sent::Before);
    }
    let delivered = replies.deliver(&format!("reply-{id}.mail-order-bot"), &row.message)?;
    outbox.mark_sent(id, now)?;
    info!(to = row.recipient, "reply sent");
    Ok(match delivered {
        Delivered::Now => Sent::Now,
        Delivered::AlreadyThere => Sent::Before,
    })
}
