//! The port of every task queue: which states a task passes through, what each verb promises, and the plain data that
//! crosses. Implementations are [`crate::memory`] and adapters; one conformance suite, in the testkit, tests them all.

mod consumer;
mod cursor;
mod dead;
mod delivery;
mod durability;
mod effect;
mod ending;
mod error;
mod listing;
pub mod presence;
mod rules;
mod stats;

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

pub use self::consumer::{ConsumerId, Incarnation};
pub use self::cursor::{Cursor, Recovery};
pub use self::dead::{DeadFilter, DeadLetter, DeadPage, DeadTask, UNDECODABLE};
pub use self::delivery::{Delivery, DeliveryToken, SUSPECT_CRASHES, is_late};
pub use self::durability::Durability;
pub use self::effect::Effect;
pub use self::ending::{Completion, Ending, Exchange, How};
pub use self::error::{EndError, PublishError, QueueError};
pub use self::listing::{TaskFilter, TaskPage, TaskState, TaskSummary};
pub use self::presence::Presence;
pub use self::rules::{QueueRules, Rate};
pub use self::stats::QueueStats;
use crate::task::{NewTask, QueueName, TaskId};

/// A backend with any number of named queues, which come into being when they are first used.
///
/// A task is at any moment in exactly one state:
///
/// ```text
///              publish                 consume
///   producer ───────────► ready(not before) ─────────► leased(token, deadline)
///                 │          ▲  ▲   ▲                    │   │   │
///                 ▼          │  │   └── nack, release,   │   │   └── ack ──► gone, follow-ups ready
///               held ────────┘  │       lease ran out ───┘   │
///   (behind its key)      retry │                            │
///                              dead ◄─────── bury ───────────┘
/// ```
///
/// What every backend promises:
///
/// 1. After `publish` returned `Ok`, the task is never nowhere. A publish that failed or was dropped left either no copy
///    or, of a task with an id, one.
/// 2. [`end`](Self::end) and [`extend`](Self::extend) compare-and-set on the delivery's token. A token whose lease ran
///    out or was ended gets [`EndError::LeaseLost`], and nothing changes.
/// 3. While a lease holds, nobody else gets the task. A lease that ran out is given to the next consumer; age alone takes
///    nothing from a holder that keeps extending. A lease whose holder's process is certainly gone, which others on its
///    machine can tell ([`presence`]), has run out: a queue that outlives processes ends it within two seconds.
/// 4. Every move is atomic, follow-ups to other queues of the backend included. *Deliveries* are counted durably (as far
///    as the backend or its ledger is durable) before the task is handed out.
/// 5. *Attempts* are deliveries that the handler itself ended. A released delivery costs none. A delivery whose holder
///    disappeared counts as a *crash*; after so many crashes the task is dead. One that crashed once comes again before
///    its equals that were published after it. From its second crash on ([`SUSPECT_CRASHES`]) it is a *suspect*: it is
///    handed out in a batch of its own, and one suspect of a queue at a time, the least suspicious first. So a task that
///    ends its process is dead in the end, and its neighbours crash with it twice at most.
/// 6. Of two ready tasks the one of the higher [`Priority`](crate::task::Priority) is handed out first; among equals the
///    one that has been ready longer.
/// 7. *Ordered* tasks of one key: at most one is ready, delayed or leased, the head; the others are held and follow in
///    the order of their publication, whatever their priorities. A head that is tried again or snoozed keeps its
///    followers waiting; its ack, death or removal releases the next. A dead letter that is retried joins the end.
/// 8. A task that expires before it is handed out, for the first time or again, becomes a dead letter no later than a
///    consumer would have got it; an attempt under way is not interrupted. It keeps waiting publishers and followers no
///    longer than that.
/// 9. A *unique* key that is taken: see [`Conflict`](crate::task::Conflict). An id that is known comes before it.
/// 10. A task over the [`QueueRules`] of its queue waits: over the rate or the number of leases of the queue it stays
///     ready, over its key's rate it is delayed until the key's next token, over its key's number of leases it is held
///     until one of them ends. Consumers that wait are woken when the rule allows more.
///
/// All methods may be called from any number of tasks at once.
///
/// ```
/// use plba_tasks::queue::{ConsumerId, How, QueueError, TaskQueue};
/// use plba_tasks::task::QueueName;
///
/// /// Takes what is ready, and ends each delivery.
/// async fn take(queue: &dyn TaskQueue, consumer: &ConsumerId) -> Result<(), QueueError> {
///     for delivery in queue.consume(&QueueName::from("orders"), consumer, 10).await? {
///         // A lease that ran out meanwhile is no error of ours: somebody else has the task now.
///         let _ended = queue.end_one(delivery.token, How::ack(Vec::new())).await;
///     }
///     Ok(())
/// }
/// ```
#[async_trait]
pub trait TaskQueue: Send + Sync + 'static {
    /// What the backend's tasks survive.
    fn durability(&self) -> Durability;

    /// How long a lease lasts from its grant or its latest extension.
    fn lease(&self) -> Duration;

    /// Publishes tasks, and waits while a queue that they go to is full: that is the back-pressure on sources.
    ///
    /// The ids come back in order. A task whose id is already in its queue, in whatever state, is left as it is; of one
    /// whose unique key is taken, the id may be that of the task that is there. A batch larger than a whole queue is taken
    /// once that queue is empty. Tasks of one call to one queue keep their order.
    ///
    /// # Errors
    /// See [`PublishError`].
    ///
    /// # Cancel safety
    /// A dropped call has published all of its tasks or none. Publish again with the same ids to be sure.
    async fn publish(&self, tasks: Vec<NewTask>) -> Result<Vec<TaskId>, PublishError>;

    /// Takes up to `max` tasks (at least 1) that are ready, the highest priority first and then the oldest, each under a
    /// lease of its own; waits for the first one, and then takes only what is there. At least half of a lease is left when it is
    /// handed out: what comes later is given back (see [`is_late`]).
    ///
    /// # Errors
    /// The backend can't be reached or is closed; the caller backs off and asks again.
    ///
    /// # Cancel safety
    /// Safe: what a dropped call had taken is released, at once or when its lease runs out, and costs no attempt.
    async fn consume(&self, queue: &QueueName, consumer: &ConsumerId, max: usize) -> Result<Vec<Delivery>, QueueError>;

    /// Ends deliveries, each in its own way and each atomically; one result per ending, in order.
    ///
    /// Follow-ups never wait: they may exceed a queue's bounds, or an ack could wait for itself.
    ///
    /// # Errors
    /// The backend can't be reached: which endings took effect is unknown. Calling again with the same tokens is safe;
    /// those that took effect answer [`EndError::LeaseLost`].
    ///
    /// # Cancel safety
    /// Each ending of a dropped call has taken effect or has not. One that has not keeps its lease.
    async fn end(&self, endings: Vec<Ending>) -> Result<Vec<Result<(), EndError>>, QueueError>;

    /// Ends deliveries as [`end`](Self::end) does, and takes up to `max` tasks (none if 0) of `queue` that are ready now,
    /// in one go where the backend can; without waiting, so that there may be none. It is how a worker that always has
    /// something to do goes on.
    ///
    /// # Errors
    /// Each half has its own, as [`end`](Self::end) and [`consume`](Self::consume) have.
    ///
    /// # Cancel safety
    /// As both: each ending has taken effect or has not, and what had been taken is released, at once or when its lease
    /// runs out.
    async fn exchange(&self, endings: Vec<Ending>, queue: &QueueName, consumer: &ConsumerId, max: usize) -> Exchange {
        let _ = (queue, consumer, max);
        Exchange {
            ended: self.end(endings).await,
            taken: Ok(Vec::new()),
        }
    }

    /// Renews leases, each to [`lease`](Self::lease) from now; one result per token, in order.
    ///
    /// # Errors
    /// The backend can't be reached; the leases last as long as they did.
    ///
    /// # Cancel safety
    /// Safe: some leases may have been renewed.
    async fn extend(&self, tokens: &[DeliveryToken]) -> Result<Vec<Result<(), EndError>>, QueueError>;

    /// Makes tasks ready whose lease ran out (or dead, after too many crashes), at most `limit` leases looked at; gives
    /// the cursor for the next pass, `None` when it has been all round. Consumers do the same on the way, so this is for
    /// queues that nobody consumes.
    ///
    /// # Errors
    /// The backend can't be reached.
    ///
    /// # Cancel safety
    /// Safe: some tasks may have been recovered.
    async fn recover(&self, cursor: Option<Cursor>, limit: usize) -> Result<Recovery, QueueError>;

    /// The counts of every named queue, in the order of their names.
    ///
    /// # Errors
    /// The backend can't be reached.
    async fn stats(&self) -> Result<Vec<QueueStats>, QueueError>;

    /// Sets the rules by which this process consumes a queue, from the next [`consume`](Self::consume) on. Without it the
    /// defaults hold. Costs no input and output, and can't fail: check rules with [`QueueRules::validate`] first.
    fn govern(&self, queue: &QueueName, rules: QueueRules);

    /// From now on nothing is handed out from the queue, to whichever process, until `until` or until it is resumed; as
    /// durable as the backend's tasks. Leases go on, and publishing too. A consumer that waits goes on waiting. Pausing a
    /// paused queue replaces its `until`; one that has passed is as good as resuming.
    ///
    /// # Errors
    /// The backend can't be reached.
    ///
    /// # Cancel safety
    /// The queue is paused or is not.
    async fn pause(&self, queue: &QueueName, until: Option<Timestamp>) -> Result<(), QueueError>;

    /// Ends a pause. Nothing happens when there is none.
    ///
    /// # Errors
    /// The backend can't be reached.
    ///
    /// # Cancel safety
    /// The queue is paused or is not.
    async fn resume(&self, queue: &QueueName) -> Result<(), QueueError>;

    /// Waiting and leased tasks, for people: at most `limit` (and at most 1,000) from `cursor` on, by queue, and within
    /// one about in the order of publication. A page may be shorter than `limit` though more follow; the last page has no
    /// `next`. Tasks move between two pages: this is no basis for decisions.
    ///
    /// # Errors
    /// The backend can't be reached.
    async fn tasks(&self, filter: &TaskFilter, cursor: Option<Cursor>, limit: usize) -> Result<TaskPage, QueueError>;

    /// Dead letters that pass the filter, oldest first within one queue, at most `limit` (and at most 1,000) from `cursor`
    /// on. A page may be shorter than `limit`, even empty, though more follow; the last page has no `next`.
    ///
    /// # Errors
    /// The backend can't be reached.
    async fn dead_letters(
        &self,
        filter: &DeadFilter,
        cursor: Option<Cursor>,
        limit: usize,
    ) -> Result<DeadPage, QueueError>;

    /// One dead letter with its payload and headers; `None` when there is none with this id in this queue.
    ///
    /// # Errors
    /// The backend can't be reached.
    async fn dead_task(&self, queue: &QueueName, id: &TaskId) -> Result<Option<DeadTask>, QueueError>;

    /// Makes dead tasks of one queue ready again, with their counts at zero and their history kept; those that had expired
    /// expire no more. Leaves those that could not be decoded, and what has the same ids in other queues. Gives how many
    /// there were.
    ///
    /// # Errors
    /// The backend can't be reached; some may have been made ready.
    async fn retry_dead(&self, queue: &QueueName, ids: &[TaskId]) -> Result<usize, QueueError>;

    /// Forgets dead tasks of one queue for good. Gives how many there were.
    ///
    /// # Errors
    /// The backend can't be reached; some may have been forgotten.
    async fn drop_dead(&self, queue: &QueueName, ids: &[TaskId]) -> Result<usize, QueueError>;

    /// Whether the verbs on dead letters include those that only the ledger of sources has: what a source could not make a
    /// task of, and what the ledger keeps instead of the queue. Default: no; whoever shows dead letters asks the ledger too.
    fn has_letters_of_ledger(&self) -> bool {
        false
    }

    /// Ends deliveries well: [`end`](Self::end) with [`How::Ack`] for each completion.
    ///
    /// # Errors
    /// As [`end`](Self::end).
    async fn ack(&self, completions: Vec<Completion>) -> Result<Vec<Result<(), EndError>>, QueueError> {
        let ending = |Completion { token, then }| Ending {
            token,
            how: How::ack(then),
        };
        self.end(completions.into_iter().map(ending).collect()).await
    }

    /// Ends a delivery as a failed attempt; the task is ready again after `delay`.
    ///
    /// # Errors
    /// The lease is lost, or the backend can't be reached.
    async fn nack(&self, token: DeliveryToken, delay: Duration, reason: String) -> Result<(), EndError> {
        self.end_one(token, How::Nack { delay, reason }).await
    }

    /// Ends a delivery and the task: it is a dead letter now.
    ///
    /// # Errors
    /// The lease is lost, or the backend can't be reached.
    async fn bury(&self, token: DeliveryToken, reason: String) -> Result<(), EndError> {
        self.end_one(token, How::Bury { reason }).await
    }

    /// Gives a delivery back as if it had never been made; the task is ready again at once.
    ///
    /// # Errors
    /// The lease is lost, or the backend can't be reached.
    async fn release(&self, token: DeliveryToken) -> Result<(), EndError> {
        let delay = Duration::ZERO;
        self.end_one(token, How::Release { delay }).await
    }

    /// Ends one delivery.
    ///
    /// # Errors
    /// The lease is lost, the effect failed, or the backend can't be reached.
    async fn end_one(&self, token: DeliveryToken, how: How) -> Result<(), EndError> {
        let mut results = self.end(vec![Ending { token, how }]).await?;
        results.pop().unwrap_or(Err(EndError::LeaseLost))
    }
}
