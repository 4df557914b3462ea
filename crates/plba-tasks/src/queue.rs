//! The port of every task queue: which states a task passes through, what each verb promises, and the plain data that
//! crosses. Implementations are [`crate::memory`] and adapters; one conformance suite, in the testkit, tests them all.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use plba_contracts::BoxError;
use plba_contracts::services::BoxFuture;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::task::{EndedAttempt, NewTask, Origin, QueueName, Task, TaskId};

/// A backend with any number of named queues, which come into being when they are first used.
///
/// A task is at any moment in exactly one state:
///
/// ```text
///              publish                 consume
///   producer ───────────► ready(not before) ─────────► leased(token, deadline)
///                            ▲      ▲                    │   │   │
///                      retry │      └── nack, release,   │   │   └── ack ──► gone, follow-ups ready
///                            │          lease ran out ───┘   │
///                           dead ◄───────── bury ────────────┘
/// ```
///
/// What every backend promises:
///
/// 1. After `publish` returned `Ok`, the task is never nowhere. A publish that failed or was dropped left either no copy
///    or, of a task with an id, one.
/// 2. [`end`](Self::end) and [`extend`](Self::extend) compare-and-set on the delivery's token. A token whose lease ran
///    out or was ended gets [`EndError::LeaseLost`], and nothing changes.
/// 3. While a lease holds, nobody else gets the task. A lease that ran out is given to the next consumer; age alone takes
///    nothing from a holder that keeps extending.
/// 4. Every move is atomic, follow-ups to other queues of the backend included. *Deliveries* are counted durably (as far
///    as the backend or its ledger is durable) before the task is handed out.
/// 5. *Attempts* are deliveries that the handler itself ended. A released delivery costs none. A delivery whose holder
///    disappeared counts as a *crash*; after so many crashes the task is dead.
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
    /// The ids come back in order. A task whose id is already in its queue, in whatever state, is left as it is. A batch
    /// larger than a whole queue is taken once that queue is empty. Tasks of one call to one queue keep their order.
    ///
    /// # Errors
    /// See [`PublishError`].
    ///
    /// # Cancel safety
    /// A dropped call has published all of its tasks or none. Publish again with the same ids to be sure.
    async fn publish(&self, tasks: Vec<NewTask>) -> Result<Vec<TaskId>, PublishError>;

    /// Takes up to `max` tasks (at least 1) that are ready, oldest first, each under a lease of its own; waits for the
    /// first one, and then takes only what is there.
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

    /// Dead letters, oldest first within one queue, at most `limit` (and at most 1,000) from `cursor` on. A page may be
    /// shorter than `limit` though more follow; the last page has no `next`.
    ///
    /// # Errors
    /// The backend can't be reached.
    async fn dead_letters(&self, cursor: Option<Cursor>, limit: usize) -> Result<DeadPage, QueueError>;

    /// Makes dead tasks ready again, with their counts at zero and their history kept. Gives how many there were.
    ///
    /// # Errors
    /// The backend can't be reached; some may have been made ready.
    async fn retry_dead(&self, ids: &[TaskId]) -> Result<usize, QueueError>;

    /// Forgets dead tasks for good. Gives how many there were.
    ///
    /// # Errors
    /// The backend can't be reached; some may have been forgotten.
    async fn drop_dead(&self, ids: &[TaskId]) -> Result<usize, QueueError>;

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

/// What a backend's tasks survive, from least to most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// Nothing: they end with the process. What came from a source is published again by its ledger.
    Volatile,
    /// The end of the process, however it came.
    ProcessCrash,
    /// The end of the operating system and loss of power.
    OsCrash,
    /// The loss of a machine.
    Replicated,
}

/// Which process: recovery looks at this, never at a worker's name, which another process may bear as well.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Incarnation {
    /// The machine.
    pub host: Arc<str>,
    /// The process on it.
    pub pid: u32,
    /// Random: tells two processes apart that got the same number one after the other.
    pub epoch: u64,
}

/// Who holds a lease: a worker in one incarnation of a process. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ConsumerId {
    /// The process.
    pub incarnation: Incarnation,
    /// The worker's name and slot, for people.
    pub worker: Arc<str>,
}

impl Incarnation {
    /// This process, with an epoch from the caller's source of randomness.
    pub fn of_this_process(epoch: u64) -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname")
            .or_else(|_| std::env::var("COMPUTERNAME"))
            .unwrap_or_else(|_| "localhost".into());
        Self {
            host: host.trim().into(),
            pid: std::process::id(),
            epoch,
        }
    }
}

impl ConsumerId {
    /// A worker in an incarnation.
    pub fn new(incarnation: Incarnation, worker: impl Into<Arc<str>>) -> Self {
        Self {
            incarnation,
            worker: worker.into(),
        }
    }
}

impl fmt::Display for ConsumerId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Incarnation { host, pid, epoch } = &self.incarnation;
        write!(out, "{} ({host}:{pid}:{epoch:016x})", self.worker)
    }
}

/// Proves who holds a delivery. Meaningless outside the backend that made it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DeliveryToken {
    /// The named queue.
    pub queue: QueueName,
    /// The task.
    pub task: TaskId,
    /// Tells this delivery from every other one of the backend.
    pub fence: u64,
    /// Where the backend keeps the task, if that takes more than the id.
    pub place: Option<Arc<str>>,
}

/// A task in the hands of a consumer.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The task.
    pub task: Arc<Task>,
    /// What ends or extends this delivery.
    pub token: DeliveryToken,
    /// How often the task has been handed out, this time included.
    pub deliveries: u32,
    /// Which attempt this is: 1 plus the attempts that the handler ended.
    pub attempt: u32,
    /// How long the task had been ready before it was handed out.
    pub waited: Duration,
}

/// A delivery that ended well, with what is to be done next.
#[derive(Debug)]
pub struct Completion {
    /// The delivery.
    pub token: DeliveryToken,
    /// Follow-up tasks, published in the same atomic step, to any queue of the backend.
    pub then: Vec<NewTask>,
}

/// How one delivery ends.
#[derive(Debug)]
pub struct Ending {
    /// The delivery.
    pub token: DeliveryToken,
    /// How.
    pub how: How,
}

/// The ways in which a delivery ends.
#[derive(Debug)]
pub enum How {
    /// The work is done: the task is gone.
    Ack {
        /// Run before, in the same step, while the lease is held.
        effect: Option<Effect>,
        /// Follow-up tasks, published in the same step.
        then: Vec<NewTask>,
    },
    /// The attempt failed: ready again after the delay.
    Nack {
        /// From now.
        delay: Duration,
        /// For the history.
        reason: String,
    },
    /// No further attempt: dead.
    Bury {
        /// For the history.
        reason: String,
    },
    /// Not an attempt: ready again after the delay, at the head of the queue when that is zero.
    Release {
        /// From now.
        delay: Duration,
    },
}

impl How {
    /// Done, with follow-ups.
    pub fn ack(then: Vec<NewTask>) -> Self {
        Self::Ack { effect: None, then }
    }
}

type EffectFn =
    dyn for<'a> FnOnce(&'a mut (dyn Any + Send)) -> BoxFuture<'a, Result<Vec<NewTask>, BoxError>> + Send + 'static;

/// What is to happen in the completion step itself: it is run while the lease is known to be held and can't run out, and
/// the ack with all follow-ups takes effect only if it succeeds.
///
/// It gets the backend's transaction, erased: adapters that keep tasks in a database document its type; the queue in
/// memory gives `()`. What it returns are more follow-ups.
pub struct Effect(Box<EffectFn>);

impl Effect {
    /// Wraps an effect.
    pub fn new<F>(effect: F) -> Self
    where
        F: for<'a> FnOnce(&'a mut (dyn Any + Send)) -> BoxFuture<'a, Result<Vec<NewTask>, BoxError>> + Send + 'static,
    {
        Self(Box::new(effect))
    }

    /// Runs it in a transaction. Called by backends, once per delivery.
    ///
    /// # Errors
    /// What the effect fails with; the transaction is then to be rolled back.
    pub fn run<'a>(self, transaction: &'a mut (dyn Any + Send)) -> BoxFuture<'a, Result<Vec<NewTask>, BoxError>> {
        (self.0)(transaction)
    }
}

impl fmt::Debug for Effect {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Effect")
    }
}

/// Why tasks were not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// It will never be accepted as it is; the sentence says what would be.
    #[error("task \"{kind}\" for queue \"{queue}\" can't be published: {reason}")]
    Refused {
        /// The queue it was for.
        queue: QueueName,
        /// Its kind.
        kind: String,
        /// Why, and what would do.
        reason: String,
    },
    /// Whether it was published is unknown; publish again with the same ids.
    #[error("it is unknown whether the tasks were published, publish them again with the same ids: {source}")]
    Unknown {
        /// What happened.
        source: BoxError,
    },
}

/// The backend did not answer, or could not do what was asked. Back off and try again.
#[derive(Debug, thiserror::Error)]
#[error("the task queue can't be used now, try again later: {source}")]
pub struct QueueError {
    /// What happened.
    pub source: BoxError,
}

impl QueueError {
    /// Wraps what happened.
    pub fn new(source: impl Into<BoxError>) -> Self {
        Self { source: source.into() }
    }
}

/// Why a delivery was not ended or extended.
#[derive(Debug, thiserror::Error)]
pub enum EndError {
    /// The lease ran out, or the delivery was ended before. Nothing changed; drop the work, somebody else has the task.
    #[error("the lease is lost: it ran out, or the delivery was ended before")]
    LeaseLost,
    /// The effect failed; nothing changed, the lease is still held. End the delivery as a failed attempt.
    #[error("the effect of the completion failed: {}", plba_contracts::describe(.0.as_ref()))]
    Effect(BoxError),
    /// A follow-up can't be published as it is; nothing changed, the lease is still held.
    #[error("a follow-up task is refused: {0}")]
    Refused(String),
    /// Whether it took effect is unknown; end it again with the same token.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// Where a pass over many entries goes on. Meaningless outside the backend that made it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Cursor(pub String);

/// What a pass of [`TaskQueue::recover`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Tasks whose lease had run out.
    pub recovered: usize,
    /// Where to go on; `None` when the pass has been all round.
    pub next: Option<Cursor>,
}

/// The counts of one named queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QueueStats {
    /// The queue.
    pub queue: String,
    /// Tasks that are ready now.
    pub ready: u64,
    /// Tasks that will be ready later.
    pub delayed: u64,
    /// Tasks in the hands of consumers.
    pub leased: u64,
    /// Dead letters.
    pub dead: u64,
    /// Bytes of all of them but the dead.
    pub bytes: u64,
    /// Tasks published since the backend was opened, follow-ups included.
    pub published: u64,
    /// Tasks acked since the backend was opened.
    pub acked: u64,
    /// Failed attempts since the backend was opened.
    pub failed: u64,
    /// Leases that ran out since the backend was opened.
    pub lost: u64,
    /// How long the oldest ready task has been ready.
    pub oldest: Option<Duration>,
}

/// A task that nobody will try again unless told to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeadLetter {
    /// Which task.
    pub id: TaskId,
    /// The queue it was in.
    pub queue: QueueName,
    /// What was to be done.
    pub kind: String,
    /// Where it came from.
    pub origin: Option<Origin>,
    /// When it died.
    #[schemars(with = "String")]
    pub died: Timestamp,
    /// Why it died, in a sentence.
    pub reason: String,
    /// How often it was handed out.
    pub deliveries: u32,
    /// All attempts, the last one included.
    pub history: Vec<EndedAttempt>,
}

/// A page of dead letters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeadPage {
    /// The letters.
    pub letters: Vec<DeadLetter>,
    /// Where the next page begins; `None` on the last one.
    pub next: Option<Cursor>,
}
