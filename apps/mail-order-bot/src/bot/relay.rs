//! The relay: brings replies and webhooks from the store's outbox, where each lies since its order's own transaction, into
//! queues of their own. It is a source like any other: what it published is in the ledger, and a killed process loses nothing.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use plba::prelude::*;
use plba::tasks::intake::{Arrival, Intake};
use plba::tasks::queue::TaskQueue;
use plba::tasks::source::{SourceError, SourceStatus, TaskSource};
use plba::tasks::task::{NewTask, TRACEPARENT};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::store::{Channel, Outbox, OutboxId, OutboxRow, Queued, StoreError};

/// The queue of replies.
pub const REPLIES: &str = "replies";

/// The kind of its tasks; the payload is the reply's id in the outbox.
pub const REPLY: &str = "reply.send";

/// The queue of webhooks.
pub const WEBHOOKS: &str = "webhooks";

/// The kind of its tasks; the payload is the webhook's id in the outbox.
pub const WEBHOOK: &str = "webhook.send";

/// How many replies are taken out of the outbox at a time.
const BATCH: usize = 200;

/// How often the outbox is looked into when nobody rings: so long a reply waits that another bot has put there.
const LOOK: Duration = Duration::from_secs(1);

/// How often the outbox is looked into from its beginning: in PostgreSQL a row may appear before one that was seen already.
const ANEW: Duration = Duration::from_secs(15);

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

    /// What was taken in and is neither done nor under way: published again if it still waits, closed if it was sent just before the end
    /// came and nobody could say so.
    async fn resume(&self, intake: &Intake) -> Result<(), SourceError> {
        loop {
            let keys = intake.pending(BATCH).await?;
            if keys.is_empty() {
                return Ok(());
            }
            let (outbox, asked) = (self.outbox.clone(), keys.clone());
            let find = move |key: &Arc<str>| OutboxId::parse(key).map_or(Ok(None), |id| outbox.get(&id));
            let found = move || asked.iter().map(find).collect::<Result<Vec<_>, StoreError>>();
            let rows = tokio::task::spawn_blocking(found).await;
            let rows = rows.map_err(SourceError::transient)?.map_err(SourceError::transient)?;
            let (mut waiting, mut over) = (Vec::new(), Vec::new());
            for (key, row) in keys.into_iter().zip(rows) {
                match row {
                    Some(row) if row.sent_at.is_none() => waiting.push(arrival(&row)),
                    _ => over.push(key),
                }
            }
            intake.publish(waiting).await?;
            intake.lost(&over).await?;
            intake.forget(&over).await?;
        }
    }

    /// Publishes the replies that wait behind `after`, page by page, and gives the place that it has come to. Each reply
    /// is met once, so one that is long in coming through holds up none that was written later.
    async fn relay(&self, intake: &Intake, mut after: i64) -> Result<i64, SourceError> {
        loop {
            let rows = self.waiting(after).await?;
            let Some(last) = rows.last() else { return Ok(after) };
            after = last.seq;
            let published = intake.publish(rows.iter().map(arrival).collect()).await?;
            self.note(|status| status.published += published.published as u64);
        }
    }

    async fn waiting(&self, after: i64) -> Result<Vec<OutboxRow>, SourceError> {
        let outbox = self.outbox.clone();
        let read = tokio::task::spawn_blocking(move || outbox.pending(after, BATCH)).await;
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
    Arrival {
        key: row.id.as_str().into(),
        task: task_of_row(row),
    }
}

/// The task of sending something, on the journey that it belongs to. Of one thing it is always the same task.
pub fn task_of(queued: &Queued, traceparent: Option<&str>) -> NewTask {
    let (queue, kind) = match queued.channel {
        Channel::Reply => (REPLIES, REPLY),
        Channel::Webhook => (WEBHOOKS, WEBHOOK),
    };
    let task = NewTask::new(queue, kind, queued.id.as_str().to_owned()).with_id(queued.id.as_str());
    match traceparent {
        Some(traceparent) => task.with_header(TRACEPARENT, traceparent),
        None => task,
    }
}

fn task_of_row(row: &OutboxRow) -> NewTask {
    let queued = Queued {
        id: row.id.clone(),
        channel: row.channel,
    };
    task_of(&queued, row.traceparent.as_deref())
}

/// Publishes the replies that wait in the outbox without a relay: those that were left there while the queue kept its
/// tasks elsewhere. Those whose task is in the queue already stay as they are.
///
/// # Errors
/// The outbox can't be read, or the queue not be reached; try again.
pub async fn publish_waiting(outbox: &Outbox, queue: &dyn TaskQueue) -> Result<(), BoxError> {
    let mut after = 0;
    loop {
        let outbox = outbox.clone();
        let rows = tokio::task::spawn_blocking(move || outbox.pending(after, BATCH)).await??;
        let Some(last) = rows.last() else { return Ok(()) };
        after = last.seq;
        queue.publish(rows.iter().map(task_of_row).collect()).await?;
    }
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
            let (mut after, mut began) = (0, Instant::now());
            loop {
                if began.elapsed() >= ANEW {
                    (after, began) = (0, Instant::now());
                }
                // At first what an earlier process left over, later dead letters that were retried.
                self.resume(&intake).await?;
                after = self.relay(&intake, after).await?;
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

#[cfg(test)]
mod tests {
    use plba::tasks::file_ledger::{FileLedger, FileLedgerSettings};
    use plba::tasks::ledger::SourceLedger;
    use plba::tasks::memory::{InMemoryTaskQueue, MemorySettings};
    use plba::tasks::queue::{ConsumerId, Incarnation};
    use plba::tasks::task::Origin;

    use super::*;
    use crate::store::OrderStore;

    struct Still;

    impl plba::clock::Clock for Still {
        fn now(&self) -> jiff::Timestamp {
            jiff::Timestamp::UNIX_EPOCH
        }

        fn monotonic(&self) -> Duration {
            Duration::ZERO
        }
    }

    #[tokio::test]
    async fn replies_that_do_not_get_through_hold_up_none_that_come_later() {
        let directory = std::env::temp_dir().join(format!("plba-relay-starved-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&directory));
        std::fs::create_dir_all(&directory).unwrap();
        let store = OrderStore::open(&directory.join("orders.db")).unwrap();
        let ledger: Arc<dyn SourceLedger> = Arc::new(FileLedger::in_memory(&FileLedgerSettings::default()));
        let queue = InMemoryTaskQueue::with_ledger(MemorySettings::default(), Arc::new(Still), Arc::clone(&ledger));
        let consumer = ConsumerId::new(Incarnation::of_this_process(7), "outbox");
        let intake = Intake::new("outbox", Arc::new(queue.unwrap()), ledger, consumer);
        let relay = OutboxRelay::new(store.outbox(), Arc::new(Bell::default()));
        let catalogue = Arc::new(crate::domain::Catalogue::open("embedded:").unwrap());
        let settings = Arc::new(crate::DeskOptions::for_samples().validate().unwrap());
        let desk = crate::OrderDesk::new(catalogue, settings, store);
        let waiting = 2 * BATCH + 1;
        for mail in crate::samples::generate::order_mails(waiting, 1).unwrap() {
            desk.process(&mail.unwrap().raw, jiff::Timestamp::UNIX_EPOCH).unwrap();
        }
        relay.relay(&intake, 0).await.unwrap();
        assert_eq!(relay.status().published, waiting as u64);
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[tokio::test]
    async fn a_reply_that_was_sent_just_before_the_end_is_closed() {
        let directory = std::env::temp_dir().join(format!("plba-relay-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let store = OrderStore::open(&directory.join("orders.db")).unwrap();
        let open = || FileLedger::open_blocking(&directory.join("ledger"), &FileLedgerSettings::default()).unwrap();
        // In the hand of an earlier process, and waiting in the outbox no longer.
        let reply = Origin::new("outbox", "0123456789abcdef0123456789abcdef");
        open().count_deliveries(&[reply]).await.unwrap();
        let ledger: Arc<dyn SourceLedger> = Arc::new(open());
        let queue =
            InMemoryTaskQueue::with_ledger(MemorySettings::default(), Arc::new(Still), Arc::clone(&ledger)).unwrap();
        let consumer = ConsumerId::new(Incarnation::of_this_process(7), "outbox");
        let intake = Intake::new("outbox", Arc::new(queue), Arc::clone(&ledger), consumer);
        let relay = OutboxRelay::new(store.outbox(), Arc::new(Bell::default()));
        assert_eq!(ledger.stats().await.unwrap()[0].open, 1);
        relay.resume(&intake).await.unwrap();
        let stats = ledger.stats().await.unwrap();
        assert_eq!(stats.iter().map(|source| source.open + source.settled).sum::<u64>(), 0);
        drop(store);
        std::fs::remove_dir_all(directory).unwrap();
    }
}
