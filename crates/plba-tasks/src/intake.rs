//! The intake: the one way by which a source hands work to a queue and learns of its completion, with the ledger kept in
//! step. Which upstream there is, and how it is told, is the source's business.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use jiff::Timestamp;
use plba_contracts::BoxError;
use plba_contracts::trace::{TraceContext, TraceFactory};
use tracing::Span;

use crate::ledger::{DeliveryEnd, EntryState, Known, LedgerError, SourceLedger};
use crate::queue::{
    Completion, ConsumerId, DeadFilter, DeadLetter, Durability, EndError, PublishError, QueueError, TaskQueue,
};
use crate::source::SourceError;
use crate::task::{AttemptEnd, EndedAttempt, NewTask, Origin, PRODUCER, QueueName, TRACEPARENT, Task, TaskId};

/// The kind of the follow-up task that tells a source's own worker that something is done.
pub const COMPLETED: &str = "source.completed";

/// How many bytes a source's key may have.
pub const MAXIMUM_KEY: usize = 1_000;

/// The queue in which the completions for a source wait: whichever process handled a task, the source's own worker tells
/// upstream.
pub fn completion_queue(source: &str) -> QueueName {
    QueueName::from(format!("completed/{source}"))
}

/// The follow-up by which a task worker tells the source of a task that it is done.
pub fn completion_task(origin: &Origin) -> NewTask {
    NewTask::new(
        completion_queue(&origin.source),
        COMPLETED,
        origin.key.as_bytes().to_vec(),
    )
    .with_id(origin.task_id())
}

/// How many dead letters are asked for at once.
const DEAD_PAGE: usize = 1_000;

/// The name under which a ledger keeps, as a cursor, the note `name` of a source (see [`Intake::note`]); for whoever has the
/// ledger and no intake.
pub fn note_name(source: &str, name: &str) -> String {
    format!("{source}{NOTE}{name}")
}

/// Whether a ledger's source is no source but a note beside one.
pub fn is_note(source: &str) -> bool {
    source.contains(NOTE)
}

const NOTE: &str = "#note/";

/// Something that a source has found upstream.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// The source's key for it; names the same thing for ever. At most [`MAXIMUM_KEY`] bytes.
    pub key: Arc<str>,
    /// The task to publish for it; its id and origin are set by the intake.
    pub task: NewTask,
}

/// What became of arrivals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// Published now.
    pub published: usize,
    /// Known already: done, dead, in this process's queue, or earlier among the same arrivals.
    pub skipped: usize,
}

/// A source's way to its queue and ledger. Cheap to clone.
#[derive(Clone)]
pub struct Intake {
    source: Arc<str>,
    queue: Arc<dyn TaskQueue>,
    ledger: Arc<dyn SourceLedger>,
    consumer: ConsumerId,
    completions: QueueName,
    traces: Option<Arc<dyn TraceFactory>>,
}

impl Intake {
    /// The intake of the source with this name. `consumer` takes the completions.
    pub fn new(
        source: impl Into<Arc<str>>,
        queue: Arc<dyn TaskQueue>,
        ledger: Arc<dyn SourceLedger>,
        consumer: ConsumerId,
    ) -> Self {
        let source = source.into();
        Self {
            completions: completion_queue(&source),
            source,
            queue,
            ledger,
            consumer,
            traces: None,
        }
    }

    /// Gives each arrival a span: in the journey whose context it comes with, or else in a new one.
    #[must_use]
    pub fn with_traces(mut self, traces: Option<Arc<dyn TraceFactory>>) -> Self {
        self.traces = traces;
        self
    }

    /// The source's name.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Publishes arrivals and records their intake; waits while the queue is full. Keys that are done, settled, dead or
    /// already published by this process are skipped, and all but the first of a key. One whose task gives way to another with the same unique key is done
    /// with that: the other one does its work.
    ///
    /// When it returns `Ok`, the source may move its cursor past all of them.
    ///
    /// # Errors
    /// Nothing is lost: publish the same arrivals again.
    ///
    /// # Cancel safety
    /// Safe, as after an error.
    pub async fn publish(&self, arrivals: Vec<Arrival>) -> Result<Published, IntakeError> {
        if let Some(long) = arrivals.iter().find(|arrival| arrival.key.len() > MAXIMUM_KEY) {
            let bytes = long.key.len();
            return Err(IntakeError::Key { bytes });
        }
        let keys: Vec<_> = arrivals.iter().map(|arrival| Arc::clone(&arrival.key)).collect();
        let known = self.ledger.known(&self.source, &keys).await?;
        let mut outcome = Published::default();
        let (mut tasks, mut fresh) = (Vec::with_capacity(arrivals.len()), Vec::with_capacity(arrivals.len()));
        let mut journeys = Vec::new();
        let mut seen = HashSet::with_capacity(arrivals.len());
        for (arrival, known) in arrivals.into_iter().zip(known) {
            let twice = !seen.insert(Arc::clone(&arrival.key));
            if twice || known.is_some_and(|known| known.state != EntryState::Open || known.published) {
                outcome.skipped += 1;
                continue;
            }
            let origin = Origin::new(Arc::clone(&self.source), Arc::clone(&arrival.key));
            let mut task = arrival.task.with_id(origin.task_id());
            task.origin = Some(origin);
            self.sign(&mut task);
            // Open until all are published: waiting for room in the queue is part of the journey.
            journeys.extend(self.take_along(&mut task));
            tasks.push(task);
            fresh.push(arrival.key);
        }
        if !tasks.is_empty() {
            let ids = self.queue.publish(tasks).await?;
            self.ledger.record_intake(&self.source, &fresh).await?;
            let covered = self.covered(&fresh, &ids);
            outcome.published = fresh.len() - covered.len();
            outcome.skipped += covered.len();
            self.complete_covered(covered).await?;
        }
        Ok(outcome)
    }

    /// What gave way to another task with its unique key: that one's id came back.
    fn covered(&self, keys: &[Arc<str>], ids: &[TaskId]) -> Vec<Origin> {
        let origin = |key: &Arc<str>| Origin::new(Arc::clone(&self.source), Arc::clone(key));
        let gave_way = keys.iter().zip(ids).filter_map(|(key, id)| {
            let origin = origin(key);
            (origin.task_id() != *id).then_some(origin)
        });
        gave_way.collect()
    }

    /// Another task does the work of these: for the source they are done.
    async fn complete_covered(&self, covered: Vec<Origin>) -> Result<(), IntakeError> {
        if covered.is_empty() {
            return Ok(());
        }
        let done = covered.iter().map(|origin| (origin.clone(), DeliveryEnd::Done));
        self.ledger.record_ends(done.collect()).await?;
        self.queue
            .publish(covered.iter().map(completion_task).collect())
            .await?;
        Ok(())
    }

    /// Publishes tasks as they are, without an origin and so without entries in the ledger: for what need not, or could not, be
    /// fetched again from upstream, because a queue that outlives the process keeps it. Give them ids; waits while the
    /// queue is full.
    ///
    /// # Errors
    /// Publish the same tasks again, with the same ids.
    ///
    /// # Cancel safety
    /// A dropped call has published all of the tasks or none.
    pub async fn publish_unrecorded(&self, mut tasks: Vec<NewTask>) -> Result<Vec<TaskId>, IntakeError> {
        let mut journeys = Vec::with_capacity(tasks.len());
        for task in &mut tasks {
            self.sign(task);
            journeys.extend(self.take_along(task));
        }
        Ok(self.queue.publish(tasks).await?)
    }

    /// What the tasks survive that are published here.
    pub fn durability(&self) -> Durability {
        self.queue.durability()
    }

    fn sign(&self, task: &mut NewTask) {
        if !task.headers.contains_key(PRODUCER) {
            task.headers.insert(PRODUCER.to_owned(), self.consumer.producer());
        }
    }

    /// The span of one arrival, in the journey that it names or else in one of its own; the task goes on from there.
    fn take_along(&self, task: &mut NewTask) -> Option<Span> {
        let traces = self.traces.as_ref()?;
        let given = task.headers.get(TRACEPARENT).cloned();
        let span = tracing::info_span!(
            parent: None,
            "source.intake",
            traceparent = given.as_deref(),
            source = &*self.source,
            task = task.id.as_ref().map(TaskId::as_str),
            queue = task.queue.as_str(),
        );
        let context = span.in_scope(|| traces.current()).map(|context| context.to_string());
        let context = context.or(given).unwrap_or_else(|| {
            // A span that is there without a context is one that is not sampled; what follows must not be either.
            let journey = traces.begin();
            let sampled = journey.sampled && span.is_disabled();
            TraceContext { sampled, ..journey }.to_string()
        });
        task.headers.insert(TRACEPARENT.to_owned(), context);
        Some(span)
    }

    /// Keys that were taken in but are neither done nor in this process's queue, at most `limit`: fetch and publish them
    /// again. There are some after a restart, and after a dead letter was retried; ask now and then. A key that is gone
    /// upstream is given up by [`lost`](Self::lost).
    ///
    /// # Errors
    /// The ledger can't be read.
    pub async fn pending(&self, limit: usize) -> Result<Vec<Arc<str>>, IntakeError> {
        Ok(self.ledger.pending(&self.source, limit).await?)
    }

    /// Keys that are done but of which upstream has yet to be told, at most `limit`. Ask after a start or a reconnect;
    /// later ones come as [`completions`](Self::completions).
    ///
    /// # Errors
    /// The ledger can't be read.
    pub async fn unsettled(&self, limit: usize) -> Result<Vec<Arc<str>>, IntakeError> {
        Ok(self.ledger.unsettled(&self.source, limit).await?)
    }

    /// Waits for completions and gives up to `max` of their keys, recorded as done in the ledger: tell upstream, then
    /// [`settle`](Self::settle). Should that fail, they are found again by [`unsettled`](Self::unsettled).
    ///
    /// # Errors
    /// The queue or the ledger can't be used; nothing is lost.
    ///
    /// # Cancel safety
    /// Safe: what was received is either still in the queue or unsettled in the ledger. After dropping a call that may
    /// have received something, ask [`unsettled`](Self::unsettled) as well.
    pub async fn completions(&self, max: usize) -> Result<Vec<Arc<str>>, IntakeError> {
        let deliveries = self.queue.consume(&self.completions, &self.consumer, max).await?;
        let key = |task: &Task| -> Arc<str> { String::from_utf8_lossy(&task.payload).into() };
        let keys: Vec<_> = deliveries.iter().map(|delivery| key(&delivery.task)).collect();
        // The handler may have run in a process whose ledger is another one; where it is the same, this is a no-op.
        let done = |key: &Arc<str>| {
            (
                Origin::new(Arc::clone(&self.source), Arc::clone(key)),
                DeliveryEnd::Done,
            )
        };
        self.ledger.record_ends(keys.iter().map(done).collect()).await?;
        let completion = |token| Completion {
            token,
            then: Vec::new(),
        };
        let acked = deliveries.into_iter().map(|delivery| completion(delivery.token));
        // A lost lease means that the completion comes once more, which `settle` bears.
        self.queue.ack(acked.collect()).await?;
        Ok(keys)
    }

    /// Upstream has been told that these are done.
    ///
    /// # Errors
    /// It could not be recorded; upstream will be told again.
    pub async fn settle(&self, keys: &[Arc<str>]) -> Result<(), IntakeError> {
        Ok(self.ledger.settle(&self.source, keys).await?)
    }

    /// The cursor covers these settled keys: the source will never come upon them again.
    ///
    /// # Errors
    /// It could not be recorded; they are kept.
    pub async fn forget(&self, keys: &[Arc<str>]) -> Result<(), IntakeError> {
        Ok(self.ledger.forget(&self.source, keys).await?)
    }

    /// What is known of each key, in order.
    ///
    /// # Errors
    /// The ledger can't be read.
    pub async fn known(&self, keys: &[Arc<str>]) -> Result<Vec<Option<Known>>, IntakeError> {
        Ok(self.ledger.known(&self.source, keys).await?)
    }

    /// Where the source has got to, in its own words.
    ///
    /// # Errors
    /// The ledger can't be read.
    pub async fn cursor(&self) -> Result<Option<String>, IntakeError> {
        Ok(self.ledger.cursor(&self.source).await?)
    }

    /// The source has got here; at most 64 KiB.
    ///
    /// # Errors
    /// It could not be recorded.
    pub async fn set_cursor(&self, cursor: &str) -> Result<(), IntakeError> {
        Ok(self.ledger.set_cursor(&self.source, cursor).await?)
    }

    /// A pending key is gone upstream (somebody deleted the message), so that it can't be published again: its entry is
    /// settled, because upstream need not be told anything.
    ///
    /// # Errors
    /// It could not be recorded.
    pub async fn lost(&self, keys: &[Arc<str>]) -> Result<(), IntakeError> {
        let done = |key: &Arc<str>| {
            (
                Origin::new(Arc::clone(&self.source), Arc::clone(key)),
                DeliveryEnd::Done,
            )
        };
        self.ledger.record_ends(keys.iter().map(done).collect()).await?;
        self.settle(keys).await
    }

    /// Something upstream can't be made a task, because it is too large or can't be read: records it as a dead letter of
    /// `queue` and `kind`, which can be looked at, dropped, or retried ([`pending`](Self::pending) then gives its key).
    /// A key that is done, settled or dead already is left as it is.
    ///
    /// # Errors
    /// It could not be recorded.
    pub async fn bury(
        &self,
        key: Arc<str>,
        queue: &QueueName,
        kind: &str,
        at: Timestamp,
        reason: String,
    ) -> Result<(), IntakeError> {
        let end = DeliveryEnd::Dead {
            attempt: EndedAttempt::new(at, AttemptEnd::Rejected, reason),
            queue: queue.as_str().to_owned(),
            kind: kind.to_owned(),
        };
        let origin = Origin::new(Arc::clone(&self.source), key);
        Ok(self.ledger.record_ends(vec![(origin, end)]).await?)
    }

    /// The keys of this source's dead letters, be they in the queue or in the ledger, at most `limit`.
    ///
    /// # Errors
    /// The queue or the ledger can't be read.
    pub async fn dead(&self, limit: usize) -> Result<Vec<Arc<str>>, IntakeError> {
        let mut found = BTreeSet::new();
        let ours = |letter: DeadLetter| letter.origin.filter(|origin| origin.source == self.source);
        let filter = DeadFilter {
            text: Some(self.source.to_string()),
            ..DeadFilter::default()
        };
        let mut next = None;
        loop {
            let page = self.queue.dead_letters(&filter, next, DEAD_PAGE).await?;
            found.extend(page.letters.into_iter().filter_map(ours).map(|origin| origin.key));
            next = page.next;
            if next.is_none() || found.len() >= limit {
                break;
            }
        }
        // Of what never became a task only the ledger knows.
        let mut next = None;
        while found.len() < limit {
            let page = self.ledger.dead_letters(next, DEAD_PAGE).await?;
            found.extend(page.letters.into_iter().filter_map(ours).map(|origin| origin.key));
            next = page.next;
            if next.is_none() {
                break;
            }
        }
        Ok(found.into_iter().take(limit).collect())
    }

    /// What is kept beside the cursor under a name, for this source or by anybody who wants something of it; `None` for
    /// nothing.
    ///
    /// # Errors
    /// The ledger can't be read.
    pub async fn note(&self, name: &str) -> Result<Option<String>, IntakeError> {
        let text = self.ledger.cursor(&note_name(&self.source, name)).await?;
        Ok(text.filter(|text| !text.is_empty()))
    }

    /// Keeps a text beside the cursor under a name, at most 64 KiB; an empty one forgets it.
    ///
    /// # Errors
    /// It could not be recorded.
    pub async fn set_note(&self, name: &str, text: &str) -> Result<(), IntakeError> {
        Ok(self.ledger.set_cursor(&note_name(&self.source, name), text).await?)
    }

    /// The id under which the task of a key is published.
    pub fn task_id(&self, key: &str) -> TaskId {
        Origin::new(Arc::clone(&self.source), key).task_id()
    }
}

/// Why the intake could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// The queue refused tasks, or could not be reached.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The queue could not be reached.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The ledger could not be used.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A key is too long.
    #[error("a key of {bytes} bytes is too long for the ledger, at most {MAXIMUM_KEY} are possible; use a digest")]
    Key {
        /// Its length.
        bytes: usize,
    },
}

impl IntakeError {
    /// Whether trying again, later, may succeed.
    pub fn is_transient(&self) -> bool {
        !matches!(self, Self::Publish(PublishError::Refused { .. }) | Self::Key { .. })
    }
}

impl From<IntakeError> for SourceError {
    fn from(error: IntakeError) -> Self {
        if error.is_transient() {
            Self::transient(error)
        } else {
            Self::fatal(error)
        }
    }
}

impl From<EndError> for IntakeError {
    fn from(error: EndError) -> Self {
        match error {
            EndError::Queue(error) => Self::Queue(error),
            error => Self::Queue(QueueError::new(BoxError::from(error))),
        }
    }
}
