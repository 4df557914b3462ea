//! The handler of replies: hands one reply over to where replies go, and marks it in the outbox. Both are idempotent, so
//! a reply that is handled twice is sent once.

use async_trait::async_trait;
use plba::mail::maildir::{Delivered, Maildir};
use plba::prelude::*;
use plba::tasks::handler::{HandlerError, Outcome, TaskContext, TaskHandler};
use plba::tasks::task::Task;

use super::services::OneFile;
use crate::store::{self, Outbox, OutboxId};

/// Sends replies.
pub struct ReplyHandler {
    outbox: Outbox,
    replies: Maildir,
    /// Whether the outbox lies where the task is completed.
    one_file: OneFile,
}

impl ReplyHandler {
    /// A handler that takes replies from `outbox` and hands them over to `replies`.
    pub fn new(outbox: Outbox, replies: Maildir, one_file: OneFile) -> Self {
        Self {
            outbox,
            replies,
            one_file,
        }
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
        let (asked, one_file) = (id.clone(), self.one_file);
        let sent = tokio::task::spawn_blocking(move || {
            let sent = send(&outbox, &replies, &asked)?;
            if sent == Sent::Now && !one_file.0 {
                outbox.mark_sent(&asked, now)?;
            }
            Ok::<_, HandlerError>(sent)
        });
        Ok(match sent.await?? {
            Sent::Now if self.one_file.0 => plba::sql::sqlite::done_with(move |transaction| {
                store::mark_sent(transaction, &id, now)?;
                Ok(Vec::new())
            }),
            Sent::Now => Outcome::done(),
            Sent::Before => {
                debug!(task = %task.id, "reply was sent before");
                Outcome::done()
            }
            Sent::Unknown => Outcome::reject("there is no such reply in the outbox"),
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sent {
    /// It lies there, and is to be marked.
    Now,
    Before,
    Unknown,
}

fn send(outbox: &Outbox, replies: &Maildir, id: &OutboxId) -> Result<Sent, HandlerError> {
    let Some(row) = outbox.get(id)? else {
        return Ok(Sent::Unknown);
    };
    if row.sent_at.is_some() {
        return Ok(Sent::Before);
    }
    let delivered = replies.deliver(&format!("reply-{id}.mail-order-bot"), &row.message)?;
    match delivered {
        Delivered::Now => info!(to = row.recipient, "reply sent"),
        Delivered::AlreadyThere => debug!(to = row.recipient, "reply was handed over before"),
    }
    Ok(Sent::Now)
}
